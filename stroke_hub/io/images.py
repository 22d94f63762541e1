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
from stroke_hub.io.limits import check_pages, check_size
from stroke_hub.io.rendering import Measured, compact, find_hounsfield, sample
from stroke_hub.io.windowing import Grey, rescale, to_luminance, weigh_colours

__all__ = ["IMAGE_SUFFIXES", "decode_array", "decode_image", "decode_tiff", "find_decoder"]

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


def find_decoder(start: bytes) -> Callable[[BinaryIO], ImageFile.ImageFile] | None:
    """Find the decoder of a picture by its first bytes, or None where they are no picture's."""
    return next((decoder for signature, decoder in DECODERS if signature.match(start)), None)


def decode_tiff(image: TiffImageFile, max_pixels: int) -> list[Measured]:
    """Decode every page of a TIFF."""
    pages: list[Measured] = []
    total = 0
    for page in itertools.count():
        try:
            image.seek(page)
        except EOFError:
            break
        check_size(image.width, image.height, max_pixels)
        total += image.width * image.height
        check_pages(page + 1, total, max_pixels)
        check_size(image.tag_v2.get(TILE_WIDTH, 1), image.tag_v2.get(TILE_LENGTH, 1), max_pixels)
        white_is_zero = image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
        # Pillow turns such pages round when they hold 8 bits or fewer, and only then.
        pages.append(_decode_page(image, max_pixels, is_inverted=white_is_zero and _is_deep(image.mode)))
    return _tell_units(pages)


# --- PIL images and arrays -> measured values ---------------------------------------------------------------


def decode_image(image: Image.Image, max_pixels: int) -> Measured:
    """Decode a PIL image of any mode, upright by its EXIF."""
    return _tell_units([_decode_page(image, max_pixels)])[0]


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
        return _tell_units([_measure_values(array)])[0]
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


def _tell_units(pages: list[Measured]) -> list[Measured]:
    """Whether the deep pages of a file, all together, can be Hounsfield units."""
    deep = [page.values for page in pages if page.values.dtype != np.uint8]
    if not deep:
        return pages
    how = find_hounsfield(sample(deep))
    return [page if page.values.dtype == np.uint8 else replace(page, hounsfield=how) for page in pages]


def _is_deep(mode: str) -> bool:
    """Whether the pixels of this PIL mode are integers of more than 8 bits, or floats."""
    return mode.startswith("I") or mode == "F"
