"""Claims of stroke_hub.io.jpeg: lossless frames come back to the bit, others to one level of another decoder."""

import builtins
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from stroke_hub import UnreadableImage, load_slices
from stroke_hub.io.jpeg import decode_jpeg
from tests.hostile import HU, compress, dicom, draw_smooth, encapsulate, short

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
LOSSLESS, FIRST, LS, NEAR = (f"1.2.840.10008.1.2.4.{number}" for number in (57, 70, 80, 81))


class Layout(NamedTuple):
    rows: int
    columns: int
    samples: int = 1
    bits_allocated: int = 16
    signed: bool = False
    photometric: str = "MONOCHROME2"


@pytest.mark.parametrize("bits", range(2, 17))
def test_lossless_jpeg_of_every_depth_and_predictor_is_exact(bits: int) -> None:
    values = draw_smooth(bits)
    layout = Layout(*values.shape, bits_allocated=8 * values.itemsize)
    for predictor in range(1, 8):
        frame = imagecodecs.jpeg8_encode(values, lossless=True, predictor=predictor, bitspersample=bits)
        for syntax in (LOSSLESS, FIRST):
            np.testing.assert_array_equal(decode_jpeg(frame, layout, syntax), values, strict=True)


@pytest.mark.parametrize("bits", range(2, 17))
def test_jpeg_ls_is_exact_or_as_near_as_it_says(bits: int) -> None:
    values = draw_smooth(bits)
    layout = Layout(*values.shape, bits_allocated=8 * values.itemsize)
    np.testing.assert_array_equal(decode_jpeg(imagecodecs.jpegls_encode(values), layout, LS), values, strict=True)
    near = decode_jpeg(imagecodecs.jpegls_encode(values, 2), layout, NEAR)
    assert np.abs(near.astype(int) - values).max() == 2


def test_signs_and_sizes_are_the_headers() -> None:
    values = np.array([[-3, 7], [-32768, 32767]], np.int16)
    frame = compress(values.view(np.uint16), FIRST)
    np.testing.assert_array_equal(decode_jpeg(frame, Layout(2, 2, signed=True), FIRST), values, strict=True)
    assert decode_jpeg(compress(np.zeros((2, 2), np.uint8), FIRST), Layout(2, 2), FIRST).dtype == np.uint16
    with pytest.raises(UnreadableImage, match="contradict its header"):
        decode_jpeg(frame, Layout(2, 1), FIRST)


@pytest.mark.parametrize("syntax", [LOSSLESS, FIRST, LS])
def test_a_compressed_file_gives_the_slice_of_the_plain_one(syntax: str) -> None:
    frame = compress(HU.view(np.uint16), syntax)
    tags = {(0x28, 0x103): short(1), (0x28, 0x100): short(16), (0x28, 0x101): short(16), (0x28, 0x102): short(15)}
    (packed,) = load_slices(dicom(encapsulate(frame), tags, syntax=syntax, shape=HU.shape))
    (plain,) = load_slices(dicom(HU))
    np.testing.assert_array_equal(packed.pixels, plain.pixels)


# SHA-256 of the frames of pydicom's files as libjpeg (Thomas Richter's, by pylibjpeg-libjpeg 2.5.0) decodes them
BY_LIBJPEG = {
    "JPEGLSNearLossless_08.dcm": "9eb46aa86c342094",
    "JPEGLSNearLossless_16.dcm": "f929318278115ce9",
    "MR_small_jpeg_ls_lossless.dcm": "88617aaa46138fb1",
    "SC_rgb_jls_lossy_line.dcm": "bd5344c0a46bc6c0",
    "SC_rgb_jls_lossy_sample.dcm": "bd5344c0a46bc6c0",
    "SC_rgb_jpeg_gdcm.dcm": "169e619557b12114",
}
# every 128th row and 64th column of JPGExtended.dcm, 12 bits, by the same
SOME_BY_LIBJPEG = [[1, 1, 1, 1], [1, 1, 20, 1], [1, 23, 68, 40], [1, 22, 56, 62],
                   [1, 14, 14, 23], [1, 2, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]  # fmt: skip


def decode_shipped(name: str) -> np.ndarray:
    ds = pydicom.dcmread(SHIPPED / name)
    layout = Layout(ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.BitsAllocated, bool(ds.PixelRepresentation))
    return decode_jpeg(next(generate_frames(ds.PixelData)), layout, str(ds.file_meta.TransferSyntaxUID))


@pytest.mark.parametrize("name", BY_LIBJPEG)
def test_files_of_others_are_as_libjpeg_decodes_them(name: str) -> None:
    assert hashlib.sha256(decode_shipped(name).tobytes()).hexdigest()[:16] == BY_LIBJPEG[name]


def test_12_bit_jpeg_is_within_a_level_of_libjpeg() -> None:
    found = decode_shipped("JPGExtended.dcm")
    assert np.abs(found[::128, ::64].astype(int) - SOME_BY_LIBJPEG).max() <= 1
    assert abs(int(found.sum()) - 3770427) < 0.014 * found.size  # so many differ, by a level


def test_without_the_extra_the_sentence_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    load = builtins.__import__

    def refuse(name: str, *others: Any, **options: Any) -> Any:
        if name == "imagecodecs":
            raise ModuleNotFoundError(name=name)
        return load(name, *others, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UnreadableImage, match=r"MR_small_jpeg_ls_lossless.*pip install 'stroke-hub\[dicom\]'"):
        load_slices(SHIPPED / "MR_small_jpeg_ls_lossless.dcm")
