"""Claims of stroke_hub.io.dicom: pixels as pydicom's own functions show them, and nothing of the patient."""

import io
import logging
import struct
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from stroke_hub import UnreadableImage, load_slices
from stroke_hub.io.dicom import is_dicom, read_place
from stroke_hub.io.quiet import silence
from stroke_hub.io.slices import render_slice
from stroke_hub.io.windowing import WINDOWS, apply_window
from tests.hostile import DEFLATED, HU, dicom, element, list_hostile, make_valid

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
ROOT = Path(__file__).parents[2]
SENTINEL = "SENTINELVALUE"


def show(content: object, **options: object) -> np.ndarray:
    (only,) = load_slices(content, **options)
    assert only.pixels.dtype == np.uint8
    return only.pixels


def show_legacy(content: object) -> np.ndarray:
    """As the file itself asks to be shown."""
    (only,) = load_slices(content)
    return render_slice(only, rendering="legacy").pixels


def read(content: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(content))


def save(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return buffer.getvalue()


def show_by_pydicom(ds: Dataset, values: np.ndarray, centre: float, width: float) -> np.ndarray:
    """pydicom's apply_windowing of values in HU, from the range that it maps to, to 0..255."""
    ds.WindowCenter, ds.WindowWidth = centre, width
    shown = apply_windowing(values, ds)
    ends = apply_windowing(np.array([-1e9, 1e9]), ds)
    return np.rint((shown - ends[0]) / (ends[1] - ends[0]) * 255)


# --- values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, *WINDOWS])
@pytest.mark.parametrize("name", ["CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm"])
def test_ct_in_hu_is_shown_in_the_window(name: str, window: str | None) -> None:
    with silence():
        ds = pydicom.dcmread(SHIPPED / name)
        values = apply_modality_lut(ds.pixel_array, ds)
        centre, width = WINDOWS[window or "brain"]
        expected = np.clip((values - centre) / width + 0.5, 0, 1) * 255
        legacy = show_by_pydicom(ds, values, centre, width)
    shown = show(SHIPPED / name, window=window)
    np.testing.assert_allclose(shown, expected, atol=0.5 + 1e-6)
    again = render_slice(load_slices(SHIPPED / name)[0], rendering="legacy", window=window)
    np.testing.assert_array_equal(again.pixels, legacy)
    assert load_slices(SHIPPED / name)[0].modality == "BT"
    assert load_slices(SHIPPED / name, modality="MR")[0].modality == "MR"


def test_windows_are_the_named_ones() -> None:
    values = np.array([[-1.0, 0.0, 20.0, 40.0, 60.0, 80.0, 175.0]])
    for window, (low, high) in {"brain": (0, 80), "stroke": (20, 60), "subdural": (-25, 175)}.items():
        shown = apply_window(values, *WINDOWS[window])
        np.testing.assert_allclose(shown, np.clip((values - low) / (high - low), 0, 1) * 255, atol=4)
    with pytest.raises(ValueError, match='pass "brain", "stroke", "subdural" or None'):
        load_slices(dicom(HU), window="bone")


@settings(deadline=None, max_examples=60)
@given(
    st.floats(-2000, 2000),
    st.floats(1.01, 4000),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    st.integers(0, 1),
)
def test_windowing_is_pydicoms(centre: float, width: float, function: str, signed: int) -> None:
    values = np.random.default_rng(0).uniform(-3000, 3000, (9, 11))
    ds = Dataset()
    ds.PhotometricInterpretation, ds.BitsStored, ds.PixelRepresentation = "MONOCHROME2", 16, signed
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = centre, width, function
    low, high = (-32768, 32767) if signed else (0, 65535)
    with np.errstate(over="ignore"):
        expected = (apply_windowing(values, ds) - low) / (high - low) * 255
    np.testing.assert_allclose(apply_window(values, centre, width, function=function), expected, atol=0.5 + 1e-6)


OTHERS = (
    "MR_small MR_small_RLE MR_small_implicit MR_small_bigendian MR_small_jp2klossless "
    "MR_small_padded MR_small_expb examples_overlay image_dfl liver_1frame JPEG2000"
)


@pytest.mark.parametrize("name", [f"{name}.dcm" for name in OTHERS.split()])
def test_own_window_or_percentiles(name: str) -> None:
    with silence():
        ds = pydicom.dcmread(SHIPPED / name)
        values = apply_modality_lut(ds.pixel_array, ds).astype(float)
        if "WindowWidth" in ds:
            centre, width = (np.atleast_1d(ds[key].value)[0] for key in ("WindowCenter", "WindowWidth"))
            expected = show_by_pydicom(ds, values, float(centre), float(width))
        elif ds.BitsStored <= 8:
            expected = values * 255 / (2**ds.BitsStored - 1)
        else:
            low, high = np.percentile(values, (1, 99))
            expected = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        expected = 255 - expected
    np.testing.assert_allclose(show_legacy(SHIPPED / name), expected, atol=0.5)
    assert np.ptp(expected) > 150


# of those left out, pydicom needs a further package; test_jpeg.py has them
LEFT_OUT = {"SC_rgb_jls_lossy_line", "SC_rgb_jls_lossy_sample", "SC_rgb_jpeg_gdcm"}
COLOURED = [path for path in sorted(SHIPPED.glob("SC_rgb*.dcm")) if path.stem not in LEFT_OUT]


@pytest.mark.parametrize("path", COLOURED, ids=lambda path: path.stem)
def test_colour_becomes_luminance(path: Path) -> None:
    with silence():
        ds = pydicom.dcmread(path)
        frames = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns, 3).astype(float)
        is_jpeg = ds.file_meta.TransferSyntaxUID == JPEGBaseline8Bit  # decoders may differ in the last bit
    slices = load_slices(path)
    assert [one.index for one in slices] == list(range(len(frames)))
    for one, frame in zip(slices, frames, strict=True):
        expected = frame @ [0.299, 0.587, 0.114] * 255 / (2**ds.BitsStored - 1)
        np.testing.assert_allclose(one.pixels, expected, atol=2 if is_jpeg else 0.51)


