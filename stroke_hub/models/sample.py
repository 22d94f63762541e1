"""The sample model, which comes with the package: where its files lie, and the name that stands for it."""

import os
from pathlib import Path

__all__ = ["EXAMPLE", "EXAMPLES", "SAMPLE", "SAMPLE_FOLDER", "locate_model"]

SAMPLE = "sample"
SAMPLE_FOLDER = Path(__file__).parent / "sample_model"
EXAMPLES = SAMPLE_FOLDER / "examples"  # a slice of each modality and kind, as hit or miss, and masks of lesions
EXAMPLE = EXAMPLES / "strokeMR" / "p787_s02_simulated.png"  # of these, a clear hit


def locate_model(name: str | Path) -> str:
    """Give the packaged folder for the name "sample", and any other name as it is.

    The text "sample" always means the packaged model. A local folder of that name is ``"./sample"``, or a `Path`.
    """
    if isinstance(name, Path):
        return f"{os.curdir}{os.sep}{name}" if str(name) == SAMPLE else str(name)
    return str(SAMPLE_FOLDER) if name == SAMPLE else name
