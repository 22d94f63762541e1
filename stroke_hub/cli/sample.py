"""The command sample: write the simulated dataset."""

from pathlib import Path
from typing import Annotated

import tyro

from stroke_hub.cli.common import (
    SAMPLE_FOLDER,
    program,
)
from stroke_hub.progress import say

__all__ = ["write_sample_dataset"]


@program
def write_sample_dataset(folder: Annotated[Path, tyro.conf.Positional] = SAMPLE_FOLDER, *, seed: int = 0) -> None:
    """Write the simulated sample dataset.

    Args:
        folder: where it goes.
        seed: decides every slice.
    """
    from stroke_hub.data.simulated import write_sample

    say(f"sample dataset: {write_sample(folder, seed=seed)}")
