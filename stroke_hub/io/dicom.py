"""DICOM files -> measured values, upright. Pixels, modality and place leave this module, and nothing else.

Only the elements listed here are ever kept of a file: a name, an id or a date in it is skipped over unread. Of the
kind of picture (ImageType) only known words are looked for; none of its text is passed on.
"""

import io
import itertools
import math
import re
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.geometry import View, find_view
from stroke_hub.io.limits import check_codestream, check_pages, check_size
from stroke_hub.io.quiet import silence
from stroke_hub.io.rendering import (
    CT_SMALLEST,
    SHIFTED,
    Hounsfield,
    Measured,
    compact,
    find_hounsfield,
    lay_out,
    sample,
    to_hounsfield,
)
from stroke_hub.io.windowing import (
    AIR,
    PERCENTILES,
    Grey,
    Modality,
    apply_window,
    stretch,
    weigh_colours,
)

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Place", "decode_dicom", "import_pydicom", "is_dicom", "read_place"]

PIXEL_DATA = 0x7FE00010
PLACE_TAGS = (0x0020000E, 0x00200013, 0x00200032, 0x00200037)  # series, instance, position, orientation
LAYOUT_TAGS = (0x00080060, *(0x00280000 | e for e in (2, 4, 6, 8, 0x10, 0x11, 0x100, 0x101, 0x103)))
VIEW_TAGS = (0x00080008, 0x00190010, 0x0019100A, 0x00181164, 0x00182010, 0x00200037, 0x00280030, 0x00280034)
VALUE_TAGS = (
    *(0x00280120, 0x00280121),  # padding
    *(0x00280000 | e for e in (0x1050, 0x1051, 0x1052, 0x1053, 0x1056, 0x3000, 0x3010)),  # windows, rescaling, LUTs
    *(0x00280000 | e for e in (0x1101, 0x1102, 0x1103, 0x1201, 0x1202, 0x1203, 0x1221, 0x1222, 0x1223)),  # palette
    *(0x52009229, 0x52009230),  # the same of the frames of enhanced files
)
_importing = threading.Lock()

SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")  # in mm
MAPS = frozenset({"ADC", "FA", "TRACEW", "RCBV", "RCBF", "CBV", "CBF", "MTT", "TTP", "TMAX", "PHASE", "PERFUSION"})
LOCALIZER = "The slice is a localizer; models are trained on axial slices of a scan."
DERIVED = "The slice was computed from others (a map or a reconstruction); models are trained on measured slices."
OTHER_MODALITY = "The file is neither CT nor MR; models are trained on head CT and MR alone."
OBLIQUE = "The slice is oblique; models are trained on axial slices."

UNDEFINED = 0xFFFFFFFF
HEADER_LIMIT = 1 << 22  # bytes of a deflated file that are inflated before its header says how many there are

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

# Without the preamble: an element of group 2 or 8 with a known VR, or one of group 8 of a small implicit length.
BARE = re.compile(
    rb"[\x02\x08]\0.\0(?:AE|AS|CS|DA|DS|DT|IS|LO|LT|OB|OW|PN|SH|SQ|ST|TM|UI|UL|UN|US)"
    rb"|\0[\x02\x08]\0.(?:CS|DA|LO|PN|SH|SQ|ST|TM|UI|UL)"
    rb"|\x08\0[\0-\x70]\0[\0-\x7f]\0\0\0",
    re.DOTALL,
)


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


