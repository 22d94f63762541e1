"""DICOM files -> measured values, upright. Pixels, modality and place leave this module, and nothing else.

Only the elements listed here and in scan/headers.py are ever kept of a file: a name or a date in it is skipped over
unread. Of the kind of picture (ImageType) only known words are looked for; none of its text is passed on.
"""

import io
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.elements import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    LAYOUT_TAGS,
    UNDEFINED,
    Elements,
    Layout,
    describe_frame,
    read_elements,
    read_first,
    read_integer,
    read_layout,
    read_number,
    read_numbers,
    read_sides,
    read_words,
    to_text,
)
from stroke_hub.io.geometry import View, find_view
from stroke_hub.io.jpeg import SYNTAXES, decode_jpeg
from stroke_hub.io.jpeg2000 import PLUGIN
from stroke_hub.io.limits import Limits, check_codestream
from stroke_hub.io.pages import JudgedPages, refuse_damage
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

__all__ = [
    "DERIVED_WORDS",
    "LOCALIZER_WORDS",
    "MODALITIES",
    "SPACINGS",
    "TILE_TAGS",
    "DicomFile",
    "Place",
    "count_tiles",
    "is_cut",
    "is_dicom",
    "read_place",
]

PLACE_TAGS = (0x0020000E, 0x00200013, 0x00200032, 0x00200037)  # series, instance, position, orientation
TILE_TAGS = (0x00080008, 0x00190010, 0x0019100A)  # kind of picture, and how many slices a Siemens mosaic holds
VIEW_TAGS = (*TILE_TAGS, 0x00181164, 0x00182010, 0x00200037, 0x00280030, 0x00280034)
VALUE_TAGS = (
    *(0x00280120, 0x00280121),  # padding
    *(0x00280000 | e for e in (0x1050, 0x1051, 0x1052, 0x1053, 0x1056, 0x3000, 0x3010)),  # windows, rescaling, LUTs
    *(0x00280000 | e for e in (0x1101, 0x1102, 0x1103, 0x1201, 0x1202, 0x1203, 0x1221, 0x1222, 0x1223)),  # palette
    *(0x52009229, 0x52009230),  # the same of the frames of enhanced files
)

SHOWN_IN = (
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
)  # of the frames of enhanced files

SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")  # in mm
MAPS = frozenset({"ADC", "FA", "TRACEW", "RCBV", "RCBF", "CBV", "CBF", "MTT", "TTP", "TMAX", "PHASE", "PERFUSION"})
LOCALIZER_WORDS = frozenset({"LOCALIZER", "SCOUT"})
DERIVED_WORDS = MAPS | {"DERIVED"}
MODALITIES: dict[str, Modality] = {"CT": "BT", "MR": "MR"}
LOCALIZER = "The slice is a localizer; models are trained on axial slices of a scan."
DERIVED = "The slice was computed from others (a map or a reconstruction); models are trained on measured slices."
OTHER_MODALITY = "The file is neither CT nor MR; models are trained on head CT and MR alone."
OBLIQUE = "The slice is oblique; models are trained on axial slices."

# Without the preamble: an element of group 2 or 8 with a known VR, or one of group 8 of a small implicit length.
BARE = re.compile(
    rb"[\x02\x08]\0.\0(?:AE|AS|CS|DA|DS|DT|IS|LO|LT|OB|OW|PN|SH|SQ|ST|TM|UI|UL|UN|US)"
    rb"|\0[\x02\x08]\0.(?:CS|DA|LO|PN|SH|SQ|ST|TM|UI|UL)"
    rb"|\x08\0[\0-\x70]\0[\0-\x7f]\0\0\0",
    re.DOTALL,
)


_refuse_damage = refuse_damage("is a damaged DICOM file or of a rare kind; export the slice again as an 8-bit PNG.")


class Place(NamedTuple):
    """Where a file belongs: `series` is for comparing only and never shown; `position` in mm, bottom to top."""

    series: str
    position: float


def is_dicom(start: bytes) -> bool:
    """Whether a file that starts with these (at least 132) bytes is DICOM, with its preamble or unmistakably so."""
    return start[128:132] == b"DICM" or BARE.match(start) is not None


