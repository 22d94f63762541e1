"""Any upload becomes slices of 8-bit grey here, and nowhere else: the only decoder of the package.

Pictures are decoded here, DICOM in dicom.py and NIfTI in volumes.py; many files at once in archives.py.
"""

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from stroke_hub.errors import UnreadableImage, printable
from stroke_hub.io.dicom import decode_dicom, is_dicom
from stroke_hub.io.images import decode_array, decode_image, decode_tiff, find_decoder
from stroke_hub.io.limits import MAX_PIXELS
from stroke_hub.io.nifti import HEADER_SIZE, decode_volume, is_volume
from stroke_hub.io.quiet import silence
from stroke_hub.io.windowing import Grey, Modality, Window

__all__ = ["Sight", "Slice", "fit_square", "is_image", "load_slices", "name_source", "read_whole"]

Source: TypeAlias = str | Path | bytes | BinaryIO | Image.Image | NDArray[Any]
Decoded: TypeAlias = tuple[list[Grey], Modality | None, bool]  # pages, modality, whether a CT window was applied
RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True, eq=False)
class Slice:
    """One picture to classify.

    Parameters
    ----------
    pixels : grey levels, (H, W) uint8, 0..255, H and W at least 1.
    modality : "BT" (computed tomography), "MR", or None where nobody said.
    source : the file's name without folders and fit to print.
    index : the page within the source, from 0.
    windowed : whether a CT window was applied, so that another window would show other pixels.
    """

    pixels: Grey
    modality: Modality | None = None
    source: str = ""
    index: int = 0
    windowed: bool = False


class Sight(Protocol):
    """What a model wants a slice to look like; models and their exports have these attributes."""

    image_size: int
    resize: Literal["pad", "stretch"]
    interpolation: Literal["bilinear"]


