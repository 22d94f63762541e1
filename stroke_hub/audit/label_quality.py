"""Which labels a model contradicts that never saw their patients: confident learning on out-of-fold predictions.

After Northcutt, Jiang and Chuang (2021), Confident learning: estimating uncertainty in dataset labels, J. Artif.
Intell. Res. 70, 1373-1411. Where labels are wrong by chance, a model that did not learn them shows it. The model
errs too: what is listed is to be looked at, not to be changed unseen.
"""

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stroke_hub.audit.findings import NAMES, Finding, state
from stroke_hub.data.records import Records
from stroke_hub.errors import DatasetError, pluralise, printable
from stroke_hub.files import write_text
from stroke_hub.metrics.classification import auroc
from stroke_hub.runs.run_folder import SPLIT_FILE, TRAIN_CONFIG_FILE

__all__ = ["LabelDoubts", "check_draft", "count_joint", "find_doubts", "write_doubts", "write_draft"]

DOUBTS_FILE = "label_doubts.csv"
PATH_COLUMNS, PROBABILITY_COLUMNS = ("path", "image_path"), ("stroke_probability", "probability")
FOLDER_WORDS = {1: "Stroke", 0: "Normal"}  # labels as index.csv writes them
NAMED = 3  # patients named in a sentence
CHANGED = "changed"  # column of a draft


@dataclass(frozen=True, eq=False)
class LabelDoubts:
    """What a table of predictions says of a dataset's labels.

    Parameters
    ----------
    slices : a row a slice whose label is in doubt: patient, path, split, label, suggested_label (as words),
        stroke_probability and self_confidence, the probability of the given label. By patient, the patient with
        the least self-confidence first; within a patient, the least first.
    summary : what audit.json holds as "labels": predictions, slices (with a prediction), trained_on (left out, as
        the model was trained on their patients), without_prediction, auroc (by the given labels), thresholds and
        confident_joint by class, and patients: patient, slices_in_doubt, slices, strongest, its label and its
        stroke_probability.
    findings : sentences, as in audit.json.
    """

    slices: pd.DataFrame
    summary: dict[str, Any]
    findings: list[Finding]


