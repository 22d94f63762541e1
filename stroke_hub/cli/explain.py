"""The command explain: a page of every slice with its maps."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from stroke_hub.cli.common import note_simulated, program, read_noted
from stroke_hub.files import atomic_folder
from stroke_hub.progress import say

__all__ = ["explain_folder"]


@program
def explain_folder(
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME|sample")],
    data_dir: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
    split: Literal["test", "train"] = "test",
    data_note: Annotated[str, tyro.conf.arg(metavar="WORDS")] = "",
) -> None:
    """Explain every slice of a dataset's split: maps, pictures and a page to look through, worst errors first.

    Args:
        model: a run folder, a model on the Hub, or sample, the model that comes with the package.
        data_dir: a dataset folder in the Kaggle layout, or a dataset of scans as `stroke-hub data` reads it.
        out: a new folder for index.html, explanations.csv, maps/ and pictures/.
        revision: commit, tag or branch of a Hub model.
        split: which part of the dataset.
        data_note: words that the page carries, for example what the data stand for.
    """
    from stroke_hub.evaluation.gallery import write_gallery
    from stroke_hub.inference.predictor import Predictor

    loaded = Predictor.from_pretrained(model, revision=revision)
    records = read_noted(data_dir)
    note = data_note or note_simulated(records)
    with atomic_folder(out) as folder:
        page = write_gallery(loaded, records.part(split), records.root, folder, note=note)
    say(f"gallery: {out / page.name}")