class DicomFile(JudgedPages):
    """Decode the slices of a DICOM file, of any transfer syntax of still pictures, when they are asked for.

    Each is upright, with square pixels and remarks on what it is. A Siemens mosaic gives its slices. CT of more
    than 8 bits with a rescale slope or intercept, or a value below -500, is in HU; padding and values that wrapped
    are air there. The file's own display is its VOI LUT or window (the first that makes sense); without one 8-bit
    grey is kept, and deeper values are stretched from their 1st to their 99th percentile, padding left out. Colour
    becomes luminance (ITU-R 601). MONOCHROME1 is turned round.

    Parameters
    ----------
    stream : positioned at the start; it must stay open while slices are asked for.
    limits : checked before anything is decoded.

    Attributes
    ----------
    modality : "BT" for CT, "MR" for MR, None for anything else.

    Raises
    ------
    UnreadableImage : without the name of the source, which the caller puts before it, and without any value.
    """

    @_refuse_damage
    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        super().__init__()
        self._elements = read_elements(stream, (*LAYOUT_TAGS, *VIEW_TAGS, *VALUE_TAGS), limits)
        self._ds, self._limits = self._elements.ds, limits
        self._layout = read_layout(self._ds, limits)
        _check_pixels(self._elements, self._layout)
        self._name = str(self._ds.get("Modality", ""))
        self.modality = MODALITIES.get(self._name)
        self._remarks = _describe_kind(self._ds, self._name)
        self._tiles = count_tiles(self._ds, self._layout)
        self._frame: tuple[int, NDArray[Any]] | None = None

    def __len__(self) -> int:
        return self._layout.frames * self._tiles

    @_refuse_damage
    def __getitem__(self, number: int) -> Measured:
        number = range(len(self))[number]
        page = self._judge(number)
        about = describe_frame(self._ds, number // self._tiles, SHOWN_IN)
        view = find_view(read_first(about, "ImageOrientationPatient", 6))
        spacing, ratio = read_sides(about, *SPACINGS), read_sides(about, "PixelAspectRatio")
        page = replace(page, remarks=(*self._remarks, *page.remarks, *_describe_view(view)))
        upright = lay_out(page, view, spacing or ratio, self._limits.pixels)
        return upright if spacing else replace(upright, spacing=None)  # a ratio is no length

    @property
    def _unknown(self) -> dict[int, int]:
        return dict.fromkeys(range(len(self)), _count_pixels(self._layout, self._tiles))

    def _is_known(self, page: Measured) -> bool:
        return page.hounsfield is not None or page.is_picture

    def _decode(self, number: int) -> Measured:
        index = number // self._tiles
        if self._frame is None or self._frame[0] != index:
            self._frame = index, _decode_frame(self._elements, self._layout, index)
        tile = _split(self._frame[1], self._tiles)[number % self._tiles]
        if self._tiles == 1:
            self._frame = None
        return _measure(tile, describe_frame(self._ds, index, SHOWN_IN), self._layout, self._name)


def read_place(stream: BinaryIO) -> Place | None:
    """Which series a DICOM file belongs to and where in it, from its header alone; None where it does not say."""
    with silence():
        try:
            return _locate(read_elements(stream, PLACE_TAGS).ds)
        except Exception:  # a damaged file has no place; decoding it will say so
            return None


# --- pixels -------------------------------------------------------------------------------------------------


def _check_pixels(file: Elements, layout: Layout) -> None:
    """Refuse a file whose pixels are not there, or not as its header says, before any is decoded."""
    from pydicom.encaps import get_frame

    if file.start is None or not file.length:
        raise UnreadableImage("is a DICOM file without a picture; choose one that holds a slice.")
    is_native = file.syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
    if (file.length == UNDEFINED) == is_native:
        raise UnreadableImage("is a DICOM file whose pixels are not stored as it says; export it again.")
    if not is_native:
        file.stream.seek(file.start)
        try:
            get_frame(file.stream, layout.frames - 1, number_of_frames=layout.frames)
        except ValueError:
            raise UnreadableImage("is a DICOM file that lacks some of its frames; export it again.") from None
        return
    if file.syntax == DEFLATED:
        file = file._replace(syntax=EXPLICIT)  # what it unpacks to
    if is_cut(file, layout, file.stream.seek(0, io.SEEK_END)):
        raise UnreadableImage("is a DICOM file that ends before its last pixel; copy or export it again.")


def is_cut(file: Elements, layout: Layout, size: int) -> bool:
    """Tell whether a file of so many bytes ends before its last pixel, where that can be told without decoding."""
    if file.start is None or file.syntax not in (IMPLICIT, EXPLICIT, BIG_ENDIAN):
        return False
    return min(file.length, size - file.start) < math.ceil(layout.frames * _count_bits(layout) / 8)


def _count_bits(layout: Layout) -> int:
    """Bits of a native frame. YBR_FULL_422 has two colours for two pixels (PS3.3 C.7.6.3.1.2)."""
    bits = layout.rows * layout.columns * layout.samples * layout.bits_allocated
    return bits // 3 * 2 if layout.photometric == "YBR_FULL_422" else bits


def _decode_frame(file: Elements, layout: Layout, index: int) -> NDArray[Any]:
    """One frame as stored, (H, W) or (H, W, 3) in red, green, blue."""
    from pydicom.encaps import encapsulate, get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEGBaseline8Bit, RLELossless

    decoder = get_decoder(file.syntax)
    plugin = {JPEGBaseline8Bit: "pillow", RLELossless: "pydicom"}.get(cast(Any, file.syntax), PLUGIN)
    place, frames = 0, 1
    start = cast(int, file.start)
    if decoder.is_encapsulated:
        file.stream.seek(start)
        frame = get_frame(file.stream, index, number_of_frames=layout.frames)
        check_codestream(frame, layout, file.syntax)
        if file.syntax in SYNTAXES:
            return decode_jpeg(frame, layout, file.syntax)
        content = encapsulate([frame], has_bot=False)
    elif _count_bits(layout) % 8 and layout.frames > 1:  # the frames do not begin at whole bytes
        file.stream.seek(start)
        content, place, frames = file.stream.read(file.length), index, layout.frames
    else:
        length = math.ceil(_count_bits(layout) / 8)
        file.stream.seek(start + index * length)
        content = file.stream.read(length + length % 2)
    options: dict[str, Any] = {
        "rows": layout.rows,
        "columns": layout.columns,
        "number_of_frames": frames,
        "samples_per_pixel": layout.samples,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "photometric_interpretation": layout.photometric,
        "planar_configuration": layout.planar,
        "pixel_keyword": "PixelData",
        "pixel_vr": file.vr,
        "allow_excess_frames": False,
    }
    decoded, _ = next(decoder.iter_array(content, indices=[place], decoding_plugin=plugin, **options))
    return decoded


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
        how = find_hounsfield(sample(compact(measured))) or Hounsfield()
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


def _find_padding(frame: NDArray[Any], ds: "Dataset", layout: Layout) -> NDArray[np.bool_]:
    """Which stored values are padding: PixelPaddingValue to PixelPaddingRangeLimit (DICOM PS3.3 C.7.5.1.1.2)."""
    edges = [_read_stored(ds, tag, layout) for tag in (0x00280120, 0x00280121)]
    if edges[0] is None:
        return np.zeros(frame.shape, np.bool_)
    low, high = sorted((edges[0], edges[0] if edges[1] is None else edges[1]))
    return np.asarray((frame >= low) & (frame <= high))


def _read_stored(ds: "Dataset", tag: int, layout: Layout) -> int | None:
    """A stored pixel value out of a header: its sign is that of the pixels, whatever its own element says."""
    number = read_integer(ds, tag)
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
    slope, intercept = (read_number(about, name) for name in ("RescaleSlope", "RescaleIntercept"))
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
        pairs = zip(read_numbers(ds, "WindowCenter"), read_numbers(ds, "WindowWidth"), strict=False)
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
    words = read_words(ds)
    found = [
        (LOCALIZER, bool(words & LOCALIZER_WORDS)),
        (DERIVED, bool(words & DERIVED_WORDS)),
        (OTHER_MODALITY, modality not in ("", "CT", "MR")),
    ]
    return tuple(sentence for sentence, holds in found if holds)


def _describe_view(view: View | None) -> tuple[str, ...]:
    if view is None:
        return ()
    if view.is_oblique:
        return (OBLIQUE,)
    return () if view.plane == "axial" else (f"The slice is {view.plane}; models are trained on axial slices.",)


def count_tiles(ds: "Dataset", layout: Layout) -> int:
    """How many slices a Siemens mosaic holds in its one frame; 1 where it is none.

    The number of images decides. Enhanced files keep the word MOSAIC and hold no mosaic.
    """
    if layout.frames > 1 or 0x52009229 in ds or 0x52009230 in ds:
        return 1
    is_siemens = "SIEMENS MR HEADER" in to_text(ds.get_item(0x00190010))
    number = read_integer(ds, 0x0019100A) if is_siemens else None
    if number is None:
        if "MOSAIC" in read_words(ds):
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


def _count_pixels(layout: Layout, tiles: int) -> int:
    """How many pixels a slice has; those of a mosaic lie in a square grid."""
    return layout.rows * layout.columns // (math.ceil(math.sqrt(tiles)) ** 2)


def _split(frame: NDArray[Any], tiles: int) -> list[NDArray[Any]]:
    """The slices of a mosaic, which lie row by row in a square grid."""
    if tiles == 1:
        return [frame]
    side = math.ceil(math.sqrt(tiles))
    height, width = frame.shape[0] // side, frame.shape[1] // side
    places = [(number // side * height, number % side * width) for number in range(tiles)]
    return [frame[top : top + height, left : left + width] for top, left in places]


def _locate(ds: "Dataset") -> Place | None:
    numbers = read_numbers(ds, "ImagePositionPatient"), read_numbers(ds, "ImageOrientationPatient")
    position, orientation = (np.array(values) for values in numbers)
    series = str(ds.get("SeriesInstanceUID", ""))
    if position.size == 3 and orientation.size == 6:
        along = float(np.cross(orientation[:3], orientation[3:]) @ position)
    else:
        along = next(iter(read_numbers(ds, "InstanceNumber")), math.nan)
    return Place(series, along) if series and math.isfinite(along) else None