def load_slices(
    source: Source,
    *,
    modality: Modality | None = None,
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
    modality : passed on to every slice; where it is None, a DICOM header may tell.
    window : how CT in Hounsfield units (DICOM, NIfTI) is shown: "brain" (width 80, centre 40; None too),
        "stroke" (40, 40) or "subdural" (200, 75). Nothing else heeds it: other DICOM and NIfTI files are shown
        by their own window, or from their 1st to their 99th percentile.
    max_pixels : the largest H x W accepted, checked before anything is decoded; the pages of a file
        may hold four times as many together.

    Notes
    -----
    8-bit grey is kept exactly. Colour becomes luminance (ITU-R 601), transparency is laid on black, the EXIF
    rotation is applied. Deeper pixels (16-bit, float, ...) are rescaled from their own minimum..maximum to
    0..255: such files often use 12 of their 16 bits, and dividing by 256 would turn them almost black. Pixels
    that are not finite count as the minimum; a constant picture becomes 0. Of 16-bit colour the
    upper 8 bits are rescaled. DICOM and NIfTI: see `dicom.decode_dicom` and `volumes.decode_volume`. Of a DICOM
    file only pixels, modality and position are ever read; no other element reaches a slice, message or log.

    Raises
    ------
    UnreadableImage : for whatever cannot be decoded; the message names the source and says what to do.
    ValueError : when `modality` or `window` is not one of the above.
    """
    if modality not in (None, *get_args(Modality)):
        raise ValueError(f'modality is {modality!r}; pass "BT", "MR" or None.')
    if window not in (None, *get_args(Window)):
        raise ValueError(f'window is {window!r}; pass "brain", "stroke", "subdural" or None.')
    name = name_source(source)
    try:
        with silence():
            pages, modality, windowed = _decode(source, modality, window, max_pixels)
    except UnreadableImage as refusal:
        raise UnreadableImage(f"{name}: {refusal}") from refusal.__cause__
    except Exception as error:  # on damaged bytes a decoder may raise anything
        reason = printable(str(error) or type(error).__name__, limit=80)
        raise UnreadableImage(
            f"{name}: cannot be decoded, it is damaged or of a rare kind ({reason}); "
            "export the slice again as an 8-bit PNG."
        ) from error
    return [Slice(pixels, modality, name, index, windowed) for index, pixels in enumerate(pages)]


def fit_square(
    pixels: Grey,
    size: int,
    *,
    resize: Literal["pad", "stretch"] = "pad",
    interpolation: Literal["bilinear", "bicubic", "nearest"] = "bilinear",
) -> Grey:
    """Resize (H, W) uint8 pixels to (size, size) uint8, antialiased when shrinking (except "nearest").

    Parameters
    ----------
    pixels : (H, W) uint8, H and W at least 1; returned as an equal copy where H = W = size.
    size : the new side, at least 1.
    resize : "pad" brings the longer side to `size` and centres the rest on black; "stretch" ignores the
        aspect.
    interpolation : how new pixels are computed.

    Raises
    ------
    ValueError : for pixels, a size or an option other than the above.
    """
    if pixels.ndim != 2 or pixels.size == 0 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels are {pixels.dtype} of shape {pixels.shape}; pass a non-empty (H, W) uint8 array.")
    if size < 1:
        raise ValueError(f"size is {size}; pass 1 or more.")
    if resize not in ("pad", "stretch") or interpolation not in RESAMPLING:
        raise ValueError(f"there is no resize {resize!r} with interpolation {interpolation!r}.")
    height, width = pixels.shape
    if resize == "stretch":
        height, width = size, size
    else:
        longest = max(height, width)
        height, width = (max(1, round(side * size / longest)) for side in (height, width))
    if (height, width) == pixels.shape:
        fitted = pixels
    else:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        fitted = np.asarray(image.resize((width, height), RESAMPLING[interpolation]))
    square = np.zeros((size, size), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = fitted
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


def _decode(source: Source, modality: Modality | None, window: Window | None, max_pixels: int) -> Decoded:
    """All pages of any source; refusals lack the source's name, which the caller puts before them."""
    if isinstance(source, np.ndarray):
        return [decode_array(source, max_pixels)], modality, False
    if isinstance(source, Image.Image):
        return [decode_image(source, max_pixels)], modality, False
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_stream(io.BytesIO(source), modality, window, max_pixels)
    if isinstance(source, str | os.PathLike):
        with _open_file(Path(source)) as stream:
            return _from_stream(stream, modality, window, max_pixels)
    if hasattr(source, "read"):
        return _from_stream(io.BytesIO(read_whole(source)), modality, window, max_pixels)
    raise UnreadableImage(f"a {type(source).__name__} is no image; pass a file, its bytes or an array.")


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


def _from_stream(stream: BinaryIO, modality: Modality | None, window: Window | None, max_pixels: int) -> Decoded:
    start = stream.read(HEADER_SIZE)
    stream.seek(0)
    if not start:
        raise UnreadableImage("is empty; export or upload the slice again.")
    if is_dicom(start):  # before pictures: the preamble of DICOM may be the head of a TIFF
        pages, own_modality, windowed = decode_dicom(stream, window=window, max_pixels=max_pixels)
        return pages, modality or own_modality, windowed
    decoder = find_decoder(start)
    if decoder is not None:
        image = decoder(stream)
        if isinstance(image, TiffImageFile):
            return list(decode_tiff(image, max_pixels)), modality, False
        return [decode_image(image, max_pixels)], modality, False
    if is_volume(start):
        pages, windowed = decode_volume(stream, modality=modality, window=window, max_pixels=max_pixels)
        return pages, modality, windowed
    if start[:4] in (b"PK\3\4", b"PK\5\6"):
        raise UnreadableImage("is a zip archive; pass it where archives are read (load_files), or unpack it.")
    raise UnreadableImage(
        "is not a PNG, JPEG, TIFF, WebP or BMP image, nor DICOM or NIfTI; "
        "export the slice in one of these formats and try again."
    )
