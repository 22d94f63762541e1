"""Headers of DICOM files -> where each frame lies, what tells it from others there, and which series it belongs to.

No pixel is decoded. What identifies a patient is compared, as a number that is different in every process, and
never kept as text, shown or passed on.
"""

import io
import math
import re
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from stroke_hub.errors import UnreadableImage, printable
from stroke_hub.io.dicom import DERIVED_WORDS, LOCALIZER_WORDS, SPACINGS, TILE_TAGS, count_tiles, is_cut
from stroke_hub.io.elements import (
    LAYOUT_TAGS,
    Elements,
    describe_frame,
    read_elements,
    read_first,
    read_integer,
    read_layout,
    read_number,
    read_sides,
    read_words,
    to_text,
)
from stroke_hub.io.limits import SCAN_LIMITS
from stroke_hub.io.quiet import silence
from stroke_hub.io.sources import SourceFile

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Frame", "Header", "read_file_elements", "read_header"]

TAGS = (
    *LAYOUT_TAGS,
    *TILE_TAGS,
    *(
        0x00080018,
        0x0008103E,
        0x00089007,
        0x00100020,
        0x00180010,
    ),  # instance, series, frame type, patient, contrast
    *(0x00180050, 0x00180081, 0x00180088, 0x00181164, 0x00181210, 0x00182010),  # thickness, echo, spacing, kernel
    *(0x00189075, 0x00189087, 0x0019100C, 0x00430010, 0x00431039),  # diffusion
    *(0x0020000D, 0x0020000E, 0x00200011, 0x00200012, 0x00200013, 0x00200032, 0x00200037, 0x00200100),  # place
    *(0x00280030, 0x52009229, 0x52009230),  # spacing, the groups of enhanced files
)
GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "FrameContentSequence",
    "MRDiffusionSequence",
    "MREchoSequence",
    "MRImageFrameTypeSequence",
    "CTImageFrameTypeSequence",
    "CTReconstructionSequence",
)
STARTS = (1 << 16, 1 << 20, 1 << 24)  # bytes of a packed file that hold its header, tried in turn
NO_CONTRAST = frozenset({"", "NONE", "NO", "N", "0", "WITHOUT"})


class Frame(NamedTuple):
    """One picture of a DICOM file.

    file, page : its file's number in what was given, and its own in the file, from 0. uid : of the instance.
    rows, columns, spacing : of the pixels as stored; height and width in mm, None where nobody says.
    directions, corner : ImageOrientationPatient and ImagePositionPatient; empty where nobody says.
    is_tile : whether it is one of the slices of a mosaic.
    """

    file: int
    page: int
    uid: str
    rows: int
    columns: int
    spacing: tuple[float, float] | None
    directions: tuple[float, ...]
    corner: tuple[float, ...]
    is_tile: bool
    words: frozenset[str]
    instance: int | None
    acquisition: int | None
    time: int | None
    echo: float | None
    b_value: float | None
    direction: str


class Header(NamedTuple):
    """What a DICOM file says of its series. `patient` and `study` are for comparing alone."""

    patient: int
    study: int
    series: str
    number: int | None
    description: str
    modality: str
    words: frozenset[str]
    has_contrast: bool
    kernel: str
    thickness: float | None
    frames: tuple[Frame, ...]

    @property
    def is_localizer(self) -> bool:
        """Whether it is a plan of where the scan was taken."""
        return bool(self.words & LOCALIZER_WORDS)

    @property
    def is_derived(self) -> bool:
        """Whether it was computed from others."""
        return bool(self.words & DERIVED_WORDS)


def read_header(file: SourceFile, number: int) -> Header | None:
    """Read what a DICOM file says of its series and its frames.

    Parameters
    ----------
    number : of the file in what was given.

    Returns
    -------
    None where the file holds no picture.

    Raises
    ------
    UnreadableImage : the file cannot be a slice; without its name.
    """
    with silence():
        try:
            elements = read_file_elements(file, TAGS)
            if elements.ds.get("Rows") is None or elements.start is None or not elements.length:
                return None
            return _describe(elements, file, number)
        except UnreadableImage:
            raise
        except Exception:  # noqa: S110  # refused below, so that no text of the file hangs on it as a context
            pass
    raise UnreadableImage("is a damaged DICOM file; copy or export it again.")