def test_palette_becomes_luminance() -> None:
    ds = pydicom.dcmread(SHIPPED / "examples_palette.dcm")
    colours = pydicom.pixels.apply_color_lut(ds.pixel_array, ds)
    expected = colours @ [0.299, 0.587, 0.114] / (2.0 ** (8 * colours.itemsize) - 1) * 255
    np.testing.assert_allclose(show(SHIPPED / "examples_palette.dcm"), expected, atol=0.51)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DEFLATED, RLELossless, JPEG2000Lossless]
)
@pytest.mark.parametrize("signed", [False, True])
def test_every_syntax_shows_the_same(syntax: str, signed: bool) -> None:
    values = np.random.default_rng(0).integers(-1100 if signed else 0, 2000, (3, 64, 72))
    stored = values.reshape(192, 72).astype(np.int16 if signed else np.uint16)
    tags = {(0x28, 8): ("IS", b"3"), (8, 0x16): ("UI", b"1.2"), (8, 0x18): ("UI", b"1.2.3")}
    plain = dicom(stored, tags, shape=(64, 72))
    ds = read(plain)
    if syntax == RLELossless:
        ds.compress(syntax, generate_instance_uid=False)
    if syntax == JPEG2000Lossless:  # pydicom writes it by pylibjpeg, which the package goes without
        frames = [
            imagecodecs.jpeg2k_encode(frame, reversible=True, codecformat="j2k")
            for frame in stored.reshape(3, 64, 72)
        ]
        ds.PixelData = pydicom.encaps.encapsulate(frames)
    ds.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = values.astype(">i2" if signed else ">u2").tobytes()
    implicit = syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(
        buffer, ds, implicit_vr=implicit, little_endian=syntax != ExplicitVRBigEndian, force_encoding=True
    )
    expected, found = load_slices(plain), load_slices(buffer.getvalue())
    assert len(found) == 3
    for one, other in zip(expected, found, strict=True):
        assert np.ptp(one.pixels) == 255
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert other.modality == "BT"


