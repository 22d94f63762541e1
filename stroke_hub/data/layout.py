"""How a dataset folder is laid out: names of folders and files, index.csv, and what is passed over."""

import codecs
import csv
import io
import itertools
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TypeAlias

import pandas as pd

from stroke_hub.errors import DatasetError, printable
from stroke_hub.io.sources import is_litter, walk_folders
from stroke_hub.io.windowing import Modality, find_modality

__all__ = [
    "CELLS",
    "CLASSES",
    "COLUMNS",
    "NOT_NAMED",
    "PATIENT",
    "SPLITS",
    "Row",
    "check_entry",
    "describe_passed_over",
    "find_base",
    "find_split",
    "name_modality",
    "read_index",
    "read_label",
    "read_modality",
    "show_path",
    "walk_files",
]

Row: TypeAlias = dict[str, object]

COLUMNS = ("path", "label", "modality", "group", "split")
KNOWN_COLUMNS = (*COLUMNS, "patient", "mask")  # of index.csv
DELIMITERS = (",", ";", "\t")
CLASSES = {1: "stroke", 0: "normal"}
SPLITS = ("train", "test")  # that every dataset to train on has
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
CELLS = [(split, label) for split in SPLITS for label in CLASSES]

STROKE = re.compile(r"stroke", re.IGNORECASE)
NORMAL = re.compile(r"normal|control", re.IGNORECASE)
MISLEADING = re.compile(r"abnormal|no[nt]?[\W_]*stroke|stroke[\W_]*free", re.IGNORECASE)
# A word of its own, or set off by its capitals: "infarct" ends in "ct" and says nothing about the modality.
MODALITY = re.compile(r"(?i:(?:^|[\W\d_]|stroke|normal|controls?)(bt|ct|mri?))$|[a-z](BT|CT|MRI?)$")
NO_MODALITY = ("", "nan", "none", "null", "na", "n/a", "unknown", "-")  # what tables say of what nobody knows
NOT_NAMED = "not named as a picture (DICOM and NIfTI are read by `stroke-hub predict`)"
PATIENT = re.compile(r"(p\d+)_", re.IGNORECASE)

# --- folders ------------------------------------------------------------------------------------------------


def find_base(given: Path) -> tuple[Path, dict[str, list[Path]]]:
    """Find the folder that holds train and test: `given`, its "deep", or so in its only folder.

    Returns
    -------
    The folder, and the folders of each split: "train", "test" and, where there are some, "val".

    Raises
    ------
    DatasetError : there is none, or a folder cannot be read.
    """
    bases = [given, *_find_deep(given)]
    if len(visible := _subfolders(given)) == 1:
        bases += [*visible, *_find_deep(visible[0])]
    found = [(base, _find_splits(base)) for base in bases]
    for base, splits in found:
        if splits.keys() >= set(SPLITS):
            return base, splits
    missing = [split for split in SPLITS if not any(split in splits for _, splits in found)] or SPLITS
    raise DatasetError(
        f"{show_path(given)}: has no {' and no '.join(missing)} folder; pass the one that holds train and test."
    )


def _find_splits(base: Path) -> dict[str, list[Path]]:
    """Find the folders below one that name a split, by split."""
    splits: dict[str, list[Path]] = {}
    for folder in _subfolders(base):
        if split := find_split(folder.name):
            splits.setdefault(split, []).append(folder)
    return splits


def find_split(name: str) -> str | None:
    """Find the split that a name says in any case: "Validation" is "val"; None of other names."""
    return SPLIT_NAMES.get(name.strip().lower())


def _find_deep(folder: Path) -> list[Path]:
    return [path for path in _subfolders(folder) if path.name.lower() == "deep"]


def _subfolders(folder: Path) -> list[Path]:
    """List the visible folders of a folder, sorted."""
    try:
        return sorted(path for path in folder.iterdir() if not is_litter(path.name) and path.is_dir())
    except OSError as error:
        _refuse(error)


def walk_files(folder: Path) -> Iterator[Path]:
    """All files below a folder but hidden ones and litter; links are followed, each folder once."""
    for place, names in walk_folders(folder, onerror=_refuse):
        yield from (Path(place, name) for name in names)


def read_label(name: str) -> int | None:
    """Read the label in a name: 1 stroke, 0 normal, None where it says neither; an ambiguous one is refused."""
    stroke, normal = STROKE.search(name), NORMAL.search(name)
    if (stroke and normal) or MISLEADING.search(name):
        raise DatasetError(f"{show_path(name)}: may mean stroke or normal; rename it to one of them.")
    return 1 if stroke else 0 if normal else None


def name_modality(name: str) -> Modality | None:
    """Read the modality that a folder name ends in, or None."""
    found = MODALITY.search(name)
    return find_modality(found[1] or found[2]) if found else None


def read_index(index: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read index.csv: the names of the columns, and a dictionary per row.

    Columns stand between commas, or between semicolons or tabs, which spreadsheets of many countries write. Text is
    UTF-8, or UTF-16 with its byte order mark. Names of columns that are known here are read in any case.

    Raises
    ------
    DatasetError : it cannot be read, has no column path, or one twice.
    """
    try:
        text = _decode(index.read_bytes())
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_find_delimiter(text))
        names, *lines = [[cell.strip() for cell in line] for line in reader if line] or [[]]
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{show_path(index)}: cannot be read as a table (it is not in UTF-8); save it as CSV in UTF-8."
        ) from error
    except (OSError, csv.Error) as error:
        reason = printable(str(error), limit=80)
        raise DatasetError(
            f"{show_path(index)}: cannot be read as a table ({reason}); repair or remove it."
        ) from error
    names = [name.lower() if name.lower() in KNOWN_COLUMNS else name for name in names]
    if "path" not in names or len(set(names)) < len(names):
        raise DatasetError(f"{show_path(index)}: needs a column path and no column twice; repair or remove it.")
    return names, [dict(itertools.zip_longest(names, line[: len(names)], fillvalue="")) for line in lines]


def _decode(content: bytes) -> str:
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def _find_delimiter(text: str) -> str:
    header = text.lstrip("\r\n").partition("\n")[0]
    for delimiter in DELIMITERS:
        if "path" in (name.strip(' \r"').lower() for name in header.split(delimiter)):
            return delimiter
    return DELIMITERS[0]


def check_entry(row: Row, said: dict[str, str]) -> None:
    """Refuse an entry of index.csv that contradicts the folders of its image."""
    path, label = show_path(row["path"]), said.get("label", "")
    claims: Row = {
        "label": {"1": 1, "0": 0}.get(label, read_label(label)),
        "modality": read_modality(said),
        "split": ((split := said.get("split", "").lower()) and (find_split(split) or split)) or None,
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
    """Read the modality of an entry of index.csv, as "CT" or "FLAIR"; None where it says none.

    Raises
    ------
    DatasetError : it is a word for neither BT nor MR.
    """
    name = said.get("modality", "")
    if name.lower() in NO_MODALITY:
        return None
    found = find_modality(name)
    if found is None:
        raise DatasetError(
            f"{show_path(said['path'])}: has the modality {show_path(name)} in index.csv; "
            "use BT (for CT) or MR, or leave it empty."
        )
    return found


def describe_passed_over(table: pd.DataFrame, passed_over: dict[str, list[str]]) -> Iterator[str]:
    """Say which files were passed over and why, a sentence for each reason."""
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
    """Make a path fit to print in a message."""
    return printable(str(path), limit=200)
