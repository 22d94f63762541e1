"""The command export: write a model as ONNX."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from stroke_hub.cli.common import name_dataset, program, read_noted, tell_export
from stroke_hub.errors import RunError
from stroke_hub.models.sample import SAMPLE

__all__ = ["export_model"]


@program
def export_model(
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER")],
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    split: Literal["test", "train"] = "test",
    precisions: tuple[Literal["fp32", "int8"], ...] = ("fp32", "int8"),
) -> None:
    """Write a run's model as ONNX, prediction and explanation, into its folder onnx/: for use without PyTorch.

    Args:
        model: a run folder.
        data_dir: a dataset folder in the Kaggle layout, on whose slices the exports are compared with the model;
            without it squares of noise are taken.
        split: which part of the dataset.
        precisions: what to write.
    """
    from stroke_hub.deploy.export import export
    from stroke_hub.inference.onnx_model import FOLDER

    if model == SAMPLE:
        raise RunError(
            f"{SAMPLE}: is in the package, exported already; give the folder of a finished run, as ./{SAMPLE}."
        )
    if not Path(model).is_dir():
        raise RunError(f"{model}: is no folder; give the folder of a finished run.")
    records = read_noted(data_dir) if data_dir else None
    if not precisions:
        raise RunError("There is nothing to export; give --precisions fp32, int8 or both.")
    name = name_dataset(records) if records else ""
    tell_export(export(model, precisions=precisions, records=records, split=split, name=name), Path(model) / FOLDER)
