"""A dataset folder becomes one table here: a row per slice, its label, modality, group and split."""

import hashlib
import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stroke_hub.data.contents import hash_contents
from stroke_hub.data.layout import (
    CELLS,
    CLASSES,
    COLUMNS,
    NOT_NAMED,
    PATIENT,
    Row,
    check_entry,
    describe_passed_over,
    find_base,
    name_modality,
    read_index,
    read_label,
    read_modality,
    show_path,
    walk_files,
)
from stroke_hub.data.readers.scans import SCANS_FILE, read_scans
from stroke_hub.errors import DatasetError
from stroke_hub.io.images import IMAGE_SUFFIXES
from stroke_hub.io.windowing import Modality

__all__ = [
    "SLICE_NUMBERS",
    "LeftOut",
    "Records",
    "count_passed_over",
    "hash_records",
    "hash_slices",
    "list_modalities",
    "make_records",
    "name_scans",
    "read_records",
    "read_slice_numbers",
]

SLICE_NUMBERS = ("slice_number", "slice")  # columns that hold a slice's number in its scan
NUMBER = r"^p\d+_s(\d+)(?!\d)"  # p012_s03.png


class LeftOut(NamedTuple):
    """Count what was left out of a dataset for one reason.

    reason : words that name it: "training images that stand in test too".
    slices : how many slices, or files that were taken for none.
    patients : of how many patients (groups) no slice is left; 0 for files of which no patient is known.
    """

    reason: str
    slices: int
    patients: int


@dataclass(frozen=True, eq=False)
class Records:
    """A dataset as one table.

    Parameters
    ----------
    root : the folder that holds train/ and test/; relative paths start from it.
    table : one row per slice, sorted by path, with a RangeIndex. Columns: path (POSIX, relative to `root`),
        label (int64: 1 stroke, 0 normal), modality ("BT", "MR", or None where nothing says), group (slices
        of one patient share it), split ("train", "test", or "val" of a validation folder), then the further
        columns of index.csv as text, "" where it says nothing; paths in a column "mask" are relative to `root` too.
    notes : sentences to show to whoever uses the dataset.
    left_out : what was found and is not in the table, by reason, in the order in which it was left out.
    """

    root: Path
    table: pd.DataFrame
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()

    def part(self, split: str) -> pd.DataFrame:
        """Return the rows of one split, with a fresh RangeIndex."""
        return self.table[self.table["split"] == split].reset_index(drop=True)

    def leave_out(self, rows: "pd.Series[bool]", reason: str) -> "Records":
        """Return the dataset without some rows, which are counted with the reason.

        Parameters
        ----------
        rows : a bool for each row of the table: whether it is left out.
        """
        if not rows.any():
            return self
        gone, kept = self.table[rows], self.table[~rows].reset_index(drop=True)
        count = LeftOut(reason, len(gone), len(set(gone["group"]) - set(kept["group"])))
        return replace(self, table=kept, left_out=(*self.left_out, count))


def list_modalities(table: pd.DataFrame) -> list[Modality | None]:
    """List what a table says of the modality of every slice; None where it says nothing."""
    if "modality" not in table:
        return [None] * len(table)
    return [cast(Modality, one) if isinstance(one, str) else None for one in table["modality"]]


def read_records(root: str | Path) -> Records:
    """Read a dataset laid out like the Kaggle "Multimodal Stroke Image Dataset"; nothing is written.

    Parameters
    ----------
    root : the folder that holds train/ and test/, or one above it, with ``deep`` or a single folder between. A
        val/, valid/ or validation/ beside them is used as validation. Names may have any case.

    Notes
    -----
    Folders decide: below these, the nearest folder whose name holds "stroke", or "normal" or
    "control", gives the label; the nearest whose name ends in BT or CT, or MR or MRI, the modality. An
    ``index.csv`` beside train/ or above it (columns path, and any of patient or group, label, modality and
    split) gives groups, a modality where no folder does, and further columns. Without it the group is the
    ``p123`` of a file named ``p123_...``, or else the file itself.

    A ``scans.csv`` in `root` itself is taken instead of the folders (`readers.scans`): it lists every slice of
    whole scans, each with its label. Give ``deep`` to have the folders read.

    Raises
    ------
    DatasetError : when a split or class is missing, index.csv contradicts the folders, or is unreadable.
    """
    given = Path(root).expanduser().resolve()
    if not given.is_dir():
        raise DatasetError(f"{show_path(given)}: is not a folder; check the path of the dataset.")
    if (given / SCANS_FILE).is_file():
        rows = read_scans(given / SCANS_FILE)
        return make_records(given, rows, [], {})
    base, splits = find_base(given)
    passed_over: dict[str, list[str]] = {}
    files = ((split, path) for split in splits for folder in splits[split] for path in walk_files(folder))
    rows = [row for split, path in files if (row := _read_file(base, split, path, passed_over))]
    if not rows:
        raise DatasetError(f"{show_path(base)}: holds no images; put them into folders like train/Stroke/StrokeBT.")
    index = _find_index(given, base)
    return make_records(base, rows, _join_index(rows, index, base) if index else [], passed_over)


