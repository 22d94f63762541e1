"""RSNA 2019 Intracranial Hemorrhage Detection: ID_*.dcm flat in a folder, and a long CSV with six rows a slice."""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from stroke_hub.data.layout import show_path
from stroke_hub.datasets.layouts.files import describe_lost, read_table
from stroke_hub.datasets.scan_table import Problem, ScanRecord, ScanTable
from stroke_hub.io.elements import import_pydicom
from stroke_hub.io.quiet import silence
from stroke_hub.progress import track

__all__ = ["read_rsna", "recognises_rsna"]

ANY = "_any"
TAGS = ("PatientID", "SeriesInstanceUID", "ImagePositionPatient", "InstanceNumber")
NOTE = (
    "A slice is Stroke where the readers saw a haemorrhage of any kind in it (the rows ID_..._any). Ischaemic "
    "strokes are not labelled and count as Normal."
)


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
    for name in track(sorted(set(labels) & set(files)), "reading headers"):
        try:
            patient, number, height = _read_place(files[name])
        except Exception:  # on damaged bytes pydicom may raise anything
            unreadable.append(name)
            continue
        series[patient, number].append(_Slice(height, files[name], labels[name]))
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


def _read_place(file: Path) -> tuple[str, str, float]:
    """A name for the patient and one for the series, neither of them readable, and where the slice lies."""
    import_pydicom()
    import pydicom

    with silence():
        ds = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
        position = ds.get("ImagePositionPatient")
        height = float(position[2]) if position else float(ds.get("InstanceNumber") or 0)
        patient, series = str(ds.get("PatientID") or file.stem), str(ds.get("SeriesInstanceUID") or file.stem)
    return _hide(patient), _hide(series), height


def _hide(text: str) -> str:
    """A name that tells patients apart and tells nobody who they are: tables of a run are published."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