class Place(NamedTuple):
    """Where a file belongs: `series` is for comparing only and never shown; `position` in mm, bottom to top."""

    series: str
    position: float


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts with these (at least 132) bytes is DICOM, with its preamble or unmistakably so."""
    return start[128:132] == b"DICM" or BARE.match(start) is not None


def decode_dicom(stream: BinaryIO, *, max_pixels: int) -> tuple[list[Measured], Modality | None]:
    """Decode all frames of a DICOM file, of any transfer syntax of still pictures.

    Parameters
    ----------
    stream : positioned at the start.
    max_pixels : of one frame; all frames and samples together may have four times as many.

    Returns
    -------
    The frames, upright, with square pixels and remarks on what they are; "BT" for CT, "MR" for MR, None for
    anything else. A Siemens mosaic gives its slices. CT of more than 8 bits with a rescale slope or intercept, or a
    value below -500, is in HU; padding and values that wrapped are air there. The file's own display is its VOI
    LUT or window (the first that makes sense); without one 8-bit grey is kept, and deeper values are stretched
    from their 1st to their 99th percentile, padding left out. Colour becomes luminance (ITU-R 601). MONOCHROME1
    is turned round.

    Raises
    ------
    UnreadableImage : without the name of the source, which the caller puts before it, and without any value.
    """
    try:
        return _decode(stream, max_pixels)
    except UnreadableImage:
        raise
    except Exception:  # noqa: S110  # refused below, so that no text of the file hangs on it as a context
        pass
    raise UnreadableImage("is a damaged DICOM file or of a rare kind; export the slice again as an 8-bit PNG.")


def read_place(stream: BinaryIO) -> Place | None:
    """Which series a DICOM file belongs to and where in it, from its header alone; None where it does not say."""
    with silence():
        try:
            ds, _ = _read(stream, PLACE_TAGS)
            return _locate(ds)
        except Exception:  # a damaged file has no place; decoding it will say so
            return None


# --- the file -----------------------------------------------------------------------------------------------


def _decode(stream: BinaryIO, max_pixels: int) -> tuple[list[Measured], Modality | None]:
    ds, syntax = _read(stream, (*LAYOUT_TAGS, *VIEW_TAGS, *VALUE_TAGS, PIXEL_DATA), max_pixels)
    layout = _read_layout(ds, max_pixels)
    element: Any = ds.get_item(PIXEL_DATA)
    if element is None or not element.value:
        raise UnreadableImage("is a DICOM file without a picture; choose one that holds a slice.")
    if (element.length == UNDEFINED) != (syntax not in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)):
        raise UnreadableImage("is a DICOM file whose pixels are not stored as it says; export it again.")
    name = str(ds.get("Modality", ""))
    modalities: dict[str, Modality] = {"CT": "BT", "MR": "MR"}
    remarks = _describe_kind(ds, name)
    tiles = _count_tiles(ds, layout)
    pages, views = [], []
    frames = _decode_frames(cast(bytes, element.value), str(element.VR or "OW"), layout, syntax)
    for index, frame in enumerate(frames):
        about = _describe(ds, index)
        view = find_view(_read_first(about, "ImageOrientationPatient", 6))
        spacing, ratio = _read_sides(about, *SPACINGS), _read_sides(about, "PixelAspectRatio")
        for tile in _split(frame, tiles):
            pages.append(replace(_measure(tile, about, layout, name), remarks=(*remarks, *_describe_view(view))))
            views.append((view, spacing, ratio))
    shown, total = [], 0
    for page, (view, spacing, ratio) in zip(_tell_units(pages), views, strict=True):
        upright = lay_out(page, view, spacing or ratio, max_pixels)
        shown.append(upright if spacing else replace(upright, spacing=None))  # a ratio is no length
        total += shown[-1].values.size
        check_pages(len(shown), total, max_pixels)
    return shown, modalities.get(name)


def _read(stream: BinaryIO, tags: tuple[int, ...], max_pixels: int = 0) -> tuple["Dataset", str]:
    """The named elements, and the transfer syntax. Without the pixels where PIXEL_DATA is not named."""
    import_pydicom()
    from pydicom.filereader import read_dataset

    start = stream.read(132)
    if start[128:] != b"DICM":
        stream.seek(0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = str(meta.get("TransferSyntaxUID") or _guess_syntax(stream))
    if syntax == DEFLATED:
        stream = _inflate(stream, max_pixels if PIXEL_DATA in tags else 0)
    before_pixels = None if PIXEL_DATA in tags else _is_at_pixels
    ds = read_dataset(
        stream, syntax == IMPLICIT, syntax != BIG_ENDIAN, stop_when=before_pixels, specific_tags=list(tags)
    )
    return ds, syntax


def import_pydicom() -> None:
    """Let one thread import what all use: its modules import each other in circles, and two threads that come in
    at different ends, as nibabel does, get halves of them.
    """
    with _importing:
        import pydicom.pixels.decoders.base
        import pydicom.pixels.processing  # noqa: F401  ruff takes it for the line above
        import pylibjpeg  # noqa: F401


def _is_at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag >> 16 == 0x7FE0


def _guess_syntax(stream: BinaryIO) -> str:
    """The syntax of a file that does not say: the bytes of its first element tell the three that are native."""
    start = stream.read(6)
    stream.seek(-len(start), io.SEEK_CUR)
    if start[:1] == b"\0":
        return BIG_ENDIAN
    return EXPLICIT if re.fullmatch(rb"[A-Z]{2}", start[4:6]) else IMPLICIT


def _inflate(stream: BinaryIO, max_pixels: int) -> BinaryIO:
    """A deflated data set: its header, and then what the header announces and not a byte of a bomb."""
    from pydicom.filereader import read_dataset

    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    start = inflater.decompress(stream.read(), HEADER_LIMIT)
    if inflater.eof or not max_pixels:
        return io.BytesIO(start)
    header = read_dataset(io.BytesIO(start), False, True, stop_when=_is_at_pixels, specific_tags=list(LAYOUT_TAGS))
    layout = _read_layout(header, max_pixels)
    announced = layout.rows * layout.columns * layout.frames * layout.samples * layout.bits_allocated // 8
    rest = inflater.decompress(inflater.unconsumed_tail, announced + HEADER_LIMIT)
    if not inflater.eof:
        raise UnreadableImage("is a DICOM file that holds more or less than its header announces; export it again.")
    return io.BytesIO(start + rest)


def _read_layout(ds: "Dataset", max_pixels: int) -> Layout:
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
    check_size(layout.columns, layout.rows, max_pixels)
    sensible = layout.frames >= 1 and layout.samples in (1, 3) and layout.bits_allocated in (1, 8, 16, 32)
    if not sensible or not 1 <= layout.bits_stored <= layout.bits_allocated:
        raise UnreadableImage("is a DICOM file whose header contradicts itself; export the slice again.")
    check_pages(layout.frames, layout.rows * layout.columns * layout.frames * layout.samples, max_pixels)
    return layout


# --- pixels -------------------------------------------------------------------------------------------------


def _decode_frames(content: bytes, vr: str, layout: Layout, syntax: str) -> Iterator[NDArray[Any]]:
    """All frames as stored, (H, W) or (H, W, 3) in red, green, blue."""
    from pydicom.encaps import generate_frames
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEGBaseline8Bit, RLELossless

    decoder = get_decoder(syntax)
    plugin = {JPEGBaseline8Bit: "pillow", RLELossless: "pydicom"}.get(cast(Any, syntax), "pylibjpeg")
    if decoder.is_encapsulated:
        count = 0
        for frame in itertools.islice(generate_frames(content, number_of_frames=layout.frames), layout.frames):
            check_codestream(frame, layout, syntax)
            count += 1
        if count < layout.frames:
            raise UnreadableImage("is a DICOM file that lacks some of its frames; export it again.")
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": layout.frames,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "photometric_interpretation": layout.photometric,
        "planar_configuration": layout.planar,
        "pixel_keyword": "PixelData",
        "pixel_vr": vr,
        "allow_excess_frames": False,
    }
    frames = decoder.iter_array(content, decoding_plugin=plugin, **options)
    return (frame for frame, _ in itertools.islice(frames, layout.frames))


def _describe(ds: "Dataset", index: int) -> list["Dataset"]:
    """Where what holds for one frame may stand: in an enhanced file's groups, then in the file."""
    found: list[Dataset] = []
    for groups, place in ((0x52009230, index), (0x52009229, 0)):
        items = ds[groups].value if groups in ds else ()
        if place < len(items):
            for sequence in (
                "PixelValueTransformationSequence",
                "FrameVOILUTSequence",
                "PlaneOrientationSequence",
                "PixelMeasuresSequence",
            ):
                found += (items[place].get(sequence) or [])[:1]
    return [*found, ds]


