"""Elements of a DICOM file: the named ones are read, as numbers and words, and all others are skipped unread."""

import io
import math
import re
import threading
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.jpeg2000 import register
from stroke_hub.io.limits import Limits, check_pages, check_size, limit_file

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "BIG_ENDIAN",
    "DEFLATED",
    "EXPLICIT",
    "IMPLICIT",
    "LAYOUT_TAGS",
    "UNDEFINED",
    "Elements",
    "Layout",
    "describe_frame",
    "import_pydicom",
    "read_elements",
    "read_first",
    "read_integer",
    "read_layout",
    "read_number",
    "read_numbers",
    "read_sides",
    "read_words",
    "to_text",
]

PIXEL_DATA = 0x7FE00010
LAYOUT_TAGS = (0x00080060, *(0x00280000 | e for e in (2, 4, 6, 8, 0x10, 0x11, 0x100, 0x101, 0x103)))
UNDEFINED = 0xFFFFFFFF
HEADER_LIMIT = 1 << 22  # bytes of a deflated file that are inflated before its header says how many there are
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

_importing = threading.Lock()


class Layout(NamedTuple):
    """How the pixels of a file lie: what its header says, checked."""

    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    planar: int


class Elements(NamedTuple):
    """The elements of a file that were asked for, and where its pixels lie.

    ds : the elements. syntax : the transfer syntax.
    stream : where the pixels are read from: the file, or what a deflated file unpacks to.
    start, length, vr : of the value of the pixel element; `start` is None where there is none.
    """

    ds: "Dataset"
    syntax: str
    stream: BinaryIO
    start: int | None
    length: int
    vr: str


