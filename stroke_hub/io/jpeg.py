"""Lossless and 12-bit JPEG and JPEG-LS in DICOM -> stored values, by libjpeg-turbo and CharLS of imagecodecs."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.limits import Announced

__all__ = ["SYNTAXES", "decode_jpeg"]

JPEG_LS = frozenset({"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"})
# extended (12 bits), lossless, lossless of the first predictor, and both of JPEG-LS
SYNTAXES = JPEG_LS | {f"1.2.840.10008.1.2.4.{number}" for number in (51, 57, 70)}


class Stored(Announced, Protocol):
    """What a DICOM header says of its values."""

    @property
    def signed(self) -> bool: ...
    @property
    def photometric(self) -> str: ...


def decode_jpeg(frame: bytes, layout: Stored, syntax: str) -> NDArray[Any]:
    """Decode a frame of one of `SYNTAXES`.

    Parameters
    ----------
    frame : its fragments joined; its size was compared with the header already.
    layout : what the header says.
    syntax : the transfer syntax UID.

    Returns
    -------
    Integers as stored, (H, W), or (H, W, 3) in red, green, blue; of as many bits as the header allocates.

    Raises
    ------
    UnreadableImage : imagecodecs is not installed, or it cannot decode the frame.
    """
    try:
        import imagecodecs
    except ImportError:
        raise UnreadableImage(
            "is compressed as lossless or 12-bit JPEG; run `pip install 'stroke-hub[dicom]'` to read it."
        ) from None
    if syntax in JPEG_LS:
        values = imagecodecs.jpegls_decode(frame)
    else:  # of three samples as they are: the header says what they mean, not a marker
        space = "RGB" if layout.samples == 3 else None
        values = imagecodecs.jpeg8_decode(frame, colorspace=space, outcolorspace=space)
    expected = (layout.rows, layout.columns, layout.samples)[: 2 if layout.samples == 1 else 3]
    if values.shape != expected or values.dtype not in (np.uint8, np.uint16):
        raise UnreadableImage("is a DICOM file whose compressed pixels contradict its header; export it again.")
    if layout.samples == 3 and layout.photometric.startswith("YBR_FULL"):
        from pydicom.pixels.processing import convert_color_space

        values = convert_color_space(values, layout.photometric, "RGB")
    if layout.signed:
        values = values.view(f"i{values.itemsize}")
    return np.asarray(values.astype(f"{'i' if layout.signed else 'u'}{max(8, layout.bits_allocated) // 8}"))