def read_file_elements(file: SourceFile, tags: tuple[int, ...]) -> Elements:
    """Read the named elements of a file that may lie in an archive, of which no more is unpacked than needed."""
    with file.open() as stream:
        if file.path is not None and _is_plain(stream):
            return read_elements(stream, tags)
    for size in (*STARTS, file.size):  # going back in what is packed would unpack it again
        with file.open() as stream:
            elements = read_elements(io.BytesIO(stream.read(min(size, file.size))), tags)
        if elements.start is not None or size >= file.size:
            break
    return elements


def _is_plain(stream: BinaryIO) -> bool:
    return isinstance(stream, io.BufferedReader)


def _describe(elements: Elements, file: SourceFile, number: int) -> Header:
    ds = elements.ds
    layout = read_layout(ds, SCAN_LIMITS)
    if is_cut(elements, layout, file.size):
        raise UnreadableImage("is a DICOM file that ends before its last pixel; copy or export it again.")
    tiles = count_tiles(ds, layout)
    side = math.ceil(math.sqrt(tiles))
    frames: list[Frame] = []
    for index in range(layout.frames):
        about = describe_frame(ds, index, GROUPS)
        spacing = read_sides(about, *SPACINGS)
        frame = Frame(
            file=number,
            page=index,
            uid=printable(_read_text(ds, "SOPInstanceUID"), limit=64),
            rows=layout.rows // side,
            columns=layout.columns // side,
            spacing=spacing,
            directions=_read_finite(about, "ImageOrientationPatient", 6),
            corner=()
            if tiles > 1
            else _read_finite(about if layout.frames == 1 else about[:-1], "ImagePositionPatient", 3),
            is_tile=tiles > 1,
            words=frozenset(next((w for one in about if (w := _read_kind(one))), set())),
            instance=_to_integer(read_number(about[-1:], "InstanceNumber")),
            acquisition=_to_integer(_read_any(about, "FrameAcquisitionNumber", "AcquisitionNumber")),
            time=_to_integer(_read_any(about, "TemporalPositionIndex", "TemporalPositionIdentifier")),
            echo=_read_any(about, "EffectiveEchoTime", "EchoTime"),
            b_value=_read_b_value(about),
            direction=next((d for one in about if (d := _read_text(one, "DiffusionDirectionality"))), ""),
        )
        frames += [frame._replace(page=index * tiles + tile) for tile in range(tiles)]
    about = describe_frame(ds, 0, GROUPS)
    return Header(
        patient=hash(_read_text(ds, "PatientID")),
        study=hash(_read_text(ds, "StudyInstanceUID")),
        series=_read_text(ds, "SeriesInstanceUID"),
        number=_to_integer(read_number([ds], "SeriesNumber")),
        description=printable(_read_text(ds, "SeriesDescription")),
        modality=_read_text(ds, "Modality").upper(),
        words=frozenset(read_words(ds)),
        has_contrast=_read_text(ds, "ContrastBolusAgent").upper() not in NO_CONTRAST,
        kernel=next((k for one in about if (k := _read_text(one, "ConvolutionKernel"))), ""),
        thickness=read_number(about, "SliceThickness"),
        frames=tuple(frames),
    )


def _read_kind(ds: "Dataset") -> set[str]:
    return read_words(ds, "FrameType") | read_words(ds)


def _read_text(ds: "Dataset", name: str) -> str:
    """The text of an element, of several values the first."""
    try:
        value = ds.get(name)
    except Exception:  # pydicom raises on text that the element cannot hold
        return ""
    if isinstance(value, str) or value is None:
        return (value or "").strip()
    try:
        return str(next(iter(value), "")).strip()
    except TypeError:
        return str(value).strip()


def _read_finite(about: list["Dataset"], name: str, count: int) -> tuple[float, ...]:
    numbers = read_first(about, name, count)
    return tuple(numbers) if all(map(math.isfinite, numbers)) else ()


def _read_any(about: list["Dataset"], *names: str) -> float | None:
    return next((found for name in names if (found := read_number(about, name)) is not None), None)


def _to_integer(number: float | None) -> int | None:
    return None if number is None else round(number)


def _read_b_value(about: list["Dataset"]) -> float | None:
    """The b-value in s/mm², by the standard's element or those of Siemens and GE."""
    standard = read_number(about, "DiffusionBValue")
    if standard is not None:
        return standard
    ds = about[-1]
    if "SIEMENS MR HEADER" in to_text(ds.get_item(0x00190010)):
        number = read_integer(ds, 0x0019100C)
        return None if number is None else float(number)
    if "GEMS_PARM_01" in to_text(ds.get_item(0x00430010)):
        first = re.match(r"\D*(\d+)", to_text(ds.get_item(0x00431039)))  # some versions add 10^9
        return None if first is None else float(int(first[1]) % 1_000_000)
    return None
