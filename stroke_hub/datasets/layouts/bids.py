"""BIDS: sub-*/ with images, lesion masks under derivatives/, participants.tsv; ISLES'22 and ISLES'24 are such."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from stroke_hub.data.layout import find_split, read_label, walk_files
from stroke_hub.datasets.grids import Grid, read_grid
from stroke_hub.datasets.layouts.files import (
    VOLUME,
    cut_suffix,
    describe_lost,
    describe_repeated,
    name_sequence,
    read_json,
    read_table,
)
from stroke_hub.datasets.scan_table import Problem, ScanRecord, ScanTable, Split
from stroke_hub.errors import DatasetError, UnreadableImage
from stroke_hub.io.windowing import Modality
from stroke_hub.progress import track

__all__ = ["read_bids", "recognises_bids"]

SUBJECT, SESSION = re.compile(r"sub-[A-Za-z0-9]+"), re.compile(r"ses-[A-Za-z0-9]+")
SEQUENCES = frozenset({"ncct", "ct", "dwi", "adc", "flair", "t1w", "t2w", "trace"})
MASK = re.compile(r"(^|_)(lesion-)?msk$|lesion\w*[-_](mask|roi|dseg)$", re.IGNORECASE)
OTHER_MASK = re.compile(r"lvo|cow|brain|vessel", re.IGNORECASE)  # ISLES'24 has masks of vessels too
LABEL_COLUMNS = ("label", "group", "diagnosis")
FOLLOW_UP = (
    "The lesions were drawn on another session than the picture shows, as in ISLES'24 on the later MR. An early "
    "scan may not show them yet."
)


class _File(NamedTuple):
    path: Path
    subject: str
    session: str
    sequence: str
    modality: Modality | None
    is_derived: bool
    grid: Grid


class _Mask(NamedTuple):
    path: Path
    session: str
    space: str
    grid: Grid


def recognises_bids(root: Path) -> bool:
    """Whether a folder holds subjects as BIDS names them, or rawdata/ or raw_data/ with such."""
    return _find_raw(root) is not None


def _find_raw(root: Path) -> Path | None:
    for folder in (root, root / "rawdata", root / "raw_data"):
        if folder.is_dir() and any(SUBJECT.fullmatch(path.name) for path in folder.iterdir() if path.is_dir()):
            return folder
    return None


def read_bids(root: Path) -> ScanTable:
    """Read a BIDS dataset: an image is paired with the lesion mask of its subject that lies on its own grid.

    Raises
    ------
    DatasetError : participants.tsv cannot be read or contradicts itself.
    """
    people, problems = _read_participants(root)
    files: list[_File] = []
    masks: dict[str, list[_Mask]] = defaultdict(list)
    unreadable: list[str] = []
    volumes = [path for path in walk_files(root) if VOLUME.search(path.name)]
    for path in track(volumes, "reading headers"):
        try:
            _sort(path, path.relative_to(root).parts[:-1], files, masks)
        except UnreadableImage:
            unreadable.append(path.name)
    problems += describe_lost(unreadable, "file", "cannot be read and {are} left out")
    records: list[ScanRecord] = []
    elsewhere: set[str] = set()
    is_late = False
    for one in _take_first(files):
        mask = _pair(one, masks[one.subject])
        person = people.get(one.subject, {})
        label = next(
            (found for name in LABEL_COLUMNS if (found := _read_group(person.get(name, ""))) is not None), None
        )
        if mask is None and masks[one.subject]:
            elsewhere.add(one.sequence)
        if mask is None and label is None:
            continue
        is_late |= mask is not None and mask.session != one.session
        records.append(
            ScanRecord(
                scan=cut_suffix(one.path),
                patient=one.subject,
                split=_read_split(person),
                image=one.path,
                mask=mask.path if mask else None,
                label=None if mask else label,
                modality=one.modality,
                sequence=one.sequence,
            )
        )
    taken = {record.patient for record in records}
    bare = {one.subject for one in files} - taken
    problems += describe_lost(bare, "subject", "{have} neither a lesion mask on an image's grid nor a label")
    problems += describe_lost(set(people) - {one.subject for one in files}, "participant", "{have} no images here")
    if elsewhere := elsewhere - {record.sequence for record in records}:
        names = ", ".join(sorted(elsewhere))
        problems.append(Problem(f"Images of {names} lie on another grid than the lesion mask and are left out."))
    about = read_json(root / "dataset_description.json")
    return ScanTable(
        root,
        "BIDS",
        sorted(records, key=lambda record: record.scan),
        tuple(problems),
        name=str(about.get("Name", "")),
        release=str(about.get("DatasetDOI", "")),
        licence=str(about.get("License", "")),
        notes=(FOLLOW_UP,) if is_late else (),
    )


def _read_participants(root: Path) -> tuple[dict[str, dict[str, str]], list[Problem]]:
    file = next((raw / "participants.tsv" for raw in (root, _find_raw(root) or root)), root)
    if not file.is_file():
        return {}, []
    rows = read_table(file, delimiter="\t")
    names = [row.get("participant_id", "") for row in rows]
    if not all(names):
        raise DatasetError(f"{file}: has rows without a participant_id; correct it.")
    return dict(zip(names, rows, strict=True)), list(describe_repeated(names, file))


def _sort(path: Path, folders: tuple[str, ...], files: list[_File], masks: dict[str, list[_Mask]]) -> None:
    """Put a volume to the images or the masks; whatever is neither is passed over."""
    stem = cut_suffix(path)
    words = stem.split("_")
    where = [
        *reversed(folders),
        *words,
    ]  # folders decide: ISLES'24 was documented with another session in its names
    subject = next((word for word in where if SUBJECT.fullmatch(word)), None)
    session = next((word for word in where if SESSION.fullmatch(word)), "")
    if subject is None:
        return
    space = next((word.removeprefix("space-") for word in words if word.startswith("space-")), "")
    if MASK.search(stem):
        if not OTHER_MASK.search(words[-1]) and "brain" not in stem.lower():
            masks[subject].append(_Mask(path, session, space, read_grid(path)))
        return
    modality, sequence = name_sequence(words[-1])
    if sequence in SEQUENCES:
        is_derived = any(folder.lower() == "derivatives" for folder in folders)
        files.append(_File(path, subject, session, sequence, modality, is_derived, read_grid(path)))


def _take_first(files: Iterable[_File]) -> list[_File]:
    """Of several images of one sequence and session on one grid the raw one."""
    taken: list[_File] = []
    for one in sorted(files, key=lambda one: (one.is_derived, str(one.path))):
        rivals = (other for other in taken if other[1:4] == one[1:4])
        if not any(other.grid.matches(one.grid) for other in rivals):
            taken.append(one)
    return taken


def _pair(one: _File, masks: list[_Mask]) -> _Mask | None:
    """The mask on the image's grid: of its session, or else of its space (a later session, drawn in the image)."""
    same = [mask for mask in masks if mask.session == one.session]
    near = same or [mask for mask in masks if mask.space.lower() == one.sequence]
    return next((mask for mask in near if mask.grid.matches(one.grid)), None)


def _read_group(word: str) -> int | None:
    try:
        return {"1": 1, "0": 0}.get(word, read_label(word))
    except DatasetError:
        return None


def _read_split(person: dict[str, str]) -> Split | None:
    found = find_split(person.get("split", ""))
    return {"train": "train", "val": "val", "test": "test"}.get(found or "")  # type: ignore[return-value]