def make_records(
    base: Path, rows: list[Row], notes: Sequence[str], passed_over: dict[str, list[str]], *, whole: bool = False
) -> Records:
    """Make a dataset of rows, sorted by path, with the notes that all datasets have.

    Parameters
    ----------
    whole : whether everything is one test part, in which a class may be missing.

    Raises
    ------
    DatasetError : a split has not both classes.
    """
    rows.sort(key=lambda row: str(row["path"]))
    # Text columns of pandas would turn None into NaN, which is neither None nor false: hence objects.
    table = pd.DataFrame(rows, dtype=object).astype({"label": np.int64})
    if not whole:
        _check_classes(base, table)
    said = (*_describe(table), *notes, *describe_passed_over(table, passed_over))
    return Records(base, table, said, count_passed_over(passed_over))


def count_passed_over(passed_over: dict[str, list[str]]) -> tuple[LeftOut, ...]:
    """Count the files that a reader passed over, by its reasons."""
    return tuple(LeftOut(f"files {reason}", len(paths), 0) for reason, paths in passed_over.items())


def hash_records(records: Records) -> str:
    """Return the identity of a dataset as 64 hexadecimal digits: SHA-256 of every column and all bytes.

    Raises
    ------
    DatasetError : when a file cannot be read.
    """
    return hash_slices(records.table, records.root, columns=COLUMNS)


def hash_slices(table: pd.DataFrame, root: Path, *, columns: Sequence[str] = ("path", "label", "modality")) -> str:
    """Hash chosen columns and all bytes of a table's slices, whatever their groups and splits.

    Raises
    ------
    DatasetError : when a file cannot be read.
    """
    identity = hashlib.sha256()
    rows = table.sort_values("path")[list(columns)].astype(object).to_numpy().tolist()
    for row, content in zip(rows, hash_contents(root, [row[0] for row in rows]), strict=True):
        identity.update(json.dumps([*row, content]).encode() + b"\n")
    return identity.hexdigest()


def name_scans(table: pd.DataFrame) -> "pd.Series[str]":
    """Name the scan of each row: the group (patient), and the column "scan" where there is one."""
    group = table["group"].astype(str)
    return group + " " + table["scan"].fillna("").astype(str) if "scan" in table else group


def read_slice_numbers(table: pd.DataFrame) -> NDArray[np.float64]:
    """Find the slice number of each row, (N,), NaN where neither a column nor the name has one."""
    name = table["path"].str.rsplit("/", n=1).str[-1]
    number = pd.to_numeric(name.str.extract(f"(?i){NUMBER}")[0], errors="coerce")
    for column in SLICE_NUMBERS:
        if column in table:
            number = pd.to_numeric(table[column], errors="coerce").fillna(number)
    found = number.to_numpy(np.float64, na_value=np.nan)
    return np.where(np.abs(found) < 1e6, found, np.nan)  # no scan has a million slices


def _read_file(base: Path, split: str, path: Path, passed_over: dict[str, list[str]]) -> Row | None:
    """The row of one file, or None and a reason in `passed_over`."""
    relative = path.relative_to(base).as_posix()
    folders = relative.split("/")[-2:0:-1]  # nearest first, without the split's own
    label = next((label for folder in folders if (label := read_label(folder)) is not None), None)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        reason = NOT_NAMED
    elif not relative.isprintable():  # no table or report could hold such a name
        reason = "with unprintable characters in the name"
    elif label is None:
        reason = "in no folder that names a class"
    elif not path.is_file() or path.stat().st_size == 0:
        raise DatasetError(f"{show_path(path)}: is empty or no file; repair or remove it.")
    else:
        modality = next((modality for folder in folders if (modality := name_modality(folder))), None)
        patient = PATIENT.match(path.name)
        group = patient[1].lower() if patient else relative
        return {"path": relative, "label": label, "modality": modality, "group": group, "split": split}
    passed_over.setdefault(reason, []).append(relative)
    return None


# --- index.csv ----------------------------------------------------------------------------------------------


