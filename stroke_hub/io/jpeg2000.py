"""A plugin of pydicom that decodes JPEG 2000 by OpenJPEG alone; pydicom's own asks for pylibjpeg, too."""

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

__all__ = ["PLUGIN", "decode_frame", "is_available", "register"]

PLUGIN = "stroke_hub"
# JPEG 2000 lossless and lossy, then high-throughput JPEG 2000
SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (90, 91, 201, 202, 203))


def register() -> None:
    """Make the plugin known to pydicom, once; pydicom is not safe for threads here, so the caller holds a lock."""
    from pydicom.pixels.decoders.base import get_decoder

    for syntax in SYNTAXES:
        decoder = get_decoder(syntax)
        if PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, "decode_frame"))


def is_available(uid: str) -> bool:
    """Tell pydicom which transfer syntaxes the plugin decodes."""
    return uid in SYNTAXES


def decode_frame(source: bytes, runner: "DecodeRunner") -> bytearray:
    """Decode a frame for pydicom, and tell its runner how the values lie."""
    from openjpeg.utils import decode_pixel_data

    frame = cast(bytearray, decode_pixel_data(source, version=2, **runner.options))
    if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):  # OpenJPEG gives these as RGB
        runner.set_option("photometric_interpretation", "RGB")
    precision = runner.get_option("j2k_precision", runner.bits_stored)  # decides how many bytes a value takes
    runner.set_option("bits_allocated", 8 if precision <= 8 else 16 if precision <= 16 else 32)
    return frame
