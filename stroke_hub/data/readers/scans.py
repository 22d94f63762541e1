"""scans.csv: a table of whole scans, with a label for every slice."""

import posixpath
from pathlib import Path
from typing import get_args

from stroke_hub.data.layout import (
    COLUMNS,
    Row,
    find_split,
    name_modality,
    read_index,
    read_label,
    read_modality,
    show_path,
)
from stroke_hub.errors import DatasetError
from stroke_hub.io.windowing import Modality

__all__ = ["SCANS_FILE", "read_scans"]

SCANS_FILE = "scans.csv"


def read_scans(file: Path) -> list[Row]:
    """Read scans.csv: a row per slice, as `records.Records` has them.

    The file has columns scan, slice, path (relative to its folder), label and split; patient, modality and others
    may stand beside them. The group of a slice is its patient, or else its scan. Where neither a column nor a
    folder says the modality of a slice, it is that of its scan's other slices, or of all others.

    Raises
    ------
    DatasetError : a column is missing, a path leads outside or to no file, a label or split cannot be
        understood, or a scan stands in two splits.
    """
    names, entries = read_index(file)
    if missing := [name for name in ("scan", "slice", "label", "split") if name not in names]:
        raise DatasetError(f"{show_path(file)}: has no column {' and no '.join(missing)}; add it.")
    further = [name for name in names if name not in (*COLUMNS, "patient", "")]
    rows = []
    for said in entries:
        path = posixpath.normpath(said["path"].replace("\\", "/"))
        shown = show_path(path)
        label = {"1": 1, "0": 0}.get(said["label"], read_label(said["label"]))
        split = find_split(said["split"])
        if path.startswith(("/", "..")) or not (file.parent / path).is_file():
            raise DatasetError(f"{shown}: stands in {SCANS_FILE}, but is no file beside it; correct its path.")
        if label is None:
            raise DatasetError(f"{shown}: has the label {show_path(said['label'])}; use Stroke or Normal.")
        if split is None:
            raise DatasetError(f"{shown}: has the split {show_path(said['split'])}; use train, val or test.")
        if not said["scan"]:
            raise DatasetError(f"{shown}: has no scan in {SCANS_FILE}; name it.")
        folders = path.split("/")[-2::-1]
        modality = read_modality(said) or next((found for name in folders if (found := name_modality(name))), None)
        group = said.get("patient") or said["scan"]
        row: Row = {"path": path, "label": label, "modality": modality, "group": group, "split": split}
        rows.append(row | {name: said[name] for name in further})
    _check_rows(rows)
    _fill_modalities(rows)
    return rows


def _check_rows(rows: list[Row]) -> None:
    splits: dict[object, object] = {}
    paths: set[object] = set()
    for row in rows:
        if row["path"] in paths:
            raise DatasetError(f"{show_path(row['path'])}: stands twice in {SCANS_FILE}; remove one of its rows.")
        paths.add(row["path"])
        if splits.setdefault(row["scan"], row["split"]) != row["split"]:
            raise DatasetError(f"{show_path(row['scan'])}: is a scan in two splits of {SCANS_FILE}; choose one.")


def _fill_modalities(rows: list[Row]) -> None:
    """Fill in the modality that the rest of the scan has, or that all of the dataset has."""
    by_scan: dict[object, set[object]] = {}
    for row in rows:
        if row["modality"]:
            by_scan.setdefault(row["scan"], set()).add(row["modality"])
    everywhere = {modality for found in by_scan.values() for modality in found}
    for row in rows:
        known = by_scan.get(row["scan"], everywhere)
        if row["modality"] is None and len(known) == 1:
            row["modality"] = next(one for one in get_args(Modality) if one in known)