def _measure(frame: NDArray[Any], about: list["Dataset"], layout: Layout, modality: str) -> Measured:
    """One frame as stored: its values in the units of its modality, and how the file asks to show them."""
    from pydicom.pixels.processing import apply_color_lut

    ds = about[-1]
    if layout.photometric == "PALETTE COLOR" or layout.samples == 3:
        is_palette = layout.photometric == "PALETTE COLOR"
        colours = apply_color_lut(frame, ds) if is_palette else frame
        grey = _show_colour(colours, 8 * colours.itemsize if is_palette else layout.bits_stored)
        return Measured(grey, grey, is_picture=True)
    values, was_rescaled = _rescale_values(frame, about)
    padding = _find_padding(frame, ds, layout)
    deep = layout.bits_stored > 8
    is_inverted = layout.photometric == "MONOCHROME1"
    if modality == "CT" and deep and (was_rescaled or values.min() <= AIR):
        measured = values if padding.all() else values[~padding]
        how = find_hounsfield(sample([compact(measured)])) or Hounsfield()
        # From here on the values are HU: what wrapped must not be mixed with its neighbours by resampling.
        hu = to_hounsfield(values, how)
        hu[padding] = CT_SMALLEST
        kept = compact(hu)
        return Measured(kept, None, Hounsfield(evidence="plain"), remarks=(SHIFTED,) if how.offset else ())
    if padding.any() and not padding.all():
        values[padding] = values[~padding].max() if is_inverted else values[~padding].min()
    own = _apply_own_window(values, about)
    is_picture = not deep and not layout.signed and not was_rescaled
    if own is None and is_picture:
        own = np.rint(values * (255 / (2**layout.bits_stored - 1))).astype(np.uint8)
    if own is None:
        own = _stretch_percentiles(values[~padding] if not padding.all() else values, values)
    if is_inverted:
        own = 255 - own
    if is_picture:
        return Measured(own, own, is_picture=True)
    return Measured(compact(-values if is_inverted else values), own)


