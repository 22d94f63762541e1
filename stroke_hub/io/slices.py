"""Any upload becomes slices here, and nowhere else: the only decoder of the package.

Pictures are decoded in images.py, DICOM in dicom.py and NIfTI in nifti.py; rendering.py makes their measured values
8-bit grey, by one rule for all. Many files at once are read in sources.py.
"""

import io
import os
import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from stroke_hub.errors import UnreadableImage, printable
from stroke_hub.io.dicom import DicomFile, is_dicom
from stroke_hub.io.framing import Box
from stroke_hub.io.geometry import Plane
from stroke_hub.io.images import TiffPages, decode_array, decode_image, find_decoder
from stroke_hub.io.limits import MAX_PIXELS, SCAN_LIMITS, Limits, check_pages, limit_file
from stroke_hub.io.nifti import HEADER_SIZE, Volume, is_volume
from stroke_hub.io.pages import OnePage, Pages
from stroke_hub.io.quiet import silence
from stroke_hub.io.rendering import Display, Measured, Rendering, choose_display, render
from stroke_hub.io.windowing import Grey, Modality, Window, find_modality

__all__ = [
    "OpenedSlices",
    "Slice",
    "check_modality",
    "fill_square",
    "find_display",
    "find_place",
    "fit_square",
    "is_image",
    "load_slices",
    "name_source",
    "open_slices",
    "read_whole",
    "render_slice",
]

Source: TypeAlias = str | Path | bytes | BinaryIO | Image.Image | NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Slice:
    """One picture to classify.

    Parameters
    ----------
    pixels : grey levels, (H, W) uint8, 0..255, H and W at least 1.
    modality : "BT" (computed tomography), "MR", or None where nobody said.
    source : the file's name without folders and fit to print.
    index : the page within the source, from 0.
    remarks : what the reader of an answer must know of the picture, one plain sentence each.
    measured : what the file holds, before grey levels were chosen; None where only the pixels are known.
    window : the CT window that was asked for; None where none was.

    Raises
    ------
    ValueError : when `modality` is neither of these nor another name of one, as "CT".
    """

    pixels: Grey
    modality: Modality | None = None
    source: str = ""
    index: int = 0
    remarks: tuple[str, ...] = ()
    measured: Measured | None = None
    window: Window | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "modality", check_modality(self.modality))

    def __repr__(self) -> str:
        height, width = self.pixels.shape
        words = f"{width} x {height}, modality={self.modality!r}, source={self.source!r}, index={self.index}"
        return f"Slice({words}, remarks={len(self.remarks)})"

    @property
    def plane(self) -> Plane | None:
        """The plane of the slice in the patient; None where the file does not say."""
        return self.measured.plane if self.measured else None

    @property
    def spacing(self) -> float | None:
        """The side of a pixel in mm; None where the file does not say. All pixels are squares."""
        return self.measured.spacing if self.measured else None


