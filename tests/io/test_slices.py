"""Claims of stroke_hub.io.slices: every listed format decodes exactly, and only UnreadableImage can escape."""

import io
import os
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from stroke_hub.errors import UnreadableImage, printable
from stroke_hub.io.slices import Slice, fit_square, load_slices, render_slice
from stroke_hub.io.sources import load_files
from tests.hostile import dicom

RAMP = (np.arange(23 * 31) % 256).astype(np.uint8).reshape(23, 31)
COLOUR = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=-1)
LUMA = np.array([0.299, 0.587, 0.114])


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(content: object, **options: object) -> np.ndarray:
    (only,) = load_slices(content, **options)
    assert only.pixels.dtype == np.uint8
    assert only.pixels.ndim == 2
    return only.pixels


def decode_legacy(content: object) -> np.ndarray:
    """Deep pixels from their own minimum to their maximum."""
    (only,) = load_slices(content)
    return render_slice(only, rendering="legacy").pixels


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *, interlaced: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(pixels: np.ndarray, *, photometric: int = 1, sample_format: int = 1) -> bytes:
    """An uncompressed little-endian TIFF of one page, of any sample type."""
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: 8 * pixels.itemsize, 259: 1, 262: photometric, 277: 1, 278: height}
    tags |= {273: 8 + 2 + 12 * 10 + 4, 279: pixels.nbytes, 339: sample_format}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + pixels.tobytes()


GREY = Image.fromarray(RAMP)
RGB = Image.fromarray(COLOUR)
SAMPLES = {
    "png": encode(GREY, "PNG"),
    "png-palette": encode(RGB.quantize(64), "PNG"),
    "jpeg": encode(RGB, "JPEG"),
    "jpeg-cmyk": encode(RGB.convert("CMYK"), "JPEG"),
    "tiff": encode(GREY, "TIFF"),
    "tiff-lzw": encode(RGB, "TIFF", compression="tiff_lzw"),
    "tiff-pages": encode(GREY, "TIFF", save_all=True, append_images=[GREY, GREY]),
    "webp": encode(RGB, "WEBP", lossless=True),
    "bmp": encode(RGB, "BMP"),
}


# --- what is read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        *(("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "packbits")),
    ],
)
def test_8_bit_grey_is_exact(kind: str, options: dict[str, object]) -> None:
    image = RGB.convert("L").convert("RGB") if kind == "WEBP" else GREY
    expected = np.asarray(RGB.convert("L")) if kind == "WEBP" else RAMP
    np.testing.assert_array_equal(decode(encode(image, kind, **options)), expected)


