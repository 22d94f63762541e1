"""What the layouts share: files of volumes, CSV and JSON beside them, names that are cut."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stroke_hub.data.layout import show_path
from stroke_hub.datasets.scan_table import Problem
from stroke_hub.errors import DatasetError, pluralise
from stroke_hub.io.windowing import Modality, find_modality

__all__ = [
    "VOLUME",
    "cut_suffix",
    "describe_lost",
    "describe_repeated",
    "find_volumes",
    "name_sequence",
    "read_json",
    "read_table",
]

VOLUME = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
MOST = 3  # names in a sentence
CT_SEQUENCES = ("ct", "ncct", "nect", "cta", "ctp")
MR_SEQUENCES = ("dwi", "adc", "flair", "t1w", "t1", "t2w", "t2", "swi", "pwi", "trace", "t2star", "t1gd")


def find_volumes(folder: Path) -> list[Path]:
    """Find the NIfTI files right in a folder, sorted; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if VOLUME.search(path.name) and not path.name.startswith("."))


def cut_suffix(file: Path) -> str:
    """Cut .nii or .nii.gz off a file's name."""
    return VOLUME.sub("", file.name)


def name_sequence(word: str) -> tuple[Modality | None, str]:
    """Name the modality and the sequence that a word of a dataset means, as "NCCT" or "FLAIR"."""
    lower = word.strip().lower()
    if lower in CT_SEQUENCES:
        return "BT", lower
    if lower in MR_SEQUENCES:
        return "MR", lower
    return find_modality(word), lower


def read_table(file: Path, *, delimiter: str | None = None) -> list[dict[str, str]]:
    """Read a CSV or TSV as a dictionary for each row; names of columns lose their blanks, cells too.

    Raises
    ------
    DatasetError : it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        header = text.partition("\n")[0]
        found = delimiter or max(",;\t", key=header.count)
        names, *lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=found)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{show_path(file)}: cannot be read as a table; save it as CSV in UTF-8.") from error
    names = [name.strip() for name in names]
    rows = [dict(zip(names, (cell.strip() for cell in line), strict=False)) for line in lines if any(line)]
    return [dict.fromkeys(names, "") | row for row in rows]


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one where there is no such file.

    Raises
    ------
    DatasetError : it is there and cannot be read.
    """
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{show_path(file)}: is no JSON; repair or remove it.") from error
    return found if isinstance(found, dict) else {}


def describe_lost(names: Iterable[str], noun: str, what: str) -> Iterator[Problem]:
    """Say in one sentence what is wrong with some scans or ids: "12 studies are missing, for example a, b, c".

    Parameters
    ----------
    what : with {are} and {have} where one and several differ.
    """
    lost = sorted(names)
    if lost:
        are, have = ("is", "has") if len(lost) == 1 else ("are", "have")
        what = what.format(are=are, have=have)
        shown = ", ".join(show_path(name) for name in lost[:MOST])
        yield Problem(f"{pluralise(len(lost), noun)} {what}, for example {shown}.")


def describe_repeated(names: Iterable[str], file: Path) -> Iterator[Problem]:
    """Say that a table lists an id twice, which may be two patients under one id."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        yield Problem(
            f"{show_path(file.name)} lists {show_path(repeated[0])} more than once, so two patients may have "
            "one id; correct the table.",
            stops=True,
        )
