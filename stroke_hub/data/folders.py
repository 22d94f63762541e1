"""Any folder of slices becomes a table to measure a model on: classes from folder names, index.csv, or none."""

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from stroke_hub.data.layout import (
    CLASSES,
    COLUMNS,
    NOT_NAMED,
    PATIENT,
    Row,
    check_entry,
    describe_passed_over,
    find_base,
    find_split,
    name_modality,
    read_index,
    read_label,
    read_modality,
    show_path,
    walk_files,
)
from stroke_hub.data.records import LeftOut, Records, count_passed_over
from stroke_hub.errors import DatasetError
from stroke_hub.io.images import IMAGE_SUFFIXES
from stroke_hub.io.windowing import Modality
from stroke_hub.progress import track

__all__ = ["has_labels", "has_splits", "read_folder"]

INDEX_FILE = "index.csv"


def has_splits(root: str | Path) -> bool:
    """Whether a folder has the train/ and test/ that `read_records` looks for; `read_folder` reads any other."""
    try:
        find_base(Path(root).expanduser().resolve())
    except DatasetError:
        return False
    return True


def has_labels(records: Records) -> bool:
    """Whether a model can be measured on these records; else it can only predict them."""
    return bool(records.table["label"].notna().all())


def read_folder(root: str | Path) -> Records:
    """Read any folder of slices as one test set; nothing is written and no picture is opened.

    Parameters
    ----------
    root : a folder with images at any depth, and perhaps an index.csv; its own name says nothing.

    Returns
    -------
    Records, every row in the split "test". Where a label is known, the table holds the labelled images alone
    and a note counts the others. Where none is, it holds all images and each label is None: `has_labels` tells.

    Notes
    -----
    Label and modality come from folder names, by the rules of `read_records`, or from ``index.csv`` in `root`:
    a column path (from `root`, or absolute), and any of label (Stroke or 1, Normal or 0), modality, patient or
    group, mask, and further columns. Images that it names as masks are no slices. Without a patient the group
    is the ``p123`` of a file named ``p123_...``, in whatever folder, or else the file itself. Of a file with
    several pages a measurement takes the first.

    Raises
    ------
    DatasetError : there is no image, index.csv contradicts the folders, lists a file twice or one that is not
        there, or has a label of another word, or something cannot be read.
    """
    root = Path(root).expanduser().resolve()
    if not root.is_dir():
        raise DatasetError(f"{show_path(root)}: is not a folder; check the path of the dataset.")
    index = root / INDEX_FILE
    passed_over: dict[str, list[str]] = {}
    files = (path for path in track(walk_files(root), "finding images") if path != index)
    rows = {str(row["path"]): row for path in files if (row := _read_file(root, path, passed_over))}
    index_notes = _join_index(rows, index) if index.is_file() else []
    if not rows:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DatasetError(f"{show_path(root)}: holds no images; pass a folder with files named {kinds}.")
    unlabelled = [path for path, row in rows.items() if row["label"] is None]
    labelled = {path: row for path, row in rows.items() if row["label"] is not None}
    for path in labelled:
        if not (root / path).is_file() or (root / path).stat().st_size == 0:
            raise DatasetError(f"{show_path(root / path)}: is empty or no file; repair or remove it.")
    chosen = labelled or rows
    # Text columns of pandas would turn None into NaN, which is neither None nor false: hence objects.
    table = pd.DataFrame([chosen[path] for path in sorted(chosen)], dtype=object)
    if labelled:
        table = table.astype({"label": np.int64})
    described = _describe(table) if labelled else ()
    notes = (*_describe_labels(labelled, unlabelled), *described, *_describe_splits(chosen), *index_notes)
    left_out = count_passed_over(passed_over)
    if labelled and unlabelled:
        lost = {rows[path]["group"] for path in unlabelled} - set(table["group"])
        left_out += (LeftOut("images without a label", len(unlabelled), len(lost)),)
    return Records(root, table, (*notes, *describe_passed_over(table, passed_over)), left_out)


def _read_file(root: Path, path: Path, passed_over: dict[str, list[str]]) -> Row | None:
    """The row of one file by its name and folders, or None and a reason in `passed_over`."""
    relative = path.relative_to(root).as_posix()
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        passed_over.setdefault(NOT_NAMED, []).append(relative)
        return None
    if not relative.isprintable():  # no table or report could hold such a name
        passed_over.setdefault("with unprintable characters in the name", []).append(relative)
        return None
    folders = relative.split("/")[-2::-1]  # nearest first
    patient = PATIENT.match(path.name)
    return {
        "path": relative,
        "label": next((label for folder in folders if (label := read_label(folder)) is not None), None),
        "modality": next((modality for folder in folders if (modality := name_modality(folder))), None),
        "group": patient[1].lower() if patient else relative,
        "split": "test",
    }


# --- index.csv ----------------------------------------------------------------------------------------------