def test_grey_jpeg_is_what_the_decoder_says() -> None:
    content = encode(GREY, "JPEG", quality=90)
    np.testing.assert_array_equal(decode(content), np.asarray(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_colour_becomes_luminance(kind: str) -> None:
    np.testing.assert_allclose(decode(encode(RGB, kind)), COLOUR @ LUMA, atol=1)


def test_grey_palette_is_exact_and_one_bit_is_black_and_white() -> None:
    palette = Image.fromarray(RAMP).convert("P")
    palette.putpalette([level for level in range(256) for _ in range(3)])
    np.testing.assert_array_equal(decode(encode(palette, "PNG")), RAMP)
    bits = Image.fromarray(RAMP > 100)
    for kind in ("PNG", "BMP", "TIFF"):
        np.testing.assert_array_equal(decode(encode(bits, kind)), np.where(RAMP > 100, 255, 0))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_laid_on_black(mode: str, kind: str) -> None:
    image = GREY.convert(mode)
    image.putalpha(Image.fromarray(RAMP[::-1].copy()))
    expected = RAMP.astype(float) * RAMP[::-1] / 255
    np.testing.assert_allclose(decode(encode(image, kind)), expected, atol=0.51)


def test_transparent_colours_are_black() -> None:
    expected = np.where(RAMP == 200, 0, RAMP)
    np.testing.assert_array_equal(decode(encode(GREY, "PNG", transparency=200)), expected)
    palette = Image.fromarray(RAMP).convert("P")
    palette.putpalette([level for level in range(256) for _ in range(3)])
    np.testing.assert_array_equal(decode(encode(palette, "PNG", transparency=200)), expected)


def test_interlaced_png() -> None:
    rows = b"\0\x11" + b"\0\x22" + b"\0\x33\x44"  # 2 x 2: Adam7 passes 1, 6 and 7
    np.testing.assert_array_equal(decode(png(2, 2, 8, 0, rows, interlaced=1)), [[0x11, 0x22], [0x33, 0x44]])


@pytest.mark.parametrize("low", [0, 100])
def test_16_bit_png_is_rescaled_from_its_own_range(low: int) -> None:
    twelve_bits = np.linspace(low, 4095, 12, dtype=np.uint16).reshape(3, 4)
    pixels = decode_legacy(encode(Image.fromarray(twelve_bits), "PNG"))
    np.testing.assert_array_equal(pixels, np.rint((twelve_bits - low) / (4095 - low) * 255))


def test_16_bit_colour_png_is_rescaled_too() -> None:
    levels = np.array([0, 5, 10, 15], np.uint16) * 256  # 12 of 16 bits
    rows = b"\0" + np.repeat(levels, 3).astype(">u2").tobytes()
    np.testing.assert_array_equal(decode(png(4, 1, 16, 2, rows)), [[0, 85, 170, 255]])


@pytest.mark.parametrize(("dtype", "sample_format"), [("<u2", 1), ("<i2", 2), ("<i4", 2), ("<u4", 1), ("<f4", 3)])
def test_deep_tiff(dtype: str, sample_format: int) -> None:
    low = 0 if "u" in dtype else -1000
    values = np.array([[low, 1000], [2000, 3000]], dtype)
    content = tiff(values, sample_format=sample_format)
    np.testing.assert_array_equal(decode_legacy(content), np.rint((values - low) / (3000.0 - low) * 255))


def test_tiff_where_white_is_zero_is_turned_round() -> None:
    for values in (np.array([[0, 255]], "u1"), np.array([[7, 4000]], "<u2")):
        np.testing.assert_array_equal(decode_legacy(tiff(values, photometric=0)), [[255, 0]])


def test_constant_deep_pixels_are_black_and_only_deep_ones() -> None:
    assert not decode_legacy(tiff(np.full((3, 2), 9, "<u2"))).any()
    assert not decode_legacy(tiff(np.full((3, 2), 9, "<u2"), photometric=0)).any()
    assert (decode(np.full((3, 2), 9, np.uint8)) == 9).all()


def test_not_finite_counts_as_minimum() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 1, 2]], "<f4")
    for source in (values, tiff(values, sample_format=3)):
        np.testing.assert_array_equal(decode_legacy(source), [[0, 0, 0, 0, 255]])
    with pytest.raises(UnreadableImage, match="no finite pixel"):
        load_slices(np.full((2, 2), np.nan))


@pytest.mark.parametrize("adobe", [False, True])
def test_cmyk_and_ycck_jpeg(adobe: bool) -> None:
    smooth = Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (32, 1))).convert("RGB")
    content = encode(smooth.convert("CMYK"), "JPEG", quality=95)
    if adobe:  # YCCK: the same scan, declared as transform 2 with its inks turned to luminance and colour
        inks = np.asarray(smooth.convert("CMYK"))
        ycc = Image.fromarray(inks[..., :3].copy()).convert("YCbCr")
        planes = Image.merge("CMYK", [*ycc.split(), Image.fromarray(255 - inks[..., 3])])
        inverted = Image.frombytes("CMYK", planes.size, (255 - np.asarray(planes)).tobytes())
        content = encode(inverted, "JPEG", quality=95)
        mark = content.index(b"Adobe")
        content = content[: mark + 11] + b"\x02" + content[mark + 12 :]
        assert Image.open(io.BytesIO(content)).info["adobe_transform"] == 2
    np.testing.assert_allclose(decode(content), np.asarray(smooth.convert("L")), atol=6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_once(kind: str, orientation: int) -> None:
    upright = np.zeros((32, 48), np.uint8)
    upright[:16, :16] = 250  # upper left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    np.testing.assert_allclose(decode(content), upright, atol=8)


def test_multi_page_tiff_gives_one_slice_per_page(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 5 + page), 10 * page, np.uint8)) for page in range(4)]
    for options in ({}, {"compression": "tiff_lzw"}):
        path = tmp_path / "scan.tif"
        path.write_bytes(encode(pages[0], "TIFF", save_all=True, append_images=pages[1:], **options))
        slices = load_slices(path, modality="BT")
        assert [page.index for page in slices] == [0, 1, 2, 3]
        assert [page.pixels.shape for page in slices] == [(4, 5), (4, 6), (4, 7), (4, 8)]
        assert [int(page.pixels.max()) for page in slices] == [0, 10, 20, 30]
        assert {(page.modality, page.source) for page in slices} == {("BT", "scan.tif")}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "MPO"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), (level, level, level)) for level in (200, 10, 10)]
    content = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(decode(content), 200, atol=2)