def count_joint(
    label: NDArray[np.int64], probability: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Count given labels against confident ones (Northcutt, Jiang and Chuang, 2021, equations 1 and 2).

    Parameters
    ----------
    label : (N,), 0 or 1, both present.
    probability : (N,) of class 1, in 0..1, of a model that was not trained on these slices.

    Returns
    -------
    Thresholds (2,): the mean probability of each class among the slices that have its label. The confident joint
    (2, 2): given label by confident label; a slice is confident of the class of the highest probability among those
    that reach their threshold, and counts nowhere where none does. And (N,) bool: the slices off its diagonal.
    """
    each = np.stack([1 - probability, probability], axis=1)
    thresholds = np.array([each[label == name, name].mean() for name in (0, 1)])
    reached = each >= thresholds - 1e-12  # a mean of equals is off by a rounding
    confident = np.where(reached, each, -1.0).argmax(axis=1)
    counted = reached.any(axis=1)
    joint = np.zeros((2, 2), np.int64)
    np.add.at(joint, (label[counted], confident[counted]), 1)
    return thresholds, joint, counted & (confident != label)


def find_doubts(records: Records, file: Path) -> LabelDoubts:
    """Rank the labels of a dataset that a table of predictions contradicts; nothing is written.

    Parameters
    ----------
    file : CSV with the columns path (or image_path; as in the dataset, or absolute) and stroke_probability (or
        probability): out_of_fold.csv of `stroke-hub train --folds`, or stroke_classification_results.csv. The
        split.csv beside it tells on which patients the model was trained: their slices are left out.

    Raises
    ------
    DatasetError : the table cannot be read, is of another dataset or of slices that its model was trained on, or
        leaves a class without a slice.
    """
    name = printable(file.name, limit=200)
    said = _read_predictions(file, name)
    said["path"] = _find_paths(said["path"], records.root)
    table = records.table.merge(said[["path", "stroke_probability"]], on="path")
    if table.empty:
        raise DatasetError(f"{name}: names no slice of the dataset; give the predictions for this dataset.")
    trained_on = _find_trained(table, said, file.parent, name)
    unknown = trained_on is None
    kept = table if trained_on is None else table[~trained_on].reset_index(drop=True)
    if kept.empty:
        raise DatasetError(
            f"{name}: its model was trained on the patients of all these slices and knows their labels; "
            "give the out_of_fold.csv of stroke-hub train --folds 5."
        )
    if missing := [NAMES[one] for one in (0, 1) if one not in set(kept["label"])]:
        raise DatasetError(
            f"{name}: predicts no {missing[0]} slice that can be judged; give predictions for both classes."
        )
    label, probability = kept["label"].to_numpy(np.int64), kept["stroke_probability"].to_numpy(np.float64)
    thresholds, joint, doubtful = count_joint(label, probability)
    slices = _tabulate(kept[doubtful])
    summary = {
        "predictions": name,
        "slices": len(kept),
        "trained_on": None if unknown else len(table) - len(kept),
        "without_prediction": len(records.table) - len(table),
        "auroc": round(float(auroc(label, probability) or 0.0), 4),
        "thresholds": {NAMES[one]: round(float(thresholds[one]), 4) for one in (0, 1)},
        "confident_joint": {
            NAMES[given]: {NAMES[one]: int(joint[given, one]) for one in (0, 1)} for given in (0, 1)
        },
        "patients": _rank_patients(slices, kept),
    }
    return LabelDoubts(slices, summary, _describe(summary))


def write_doubts(doubts: LabelDoubts, out: Path) -> None:
    """Write label_doubts.csv into a folder: a row a slice in doubt, in the order and columns of `LabelDoubts`."""
    write_text(out / DOUBTS_FILE, doubts.slices.to_csv(index=False))


# --- a draft ------------------------------------------------------------------------------------------------


def check_draft(file: Path, data_dir: Path) -> None:
    """Refuse a place for a draft where a file lies, or where a dataset could read it.

    Raises
    ------
    DatasetError : `file` is there, is in the dataset, or has no folder to lie in.
    """
    name = printable(str(file), limit=200)
    if file.exists() or file.is_symlink():
        raise DatasetError(f"{name}: is there already, and a draft replaces nothing; choose another name.")
    place, dataset = file.expanduser().resolve(), data_dir.expanduser().resolve()
    if place.is_relative_to(dataset):
        raise DatasetError(f"{name}: lies in the dataset, where a draft could be read; choose a place outside.")
    if not place.parent.is_dir():
        raise DatasetError(f"{name}: its folder does not exist; make it first.")


def write_draft(records: Records, doubts: LabelDoubts, file: Path, data_dir: Path) -> None:
    """Write an index.csv with the suggested labels, to be looked through by a reader of pictures.

    Columns: path, patient, label (Stroke or Normal), modality, split, further columns of the dataset, and
    "changed": what was changed in this row and why, "" where nothing was. Paths start from the folder that an
    index.csv of the dataset lies in.

    Raises
    ------
    DatasetError : as `check_draft`.
    """
    check_draft(file, data_dir)
    table = records.table
    said = doubts.slices.set_index("path")
    doubtful = table["path"].isin(said.index)
    label = table["label"].where(~doubtful, 1 - table["label"]).map(FOLDER_WORDS)
    changed = [
        f"label {FOLDER_WORDS[given]} -> {FOLDER_WORDS[1 - given]} (probability of stroke {probability:.3f})"
        if in_doubt
        else ""
        for given, in_doubt, probability in zip(
            table["label"], doubtful, table["path"].map(said["stroke_probability"]), strict=True
        )
    ]
    patient = table["group"].where(table["group"] != table["path"], "")
    prefix = _find_prefix(records.root, data_dir)
    path = [posixpath.join(prefix, one) for one in table["path"]]
    first = {"path": path, "patient": patient, "label": label, "modality": table["modality"].fillna("")}
    draft = pd.DataFrame(first | {"split": table["split"]})
    further = [name for name in table if name not in (*draft, "group", CHANGED)]
    draft = pd.concat([draft, table[further]], axis=1).assign(**{CHANGED: changed})
    if "mask" in draft:
        draft["mask"] = [one and posixpath.normpath(posixpath.join(prefix, one)) for one in table["mask"]]
    write_text(file, draft.to_csv(index=False))


def _find_prefix(root: Path, data_dir: Path) -> str:
    """What stands before the paths of the table in an index.csv: masks may lie beside the folder "deep"."""
    given = data_dir.expanduser().resolve()
    if root != given and root.is_relative_to(given):
        return root.relative_to(given).as_posix()
    return root.name if root.name.lower() == "deep" else ""


# --- the table of predictions -------------------------------------------------------------------------------


def _read_predictions(file: Path, name: str) -> pd.DataFrame:
    """Read path, stroke_probability and, where it has one, fold; refuse what is no such table."""
    try:
        said = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = printable(str(getattr(error, "strerror", None) or error), limit=80)
        raise DatasetError(f"{name}: cannot be read as a table ({reason}); give a CSV of predictions.") from error
    path, probability = (
        next((column for column in columns if column in said), None)
        for columns in (PATH_COLUMNS, PROBABILITY_COLUMNS)
    )
    if path is None or probability is None:
        raise DatasetError(f"{name}: has no columns path and stroke_probability; give a table of predictions.")
    value = pd.to_numeric(said[probability], errors="coerce").astype(np.float64)
    if not value.between(0, 1).all():
        row = int(np.argmin(value.between(0, 1).to_numpy())) + 2
        raise DatasetError(f"{name}: has no probability from 0 to 1 in line {row}; correct or remove it.")
    found = pd.DataFrame({"path": said[path].str.replace("\\", "/"), "stroke_probability": value})
    if "fold" in said:
        found["fold"] = said["fold"]
    if found["path"].duplicated().any():
        twice = printable(found["path"][found["path"].duplicated()].iloc[0], limit=200)
        raise DatasetError(f"{name}: lists {twice} twice; remove one of its rows.")
    return found


def _find_paths(paths: pd.Series, root: Path) -> pd.Series:
    """Make absolute paths relative to the dataset, and leave others as they are."""
    start = root.as_posix().rstrip("/") + "/"
    return paths.str.removeprefix(start)


def _find_trained(table: pd.DataFrame, said: pd.DataFrame, folder: Path, name: str) -> NDArray[np.bool_] | None:
    """Find the rows of which the model saw the patient in training; None where nothing tells."""
    held_out = said.set_index("path").get("fold")
    split = folder / SPLIT_FILE
    if split.is_file():
        try:
            rows = pd.read_csv(split, dtype=str, keep_default_na=False)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{SPLIT_FILE} beside {name}: cannot be read as a table; repair it.") from error
        if not {"path", "group", "split"} <= set(rows.columns):
            raise DatasetError(f"{SPLIT_FILE} beside {name}: lacks path, group or split; repair it.")
        if "fold" in rows and held_out is not None:
            fold = table["path"].map(rows.drop_duplicates("path").set_index("path")["fold"])
            return np.asarray((fold != table["path"].map(held_out)) | ~_is_fold(fold))
        if (folder / TRAIN_CONFIG_FILE).is_file():  # of a training, where an evaluation would call all slices test
            trained = rows[rows["split"] == "train"]
            return np.asarray(table["path"].isin(trained["path"]) | table["group"].isin(trained["group"]))
    if held_out is not None:
        return np.asarray(~_is_fold(table["path"].map(held_out)))
    return None


def _is_fold(fold: pd.Series) -> pd.Series:
    return fold.fillna("").astype(str).str.fullmatch(r"\d{1,9}")


# --- what is said -------------------------------------------------------------------------------------------


def _tabulate(rows: pd.DataFrame) -> pd.DataFrame:
    """Slices in doubt as the table that `LabelDoubts` describes."""
    stroke = rows["label"] == 1
    own = rows["stroke_probability"].where(stroke, 1 - rows["stroke_probability"])
    found = pd.DataFrame(
        {
            "patient": rows["group"],
            "path": rows["path"],
            "split": rows["split"],
            "label": rows["label"].map(NAMES),
            "suggested_label": (1 - rows["label"]).map(NAMES),
            "stroke_probability": rows["stroke_probability"],
            "self_confidence": own,
        }
    )
    worst = found.groupby("patient")["self_confidence"].transform("min")
    order = ["worst", "patient", "self_confidence", "path"]
    return found.assign(worst=worst).sort_values(order, ignore_index=True).drop(columns="worst").round(6)


def _rank_patients(slices: pd.DataFrame, kept: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a patient with a label in doubt, the strongest doubt first."""
    sizes = kept["group"].value_counts()
    return [
        {
            "patient": str(patient),
            "slices_in_doubt": len(rows),
            "slices": int(sizes[patient]),
            "strongest": rows["path"].iloc[0],
            "label": rows["label"].iloc[0],
            "stroke_probability": float(rows["stroke_probability"].iloc[0]),
        }
        for patient, rows in slices.groupby("patient", sort=False)
    ]


def _describe(summary: dict[str, Any]) -> list[Finding]:
    found, name, patients = [], summary["predictions"], summary["patients"]
    if summary["trained_on"] is None:
        words = f"Nothing beside {name} tells on which slices its model was trained: labels that it learned are "
        words += "not in doubt, however wrong. Give the out_of_fold.csv of stroke-hub train --folds 5."
        found.append(state("warning", words, slices=summary["slices"]))
    if trained := summary["trained_on"]:
        words = f"Labels of {pluralise(trained, 'slice')} were not judged, for the model of {name} was trained on "
        found.append(state("warning", words + "their patients.", slices=trained))
    if absent := summary["without_prediction"]:
        words = f"Labels of {pluralise(absent, 'slice')} were not judged, for {name} has no prediction for them."
        found.append(state("note", words, slices=absent))
    doubtful = sum(one["slices_in_doubt"] for one in patients)
    if not doubtful:
        words = f"No label of {pluralise(summary['slices'], 'slice')} is in doubt by the predictions of {name}."
        return [*found, state("note", words, slices=summary["slices"])]
    words = f"The model contradicts the label of {doubtful:,} of {pluralise(summary['slices'], 'slice')}, of "
    words += f"{pluralise(len(patients), 'patient')}: look at these first, for the label or the model is wrong "
    words += f"(AUROC of the predictions {summary['auroc']:.2f}; the lower, the more often it is the model)."
    found.append(state("warning", words, slices=doubtful, patients=len(patients)))
    for rank, one in enumerate(patients[:NAMED], start=1):
        words = (
            f"Label in doubt, rank {rank}: {printable(one['strongest'], limit=200)} is labelled {one['label']}, "
        )
        words += f"and its probability of stroke is {one['stroke_probability']:.3f}; in doubt of its patient: "
        words += f"{one['slices_in_doubt']:,} of {pluralise(one['slices'], 'slice')}."
        found.append(state("note", words, rank=rank, slices=one["slices_in_doubt"]))
    return found
