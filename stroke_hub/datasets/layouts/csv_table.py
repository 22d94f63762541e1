"""Any CSV with the columns image and label or mask: a row for each scan, or for each slice."""

import os
from collections import Counter, defaultdict
from pathlib import Path

from stroke_hub.data.layout import find_split, read_label, read_modality, show_path
from stroke_hub.datasets.layouts.files import (
    VOLUME,
    cut_suffix,
    describe_lost,
    name_sequence,
    read_json,
    read_table,
)
from stroke_hub.datasets.scan_table import Problem, ScanRecord, ScanTable, Split
from stroke_hub.errors import DatasetError, UnreadableImage
from stroke_hub.io.windowing import Modality
from stroke_hub.progress import track
from stroke_hub.scan.load_scan import load_scan

__all__ = ["read_csv_table", "recognises_csv_table"]

NEEDED = ("label", "mask")
SPLITS: dict[str, Split] = {"train": "train", "val": "val", "test": "test"}


def recognises_csv_table(root: Path) -> bool:
    """Whether a path is a CSV with such columns, or a folder that holds one."""
    return bool(_find_tables(root))


def _find_tables(root: Path) -> list[Path]:
    files = [root] if root.is_file() else sorted(root.glob("*.csv"))
    return [file for file in files if _has_columns(file)]


def _has_columns(file: Path) -> bool:
    if file.suffix.lower() != ".csv":
        return False
    with open(file, "rb") as stream:
        header = stream.read(4096).decode("utf-8-sig", "replace").partition("\n")[0]
    names = {name.strip(' "\r').lower() for name in header.replace(";", ",").replace("\t", ",").split(",")}
    return "image" in names and not names.isdisjoint(NEEDED)


def read_csv_table(root: Path) -> ScanTable:
    """Read a CSV of scans or slices; paths start from its folder.

    Columns are image (a volume, a folder of DICOM, or a picture or DICOM file of one slice), label (Stroke or 1,
    Normal or 0), mask, scan, patient, split, modality and sequence. Slices with the same scan are one scan. A JSON
    file of the same name may give name, release and licence of the dataset.

    Raises
    ------
    DatasetError : there are two such tables, or a cell cannot be understood.
    """
    file, *others = _find_tables(root)
    if others:
        raise DatasetError(
            f"{show_path(root)}: holds two tables of scans, {show_path(file.name)} and "
            f"{show_path(others[0].name)}; give the path of one."
        )
    folder = file.parent
    rows = [{key.lower(): cell for key, cell in row.items()} for row in read_table(file)]
    problems: list[Problem] = []
    listed = Counter(row["image"] for row in rows)
    if twice := [name for name, count in listed.items() if count > 1]:
        raise DatasetError(
            f"{show_path(twice[0])}: stands twice in {show_path(file.name)}; remove one of its rows."
        )
    there = [row for row in rows if row["image"] and _locate(folder, row["image"]).exists()]
    lost = {row["image"] for row in rows} - {row["image"] for row in there}
    problems += describe_lost(
        (name or "an empty cell" for name in lost), "image", f"of {file.name} {{are}} missing"
    )
    lost = {row["mask"] for row in there if row.get("mask") and not _locate(folder, row["mask"]).is_file()}
    problems += [
        Problem(one.sentence, True) for one in describe_lost(lost, "mask", f"of {file.name} {{are}} missing")
    ]
    whole: list[ScanRecord] = []
    single: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in track(there, "reading the table"):
        image = _locate(folder, row["image"])
        if image.is_dir() or VOLUME.search(image.name):
            try:
                whole.append(_read_scan(folder, row, image))
            except UnreadableImage as error:
                problems.append(Problem(f"{show_path(row['image'])} is left out: {error}"))
        else:
            single[row.get("scan") or row["image"]].append(row)
    records = [*whole, *(_join_slices(folder, scan, slices) for scan, slices in single.items())]
    about = read_json(file.with_suffix(".json"))
    names = Counter(record.scan for record in records)
    if repeated := [name for name, count in names.items() if count > 1]:
        raise DatasetError(
            f"{show_path(file.name)}: has two scans called {show_path(repeated[0])}; name them in a column scan."
        )
    return ScanTable(
        folder,
        "CSV table",
        sorted(records, key=lambda record: record.scan),
        tuple(problems),
        name=str(about.get("name") or (folder.name if root.is_dir() else file.stem)),
        release=str(about.get("release", "")),
        licence=str(about.get("licence", "")),
    )


def _locate(folder: Path, listed: str) -> Path:
    return Path(os.path.normpath(folder / listed.replace("\\", "/")))


def _read_scan(folder: Path, row: dict[str, str], image: Path) -> ScanRecord:
    """A row whose image is a whole scan."""
    name = row.get("scan") or cut_suffix(Path(row["image"]))
    modality, sequence = _read_kind(row)
    found: Path | tuple[Path, ...] = image
    if image.is_dir():
        found = tuple(
            origin.path for origin in load_scan(image, modality=modality).origins if origin.path is not None
        )
        if row.get("mask"):
            raise UnreadableImage("a mask beside a folder of DICOM cannot be laid over it; convert both to NIfTI.")
    return ScanRecord(
        scan=name,
        patient=row.get("patient") or row.get("group") or name,
        split=_read_split(row),
        image=found,
        mask=_locate(folder, row["mask"]) if row.get("mask") else None,
        label=_read_label(row),
        modality=modality,
        sequence=sequence,
    )


def _join_slices(folder: Path, scan: str, rows: list[dict[str, str]]) -> ScanRecord:
    """Rows whose images are slices of one scan."""
    kinds = {(row.get("patient") or row.get("group") or "", _read_split(row), *_read_kind(row)) for row in rows}
    if len(kinds) > 1:
        raise DatasetError(
            f"{show_path(scan)}: has slices of two patients, splits, modalities or sequences; correct the table."
        )
    patient, split, modality, sequence = kinds.pop()
    masks = tuple(_locate(folder, row["mask"]) if row.get("mask") else None for row in rows)
    return ScanRecord(
        scan=scan,
        patient=patient or scan,
        split=split,
        image=tuple(_locate(folder, row["image"]) for row in rows),
        mask=masks if any(masks) else None,
        label=tuple(_read_label(row) for row in rows) if any(row.get("label") for row in rows) else None,
        modality=modality,
        sequence=sequence,
    )


def _read_label(row: dict[str, str]) -> int | None:
    word = row.get("label", "")
    label = {"1": 1, "0": 0, "1.0": 1, "0.0": 0}.get(word, read_label(word))
    if word and label is None:
        raise DatasetError(f"{show_path(row['image'])}: has the label {show_path(word)}; use Stroke or Normal.")
    return label


def _read_split(row: dict[str, str]) -> Split | None:
    word = row.get("split", "")
    split = SPLITS.get(find_split(word) or "")
    if word and split is None:
        raise DatasetError(f"{show_path(row['image'])}: has the split {show_path(word)}; use train, val or test.")
    return split


def _read_kind(row: dict[str, str]) -> tuple[Modality | None, str]:
    modality, sequence = name_sequence(row.get("sequence", ""))
    return read_modality({**row, "path": row["image"]}) or modality, sequence