def _tell_units(pages: list[Measured]) -> list[Measured]:
    """Whether deep values of a file that does not say so, all frames together, can be Hounsfield units."""
    unknown = [page.values for page in pages if page.hounsfield is None and not page.is_picture]
    how = find_hounsfield(sample(unknown)) if unknown else None
    return [page if page.hounsfield or page.is_picture else replace(page, hounsfield=how) for page in pages]


def _find_padding(frame: NDArray[Any], ds: "Dataset", layout: Layout) -> NDArray[np.bool_]:
    """Which stored values are padding: PixelPaddingValue to PixelPaddingRangeLimit (DICOM PS3.3 C.7.5.1.1.2)."""
    edges = [_read_stored(ds, tag, layout) for tag in (0x00280120, 0x00280121)]
    if edges[0] is None:
        return np.zeros(frame.shape, np.bool_)
    low, high = sorted((edges[0], edges[0] if edges[1] is None else edges[1]))
    return np.asarray((frame >= low) & (frame <= high))


def _read_stored(ds: "Dataset", tag: int, layout: Layout) -> int | None:
    """A stored pixel value out of a header: its sign is that of the pixels, whatever its own element says."""
    number = _read_integer(ds, tag)
    if number is None:
        return None
    number %= 1 << layout.bits_allocated
    if layout.signed and number >= 1 << (layout.bits_allocated - 1):
        number -= 1 << layout.bits_allocated
    return number


def _show_colour(frame: NDArray[Any], bits: int) -> Grey:
    return stretch(np.rint(weigh_colours(frame) * (255 / (2**bits - 1))), 0, 255)


def _rescale_values(frame: NDArray[Any], about: list["Dataset"]) -> tuple[NDArray[np.float64], bool]:
    """Stored values in the units of their modality (DICOM PS3.3 C.11.1), and whether the file says how."""
    from pydicom.pixels.processing import apply_modality_lut

    ds = about[-1]
    tables = ds.get("ModalityLUTSequence") or []
    if tables and "LUTDescriptor" in tables[0] and "LUTData" in tables[0]:  # an empty item is no table
        return apply_modality_lut(frame, ds).astype(np.float64), True
    slope, intercept = (_read_number(about, name) for name in ("RescaleSlope", "RescaleIntercept"))
    values = frame.astype(np.float64) * (slope or 1.0) + (intercept or 0.0)
    if not np.isfinite(values).all():
        raise UnreadableImage("is a DICOM file whose rescaling leads beyond all numbers; export the slice again.")
    return values, slope is not None or intercept is not None