def test_files_without_preamble_or_syntax() -> None:
    expected = show(dicom(HU))
    for content in (dicom(HU, preamble=False), dicom(HU, syntax=None), dicom(HU)[132:]):
        np.testing.assert_array_equal(show(content), expected)
    ds = read(dicom(HU))
    bare = io.BytesIO()
    pydicom.dcmwrite(bare, Dataset(ds), implicit_vr=True, little_endian=True)
    assert bare.getvalue()[:4] == b"\x08\0\x60\0"
    np.testing.assert_array_equal(show(bare.getvalue()), expected)
    for other in (b"\x08\0\x60\0 some notes", b"BM" + bytes(200), b"plain text" * 20, bytes(400)):
        assert not is_dicom(other)


def test_preamble_that_is_the_head_of_a_tiff() -> None:
    content = dicom(HU)
    np.testing.assert_array_equal(show(b"II*\0" + content[4:]), show(content))


def test_whatever_pydicom_shows_is_shown() -> None:
    shown, syntaxes = 0, set()
    for path in sorted(SHIPPED.glob("*.dcm")):
        with silence():
            try:
                ds = pydicom.dcmread(path)
                frames = ds.pixel_array.reshape(-1, ds.Rows, ds.Columns, ds.SamplesPerPixel)
            except Exception:  # noqa: S112
                continue
        assert len(load_slices(path)) == len(frames), path.name
        shown += 1
        syntaxes.add(ds.file_meta.TransferSyntaxUID)
    assert shown > 50
    assert len(syntaxes) >= 8  # native, deflated, RLE, JPEG, JPEG 2000; of the others test_jpeg.py knows


def test_monochrome1_is_turned_round() -> None:
    plain = dicom(HU, modality="MR")
    turned = dicom(HU, {(0x28, 4): ("CS", b"MONOCHROME1")}, modality="MR")
    np.testing.assert_array_equal(show_legacy(turned), 255 - show_legacy(plain))
    negative = dicom(HU.max() - HU, {(0x28, 4): ("CS", b"MONOCHROME1")}, modality="MR")
    np.testing.assert_array_equal(show(negative), show(plain))


def test_unused_bits_are_ignored_and_signed_values_kept() -> None:
    values = np.arange(-288, 288, dtype=np.int16).reshape(24, 24)
    tags = {(0x28, 0x1052): None, (0x28, 0x1053): None}
    expected = show(dicom(values, tags, modality="MR"))
    tags |= {(0x28, 0x101): ("US", struct.pack("<H", 12)), (0x28, 0x102): ("US", struct.pack("<H", 11))}
    np.testing.assert_array_equal(show(dicom(values & 0x0FFF, tags, modality="MR")), expected)
    assert expected[0, 0] == 0
    assert expected[-1, -1] == 255


def test_eight_bits_are_kept() -> None:
    grey = np.arange(24 * 24, dtype=np.uint8).reshape(24, 24)
    for modality in ("CT", "MR", "OT"):
        tags = {(0x28, 0x1052): None, (0x28, 0x1053): None}
        content = dicom(grey, tags, modality=modality)
        np.testing.assert_array_equal(show_legacy(content), grey)
        if modality != "MR":  # which is scaled inside the head, whatever its depth
            np.testing.assert_array_equal(show(content, window="stroke"), grey)


