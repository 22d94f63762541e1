"""What is refused before a decoder allocates memory: too many pixels or pages in a file or a codestream."""

import math
import re
import struct
from typing import NamedTuple, Protocol

from stroke_hub.errors import UnreadableImage

__all__ = [
    "MAX_PAGES",
    "MAX_PIXELS",
    "SCAN_LIMITS",
    "Limits",
    "check_codestream",
    "check_pages",
    "check_size",
    "limit_file",
]

RLE = "1.2.840.10008.1.2.5"
JPEG = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.(50|51|57|70|80|81)")
JPEG_2000 = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.(90|91|201|202|203)")
START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xF7})  # baseline, extended, progressive, lossless, JPEG-LS
# After the first scan a second picture, of whatever size, could only be announced by one of these.
FURTHER_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xde\xdf\xf7]")
MAX_TILES = 1024  # OpenJPEG takes some 7 KB for each before it decodes any
MIN_PRECINCT = 4  # log2 of a side: smaller ones cost more memory than their pixels


class Announced(Protocol):
    """What a DICOM header says of its pixels."""

    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def bits_allocated(self) -> int: ...


def check_codestream(frame: bytes, layout: Announced, syntax: str) -> None:
    """Refuse a compressed frame that is larger than the file's header says.

    Parameters
    ----------
    frame : one frame, its fragments joined.
    layout : what the header announces; it was checked already.
    syntax : a transfer syntax UID of RLE, JPEG, JPEG-LS or JPEG 2000.

    Raises
    ------
    UnreadableImage : the frame announces another size, or is none of its kind.
    """
    if syntax == RLE:
        fits = _is_rle_of(frame, layout)
    elif JPEG.fullmatch(syntax):
        fits = _read_jpeg_size(frame) == (layout.rows, layout.columns, layout.samples)
    elif JPEG_2000.fullmatch(syntax):
        starts = [found.start() for found in re.finditer(rb"\xff\x4f\xff\x51", frame)]
        fits = bool(starts) and all(_is_jpeg_2000_of(frame[start:], layout) for start in starts[:8])
    else:
        raise UnreadableImage("is a DICOM file of a kind that is not read, a video perhaps; export it as PNG.")
    if not fits:
        raise UnreadableImage("is a DICOM file whose compressed pixels contradict its header; export it again.")


def _is_rle_of(frame: bytes, layout: Announced) -> bool:
    """Whether every segment (PS3.5 annex G) unpacks to one byte a pixel, and at most some padding."""
    if len(frame) < 64:
        return False
    count, *offsets = struct.unpack("<16L", frame[:64])
    if count != layout.samples * layout.bits_allocated // 8 or count > 15:
        return False
    ends = [*offsets[1:count], len(frame)]
    pixels = layout.rows * layout.columns
    return all(
        64 <= start <= end and pixels <= _unpacked(frame[start:end], pixels + 256) <= pixels + 256
        for start, end in zip(offsets[:count], ends, strict=True)
    )


def _unpacked(segment: bytes, limit: int) -> int:
    """How many bytes a segment unpacks to; counting ends soon after the limit."""
    place = total = 0
    while place < len(segment) and total <= limit:
        control = segment[place]
        if control < 128:
            total += min(control + 1, len(segment) - place - 1)
            place += control + 2
        else:
            total += 257 - control if control > 128 and place + 1 < len(segment) else 0
            place += 2 if control > 128 else 1
    return total


def _read_jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components of a JPEG or JPEG-LS stream of one picture, else None."""
    size, place = None, 2
    if frame[:2] != b"\xff\xd8":
        return None
    while place + 4 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # fill
            place += 1
            continue
        length = int.from_bytes(frame[place + 2 : place + 4], "big")
        if marker in START_OF_FRAME:
            if size is not None or length < 8:
                return None
            size = tuple(struct.unpack(">HHB", frame[place + 5 : place + 10]))
        elif FURTHER_FRAME.match(frame, place):
            return None
        elif marker == 0xDA:
            return size if FURTHER_FRAME.search(frame, place + 2 + length) is None else None
        place += 2 + length
    return None


def _is_jpeg_2000_of(stream: bytes, layout: Announced) -> bool:
    """Whether SIZ and COD (ISO/IEC 15444-1 A.5.1, A.6.1) fit the header, with tiles and precincts of some size."""
    if len(stream) < 44:
        return False
    _, right, bottom, left, top, *tile = struct.unpack(">H8L", stream[6:40])
    components = int.from_bytes(stream[40:42], "big")
    if (bottom - top, right - left, components) != (layout.rows, layout.columns, layout.samples) or not all(
        tile[:2]
    ):
        return False
    tiles = math.ceil((right - tile[2]) / tile[0]) * math.ceil((bottom - tile[3]) / tile[1])
    if not 0 < tiles <= MAX_TILES:
        return False
    return all(_has_sizeable_precincts(stream[found.start() :]) for found in re.finditer(rb"\xff\x52\0", stream))


def _has_sizeable_precincts(segment: bytes) -> bool:
    """Of a COD segment; what only looks like one in the middle of packets is let pass where it cannot be one."""
    length, style, levels = int.from_bytes(segment[2:4], "big"), segment[4] if len(segment) > 4 else 0, 0
    levels = segment[9] if len(segment) > 9 else 0
    if not style & 1 or length != 13 + levels:
        return True
    sizes = segment[14 : 14 + levels + 1]
    return all(min(size & 15, size >> 4) >= MIN_PRECINCT for size in sizes[1:])


MAX_PIXELS = 50_000_000

MAX_PAGES = 512  # pages, frames or slices of a file that is decoded whole
MAX_PAGES_PIXELS = 4  # all of them together, in multiples of `max_pixels`: 512 of 512 x 512 fit


class Limits(NamedTuple):
    """What is accepted of one file: pixels of a page, pages, and pixels of all pages together."""

    pixels: int
    pages: int
    total: int


SCAN_LIMITS = Limits(MAX_PIXELS, 1 << 16, 1 << 30)
"""Of a file whose slices are decoded one at a time."""


def limit_file(max_pixels: int) -> Limits:
    """Limit a file whose pages are all decoded, by the pixels of one page."""
    return Limits(max_pixels, MAX_PAGES, MAX_PAGES_PIXELS * max_pixels)


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture that has no pixels or more than `max_pixels`.

    Raises
    ------
    UnreadableImage : without the name of the source, which the caller puts before it.
    """
    if width < 1 or height < 1:
        raise UnreadableImage("has no pixels; export the slice again.")
    if width * height > max_pixels:
        raise UnreadableImage(
            f"has {width} x {height} pixels, more than the {max_pixels:,} allowed; make it smaller and try again."
        )


def check_pages(pages: int, pixels: int, limits: Limits) -> None:
    """Refuse a file of too many pages, or of too many `pixels` on all pages together.

    Raises
    ------
    UnreadableImage : without the name of the source.
    """
    if pages > limits.pages or pixels > limits.total:
        raise UnreadableImage(
            f"has more than {limits.pages:,} pages, or {limits.total:,} pixels altogether; "
            "split it into smaller files."
        )