# --- sources ------------------------------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same(tmp_path: Path) -> None:
    content = SAMPLES["png"]
    path = tmp_path / "scan.JPG"  # the content decides, not the suffix
    path.write_bytes(content)
    stream = io.BytesIO(content)
    stream.read()
    with path.open("rb") as file, Image.open(path) as lazy:
        for source in (
            path,
            str(path),
            content,
            bytearray(content),
            stream,
            file,
            GREY,
            lazy,
            RAMP,
            RAMP[..., None],
        ):
            np.testing.assert_array_equal(decode(source), RAMP)
        assert (
            load_slices(file)[0].source == load_slices(lazy)[0].source == load_slices(path)[0].source == "scan.JPG"
        )
        assert not file.closed
    assert not stream.closed


def test_stream_that_cannot_seek() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        with os.fdopen(writer, "wb") as end:
            end.write(SAMPLES["png"])
        np.testing.assert_array_equal(decode(pipe), RAMP)


def test_arrays() -> None:
    np.testing.assert_array_equal(decode(RAMP > 9), np.where(RAMP > 9, 255, 0))
    np.testing.assert_array_equal(decode(np.ones((2, 3), bool)), np.full((2, 3), 255))
    np.testing.assert_allclose(decode(COLOUR), COLOUR @ LUMA, atol=1)
    np.testing.assert_array_equal(decode_legacy(RAMP.astype(">i8") * 2**50), RAMP)
    np.testing.assert_array_equal(decode(RAMP[::-1, ::-1]), RAMP[::-1, ::-1])
    grey = np.repeat(np.linspace(0, 1, 6)[:, None, None], 3, axis=2)
    np.testing.assert_array_equal(decode(grey)[:, 0], [0, 51, 102, 153, 204, 255])
    half = np.concatenate([grey, np.full((6, 1, 1), 0.5)], axis=2)
    np.testing.assert_array_equal(decode(half), decode(grey))
    opaque = np.concatenate([COLOUR, np.full((23, 31, 1), 255, np.uint8)], axis=2)
    np.testing.assert_array_equal(decode(opaque), decode(COLOUR))


def test_result_is_a_copy_that_can_be_written() -> None:
    array = RAMP.copy()
    decode(array)[:] = 0
    decode(SAMPLES["png"])[:] = 0
    fit_square(array[:23, :23], 23)[:] = 0
    np.testing.assert_array_equal(array, RAMP)


def test_modality_is_checked() -> None:
    with pytest.raises(ValueError, match=r"""modality is 'PET'; pass "BT" \(or "CT"\), "MR" or None"""):
        load_slices(RAMP, modality="PET")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="modality is 'PET'"):
        Slice(RAMP, "PET")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "modality"), [("CT", "BT"), ("ct", "BT"), ("Mri", "MR"), ("FLAIR", "MR")])
def test_modalities_have_other_names_and_any_case(name: Any, modality: Any) -> None:
    (ours,), (theirs,) = load_slices(RAMP, modality=name), load_slices(RAMP, modality=modality)
    assert ours.modality == theirs.modality == modality
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    (file,) = load_files(SAMPLES["png"], modality=name)
    assert file.slices[0].modality == modality
    assert Slice(RAMP, name).modality == modality


def test_windows_are_named_in_any_case() -> None:
    content = dicom(RAMP.astype(np.int16) * 20)
    (ours,), (theirs,) = load_slices(content, window="Stroke"), load_slices(content, window="stroke")  # type: ignore[arg-type]
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    assert ours.window == "stroke"


# --- what is refused ----------------------------------------------------------------------------------------


