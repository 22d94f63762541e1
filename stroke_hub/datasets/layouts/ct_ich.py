"""CT-ICH of PhysioNet: volumes and masks (1.3.x), or pictures and masks in Patients_CT (1.0.0); a CSV by slice."""

from pathlib import Path

from stroke_hub.datasets.grids import read_grid
from stroke_hub.datasets.layouts.files import cut_suffix, describe_lost, find_volumes, read_table
from stroke_hub.datasets.scan_table import Problem, ScanRecord, ScanTable
from stroke_hub.errors import DatasetError, UnreadableImage
from stroke_hub.progress import track

__all__ = ["read_ct_ich", "recognises_ct_ich"]

VOLUMES_CSV, PICTURES_CSV = "hemorrhage_diagnosis_raw_ct.csv", "hemorrhage_diagnosis.csv"
PICTURES = "Patients_CT"
PATIENT, SLICE, NORMAL = "PatientNumber", "SliceNumber", "No_Hemorrhage"
NOTE = (
    "A slice is Stroke where the radiologists saw a haemorrhage in it. These are bleedings after trauma, which "
    "stand in for stroke."
)


def recognises_ct_ich(root: Path) -> bool:
    """Whether a folder holds the CSV by slice, and ct_scans or Patients_CT."""
    volumes = (root / VOLUMES_CSV).is_file() and (root / "ct_scans").is_dir()
    return volumes or ((root / PICTURES_CSV).is_file() and (root / PICTURES).is_dir())


def read_ct_ich(root: Path) -> ScanTable:
    """Read either release of CT-ICH, with the label that its CSV gives each slice.

    Raises
    ------
    DatasetError : the CSV cannot be read or says something else than 0 and 1.
    """
    is_volumes = (root / "ct_scans").is_dir()
    labels = _read_labels(root / (VOLUMES_CSV if is_volumes else PICTURES_CSV))
    records, problems = (_read_volumes if is_volumes else _read_pictures)(root, labels)
    return ScanTable(
        root,
        "CT-ICH",
        records,
        tuple(problems),
        name="Computed Tomography Images for Intracranial Hemorrhage Detection and Segmentation",
        release="volumes (ct_scans)" if is_volumes else "pictures (Patients_CT)",
        licence=_read_licence(root),
        notes=(NOTE,),
    )


def _read_labels(file: Path) -> dict[int, dict[int, int]]:
    """The label of each slice, by patient and number from 1."""
    labels: dict[int, dict[int, int]] = {}
    for row in read_table(file):
        try:
            patient, number = int(float(row[PATIENT])), int(float(row[SLICE]))
            normal = int(float(row[NORMAL]))
        except (KeyError, ValueError):
            raise DatasetError(
                f"{file.name}: needs whole numbers in {PATIENT}, {SLICE} and {NORMAL}; copy it again."
            ) from None
        if number in labels.setdefault(patient, {}):
            raise DatasetError(f"{file.name}: lists slice {number} of patient {patient} twice; copy it again.")
        labels[patient][number] = 1 - normal
    return labels


def _read_volumes(root: Path, labels: dict[int, dict[int, int]]) -> tuple[list[ScanRecord], list[Problem]]:
    files = {int(stem): file for file in find_volumes(root / "ct_scans") if (stem := cut_suffix(file)).isdigit()}
    masks = {int(stem): file for file in find_volumes(root / "masks") if (stem := cut_suffix(file)).isdigit()}
    problems = [*_describe_ids(labels, files)]
    records, odd = [], []
    for patient in track(sorted(set(labels) & set(files)), "reading headers"):
        try:
            count = read_grid(files[patient]).slices
        except UnreadableImage:
            odd.append(f"{patient:03d}")
            continue
        label = tuple(labels[patient].get(number + 1) for number in range(count))
        name = f"{patient:03d}"
        records.append(
            ScanRecord(name, name, None, files[patient], masks.get(patient), label, modality="BT", sequence="ncct")
        )
    problems += describe_lost(odd, "scan", "cannot be read and {are} left out")
    problems += describe_lost((f"{one:03d}" for one in set(files) - set(masks)), "scan", "{have} no mask in masks/")
    return records, problems


def _read_pictures(root: Path, labels: dict[int, dict[int, int]]) -> tuple[list[ScanRecord], list[Problem]]:
    folders = {int(path.name): path for path in (root / PICTURES).iterdir() if path.name.isdigit()}
    problems = [*_describe_ids(labels, folders)]
    records = []
    lost = []
    for patient in sorted(set(labels) & set(folders)):
        place = folders[patient] / "brain"
        name = f"{patient:03d}"
        slices = [(number, place / f"{number}.jpg") for number in sorted(labels[patient])]
        lost += [f"{name}/{number}.jpg" for number, path in slices if not path.is_file()]
        there = [(number, path) for number, path in slices if path.is_file()]
        drawn = [path.with_name(f"{number}_HGE_Seg.jpg") for number, path in there]
        records.append(
            ScanRecord(
                scan=name,
                patient=name,
                split=None,
                image=tuple(path for _, path in there),
                mask=tuple(mask if mask.is_file() else None for mask in drawn),
                label=tuple(labels[patient][number] for number, _ in there),
                modality="BT",
                sequence="ncct",
            )
        )
    return records, [*problems, *describe_lost(lost, "picture", "of the CSV {are} missing")]


def _describe_ids(labels: dict[int, dict[int, int]], files: dict[int, Path]) -> list[Problem]:
    absent = (f"{one:03d}" for one in set(labels) - set(files))
    more = (f"{one:03d}" for one in set(files) - set(labels))
    return [
        *describe_lost(absent, "patient", "of the CSV {have} no scan"),
        *describe_lost(more, "scan", "{have} no rows in the CSV and {are} left out"),
    ]


def _read_licence(root: Path) -> str:
    """The first line of LICENSE.txt, which PhysioNet puts beside the data."""
    file = root / "LICENSE.txt"
    if not file.is_file():
        return ""
    with open(file, encoding="utf-8", errors="replace") as stream:
        return next((line.strip() for line in stream if line.strip()), "")
