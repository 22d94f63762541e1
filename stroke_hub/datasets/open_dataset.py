"""The one place where a folder is opened as a dataset: pictures in folders, tables of slices, or scans."""

from pathlib import Path

from stroke_hub.data.folders import has_splits, read_folder
from stroke_hub.data.layout import show_path
from stroke_hub.data.readers.scans import SCANS_FILE
from stroke_hub.data.records import Records, read_records
from stroke_hub.datasets.read_dataset import KNOWN, is_scan_dataset, read_dataset
from stroke_hub.datasets.slice_rules import SliceRules
from stroke_hub.datasets.slice_scans import slice_scans
from stroke_hub.errors import DatasetError

__all__ = ["holds_scans", "open_any", "open_dataset"]


def holds_scans(folder: str | Path) -> bool:
    """Tell whether a folder is a dataset of scans, and not one of pictures in train/ and test/, or scans.csv."""
    given = Path(folder).expanduser()
    is_pictures = given.is_dir() and (has_splits(given) or (given / SCANS_FILE).is_file())
    return not is_pictures and is_scan_dataset(given)


def open_dataset(folder: str | Path, rules: SliceRules = SliceRules(), *, whole: bool = False) -> Records:  # noqa: B008
    """Open a dataset to train on or to audit: pictures in train/ and test/, scans.csv, or a layout of scans.

    Parameters
    ----------
    rules : how slices are made of scans.
    whole : of scans: take all as one test part.

    Raises
    ------
    DatasetError : it is none of these, or something is in the way.
    """
    if holds_scans(folder):
        return slice_scans(read_dataset(folder), rules, whole=whole)
    given = Path(folder).expanduser()
    if given.is_dir() and not (has_splits(given) or (given / SCANS_FILE).is_file()):
        raise DatasetError(
            f"{show_path(given)}: is in no layout that is known ({KNOWN}, pictures in train and test, or "
            "scans.csv); docs/datasets.md shows them."
        )
    _check_rules(folder, rules, whole)
    return read_records(folder)


def open_any(folder: str | Path, rules: SliceRules = SliceRules(), *, whole: bool = False) -> Records:  # noqa: B008
    """Open a dataset to measure a model on; a folder of pictures without train/ and test/ is one test part.

    Parameters
    ----------
    rules, whole : as in `open_dataset`.

    Raises
    ------
    DatasetError : as `open_dataset` and `read_folder` raise.
    """
    given = Path(folder).expanduser()
    if holds_scans(given) or has_splits(given):
        return open_dataset(given, rules, whole=whole)
    _check_rules(folder, rules, whole=False)
    return read_folder(given)


def _check_rules(folder: str | Path, rules: SliceRules, whole: bool) -> None:
    if options := rules.to_options() + (["--split", "all"] if whole else []):
        raise DatasetError(
            f"{show_path(Path(folder))}: is a dataset of pictures, so {' '.join(options)} means nothing; "
            "leave it out."
        )
