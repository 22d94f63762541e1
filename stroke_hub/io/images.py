"""PNG, JPEG, TIFF, WebP, BMP, PIL images and arrays -> measured values."""

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.limits import Limits, check_pages, check_size
from stroke_hub.io.pages import JudgedPages
from stroke_hub.io.rendering import Measured, compact, find_hounsfield, sample
from stroke_hub.io.windowing import Grey, rescale, to_luminance, weigh_colours

__all__ = ["IMAGE_SUFFIXES", "TiffPages", "decode_array", "decode_image", "find_decoder", "measure_picture"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
# The decoders are called by name rather than through Image.open: nothing but these five formats is ever
# parsed, whatever plugins are registered, and our own limit on the size stands in for Pillow's warning,
# which could only be silenced for all threads at once.
DECODERS: tuple[tuple[re.Pattern[bytes], Callable[[BinaryIO], ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImageFile),
    (re.compile(rb"\xff\xd8\xff"), JpegImageFile),  # MPO too: its first picture
    (re.compile(rb"II[*+]\x00|MM\x00[*+]"), TiffImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImageFile),
    (re.compile(rb"BM"), BmpImageFile),
)
TILE_WIDTH, TILE_LENGTH, PHOTOMETRIC, WHITE_IS_ZERO = 322, 323, 262, 0  # TIFF tags, and a value of the last
ORIENTATION = 0x0112  # an EXIF tag; 5 to 8 turn rows into columns


def find_decoder(start: bytes) -> Callable[[BinaryIO], ImageFile.ImageFile] | None:
    """Find the decoder of a picture by its first bytes, or None where they are no picture's."""
    return next((decoder for signature, decoder in DECODERS if signature.match(start)), None)


class TiffPages(JudgedPages):
    """Decode the pages of a TIFF when they are asked for.

    Parameters
    ----------
    stream : it must stay open while pages are asked for.
    limits : checked of all pages before any is decoded.
    """

    modality = None  # no picture says it

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        super().__init__()
        self._stream, self._limits = stream, limits
        self._image = TiffImageFile(stream)
        self._is_used = False  # whether the page at which the image stands was decoded
        self._sizes: dict[int, int] = {}  # pixels of the pages that are no grey levels yet
        total = 0
        for page in itertools.count():
            try:
                self._image.seek(page)
            except EOFError:
                break
            width, height, tags = self._image.width, self._image.height, self._image.tag_v2
            check_size(width, height, limits.pixels)
            total += width * height
            check_pages(page + 1, total, limits)
            check_size(tags.get(TILE_WIDTH, 1), tags.get(TILE_LENGTH, 1), limits.pixels)
            if _is_deep(self._image.mode):
                self._sizes[page] = width * height
        self._count = page

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Measured:
        return self._judge(range(self._count)[number])

    @property
    def _unknown(self) -> dict[int, int]:
        return self._sizes

    def _is_known(self, page: Measured) -> bool:
        return page.values.dtype == np.uint8

    def _decode(self, number: int) -> Measured:
        if self._is_used and self._image.tell() == number:  # Pillow forgets how deep a page was that it decoded
            self._stream.seek(0)
            self._image = TiffImageFile(self._stream)
        self._image.seek(number)
        self._is_used = True
        white_is_zero = self._image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
        # Pillow turns such pages round when they hold 8 bits or fewer, and only then.
        is_inverted = white_is_zero and _is_deep(self._image.mode)
        return _decode_page(self._image, self._limits.pixels, is_inverted=is_inverted)


def measure_picture(stream: BinaryIO) -> tuple[int, int, int]:
    """Read how many rows, columns and pages a picture's file has, without decoding it; upright by its EXIF.

    Raises
    ------
    Exception : of any kind, on a damaged file or one that is no picture.
    """
    decoder = find_decoder(stream.read(16))
    stream.seek(0)
    if decoder is None:
        raise ValueError
    image: Any = decoder(stream)
    pages = image.n_frames if decoder is TiffImageFile else 1
    is_turned = image.getexif().get(ORIENTATION, 1) >= 5
    return *(image.size if is_turned else image.size[::-1]), pages


# --- PIL images and arrays -> measured values ---------------------------------------------------------------


def decode_image(image: Image.Image, max_pixels: int) -> Measured:
    """Decode a PIL image of any mode, upright by its EXIF."""
    return _tell_units(_decode_page(image, max_pixels))


def decode_array(array: NDArray[Any], max_pixels: int) -> Measured:
    """Take an array (H, W[, 1, 3 or 4]) of integers or real numbers for a slice."""
    shape = array.shape
    if len(shape) not in (2, 3) or array.size == 0 or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        raise UnreadableImage(f"an array of shape {shape} is no slice; pass (H, W), (H, W, 3) or (H, W, 4).")
    if array.dtype.kind not in "buif":
        raise UnreadableImage(f"an array of {array.dtype} is no slice; pass integers or real numbers.")
    check_size(shape[1], shape[0], max_pixels)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)  # as a 1-bit file
    if len(shape) == 3 and shape[2] == 1:
        array = array[..., 0]
    if array.dtype == np.uint8:
        return _measure_grey(np.array(to_luminance(Image.fromarray(np.ascontiguousarray(array)))))
    if array.ndim == 2:
        return _tell_units(_measure_values(array))
    grey = weigh_colours(array)
    if shape[2] == 4:
        opaque = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else 1.0
        grey *= np.clip(array[..., 3] / opaque, 0.0, 1.0)
    return _measure_grey(rescale(grey))


def _decode_page(image: Image.Image, max_pixels: int, *, is_inverted: bool = False) -> Measured:
    check_size(image.width, image.height, max_pixels)
    # Known before decoding only: Pillow keeps the upper 8 bits of 16-bit colour.
    shortened = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    image.load()
    upright = ImageOps.exif_transpose(image)
    if _is_deep(upright.mode):
        return _measure_values(np.asarray(upright), is_inverted=is_inverted)
    grey = np.array(to_luminance(upright))
    return _measure_grey(rescale(grey) if shortened else grey)


def _measure_grey(grey: Grey) -> Measured:
    return Measured(grey, grey, is_picture=True)


def _measure_values(values: NDArray[Any], *, is_inverted: bool = False) -> Measured:
    """Deep values, from their minimum to their maximum where they are shown as they ask; units are not told yet."""
    own = rescale(values)
    kept = compact(values)
    if is_inverted:
        own = 255 - own if np.ptp(own) else own
        kept = compact(-kept.astype(np.float64))
    low, high = float(kept.min()), float(kept.max())
    whole = not (kept % 1).any() if kept.dtype.kind == "f" else True
    is_picture = low >= 0 and (high <= (255 if whole else 1) or (high <= 65535 and not (kept % 257).any()))
    return Measured(kept, own, is_picture=is_picture)


def _tell_units(page: Measured) -> Measured:
    """Whether deep values can be Hounsfield units."""
    if page.values.dtype == np.uint8:
        return page
    return replace(page, hounsfield=find_hounsfield(sample(page.values)))


def _is_deep(mode: str) -> bool:
    """Whether the pixels of this PIL mode are integers of more than 8 bits, or floats."""
    return mode.startswith("I") or mode == "F"