def read_elements(stream: BinaryIO, tags: tuple[int, ...], limits: Limits | None = None) -> Elements:
    """Read the named elements of a file up to its pixels, and find these without reading them.

    Parameters
    ----------
    stream : positioned at the start.
    limits : of what a deflated file unpacks to; None where only its header matters.
    """
    import_pydicom()
    from pydicom.filereader import read_dataset

    start = stream.read(132)
    if start[128:] != b"DICM":
        stream.seek(0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = str(meta.get("TransferSyntaxUID") or _guess_syntax(stream))
    if syntax == DEFLATED:
        stream = _inflate(stream, limits)
    found: list[tuple[int, int, str]] = []

    def stop(tag: int, vr: str | None, length: int) -> bool:
        if tag == PIXEL_DATA:
            found.append((stream.tell(), length, vr or "OW"))
        return tag == PIXEL_DATA

    ds = read_dataset(stream, syntax == IMPLICIT, syntax != BIG_ENDIAN, stop_when=stop, specific_tags=list(tags))
    place, length, vr = found[0] if found else (None, 0, "")
    return Elements(ds, syntax, stream, place, length, vr)


def import_pydicom() -> None:
    """Let one thread import what all use: its modules import each other in circles, and two threads that come in
    at different ends, as nibabel does, get halves of them.
    """
    with _importing:
        import pydicom.pixels.decoders.base
        import pydicom.pixels.processing  # noqa: F401  ruff takes it for the line above

        register()


def _is_at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag >> 16 == 0x7FE0


def _guess_syntax(stream: BinaryIO) -> str:
    """The syntax of a file that does not say: the bytes of its first element tell the three that are native."""
    start = stream.read(6)
    stream.seek(-len(start), io.SEEK_CUR)
    if start[:1] == b"\0":
        return BIG_ENDIAN
    return EXPLICIT if re.fullmatch(rb"[A-Z]{2}", start[4:6]) else IMPLICIT


def _inflate(stream: BinaryIO, limits: Limits | None) -> BinaryIO:
    """A deflated data set: its header, and then what the header announces and not a byte of a bomb."""
    from pydicom.filereader import read_dataset

    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    start = inflater.decompress(stream.read(), HEADER_LIMIT)
    if inflater.eof or limits is None:
        return io.BytesIO(start)
    header = read_dataset(io.BytesIO(start), False, True, stop_when=_is_at_pixels, specific_tags=list(LAYOUT_TAGS))
    layout = read_layout(header, limit_file(limits.pixels))  # also of a scan: it is unpacked in memory
    announced = layout.rows * layout.columns * layout.frames * layout.samples * layout.bits_allocated // 8
    rest = inflater.decompress(inflater.unconsumed_tail, announced + HEADER_LIMIT)
    if not inflater.eof:
        raise UnreadableImage("is a DICOM file that holds more or less than its header announces; export it again.")
    return io.BytesIO(start + rest)


def read_layout(ds: "Dataset", limits: Limits) -> Layout:
    """What the header says of the pixels; refused before anything is decoded where it is too much or no sense."""
    if ds.get("Rows") is None or ds.get("Columns") is None:
        raise UnreadableImage("is a DICOM file without a picture; choose one that holds a slice.")
    layout = Layout(
        rows=int(ds.Rows),
        columns=int(ds.Columns),
        frames=int(ds.get("NumberOfFrames") or 1),
        samples=int(ds.get("SamplesPerPixel") or 1),
        bits_allocated=int(ds.get("BitsAllocated") or 16),
        bits_stored=int(ds.get("BitsStored") or ds.get("BitsAllocated") or 16),
        signed=bool(ds.get("PixelRepresentation")),
        photometric=str(ds.get("PhotometricInterpretation") or "MONOCHROME2").strip(),
        planar=int(ds.get("PlanarConfiguration") or 0),
    )
    check_size(layout.columns, layout.rows, limits.pixels)
    sensible = layout.frames >= 1 and layout.samples in (1, 3) and layout.bits_allocated in (1, 8, 16, 32)
    if not sensible or not 1 <= layout.bits_stored <= layout.bits_allocated:
        raise UnreadableImage("is a DICOM file whose header contradicts itself; export the slice again.")
    check_pages(layout.frames, layout.rows * layout.columns * layout.frames * layout.samples, limits)
    return layout


def describe_frame(ds: "Dataset", index: int, sequences: tuple[str, ...]) -> list["Dataset"]:
    """Where what holds for one frame may stand: in these sequences of an enhanced file, then in the file itself."""
    found: list[Dataset] = []
    for groups, place in ((0x52009230, index), (0x52009229, 0)):
        items = ds[groups].value if groups in ds else ()
        if place < len(items):
            for sequence in sequences:
                found += (items[place].get(sequence) or [])[:1]
    return [*found, ds]


def read_words(ds: "Dataset", name: str = "ImageType") -> set[str]:
    """The words of an element, to be compared and never shown."""
    try:
        value = ds.get(name)
    except Exception:
        return set()
    words = [value] if isinstance(value, str) else list(value or ())
    return {str(word).strip().upper() for word in words}


def read_sides(about: list["Dataset"], *names: str) -> tuple[float, float] | None:
    """The height and the width of a pixel, by the first of these elements that gives them."""
    for name in names:
        sides = read_first(about, name, 2)
        if sides and all(math.isfinite(side) and side > 0 for side in sides):
            return sides[0], sides[1]
    return None


def read_numbers(ds: "Dataset", name: str) -> list[float]:
    """All values of an element as floats; what is no number is NaN."""
    try:
        value = ds.get(name)
    except Exception:  # pydicom raises on text where a number belongs
        return []
    values = [] if value is None else [value] if isinstance(value, str | float | int) else list(value)
    numbers = []
    for one in values:
        try:
            numbers.append(float(one))
        except (TypeError, ValueError, OverflowError):
            numbers.append(math.nan)
    return numbers


def read_first(about: list["Dataset"], name: str, count: int) -> list[float]:
    """So many values of an element, of the frame rather than of the file; none where nobody gives them."""
    return next((found for ds in about if len(found := read_numbers(ds, name)) == count), [])


def read_integer(ds: "Dataset", tag: int) -> int | None:
    """An integer that may stand as a number, as text or as two bytes of an unknown or ambiguous kind."""
    raw: Any = ds.get_item(tag)
    if raw is None:
        return None
    value = raw.value
    if isinstance(value, bytes):
        text = value.strip(b" \0")
        if raw.VR in ("US", "SS", "UL", "SL") or (len(value) in (2, 4) and not re.fullmatch(rb"\d+", text)):
            return int.from_bytes(value, "little" if getattr(raw, "is_little_endian", True) else "big")
        value = text.decode("ascii", "replace")
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def to_text(raw: Any) -> str:
    """The text of an element, read or still in bytes."""
    value = None if raw is None else raw.value
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def read_number(about: list["Dataset"], name: str) -> float | None:
    """The first finite value that is there, of the frame rather than of the file."""
    return next((number for ds in about for number in read_numbers(ds, name)[:1] if math.isfinite(number)), None)