def _join_index(rows: dict[str, Row], index: Path) -> list[str]:
    """Add to the rows what index.csv says of them, take its masks out, and return notes."""
    names, entries = read_index(index)
    entries = [said for said in entries if any(said.values())]  # spreadsheets leave lines of commas
    for said in entries:
        said["path"] = _locate(said["path"], index.parent)
        said["label"] = said.get("label", "").removesuffix(".0")  # pandas, beside a missing label
        if said.get("mask"):
            said["mask"] = _locate(said["mask"], index.parent)
    listed = Counter(said["path"] for said in entries)
    for mask in {said["mask"] for said in entries if said.get("mask")} - set(listed):
        rows.pop(mask, None)
    _check_listed(rows, listed, index)
    further = [name for name in names if name not in (*COLUMNS, "patient", "")]
    for row in rows.values():
        row.update(dict.fromkeys(further, ""))
    for said in entries:
        row = rows[said["path"]]
        check_entry(row, said | {"split": ""})  # its splits are another study's; a note tells of them
        row.update({name: said[name] for name in further})
        if row["label"] is None and said["label"]:
            row["label"] = {"1": 1, "0": 0}.get(said["label"], read_label(said["label"]))
        row["modality"] = row["modality"] or read_modality(said)
        row["group"] = said.get("patient") or said.get("group") or row["group"]
    return list(_describe_index(rows, entries))


def _locate(listed: str, root: Path) -> str:
    """A path of index.csv, from its folder."""
    path = posixpath.join(root.as_posix(), listed.replace("\\", "/"))
    return posixpath.relpath(path, root.as_posix())


def _check_listed(rows: dict[str, Row], listed: Counter[str], index: Path) -> None:
    if twice := [path for path, count in listed.items() if count > 1]:
        raise DatasetError(f"{show_path(twice[0])}: stands twice in {show_path(index)}; remove one of its rows.")
    # An error here, where read_records only notes: with another's files the wrong folder is the usual reason.
    if missing := [path for path in listed if path not in rows]:
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise DatasetError(
            f"{show_path(index)}: lists {show_path(missing[0])}{more}, but there is no such image; "
            "correct the path, which starts from the folder of index.csv, or remove the row."
        )


# --- notes --------------------------------------------------------------------------------------------------


def _describe_index(rows: dict[str, Row], entries: list[dict[str, str]]) -> Iterator[str]:
    if len(entries) < len(rows):
        yield f"index.csv does not list {len(rows) - len(entries):,} of {len(rows):,} images."
    splits = Counter(said.get("split", "").lower() for said in entries)
    if set(splits) - {"", "test"}:
        parts = [f"{count:,} to {show_path(split)}" for split, count in sorted(splits.items()) if split]
        yield f"index.csv assigns {', '.join(parts)}, but all images count as test here."


def _describe_splits(paths: Iterable[str]) -> Iterator[str]:
    """Say what folders that name splits would have meant elsewhere."""
    named = (next(filter(None, map(find_split, path.split("/")[-2::-1])), None) for path in paths)
    splits = Counter(filter(None, named))
    if set(splits) - {"test"}:
        parts = [f"{count:,} to {split}" for split, count in sorted(splits.items())]
        yield f"Folder names assign {', '.join(parts)}, but all images count as test here."


def _describe_labels(labelled: dict[str, Row], unlabelled: list[str]) -> Iterator[str]:
    if not labelled:
        yield (
            "No image has a label, so all can be predicted and nothing measured; labels come from folders named "
            "after stroke and normal (or control), or from a column label in index.csv."
        )
    elif unlabelled:
        yield (
            f"{len(unlabelled):,} of {len(labelled) + len(unlabelled):,} images have no label and are left out, "
            f"for example {show_path(min(unlabelled))}."
        )


def _describe(table: pd.DataFrame) -> Iterator[str]:
    """What limits the figures that the labelled images can give."""
    counts = Counter(zip(table["modality"], table["label"], strict=True))
    if absent := [name for label, name in CLASSES.items() if label not in set(table["label"])]:
        yield f"There are no images of {absent[0]}, so AUROC and all that compares the classes are undefined."
    if unknown := int(table["modality"].isna().sum()):
        yield (
            f"{unknown:,} of {len(table):,} images have no modality: no folder's name ends in BT or MR, "
            "and no index.csv gives it."
        )
    for modality in get_args(Modality):
        missing = [name for label, name in CLASSES.items() if not counts[modality, label]]
        if len(missing) == len(CLASSES) and unknown < len(table):
            yield f"There are no {modality} images, so nothing can be said about that modality."
        elif len(missing) == 1 and not absent:
            yield f"There are no {modality} images of {missing[0]}: such figures mislead."
    if alone := int((table["group"] == table["path"]).sum()):
        yield (
            f"{alone:,} of {len(table):,} images have no patient id: each counts as a patient of its own, "
            "so intervals may be too narrow."
        )