def test_voi_lut_is_pydicoms() -> None:
    ds = read(dicom(HU.astype(np.uint16), {(0x28, 0x1052): None, (0x28, 0x1053): None}, modality="MR"))
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [1000, 100, 12])
    item.add_new("LUTData", "US", [min(4095, n * n // 250) for n in range(1000)])
    ds.VOILUTSequence = Sequence([item])
    expected = apply_voi(ds.pixel_array, ds) / 4095 * 255
    np.testing.assert_allclose(show_legacy(save(ds)), expected, atol=0.51)
    assert np.ptp(expected) > 200


def test_enhanced_files_rescale_each_frame() -> None:
    frames = np.stack([np.full((8, 8), 1064, np.uint16)] * 3)
    ds = read(
        dicom(
            frames.reshape(24, 8),
            {(0x28, 8): ("IS", b"3"), (0x28, 0x1052): None, (0x28, 0x1053): None},
            shape=(8, 8),
        )
    )
    items = []
    for intercept in (-1024, -1004, -1064):
        item, values = Dataset(), Dataset()
        values.RescaleSlope, values.RescaleIntercept = "1", str(intercept)
        item.PixelValueTransformationSequence = Sequence([values])
        items.append(item)
    ds.PerFrameFunctionalGroupsSequence = Sequence(items)
    found = [int(one.pixels[0, 0]) for one in load_slices(save(ds))]
    assert found == [128, 191, 0]


@pytest.mark.parametrize("centre", [b"nan", b"", b"text", b"1e999", b"40\\nan"])
@pytest.mark.parametrize("width", [b"0", b"nan", b"-5", b"", b"0.5"])
def test_nonsense_windows_fall_back_to_percentiles(centre: bytes, width: bytes) -> None:
    plain = dicom(HU, modality="MR")
    windowed = dicom(HU, {(0x28, 0x1050): ("DS", centre), (0x28, 0x1051): ("DS", width)}, modality="MR")
    np.testing.assert_array_equal(show_legacy(windowed), show_legacy(plain))


# --- nothing of the patient ---------------------------------------------------------------------------------


def fill_with_sentinels() -> bytes:
    """A file where every text element that the dictionary knows in these groups holds the sentinel."""
    from pydicom.datadict import DicomDictionary

    texts = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
    tags: dict[tuple[int, int], tuple[str, bytes] | None] = {}
    for tag, (vr, *_) in DicomDictionary.items():
        group, number = tag >> 16, tag & 0xFFFF
        if group in (0x08, 0x10, 0x12, 0x18, 0x20, 0x32, 0x38, 0x40) and vr in texts and (group, number) != (8, 5):
            tags[group, number] = (vr if vr not in ("UC", "UR") else "LO", SENTINEL.encode())
    tags[0x08, 0x60] = ("CS", b"CT")
    tags |= {
        (9, 0x10): ("LO", SENTINEL.encode()),
        (9, 0x1001): ("UN", SENTINEL.encode()),
        (8, 5): ("CS", SENTINEL.encode()),
    }
    tags[0x28, 0x1055] = ("LO", SENTINEL.encode())
    tags[0x28, 0x4000] = ("LT", SENTINEL.encode())
    return dicom(HU, tags)


def test_no_field_of_the_patient_leaves_the_reader(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    caplog.set_level(logging.DEBUG)
    content = fill_with_sentinels()
    assert content.count(SENTINEL.encode()) > 1000
    said = [repr(load_slices(content)), repr(read_place(io.BytesIO(content)))]
    damages = [content[: len(content) * part // 40] for part in range(1, 40)]
    for tag in ((0x28, 0x10), (0x28, 4), (0x28, 8), (0x28, 0x100), (0x28, 0x1053), (8, 0x60), (2, 0x10)):
        for vr in ("LO", "DS", "PN", "IS"):
            start = content.index(struct.pack("<HH", *tag)) if struct.pack("<HH", *tag) in content else 132
            damages.append(content[:start] + element(tag, vr, SENTINEL.encode()) + content[start:])
    for damaged in damages:
        try:
            said.append(repr(load_slices(damaged)))
        except UnreadableImage as refusal:
            error: BaseException | None = refusal
            while error is not None:
                said.append(repr(error))
                error = error.__cause__ or error.__context__
    said += [record.getMessage() for record in caplog.records]
    said += [str(one.message) for one in recwarn.list]
    said += list(capfd.readouterr())
    assert len(said) > 60
    assert [text for text in said if SENTINEL in text] == []
    assert not caplog.records
    assert not recwarn.list


def test_nothing_reaches_the_console(tmp_path: Path) -> None:
    for name in ("badVR.dcm", "MR_small_padded.dcm", "JPEG-lossy.dcm", "SC_rgb_jpeg.dcm", "MR_truncated.dcm"):
        (tmp_path / name).write_bytes((SHIPPED / name).read_bytes())
    (tmp_path / "sentinels.dcm").write_bytes(fill_with_sentinels())
    code = (
        "import logging, sys; logging.basicConfig(level=logging.INFO); from stroke_hub import load_files\n"
        "for file in load_files(sys.argv[1]): print(file.name)"
    )
    command = [sys.executable, "-W", "always", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 6
    assert done.stderr == ""


# --- limits -------------------------------------------------------------------------------------------------


def test_limits_are_exact() -> None:
    content = dicom(HU)
    assert load_slices(content, max_pixels=HU.size)
    with pytest.raises(UnreadableImage, match="24 x 24 pixels, more than the 575 allowed"):
        load_slices(content, max_pixels=HU.size - 1)
    five = dicom(np.vstack([HU] * 5), {(0x28, 8): ("IS", b"5")}, shape=HU.shape)
    assert len(load_slices(five, max_pixels=HU.size * 2)) == 5
    with pytest.raises(UnreadableImage, match="pixels altogether"):
        load_slices(five, max_pixels=HU.size)
    many = dicom(np.zeros((513, 1), np.int16), {(0x28, 8): ("IS", b"513")}, shape=(1, 1))
    with pytest.raises(UnreadableImage, match="more than 512 pages"):
        load_slices(many)


# --- places -------------------------------------------------------------------------------------------------


def test_place_is_the_position_along_the_normal() -> None:
    def place(*position: float, turned: bool = False) -> float:
        tags = {
            (0x20, 0x0E): ("UI", b"1.2.3"),
            (0x20, 0x32): ("DS", "\\".join(map(str, position)).encode()),
            (0x20, 0x37): ("DS", b"0\\1\\0\\0\\0\\-1" if turned else b"1\\0\\0\\0\\1\\0"),
        }
        found = read_place(io.BytesIO(dicom(HU, tags)))
        assert found is not None
        assert found.series == "1.2.3"
        return found.position

    assert place(5, 6, -30.5) == -30.5
    assert place(7, 6, 0, turned=True) == -7
    assert read_place(io.BytesIO(dicom(HU))) is None
    numbered = read_place(io.BytesIO(dicom(HU, {(0x20, 0x0E): ("UI", b"1.2"), (0x20, 0x13): ("IS", b"7")})))
    assert numbered == ("1.2", 7.0)
    for content in (b"", b"\2\0", make_valid()["scan.png"], bytes(128) + b"DICM\2\0"):
        read_place(io.BytesIO(content))


def test_the_picture_is_a_copy_that_can_be_written() -> None:
    pixels = show(dicom(HU))
    pixels[:] = 0
    assert isinstance(Image.fromarray(pixels), Image.Image)


COLD = """
import sys, threading, time
import numpy, PIL.Image
from stroke_hub import load_slices
wrong = []
def read(file, delay):
    time.sleep(delay)
    try:
        load_slices(file)
    except Exception as error:
        wrong.append(f"{file}: {error}")
volume, single, delay = sys.argv[1:]
starts = [(volume, 0), (single, float(delay))]
threads = [threading.Thread(target=read, args=start) for start in starts]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit("; ".join(wrong) or 0)
"""


def test_the_first_files_of_a_process_may_come_in_two_threads(tmp_path: Path) -> None:
    first = {}
    for suffix in (".nii", ".dcm"):
        one = next(one for one in list_hostile() if one.name.endswith(suffix) and one.slices)
        first[suffix] = tmp_path / one.name
        first[suffix].write_bytes(one.content)
    for delay in (0.04, 0.07, 0.1, 0.13):  # nibabel imports pydicom after some 0.1 s
        arguments = [sys.executable, "-c", COLD, *map(str, first.values()), str(delay)]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