def _apply_own_window(values: NDArray[np.float64], about: list["Dataset"]) -> Grey | None:
    """By the file's own VOI LUT or window, or None where it has none that makes sense."""
    from pydicom.pixels.processing import apply_voi

    for ds in about:
        try:
            if lut := ds.get("VOILUTSequence"):
                bits = int(lut[0].LUTDescriptor[2])
                shown = apply_voi(np.rint(values).astype(np.int64), ds)
                return apply_window(shown, (2.0**bits - 1) / 2, 2.0**bits - 1, function="LINEAR_EXACT")
        except Exception:  # noqa: S112  # a table that contradicts itself; the next best thing is shown
            continue
        functions = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
        function = str(ds.get("VOILUTFunction") or "LINEAR").upper()
        function = function if function in functions else "LINEAR"
        pairs = zip(_read_numbers(ds, "WindowCenter"), _read_numbers(ds, "WindowWidth"), strict=False)
        for centre, width in pairs:
            if math.isfinite(centre) and math.isfinite(width) and width >= (1 if function == "LINEAR" else 1e-9):
                kind = cast(Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"], function)
                return apply_window(values, centre, width, function=kind)
    return None


def _stretch_percentiles(measured: NDArray[np.float64], values: NDArray[np.float64]) -> Grey:
    """Values between the percentiles of what was measured, which leaves padding out."""
    low, high = (float(edge) for edge in np.percentile(measured, PERCENTILES))
    return stretch(values, low, high) if high > low else stretch(values, float(values.min()), float(values.max()))


# --- what the slice is ------------------------------------------------------------------------------------


def _describe_kind(ds: "Dataset", modality: str) -> tuple[str, ...]:
    """Remarks on what the header says of the kind of picture."""
    words = _read_words(ds)
    found = [
        (LOCALIZER, bool(words & {"LOCALIZER", "SCOUT"})),
        (DERIVED, "DERIVED" in words or bool(words & MAPS)),
        (OTHER_MODALITY, modality not in ("", "CT", "MR")),
    ]
    return tuple(sentence for sentence, holds in found if holds)


def _describe_view(view: View | None) -> tuple[str, ...]:
    if view is None:
        return ()
    if view.is_oblique:
        return (OBLIQUE,)
    return () if view.plane == "axial" else (f"The slice is {view.plane}; models are trained on axial slices.",)


def _read_words(ds: "Dataset") -> set[str]:
    """The words of ImageType, to be compared and never shown."""
    try:
        value = ds.get("ImageType")
    except Exception:
        return set()
    words = [value] if isinstance(value, str) else list(value or ())
    return {str(word).strip().upper() for word in words}


def _count_tiles(ds: "Dataset", layout: Layout) -> int:
    """How many slices a Siemens mosaic holds in its one frame; 1 where it is none.

    The number of images decides. Enhanced files keep the word MOSAIC and hold no mosaic.
    """
    if layout.frames > 1 or 0x52009229 in ds or 0x52009230 in ds:
        return 1
    is_siemens = "SIEMENS MR HEADER" in _to_text(ds.get_item(0x00190010))
    number = _read_integer(ds, 0x0019100A) if is_siemens else None
    if number is None:
        if "MOSAIC" in _read_words(ds):
            raise UnreadableImage(
                "is a mosaic that does not say how many slices it holds; convert the series (for example dcm2niix)."
            )
        return 1
    if number < 2:
        return 1
    side = math.ceil(math.sqrt(number))
    if layout.rows % side or layout.columns % side:
        raise UnreadableImage(
            "is a mosaic whose slices do not fit into its picture; convert the series (for example dcm2niix)."
        )
    return number


def _split(frame: NDArray[Any], tiles: int) -> list[NDArray[Any]]:
    """The slices of a mosaic, which lie row by row in a square grid."""
    if tiles == 1:
        return [frame]
    side = math.ceil(math.sqrt(tiles))
    height, width = frame.shape[0] // side, frame.shape[1] // side
    places = [(number // side * height, number % side * width) for number in range(tiles)]
    return [frame[top : top + height, left : left + width] for top, left in places]


def _read_sides(about: list["Dataset"], *names: str) -> tuple[float, float] | None:
    """The height and the width of a pixel, by the first of these elements that gives them."""
    for name in names:
        sides = _read_first(about, name, 2)
        if sides and all(math.isfinite(side) and side > 0 for side in sides):
            return sides[0], sides[1]
    return None


# --- numbers ------------------------------------------------------------------------------------------------


def _read_numbers(ds: "Dataset", name: str) -> list[float]:
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


def _read_first(about: list["Dataset"], name: str, count: int) -> list[float]:
    """So many values of an element, of the frame rather than of the file; none where nobody gives them."""
    return next((found for ds in about if len(found := _read_numbers(ds, name)) == count), [])


def _read_integer(ds: "Dataset", tag: int) -> int | None:
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


def _to_text(raw: Any) -> str:
    """The text of an element, read or still in bytes."""
    value = None if raw is None else raw.value
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _read_number(about: list["Dataset"], name: str) -> float | None:
    """The first finite value that is there, of the frame rather than of the file."""
    return next((number for ds in about for number in _read_numbers(ds, name)[:1] if math.isfinite(number)), None)


def _locate(ds: "Dataset") -> Place | None:
    numbers = _read_numbers(ds, "ImagePositionPatient"), _read_numbers(ds, "ImageOrientationPatient")
    position, orientation = (np.array(values) for values in numbers)
    series = str(ds.get("SeriesInstanceUID", ""))
    if position.size == 3 and orientation.size == 6:
        along = float(np.cross(orientation[:3], orientation[3:]) @ position)
    else:
        along = next(iter(_read_numbers(ds, "InstanceNumber")), math.nan)
    return Place(series, along) if series and math.isfinite(along) else None