def _find_index(given: Path, base: Path) -> Path | None:
    """The index.csv beside train/, or above: over "deep", and up to the folder given; beyond is not ours."""
    above = [folder for folder in base.parents if folder.is_relative_to(given)]
    if base.name.lower() == "deep":
        above = [base.parent, *above]
    return next((folder / "index.csv" for folder in (base, *above) if (folder / "index.csv").is_file()), None)


def _join_index(rows: list[Row], index: Path, base: Path) -> list[str]:
    """Add to the rows what index.csv says of them, and return the notes on what it does not."""
    names, entries = read_index(index)
    ours = {str(row["path"]): row for row in rows}
    further = [name for name in names if name not in (*COLUMNS, "patient", "")]
    for row in rows:
        row.update(dict.fromkeys(further, ""))
    met: set[str] = set()
    absent = 0
    for said in entries:
        path, prefix = _match(said["path"], ours)
        if path is None:
            absent += 1
            continue
        if path in met:
            raise DatasetError(f"{show_path(path)}: stands twice in {show_path(index)}; remove one of its rows.")
        met.add(path)
        check_entry(ours[path], said)
        ours[path].update({name: said[name] for name in further})
        ours[path]["modality"] = ours[path]["modality"] or read_modality(said)
        ours[path]["group"] = said.get("patient") or said.get("group") or ours[path]["group"]
        if said.get("mask"):
            ours[path]["mask"] = _find_mask(said["mask"].replace("\\", "/"), prefix, index, base)
    notes = []
    if absent:
        notes.append(f"index.csv lists {absent:,} files that are not there.")
    if len(met) < len(rows):
        notes.append(f"index.csv does not list {len(rows) - len(met):,} of {len(rows):,} images.")
    return notes


def _find_mask(listed: str, prefix: str, index: Path, base: Path) -> str:
    """Find a mask relative to `base`: it is listed as its slice is, or from the folder of index.csv."""
    mask = posixpath.relpath(listed, prefix or ".")
    if not (base / mask).is_file() and (index.parent / listed).is_file():
        return Path(os.path.relpath(index.parent / listed, base)).as_posix()
    return mask


def _match(listed: str, ours: dict[str, Row]) -> tuple[str | None, str]:
    """The path that an index means, wherever it starts from, and what stood before; or None."""
    parts = posixpath.normpath(listed.replace("\\", "/")).split("/")
    for start in range(len(parts)):
        path = "/".join(parts[start:])
        if path in ours:
            return path, "/".join(parts[:start])
    return None, ""


def _check_classes(base: Path, table: pd.DataFrame) -> None:
    present = set(zip(table["split"], table["label"], strict=True))
    wanted = [*CELLS, *[("val", label) for label in CLASSES if "val" in set(table["split"])]]
    missing = [f"{CLASSES[label]} in {split}" for split, label in wanted if (split, label) not in present]
    if missing:
        raise DatasetError(
            f"{show_path(base)}: has no images of {', nor of '.join(missing)}; each split needs both classes."
        )


def _describe(table: pd.DataFrame) -> Iterator[str]:
    """What limits the figures that the dataset can give."""
    yield from _describe_modalities(table)
    alone = int((table["group"] == table["path"]).sum())
    if alone:
        yield (
            f"{alone:,} of {len(table):,} images have no patient id: they are split slice by slice, "
            "so slices of one patient may stand on both sides and figures may be optimistic."
        )
    train, val, test = (set(table.loc[table["split"] == split, "group"]) for split in ("train", "val", "test"))
    if shared := len(train & test):
        yield f"{shared:,} groups stand in both train and test, so test figures may be optimistic."
    if val:
        count = int((table["split"] == "val").sum())
        yield f"The {count:,} images of the validation folder are used as validation; none is taken from train."
    if shared := len(val & test):
        yield f"{shared:,} groups stand in both validation and test, so test figures may be optimistic."
    if shared := len(val & train):
        yield f"{shared:,} groups stand in both train and validation, so validation figures may be optimistic."


def _describe_modalities(table: pd.DataFrame) -> Iterator[str]:
    if unknown := int(table["modality"].isna().sum()):
        yield f"{unknown:,} of {len(table):,} images have no modality: no folder's name ends in BT or MR."
    counts = Counter(zip(table["modality"], table["split"], table["label"], strict=True))
    for modality in get_args(Modality):
        missing = [f"{CLASSES[label]} in {split}" for split, label in CELLS if not counts[modality, split, label]]
        if len(missing) == len(CELLS):
            yield f"There are no {modality} images, so nothing can be said about that modality."
        elif missing:
            yield f"There are no {modality} images of {', nor of '.join(missing)}: such figures mislead."
