"""CQ500: reads.csv with the votes of three radiologists for every study, and a folder of DICOM for each."""

import re
from pathlib import Path

from stroke_hub.datasets.layouts.files import describe_lost, describe_repeated, read_table
from stroke_hub.datasets.scan_table import Problem, ScanRecord, ScanTable
from stroke_hub.errors import UnreadableImage
from stroke_hub.progress import track
from stroke_hub.scan.load_scan import load_scan

__all__ = ["read_cq500", "recognises_cq500"]

READS = "reads.csv"
VOTES = ("R1:ICH", "R2:ICH", "R3:ICH")
STUDY = re.compile(
    r"CQ500[-_ ]?CT[-_ ]?(\d+)", re.IGNORECASE
)  # the table says CQ500-CT-1, folders CQ500CT1 CQ500CT1
NOTE = (
    "A scan is Stroke where two of three radiologists saw an intracranial haemorrhage. Others count as Normal, "
    "also with a fracture, a mass or an infarct."
)


def recognises_cq500(root: Path) -> bool:
    """Whether a folder holds reads.csv with the votes of three readers."""
    file = root / READS
    if not file.is_file():
        return False
    with open(file, "rb") as stream:
        return b"R1:ICH" in stream.read(4096)


def read_cq500(root: Path) -> ScanTable:
    """Read CQ500: of every study the series that `load_scan` chooses, labelled by the majority of votes.

    Raises
    ------
    DatasetError : reads.csv cannot be read.
    """
    rows = read_table(root / READS)
    problems: list[Problem] = list(describe_repeated((row.get("name", "") for row in rows), root / READS))
    studies: dict[str, Path] = {}
    for folder in sorted(path for path in root.rglob("*") if path.is_dir()):
        found = STUDY.match(folder.name)
        if found:
            studies.setdefault(f"CQ500-CT-{int(found[1])}", folder)
    labels = {row["name"]: int(sum(row.get(vote) == "1" for vote in VOTES) >= 2) for row in rows if row.get("name")}
    problems += describe_lost(set(labels) - set(studies), "study", f"of {READS} {{are}} missing here")
    problems += describe_lost(
        set(studies) - set(labels), "study", f"{{have}} no row in {READS} and {{are}} left out"
    )
    records, unreadable = [], []
    for name in track(sorted(set(labels) & set(studies)), "reading studies"):
        try:
            scan = load_scan(studies[name], modality="BT")
        except UnreadableImage:
            unreadable.append(name)
            continue
        files = tuple(origin.path for origin in scan.origins if origin.path is not None)
        records.append(ScanRecord(name, name, None, files, label=labels[name], modality="BT", sequence="ncct"))
    problems += describe_lost(unreadable, "study", "cannot be read and {are} left out")
    return ScanTable(root, "CQ500", records, tuple(problems), name="CQ500", notes=(NOTE,))
