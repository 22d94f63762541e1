"""A dataset folder becomes one table here: a row per slice, its label, modality, group and split."""

import csv
import hashlib
import itertools
import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

import numpy as np
import pandas as pd

from stroke_hub.errors import DatasetError
from stroke_hub.files import hash_file
from stroke_hub.pixels import IMAGE_SUFFIXES, Modality, printable
from stroke_hub.progress import track

__all__ = ["Records", "assign_validation", "hash_records", "hash_slices", "name_strata", "read_records"]

Row: TypeAlias = dict[str, object]

COLUMNS = ("path", "label", "modality", "group", "split")
CLASSES = {1: "stroke", 0: "normal"}
SPLITS = ("train", "test")
CELLS = [(split, label) for split in SPLITS for label in CLASSES]
LITTER = {"__macosx", "thumbs.db", "desktop.ini"}  # what operating systems leave, besides hidden files

STROKE = re.compile(r"stroke", re.IGNORECASE)
NORMAL = re.compile(r"normal|control", re.IGNORECASE)
MISLEADING = re.compile(r"abnormal|no[nt]?[\W_]*stroke|stroke[\W_]*free", re.IGNORECASE)
# A word of its own, or set off by its capitals: "infarct" ends in "ct" and says nothing about the modality.
MODALITY = re.compile(r"(?i:(?:^|[\W\d_]|stroke|normal|controls?)(bt|ct|mri?))$|[a-z](BT|CT|MRI?)$")
MODALITIES: dict[str, Modality] = {"bt": "BT", "ct": "BT", "mr": "MR", "mri": "MR"}
NOT_NAMED = "not named as a picture (DICOM and NIfTI are read by predict.py)"
PATIENT = re.compile(r"(p\d+)_", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Records:
    """A dataset as one table.

    Parameters
    ----------
    root : the folder that holds train/ and test/; relative paths start from it.
    table : one row per slice, sorted by path, with a RangeIndex. Columns: path (POSIX, relative to `root`),
        label (int64: 1 stroke, 0 normal), modality ("BT", "MR", or None where nothing says), group (slices
        of one patient share it), split ("train" or "test"), then the further columns of index.csv as text,
        "" where it says nothing; paths in a column "mask" are relative to `root` too.
    notes : sentences to show to whoever uses the dataset.
    """

    root: Path
    table: pd.DataFrame
    notes: tuple[str, ...]

    def part(self, split: str) -> pd.DataFrame:
        """Return the rows of one split, with a fresh RangeIndex."""
        return self.table[self.table["split"] == split].reset_index(drop=True)


def read_records(root: str | Path) -> Records:
    """Read a dataset laid out like the Kaggle "Multimodal Stroke Image Dataset"; nothing is written.

    Parameters
    ----------
    root : the folder that holds train/ and test/, or one above it, with ``deep`` or a single folder between.

    Notes
    -----
    Folders decide: below train/ and test/, the nearest folder whose name holds "stroke", or "normal" or
    "control", gives the label; the nearest whose name ends in BT or CT, or MR or MRI, the modality. An
    ``index.csv`` beside train/ or above it (columns path, and any of patient or group, label, modality and
    split) gives groups, a modality where no folder does, and further columns. Without it the group is the
    ``p123`` of a file named ``p123_...``, or else the file itself.

    Raises
    ------
    DatasetError : when a split or class is missing, index.csv contradicts the folders, or is unreadable.
    """
    given = Path(root).expanduser().resolve()
    if not given.is_dir():
        raise DatasetError(f"{show_path(given)}: is not a folder; check the path of the dataset.")
    base, splits = find_base(given)
    passed_over: dict[str, list[str]] = {}
    files = ((split, path) for split in SPLITS for folder in splits[split] for path in walk_files(folder))
    rows = [row for split, path in files if (row := _read_file(base, split, path, passed_over))]
    if not rows:
        raise DatasetError(f"{show_path(base)}: holds no images; put them into folders like train/Stroke/StrokeBT.")
    rows.sort(key=lambda row: str(row["path"]))
    index = _find_index(given, base)
    index_notes = _join_index(rows, index, base) if index else []
    # Text columns of pandas would turn None into NaN, which is neither None nor false: hence objects.
    table = pd.DataFrame(rows, dtype=object).astype({"label": np.int64})
    _check_classes(base, table)
    notes = (*_describe(table), *index_notes, *describe_passed_over(table, passed_over))
    return Records(base, table, notes)


def assign_validation(table: pd.DataFrame, *, fraction: float = 0.2, seed: int = 0) -> pd.DataFrame:
    """Return a copy of a table in which some training groups have the split "val".

    Whole groups move, so that about `fraction` of the training rows do, with labels and modalities in
    proportion as far as groups allow. A group that also stands in another split stays where it is. The result
    depends on the rows and the seed, not on their order; "test" is never touched.

    Parameters
    ----------
    table : as in `Records`.
    fraction : share of the training rows to move, above 0 and at most 0.5.
    seed : chooses among the possible divisions.

    Raises
    ------
    DatasetError : when train and val cannot both have stroke and normal slices.
    ValueError : when `fraction` is out of its range.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second, and few commands need it

    if not 0 < fraction <= 0.5:
        raise ValueError(f"fraction is {fraction}; pass a number above 0 and at most 0.5.")
    elsewhere = table.loc[table["split"] != "train", "group"]
    movable = table[(table["split"] == "train") & ~table["group"].isin(elsewhere)].sort_values("path")
    labels, groups = movable["label"].to_numpy(), movable["group"].to_numpy()
    rarest = min(int((labels == label).sum()) for label in CLASSES)
    most = min(round(1 / fraction), rarest, len(set(groups)))
    # fewer folds, or strata of the label alone, only where the first leave no fold with both classes
    for folds, alone in itertools.product(range(most, 1, -1), (False, True)):
        splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
        divisions = [
            (abs(len(val) / len(labels) - fraction), set(groups[val]))
            for train, val in splitter.split(labels, labels if alone else name_strata(movable, folds), groups)
            if set(labels[train]) == set(labels[val]) == set(CLASSES)
        ]
        if divisions:
            _, chosen = min(divisions, key=lambda division: division[0])
            return table.assign(split=table["split"].mask(table["group"].isin(chosen), "val"))
    raise DatasetError(
        "The training groups cannot be divided so that train and validation both have both classes; "
        "add patients of both classes."
    )


def hash_records(records: Records) -> str:
    """Return the identity of a dataset as 64 hexadecimal digits: SHA-256 of every column and all bytes.

    Raises
    ------
    DatasetError : when a file cannot be read.
    """
    return hash_slices(records.table, records.root, columns=COLUMNS)


def hash_slices(table: pd.DataFrame, root: Path, *, columns: Sequence[str] = ("path", "label", "modality")) -> str:
    """The same of the slices of a table alone, whatever the groups and splits that they were put into.

    Raises
    ------
    DatasetError : when a file cannot be read.
    """
    identity = hashlib.sha256()
    rows = table.sort_values("path")[list(columns)].astype(object).to_numpy().tolist()
    for row in track(rows, "hashing the slices"):
        try:
            content = hash_file(root / row[0])
        except OSError as error:
            _refuse(error)
        identity.update(json.dumps([*row, content]).encode() + b"\n")
    return identity.hexdigest()


# --- folders ------------------------------------------------------------------------------------------------


def find_base(given: Path) -> tuple[Path, dict[str, list[Path]]]:
    """The folder that holds train and test, and these: `given`, its "deep", or so in its only folder."""
    bases = [given, *_subfolders(given, "deep")]
    if len(visible := _subfolders(given)) == 1:
        bases += [*visible, *_subfolders(visible[0], "deep")]
    found = [(base, {split: _subfolders(base, split) for split in SPLITS}) for base in bases]
    for base, splits in found:
        if all(splits.values()):
            return base, splits
    missing = [split for split in SPLITS if not any(splits[split] for _, splits in found)] or SPLITS
    raise DatasetError(
        f"{show_path(given)}: has no {' and no '.join(missing)} folder; pass the one that holds train and test."
    )


def _subfolders(folder: Path, name: str | None = None) -> list[Path]:
    """The visible folders of a folder, sorted, or those with this name in any case."""
    try:
        paths = [path for path in folder.iterdir() if not _is_litter(path.name) and path.is_dir()]
    except OSError as error:
        _refuse(error)
    return sorted(path for path in paths if name is None or path.name.lower() == name)


def walk_files(folder: Path) -> Iterator[Path]:
    """All files below a folder but hidden ones and litter; links are followed, each folder once."""
    visited: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [] if real in visited else sorted(name for name in folders if not _is_litter(name))
        if real not in visited:
            yield from (Path(place, name) for name in sorted(names) if not _is_litter(name))
        visited.add(real)


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER


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


def read_label(name: str) -> int | None:
    stroke, normal = STROKE.search(name), NORMAL.search(name)
    if (stroke and normal) or MISLEADING.search(name):
        raise DatasetError(f"{show_path(name)}: may mean stroke or normal; rename it to one of them.")
    return 1 if stroke else 0 if normal else None


def name_modality(name: str) -> Modality | None:
    found = MODALITY.search(name)
    return MODALITIES[(found[1] or found[2]).lower()] if found else None


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
            ours[path]["mask"] = posixpath.relpath(said["mask"].replace("\\", "/"), prefix or ".")
    notes = []
    if absent:
        notes.append(f"index.csv lists {absent:,} files that are not there.")
    if len(met) < len(rows):
        notes.append(f"index.csv does not list {len(rows) - len(met):,} of {len(rows):,} images.")
    return notes


def read_index(index: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The names of the columns, and a dictionary per row."""
    try:
        with open(index, encoding="utf-8-sig", newline="") as file:
            names, *lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        reason = printable(str(error), limit=80)
        raise DatasetError(
            f"{show_path(index)}: cannot be read as a table ({reason}); repair or remove it."
        ) from error
    if "path" not in names or len(set(names)) < len(names):
        raise DatasetError(f"{show_path(index)}: needs a column path and no column twice; repair or remove it.")
    return names, [dict(itertools.zip_longest(names, line[: len(names)], fillvalue="")) for line in lines]


def _match(listed: str, ours: dict[str, Row]) -> tuple[str | None, str]:
    """The path that an index means, wherever it starts from, and what stood before; or None."""
    parts = posixpath.normpath(listed.replace("\\", "/")).split("/")
    for start in range(len(parts)):
        path = "/".join(parts[start:])
        if path in ours:
            return path, "/".join(parts[:start])
    return None, ""


def check_entry(row: Row, said: dict[str, str]) -> None:
    path, label = show_path(row["path"]), said.get("label", "")
    claims: Row = {
        "label": {"1": 1, "0": 0}.get(label, read_label(label)),
        "modality": read_modality(said),
        "split": said.get("split", "").lower() or None,
    }
    if label and claims["label"] is None:
        raise DatasetError(f"{path}: has the label {show_path(label)} in index.csv; use Stroke or Normal.")
    if posixpath.normpath(said.get("mask", "")).startswith(("/", "..")):
        raise DatasetError(f"{path}: has a mask outside the dataset in index.csv; correct its path.")
    for name, claim in claims.items():
        if None not in (claim, row[name]) and claim != row[name]:
            raise DatasetError(
                f"{path}: index.csv gives the {name} {show_path(said[name])}, its folders another; correct one."
            )


def read_modality(said: dict[str, str]) -> Modality | None:
    return MODALITIES.get(said.get("modality", "").lower())


# --- the table ----------------------------------------------------------------------------------------------


def name_strata(table: pd.DataFrame, folds: int) -> list[str]:
    """Name each row's stratum: label and modality, or the label alone where one had fewer rows than folds."""
    pairs = zip(table["label"], table["modality"], strict=True)
    strata = [f"{label} {modality}" for label, modality in pairs]
    return strata if min(Counter(strata).values()) >= folds else [stratum[0] for stratum in strata]


def _check_classes(base: Path, table: pd.DataFrame) -> None:
    present = set(zip(table["split"], table["label"], strict=True))
    missing = [f"{CLASSES[label]} in {split}" for split, label in CELLS if (split, label) not in present]
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
    train, test = (set(table.loc[table["split"] == split, "group"]) for split in SPLITS)
    if shared := len(train & test):
        yield f"{shared:,} groups stand in both train and test, so test figures may be optimistic."


def _describe_modalities(table: pd.DataFrame) -> Iterator[str]:
    if unknown := int(table["modality"].isna().sum()):
        yield f"{unknown:,} of {len(table):,} images have no modality: no folder's name ends in BT or MR."
    counts = Counter(zip(table["modality"], table["split"], table["label"], strict=True))
    for modality in dict.fromkeys(MODALITIES.values()):
        missing = [f"{CLASSES[label]} in {split}" for split, label in CELLS if not counts[modality, split, label]]
        if len(missing) == len(CELLS):
            yield f"There are no {modality} images, so nothing can be said about that modality."
        elif missing:
            yield f"There are no {modality} images of {', nor of '.join(missing)}: such figures mislead."


def describe_passed_over(table: pd.DataFrame, passed_over: dict[str, list[str]]) -> Iterator[str]:
    for reason, paths in passed_over.items():
        words = "1 file was" if len(paths) == 1 else f"{len(paths):,} files were"
        yield f"{words} passed over, {reason}, for example {show_path(paths[0])}."
    if alike := len(table) - table["path"].str.lower().nunique():
        yield f"{alike:,} images have the path of another but for upper and lower case."


def _refuse(error: OSError) -> NoReturn:
    raise DatasetError(
        f"{show_path(error.filename)}: cannot be read ({error.strerror}); check its rights."
    ) from error


def show_path(path: object) -> str:
    return printable(str(path), limit=200)
