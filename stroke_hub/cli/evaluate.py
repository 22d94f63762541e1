"""The command evaluate: measure a model on a folder of slices."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from stroke_hub.cli.common import name_dataset, note_simulated, program, tell_figures, tell_notes
from stroke_hub.data.folders import has_labels, has_splits
from stroke_hub.data.records import Records, hash_records
from stroke_hub.datasets.hub_dataset import fetch_hub_dataset, is_hub_address, name_hub_dataset
from stroke_hub.datasets.open_dataset import holds_scans, open_any
from stroke_hub.datasets.slice_rules import SliceRules
from stroke_hub.errors import RunError, pluralise, printable
from stroke_hub.files import atomic_folder, write_text
from stroke_hub.progress import say

if TYPE_CHECKING:
    from stroke_hub.models.resnet_vit import ResNetViT
    from stroke_hub.runs.report import Report

__all__ = ["evaluate_model"]

PREDICTIONS_FILE = "predictions.csv"


@program
def evaluate_model(
    *,
    model: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME|sample")],
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    data: Annotated[str | None, tyro.conf.arg(metavar="hf://OWNER/NAME")] = None,
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")],
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
    split: Literal["test", "train", "all"] = "test",
    data_note: Annotated[str, tyro.conf.arg(metavar="WORDS")] = "",
    faithfulness: bool = False,
    compare: bool = False,
    advanced_slices: SliceRules = SliceRules(),  # noqa: B008  frozen
) -> None:
    """Measure any run or Hub model on any folder of slices, and explain chosen ones; without labels, predict only.

    Args:
        model: a run folder, a model on the Hub, or sample, the model that comes with the package.
        data_dir: a dataset folder in the Kaggle layout, or any folder of slices whose classes are told by folder
            names or by an index.csv with the columns path and label, or a dataset of scans as `stroke-hub data`
            reads it.
        data: a dataset on the Hub, in place of a folder.
        out: a new folder for report.json, the CSVs and the figures; without labels for predictions.csv.
        revision: commit, tag or branch of a Hub model.
        split: which part of the dataset; all, of a dataset of scans alone, measures on every patient, which is
            honest where the model learned from none of them.
        data_note: words that every figure carries, for example what the data stand for.
        compare: print the model's own report beside the new figures; the exit status is 1 where one differs by more
            than 0.01 on the same slices, or on others lies outside the interval that the report gives.
        faithfulness: measure too whether the maps of the stroke slices are true (about 2 CPU-seconds a slice).
        advanced_slices: how slices are made of a dataset of scans.
    """
    from stroke_hub.evaluation.evaluate import evaluate
    from stroke_hub.models.resnet_vit import ResNetViT
    from stroke_hub.runs.report import find_report, read_report

    if (data is None) == (data_dir is None):
        raise RunError("Give --data-dir with a folder, or --data with a dataset on the Hub (hf://owner/name).")
    if data is not None and not is_hub_address(data):
        raise RunError(f"--data {printable(data)}: is no dataset on the Hub; give hf://owner/name, or --data-dir.")
    loaded = ResNetViT.from_pretrained(model, revision=revision)
    folder = fetch_hub_dataset(data) if data is not None else Path(data_dir or "")
    records = _read_any(folder, split, advanced_slices)
    tell_notes(records)
    if not has_labels(records):
        if compare or faithfulness:
            raise RunError(f"{folder}: has no labels to measure by; leave --compare and --faithfulness out.")
        _predict_only(loaded, records, out)
        return
    note = data_note or note_simulated(records)
    about = {
        "data": {
            "name": name_hub_dataset(data) if data is not None else name_dataset(records),
            "note": note,
            "split": split,
            "notes": list(records.notes),
            "options": advanced_slices.to_options(),
            "sha256": hash_records(records),
        },
        "model": {
            "source": Path(model).name if Path(model).is_dir() else model,
            "revision": loaded.commit or revision,
        },
    }
    own = find_report(model, loaded.commit or revision)
    left_out = records.table["split"] != ("test" if split == "all" else split)
    measured = records.leave_out(left_out, "slices of parts that were not measured")
    with atomic_folder(out) as partial:
        evaluate(
            loaded,
            measured.table.assign(split="test"),
            records.root,
            partial,
            about=about,
            own=own,
            left_out=measured.left_out,
            faithfulness=faithfulness,
        )
    report = read_report(out)
    tell_figures(report, split)
    say(f"evaluation: {out}")
    if compare:
        _compare_with_own(own, report, model)


def _compare_with_own(own: "Report | None", new: "Report", model: str) -> None:
    from stroke_hub.evaluation.comparison import compare_reports

    if own is None:
        raise RunError(f"{model}: has no report of its own to compare with.")
    lines, agree = compare_reports(own, new)
    print("\n".join(lines))
    if not agree:
        raise RunError("Not every figure agrees with the model's own report; the lines above say which.")


def _read_any(data_dir: Path, split: str, rules: SliceRules) -> Records:
    """The records of a folder in the Kaggle layout, of a dataset of scans, or else of whatever lies in it."""
    records = open_any(data_dir, rules, whole=split == "all")
    if split != "test" and not (has_splits(data_dir) or holds_scans(data_dir)):
        raise RunError(f"{data_dir}: has no train and test folders, so all of it is test; leave --split out.")
    return records


def _predict_only(model: "ResNetViT", records: Records, out: Path) -> None:
    """Write out/predictions.csv, with paths from the folder that was read; a bad file is a row with its error."""
    import pandas as pd

    from stroke_hub.batch.pipeline import PredictSettings, predict_paths

    with atomic_folder(out) as folder:
        tables = [
            predict_paths(
                model,
                [records.root / path for path in rows["path"]],
                PredictSettings(contributions=False, modality=rows["modality"].iloc[0]),
            )
            for _, rows in records.table.groupby("modality", dropna=False, sort=False)
        ]
        table = pd.concat(tables).sort_values(["path", "index"], ignore_index=True)
        table["path"] = [Path(path).relative_to(records.root).as_posix() for path in table["path"]]
        write_text(folder / PREDICTIONS_FILE, table.to_csv(index=False))
    bad = int((table["error"] != "").sum())
    say(f"predictions only: {out / PREDICTIONS_FILE}, {pluralise(len(table), 'row')}, {bad} with an error")