def refusal(source: object, **options: object) -> str:
    with pytest.raises(UnreadableImage) as caught:
        load_slices(source, **options)
    message = str(caught.value)
    assert message.isprintable()
    assert ";" in message  # what is wrong; what to do
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("tenth", range(10))
def test_truncated_files(name: str, tenth: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(SAMPLES[name][: len(SAMPLES[name]) * tenth // 10])
    try:
        slices = load_slices(path)
    except UnreadableImage:
        assert refusal(path).startswith("cut.png: ")
    else:  # all pixels were there, and only what follows them was not: never a part of a picture
        assert len(slices) == 1
        np.testing.assert_array_equal(slices[0].pixels, decode(SAMPLES[name]))
        assert tenth >= 8


@pytest.mark.parametrize("kind", ["GIF", "PPM", "ICO", "TGA", "PCX", "JPEG2000", "EPS", "PDF"])
def test_other_formats_are_never_parsed(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(encode(RGB, kind))
    assert refusal(path).startswith(
        "scan.png: is not a PNG, JPEG, TIFF, WebP or BMP image, nor DICOM or NIfTI; export "
    )


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("BMI and other notes\n")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in (
        "text.png",
        "empty.png",
        "pipe.png",
        "loop.png",
        "absent.png",
        "x" * 300 + ".png",
        "nul\0.png",
    ):
        refusal(tmp_path / name)
    assert "is a folder" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "absent.png")
    assert "is empty" in refusal(tmp_path / "empty.png")
    assert "is empty" in refusal(b"")
    refusal("")


@pytest.mark.parametrize(
    "source",
    [
        None,
        7,
        [[1, 2]],
        object(),
        io.StringIO("text"),
        np.zeros((0, 4), np.uint8),
        np.zeros((4, 4, 0)),
        np.zeros(4, np.uint8),
        np.array(3),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((3, 4, 4, 3), np.uint8),
        np.zeros((4, 4), complex),
        np.array([["a"]]),
        np.array([[None]]),
        np.array([[-1.7e308, 1.7e308]]),
        Image.new("L", (0, 4)),
    ],
    ids=lambda source: type(source).__name__,  # a repr holds an address, and workers must agree
)
def test_other_objects(source: object) -> None:
    assert refusal(source).startswith("image: ")


def test_closed_sources(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(SAMPLES["png"])
    image = Image.open(tmp_path / "scan.png")
    image.close()
    refusal(image)
    stream = io.BytesIO(SAMPLES["png"])
    stream.close()
    refusal(stream)


HUGE = {
    "png": png(20000, 20000, 8, 0, b""),
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 20000, 20000, 1, 24, 0, 0, 0, 0, 0, 0),
    "jpeg": b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, 20000, 20000, 1) + b"\1\x11\0\xff\xda\0\2",
    "webp": b"RIFF"
    + struct.pack("<I", 22)
    + b"WEBPVP8L"
    + struct.pack("<IBI", 10, 0x2F, 16383 | 16383 << 14)
    + bytes(5),
    "tiff": b"II*\0"
    + struct.pack("<IH", 8, 8)
    + b"".join(
        struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in (
            (256, 20000),
            (257, 20000),
            (258, 8),
            (259, 1),
            (262, 1),
            (273, 8),
            (277, 1),
            (279, 9),
        )
    )
    + bytes(4),
}


@pytest.mark.parametrize("name", HUGE)
def test_bombs_are_refused_by_their_header(name: str) -> None:
    message = refusal(HUGE[name])
    assert "more than the 50,000,000 allowed" in message or name == "webp"


def test_limit_on_pixels_is_exact_and_touches_no_global() -> None:
    before = Image.MAX_IMAGE_PIXELS
    for source in (SAMPLES["png"], SAMPLES["bmp"], RAMP, GREY):
        load_slices(source, max_pixels=RAMP.size)
        assert "31 x 23 pixels, more than the 712 allowed" in refusal(source, max_pixels=RAMP.size - 1)
    assert before == Image.MAX_IMAGE_PIXELS


def test_limit_lies_above_pillows_own_when_asked() -> None:
    wide = encode(Image.new("1", (10_000, 9_000)), "PNG")  # Pillow alone would warn, here an error
    assert decode(wide, max_pixels=10**8).shape == (9_000, 10_000)


def test_tiff_limits_hold_for_tiles_and_all_pages() -> None:
    page = Image.new("1", (8, 8))
    pages = encode(page, "TIFF", save_all=True, append_images=[page] * 4)
    assert len(load_slices(pages, max_pixels=80)) == 5
    assert "256 pixels altogether" in refusal(pages, max_pixels=64)
    many = encode(page, "TIFF", save_all=True, append_images=[page] * 512)
    assert "more than 512 pages" in refusal(many)
    tiled = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1, 322: 40_000, 323: 40_000, 324: 8, 325: 64}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tiled.items())
    refusal(b"II*\0" + struct.pack("<IH", 8, len(tiled)) + entries + bytes(99))