def load_slices(
    source: Source,
    *,
    modality: Modality | Literal["CT"] | None = None,
    window: Window | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[Slice]:
    """Decode a file, its bytes, a picture or an array into slices.

    A multi-page TIFF or multi-frame DICOM file gives one per page, a NIfTI volume one per axial plane.

    Parameters
    ----------
    source : a path, the bytes of a file, a binary stream (rewound, read to its end, left open), a PIL image
        (its current frame) or an array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), boolean or real.
        PNG, JPEG, TIFF, WebP, BMP, DICOM and NIfTI (.nii, .nii.gz) files are read; their content decides,
        not their suffix. Of an animation the first frame is taken.
    modality : "BT" or "MR", or another name of these as "CT", in any case; where it is None, a DICOM header may
        tell.
    window : how CT in Hounsfield units (HU) is shown, of any kind of file: "brain" (width 80, centre 40; None
        too), "stroke" (40, 40) or "subdural" (200, 75). Where one is asked for and cannot be applied, a remark of
        the slice says so.
    max_pixels : the largest H x W accepted, checked before anything is decoded; the pages of a file
        may hold four times as many together.

    Notes
    -----
    The grey levels follow from the measured values, the modality and the window alone (see `rendering`): HU in the
    window, MR from its 1st to its 99th percentile inside the head, a picture of 8 bits without a modality as it
    is. `render_slice` shows the same slice otherwise without reading it again.

    Pixels that are not squares are resampled to squares; DICOM and NIfTI are shown with anterior up and the
    patient's left on the right. Colour becomes luminance (ITU-R 601), transparency is laid on black, the EXIF
    rotation is applied. Pixels that are not finite count as the minimum. Of a DICOM file only what places and
    shows the pixels is ever read; no other element reaches a slice, message or log.

    Raises
    ------
    UnreadableImage : for whatever cannot be decoded; the message names the source and says what to do.
    ValueError : when `modality` or `window` is not one of the above.
    """
    limits, name = limit_file(max_pixels), name_source(source)
    slices, total = [], 0
    if hasattr(source, "read"):
        with _naming(name):
            source = read_whole(source)
    with open_slices(source, name=name, modality=modality, window=window, limits=limits) as opened:
        for one in opened:
            slices.append(one)
            total += one.pixels.size
            with _naming(name):
                check_pages(len(slices), total, limits)
    return slices


class OpenedSlices:
    """Give the slices of one file, each decoded when it is asked for, while the file is open.

    Parameters
    ----------
    pages : what the file holds.
    name : what messages call it.
    closing : what closes the file, if somebody must.
    """

    def __init__(
        self,
        pages: Pages,
        name: str,
        *,
        modality: Modality | None,
        window: Window | None,
        closing: Callable[[], object] | None = None,
    ) -> None:
        self.pages, self.name = pages, name
        self._modality, self._window = modality or pages.modality, window
        self._close = weakref.finalize(self, closing) if closing else None

    def __len__(self) -> int:
        return len(self.pages)

    def __getitem__(self, number: int) -> Slice:
        number = range(len(self))[number]
        with _naming(self.name):
            page = self.pages[number]
        pixels, remarks = render(page, modality=self._modality, window=self._window)
        return Slice(pixels, self._modality, self.name, number, (*page.remarks, *remarks), page, self._window)

    def __iter__(self) -> Iterator[Slice]:
        return (self[number] for number in range(len(self)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._close:
            self._close()


def open_slices(
    source: Source,
    *,
    name: str,
    modality: Modality | Literal["CT"] | None = None,
    window: Window | None = None,
    limits: Limits = SCAN_LIMITS,
    volume: int | None = None,
    scratch: BinaryIO | None = None,
) -> OpenedSlices:
    """Open a file so that its slices are decoded one by one, equal to those of `load_slices`.

    Parameters
    ----------
    source, modality, window : as `load_slices` takes them; a stream that can go back, which must stay open.
    name : what messages call it.
    limits : of the file.
    volume, scratch : of a NIfTI volume, as `Volume` takes them.

    Raises
    ------
    UnreadableImage, ValueError : as `load_slices` does, and when a slice is asked for.
    """
    known = check_modality(modality)
    window = cast(Window, window.lower()) if isinstance(window, str) else window
    if window not in (None, *get_args(Window)):
        raise ValueError(f'window is {window!r}; pass "brain", "stroke", "subdural" or None.')
    with ExitStack() as stack:
        with _naming(name):
            pages = _open(source, stack, known, limits, volume, scratch)
        return OpenedSlices(pages, name, modality=known, window=window, closing=stack.pop_all().close)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Put the name of a source before what is said of it, and let libraries say nothing."""
    try:
        with silence():
            yield
    except UnreadableImage as refusal:
        raise UnreadableImage(f"{name}: {refusal}") from refusal.__cause__
    except Exception as error:  # on damaged bytes a decoder may raise anything
        reason = printable(str(error) or type(error).__name__, limit=80)
        raise UnreadableImage(
            f"{name}: cannot be decoded, it is damaged or of a rare kind ({reason}); "
            "export the slice again as an 8-bit PNG."
        ) from error


def check_modality(modality: str | None) -> Modality | None:
    """Check the name of a modality, "BT" of "CT" too; None stays None.

    Raises
    ------
    ValueError : there is no such modality.
    """
    known = None if modality is None else find_modality(str(modality))
    if modality is not None and known is None:
        raise ValueError(f'modality is {modality!r}; pass "BT" (or "CT"), "MR" or None.')
    return known


def render_slice(
    one: Slice,
    *,
    rendering: Rendering = "canonical",
    modality: Modality | None = None,
    window: Window | None = None,
    default: Window = "brain",
) -> Slice:
    """Show a slice with another rendering, modality or window, without reading its file again.

    Parameters
    ----------
    one : a slice of `load_slices`, or one of pixels alone, which count as a picture.
    rendering : "canonical", or "legacy" for models of config format 1.
    modality : used where the slice has none.
    window : as in `load_slices`.
    default : the window of CT in HU where none is asked for.
    """
    measured = _get_measured(one)
    modality = one.modality or modality
    pixels, remarks = render(measured, modality=modality, window=window, default=default, rendering=rendering)
    remarks = tuple(dict.fromkeys((*measured.remarks, *remarks)))
    return Slice(pixels, modality, one.source, one.index, remarks, measured, window)


def find_display(one: Slice, *, modality: Modality | None = None, default: Window = "brain") -> Display:
    """Find the measured values of a slice and the range in which the rendering "canonical" shows them.

    Parameters
    ----------
    modality : used where the slice has none. default : the CT window.
    """
    return choose_display(_get_measured(one), modality=one.modality or modality, default=default)


def _get_measured(one: Slice) -> Measured:
    return one.measured or Measured(one.pixels, one.pixels, is_picture=True, remarks=one.remarks)


def fit_square(
    pixels: Grey,
    size: int,
    *,
    resize: Literal["pad", "stretch"] = "pad",
) -> Grey:
    """Resize (H, W) uint8 pixels to (size, size) uint8, bilinear, antialiased when shrinking.

    Parameters
    ----------
    pixels : (H, W) uint8, H and W at least 1; returned as an equal copy where H = W = size.
    size : the new side, at least 1.
    resize : "pad" brings the longer side to `size` and centres the rest on black; "stretch" ignores the
        aspect.

    Raises
    ------
    ValueError : for pixels, a size or an option other than the above.
    """
    if pixels.ndim != 2 or pixels.size == 0 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels are {pixels.dtype} of shape {pixels.shape}; pass a non-empty (H, W) uint8 array.")
    if size < 1:
        raise ValueError(f"size is {size}; pass 1 or more.")
    if resize not in ("pad", "stretch"):
        raise ValueError(f"there is no resize {resize!r}; pass pad or stretch.")
    return fill_square(pixels, size, find_place(pixels.shape[0], pixels.shape[1], size, resize=resize))


def find_place(height: int, width: int, size: int, *, resize: Literal["pad", "stretch"]) -> Box:
    """Find where in a square a picture of this height and width lies when `fit_square` resizes it."""
    if resize == "stretch":
        return Box(0, 0, size, size)
    longest = max(height, width)
    height, width = (max(1, round(side * size / longest)) for side in (height, width))
    return Box((size - height) // 2, (size - width) // 2, height, width)


def fill_square(pixels: Grey, size: int, place: Box) -> Grey:
    """Resize pixels (H, W) to their place in a square (size, size), black around it."""
    fitted = pixels
    if pixels.shape != (place.height, place.width):
        image = Image.fromarray(np.ascontiguousarray(pixels))
        fitted = np.asarray(image.resize((place.width, place.height), Image.Resampling.BILINEAR))
    square = np.zeros((size, size), np.uint8)
    square[place.top : place.top + place.height, place.left : place.left + place.width] = fitted
    return square


def name_source(source: object) -> str:
    """What messages call the source: a file name where there is one."""
    if isinstance(source, str | os.PathLike):
        path: object = os.fspath(source)
    elif isinstance(source, Image.Image):
        path = getattr(source, "filename", None)
    else:
        path = None if isinstance(source, np.ndarray) else getattr(source, "name", None)
    name = re.split(r"[\\/]", path.rstrip("\\/"))[-1] if isinstance(path, str) else ""
    return printable(name) or "image"


def _open(
    source: Source,
    stack: ExitStack,
    modality: Modality | None,
    limits: Limits,
    volume: int | None,
    scratch: BinaryIO | None,
) -> Pages:
    """The pages of any source; refusals lack the source's name, which the caller puts before them."""
    if isinstance(source, np.ndarray):
        return OnePage(decode_array(source, limits.pixels))
    if isinstance(source, Image.Image):
        return OnePage(decode_image(source, limits.pixels))
    if isinstance(source, bytes | bytearray | memoryview):
        stream: BinaryIO = io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        stream = stack.enter_context(_open_file(Path(source)))
    elif hasattr(source, "read"):
        stream = source
    else:
        raise UnreadableImage(f"a {type(source).__name__} is no image; pass a file, its bytes or an array.")
    start = stream.read(HEADER_SIZE)
    stream.seek(0)
    if not start:
        raise UnreadableImage("is empty; export or upload the slice again.")
    if is_dicom(start):  # before pictures: the preamble of DICOM may be the head of a TIFF
        return DicomFile(stream, limits)
    if find_decoder(start) is TiffImageFile:
        return TiffPages(stream, limits)
    if decoder := find_decoder(start):
        return OnePage(decode_image(decoder(stream), limits.pixels))
    if is_volume(start):
        return Volume(stream, limits, modality=modality, number=volume, scratch=scratch)
    if start[:4] in (b"PK\3\4", b"PK\5\6"):
        raise UnreadableImage("is a zip archive; pass it where archives are read (load_files), or unpack it.")
    raise UnreadableImage(
        "is not a PNG, JPEG, TIFF, WebP or BMP image, nor DICOM or NIfTI; "
        "export the slice in one of these formats and try again."
    )


# --- files: bytes -> PIL images -----------------------------------------------------------------------------


def _open_file(path: Path) -> BinaryIO:
    try:
        if path.is_dir():
            raise UnreadableImage("is a folder; pass one image file.")
        if not path.exists():
            raise UnreadableImage("does not exist; check the path.")
        if not path.is_file():  # reading a pipe or a device may never end
            raise UnreadableImage("is not a regular file; pass one image file.")
        return path.open("rb")
    except OSError as error:
        raise UnreadableImage(f"cannot be opened ({error.strerror}); check its path and rights.") from error


def read_whole(stream: Any) -> bytes:
    """All bytes of a stream, from its start where it can go back; a text stream is refused."""
    seekable = getattr(stream, "seekable", None)
    if seekable is not None and seekable():
        stream.seek(0)
    content = stream.read()
    if not isinstance(content, bytes):
        raise UnreadableImage("is not a binary stream; open the file with mode 'rb'.")
    return content


def is_image(start: bytes) -> bool:
    """Whether a file that starts with these (at least 352) bytes is of a kind that `load_slices` reads."""
    return find_decoder(start) is not None or is_dicom(start) or is_volume(start)
