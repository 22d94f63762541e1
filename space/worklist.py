"""A worklist: the scans and single slices among many files, each with its answer, or why it has none."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import base64
import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from batch import Row
from demo_model import BATCH, HELD_PIXELS, DemoModel
from examples import MODALITIES
from PIL import Image
from study import MAX_PIXELS, MAX_SLICES, Reading

import stroke_hub
from stroke_hub.errors import pluralise, printable
from stroke_hub.io.sources import holds_many, list_files
from stroke_hub.progress import hush
from stroke_hub.scan.load_scan import FoundScan, load_scans

if TYPE_CHECKING:
    from stroke_hub.inference.scan_answer import ScanPrediction
    from stroke_hub.scan.scan import Scan

__all__ = ["STATES", "Entry", "Progress", "State", "predict_entries", "rank_entries", "unpack_member"]

State: TypeAlias = Literal["stroke", "normal", "unknown", "error"]
STATES: dict[State, str] = {"stroke": "Stroke", "normal": "Normal", "unknown": "No answer", "error": "Errors"}
SIDE = 96  # px of a thumbnail
BLOCK = 1 << 20  # bytes


class Entry(NamedTuple):
    """A scan or a single slice with its answer, or a file that has none.

    name : fit to print. size : how many slices. modality : for people, "" where nobody said.
    label : of the scan as a whole, or of the slice. rows : of its slices, from foot to head.
    highest : the number, from 1, of the slice of highest probability among those that the model knows; None where
    it knows none. above : how many of these it calls Stroke. known : how many these are.
    thumbnail : of the highest slice, a data URI. remarks : on the scan. error : one sentence, "" where fine.
    paths : the uploads that hold it. uid : of its DICOM series, or "". member : its name within an archive, or "".
    """

    name: str
    rows: tuple[Row, ...]
    size: int = 0
    modality: str = ""
    label: str = ""
    highest: int | None = None
    above: int = 0
    known: int = 0
    thumbnail: str = ""
    remarks: tuple[str, ...] = ()
    error: str = ""
    paths: tuple[str, ...] = ()
    uid: str = ""
    member: str = ""

    @property
    def kind(self) -> str:
        """What it is, in words."""
        return f"scan of {self.size:,} slices" if self.size > 1 else "slice"

    @property
    def state(self) -> State:
        """In which group it is listed; it has no answer where most slices are unlike those that the model knows."""
        if self.error:
            return "error"
        if 2 * self.known < self.size or not self.known:
            return "unknown"
        return "stroke" if self.label == "Stroke" else "normal"

    @property
    def probability(self) -> float | None:
        """The highest probability of stroke of a slice that the model knows; None where it has no answer."""
        if self.state in ("unknown", "error") or self.highest is None:
            return None
        return self.rows[self.highest - 1].stroke_probability


class Progress(NamedTuple):
    """How many slices of a scan were predicted."""

    name: str
    done: int
    slices: int


def predict_entries(model: DemoModel, paths: Sequence[str], reading: Reading) -> Iterator[Entry | Progress]:
    """Predict everything that uploads hold, a few slices at a time, and yield each entry when it is whole."""
    model.predictor  # noqa: B018  without a model, fail before any file is read
    waiting: list[tuple[FoundScan, stroke_hub.Slice]] = []
    count = 0
    for found in _hush_each(load_scans(list(paths), max_pixels=MAX_PIXELS, **reading.options)):
        scan = found.scan
        if scan is None:
            yield _refuse(found, found.error)
            continue
        count += len(scan)
        if count > MAX_SLICES:
            words = f"was not predicted: {MAX_SLICES:,} slices are the most at once. Upload it separately."
            yield _refuse(found, f"{found.name}: {words}")
            continue
        if len(scan) > 1:
            yield from _predict_scan(model, found, scan)
            continue
        try:
            waiting.append((found, scan.slices[0]))
        except stroke_hub.UnreadableImage as refusal:
            yield _refuse(found, str(refusal))
        if len(waiting) >= BATCH or sum(one.pixels.size for _, one in waiting) > HELD_PIXELS:
            yield from _predict_singles(model, waiting)
    yield from _predict_singles(model, waiting)


def _hush_each(scans: Iterator[FoundScan]) -> Iterator[FoundScan]:
    """Hush each step by itself: between two of them the server may go on in another context."""
    while True:
        with hush():
            found = next(scans, None)
        if found is None:
            return
        yield found


def _refuse(found: FoundScan, error: str) -> Entry:
    return Entry(found.name, (Row(found.name, None, error=error),), error=error)


def _predict_singles(model: DemoModel, waiting: list[tuple[FoundScan, stroke_hub.Slice]]) -> Iterator[Entry]:
    """Predict single slices together, and forget them."""
    if not waiting:
        return
    told = model.predict([one for _, one in waiting])
    for index, (found, one) in enumerate(waiting):
        yield _describe(found, told, [index], told.label[index], one)
    waiting.clear()


def _predict_scan(model: DemoModel, found: FoundScan, scan: Scan) -> Iterator[Entry | Progress]:
    parts: list[stroke_hub.Prediction] = []
    yield Progress(found.name, 0, len(scan))
    try:
        for part in model.predict_parts(scan.slices):
            parts.append(part)
            yield Progress(found.name, sum(len(one.label) for one in parts), len(scan))
        answer: ScanPrediction = model.judge(scan, parts)
        entry = _describe(found, answer.slices, range(len(scan)), answer.label, None)
    except stroke_hub.UnreadableImage as refusal:
        yield _refuse(found, str(refusal))
    else:
        yield entry


def _describe(
    found: FoundScan,
    told: stroke_hub.Prediction,
    places: Sequence[int],
    label: str,
    shown: stroke_hub.Slice | None,
) -> Entry:
    """Describe a scan whose slices were predicted; `places` are theirs in the prediction."""
    scan = found.scan
    assert scan is not None  # noqa: S101  what could not be read was refused before
    rows = tuple(
        Row(
            file=scan.origins[number].file,
            slice=number + 1,
            label=told.label[place],
            stroke_probability=float(told.probability[place]),
            unusual=bool(told.unusual[place]),
            remarks=" ".join(told.remarks[place]),
        )
        for number, place in enumerate(places)
    )
    known = [number for number, row in enumerate(rows) if not row.unusual]
    highest = max(known, key=lambda number: rows[number].stroke_probability or 0.0, default=None)
    picture = shown or scan.slices[len(rows) // 2 if highest is None else highest]
    path, member = scan.origins[0].path, ""
    files = {origin.file for origin in scan.origins}
    if path is not None and not found.uid and len(files) == 1 and holds_many(path):
        member = scan.origins[0].file
    return Entry(
        name=found.name,
        rows=rows,
        size=len(rows),
        modality=MODALITIES.get(scan.modality or "", ""),
        label=label,
        highest=None if highest is None else highest + 1,
        above=sum(rows[number].label == "Stroke" for number in known),
        known=len(known),
        thumbnail=_draw_thumbnail(picture.pixels),
        remarks=scan.remarks if len(rows) > 1 else (),
        paths=tuple(dict.fromkeys(str(origin.path) for origin in scan.origins if origin.path)),
        uid=found.uid,
        member=member,
    )


def _draw_thumbnail(pixels: np.ndarray[Any, Any]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def rank_entries(entries: Sequence[Entry]) -> list[int]:
    """Rank entries by number: the highest probability first, then those without an answer, then errors."""

    def place(number: int) -> tuple[int, float, int]:
        one = entries[number]
        return {"unknown": 1, "error": 2}.get(one.state, 0), -(one.probability or 0.0), number

    return sorted(range(len(entries)), key=place)


def unpack_member(archive: str, name: str) -> str:
    """Unpack one member of an uploaded archive into a folder of its own beside it; the path of the copy.

    Raises
    ------
    UnreadableImage : no member, or more than one, has this name, or it cannot be unpacked.
    """
    members = [file for files in list_files(archive) for file in files if file.name == name and not file.error]
    if len(members) != 1:
        raise stroke_hub.UnreadableImage(
            f"{name}: {pluralise(len(members), 'file')} of the archive have this name; upload the file by itself."
        )
    folder = Path(tempfile.mkdtemp(dir=Path(archive).parent))  # private, as the uploads are
    copy = folder / (printable(name.rsplit("/", 1)[-1]) or "image")
    rest = members[0].size + 1  # a number, or an archive that lies about its size would fill the disk
    try:
        with members[0].open() as packed, copy.open("xb") as file:
            while rest > 0 and (block := packed.read(min(rest, BLOCK))):
                rest -= file.write(block)
    except Exception as error:  # on damaged bytes zipfile may raise anything
        copy.unlink(missing_ok=True)
        raise stroke_hub.UnreadableImage(f"{name}: cannot be unpacked; pack it again.") from error
    return str(copy)