def test_names_in_messages_are_harmless(tmp_path: Path) -> None:
    hostile = "<img src=x onerror='alert(1)'>\n\u202e[x](y)`.png"
    (tmp_path / hostile).write_text("no image")
    message = refusal(tmp_path / hostile)
    assert not set("<>'`[]\n\u202e") & set(message)
    assert message.startswith("?img src=x onerror=?alert(1)")
    assert len(refusal(tmp_path / ("x" * 200))) < 200
    assert "/" not in refusal("/some/where/absent.png")
    assert refusal("C:\\scans\\absent.png").startswith("absent.png: ")


@given(st.text())
def test_printable(text: str) -> None:
    shown = printable(text)
    assert len(shown) <= 60
    assert shown.isprintable()
    assert not set("<>&\"'`[]*|\\") & set(shown)
    assert printable(shown) == shown


def test_text_chunk_bomb_is_refused() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "x" * 100_000_000, zip=True)
    refusal(encode(GREY, "PNG", pnginfo=info))


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=12),
)
def test_damaged_bytes_raise_nothing_else(name: str, damage: list[tuple[float, int]]) -> None:
    content = bytearray(SAMPLES[name])
    for place, value in damage:
        content[int(place**2 * len(content))] = value  # headers more often
    try:
        slices = load_slices(bytes(content), max_pixels=1_000_000)
    except UnreadableImage:
        return
    assert all(one.pixels.dtype == np.uint8 and one.pixels.size for one in slices)


def test_threads_do_not_disturb_each_other() -> None:
    wrong: list[object] = []

    def work() -> None:
        for _ in range(20):
            for name in ("png", "tiff", "webp", "bmp"):
                if decode(SAMPLES[name]).shape != RAMP.shape:
                    wrong.append(name)
            try:
                load_slices(HUGE["png"])
                wrong.append("bomb")
            except UnreadableImage:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- fit_square ---------------------------------------------------------------------------------------------

SIDES = st.integers(1, 90)


@settings(deadline=None)
@given(SIDES, SIDES, SIDES)
def test_pad_keeps_the_aspect_and_centres(height: int, width: int, size: int) -> None:
    square = fit_square(np.full((height, width), 255, np.uint8), size)
    assert square.shape == (size, size)
    assert square.dtype == np.uint8
    rows, columns = np.flatnonzero(square.any(axis=1)), np.flatnonzero(square.any(axis=0))
    assert max(len(rows), len(columns)) == size
    scale = size / max(height, width)
    for lines, side in ((rows, height), (columns, width)):
        assert abs(len(lines) - max(1, side * scale)) <= 0.5
        assert abs(lines[0] - (size - 1 - lines[-1])) <= 1
    assert (square[np.ix_(rows, columns)] == 255).all()


@settings(deadline=None)
@given(SIDES, st.sampled_from(["pad", "stretch"]))
def test_equal_sizes_are_the_identity(size: int, resize: str) -> None:
    pixels = np.random.default_rng(size).integers(0, 256, (size, size), dtype=np.uint8)
    np.testing.assert_array_equal(fit_square(pixels, size, resize=resize), pixels)


@pytest.mark.parametrize("shape", [(1, 1), (4000, 200), (1, 5000), (3000, 1)])
@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_extreme_shapes(shape: tuple[int, int], resize: str) -> None:
    square = fit_square(np.full(shape, 77, np.uint8), 224, resize=resize)
    assert square.shape == (224, 224)
    assert set(np.unique(square)) <= {0, 77}
    if resize == "stretch" or shape == (1, 1):
        assert (square == 77).all()


def test_shrinking_is_antialiased() -> None:
    checks = np.indices((400, 400)).sum(axis=0) % 2 * 255
    square = fit_square(checks.astype(np.uint8), 50)
    assert np.abs(square.astype(int) - 127.5).max() < 8


@pytest.mark.parametrize("pixels", [np.zeros((0, 3), np.uint8), np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2))])
def test_fit_square_refuses_other_arrays(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"pass a non-empty \(H, W\) uint8 array"):
        fit_square(pixels, 8)


@pytest.mark.parametrize(("size", "options"), [(0, {}), (8, {"resize": "crop"})])
def test_fit_square_refuses_other_options(size: int, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"size is 0|there is no resize"):
        fit_square(RAMP, size, **options)
