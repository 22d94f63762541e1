"""RSNA 2019 Intracranial Hemorrhage Detection: ID_*.dcm flat in a folder, and a long CSV with six rows a slice."""

import contextlib
import csv
import hashlib
import io
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from stroke_hub.data.layout import show_path
from stroke_hub.datasets.layouts.files import describe_lost, read_table
from stroke_hub.datasets.scan_table import Problem, ScanRecord, ScanTable
from stroke_hub.files import find_cache, write_text
from stroke_hub.io.elements import import_pydicom
from stroke_hub.io.quiet import silence
from stroke_hub.progress import track

__all__ = ["read_rsna", "recognises_rsna"]

ANY = "_any"
VERSION = 1  # of the table of headers: raise it when another thing is read of them
COLUMNS = ("name", "patient", "series", "height")
TAGS = ("PatientID", "SeriesInstanceUID", "ImagePositionPatient", "InstanceNumber")
NOTE = (
    "A slice is Stroke where the readers saw a haemorrhage of any kind in it (the rows ID_..._any). Ischaemic "
    "strokes are not labelled and count as Normal."
)


class _Place(NamedTuple):
    """Where a slice lies: hidden names of its patient and series, and its height in mm."""

    patient: str
    series: str
    height: float


class _Slice(NamedTuple):
    height: float
    path: Path
    label: int


def recognises_rsna(root: Path) -> bool:
    """Whether a folder holds a CSV with the columns ID and Label whose ids end in a kind of bleeding."""
    return _find_table(root) is not None


def _find_table(root: Path) -> Path | None:
    for file in sorted(root.glob("*.csv")):
        if "submission" in file.name:
            continue
        with open(file, "rb") as stream:
            start = stream.read(4096).decode("utf-8-sig", "replace").splitlines()
        if (
            start
            and start[0].replace('"', "").strip() == "ID,Label"
            and any(ANY + "," in line for line in start[1:])
        ):
            return file
    return None


def read_rsna(root: Path) -> ScanTable:
    """Read RSNA 2019: labels of slices from the CSV, patients, series and places from the headers."""
    table = _find_table(root)
    assert table is not None  # noqa: S101  recognised before
    labels: dict[str, int] = {}
    problems: list[Problem] = []
    for row in read_table(table, delimiter=","):
        name, is_any, _ = row["ID"].rpartition(ANY)
        if not is_any:
            continue
        label = int(row["Label"] == "1")
        if labels.setdefault(name, label) != label:
            problems.append(
                Problem(f"{show_path(name)} has two labels in {table.name}; correct the table.", stops=True)
            )
    files = {path.stem: path for path in sorted(root.rglob("ID_*.dcm")) if "test" not in path.parent.name}
    problems += describe_lost(set(labels) - set(files), "id", f"of {table.name} {{have}} no file")
    problems += describe_lost(
        set(files) - set(labels), "file", f"{{have}} no row in {table.name} and {{are}} left out"
    )
    series: dict[tuple[str, str], list[_Slice]] = defaultdict(list)
    unreadable = []
    for name, place in _read_places({name: files[name] for name in sorted(set(labels) & set(files))}).items():
        if place is None:
            unreadable.append(name)
        else:
            series[place.patient, place.series].append(_Slice(place.height, files[name], labels[name]))
    problems += describe_lost(unreadable, "file", "cannot be read and {are} left out")
    records = []
    for (patient, number), slices in sorted(series.items()):
        slices.sort()
        records.append(
            ScanRecord(
                scan=f"{patient}_{number}",
                patient=patient,
                split=None,
                image=tuple(one.path for one in slices),
                label=tuple(one.label for one in slices),
                modality="BT",
                sequence="ncct",
            )
        )
    return ScanTable(
        root,
        "RSNA 2019",
        records,
        tuple(problems),
        name="RSNA 2019 Intracranial Hemorrhage Detection",
        release=table.stem,
        notes=(NOTE,),
    )


def _read_places(files: Mapping[str, Path]) -> dict[str, _Place | None]:
    """Where slices lie, by their names; None of files that cannot be read.

    The headers of the whole dataset are read once: a table of them lies beside the decoded slices, and holds as
    long as names, sizes and times of the files do.
    """
    about = ((name, file.stat()) for name, file in files.items())
    lines = [f"version {VERSION}", *(f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in about)]
    key = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    # no table, one that is damaged, or no home folder
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RuntimeError):
        table = find_cache() / "headers" / f"{key}.csv"
        with open(table, newline="", encoding="utf-8") as stream:
            known: dict[str, _Place | None] = {
                row["name"]: _Place(row["patient"], row["series"], float(row["height"]))
                for row in csv.DictReader(stream)
            }
        if known.keys() == files.keys():
            return known
    places: dict[str, _Place | None] = {}
    for name, file in track(files.items(), "reading headers", total=len(files)):
        try:
            places[name] = _read_place(file)
        except Exception:  # on damaged bytes pydicom may raise anything
            places[name] = None
    _keep_places(key, places)
    return places


def _keep_places(key: str, places: Mapping[str, _Place | None]) -> None:
    """Write the table of headers, unless a file could not be read: another time it may be there."""
    rows = io.StringIO(newline="")
    writer = csv.writer(rows)
    writer.writerow(COLUMNS)
    for name, place in places.items():
        if place is None:
            return
        writer.writerow((name, *place))
    with contextlib.suppress(OSError, RuntimeError):  # a full disk, no rights or no home: read again next time
        folder = find_cache() / "headers"
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f"{key}.csv", rows.getvalue())


def _read_place(file: Path) -> _Place:
    """A name for the patient and one for the series, neither of them readable, and where the slice lies."""
    import_pydicom()
    import pydicom

    with silence():
        ds = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
        position = ds.get("ImagePositionPatient")
        height = float(position[2]) if position else float(ds.get("InstanceNumber") or 0)
        patient, series = str(ds.get("PatientID") or file.stem), str(ds.get("SeriesInstanceUID") or file.stem)
    return _Place(_hide(patient), _hide(series), height)


def _hide(text: str) -> str:
    """A name that tells patients apart and tells nobody who they are: tables of a run are published."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
