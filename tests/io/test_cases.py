"""Files of kinds that people met (tests/io/cases), each shown as its README says is right."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from stroke_hub import Slice, UnreadableImage, load_slices
from stroke_hub.io.slices import render_slice
from tests.io.synth import dcm, head

CASES = Path(__file__).parent / "cases"


def only(source: object, **options: object) -> Slice:
    (one,) = load_slices(source, **options)
    return one


def save(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def measure_head(pixels: np.ndarray) -> tuple[int, int]:
    """Height and width of what is bright."""
    rows, columns = (np.flatnonzero((pixels > 60).any(axis=axis)) for axis in (1, 0))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


# --- 01: mosaics --------------------------------------------------------------------------------------------


def read_mosaic() -> Dataset:
    return pydicom.dcmread(CASES / "01-mosaic" / "mosaic.dcm")


def test_a_mosaic_is_split_by_the_number_of_its_images() -> None:
    ds = read_mosaic()
    slices = load_slices(CASES / "01-mosaic" / "mosaic.dcm")
    assert [one.index for one in slices] == list(range(25))
    for number, one in enumerate(slices):
        top, left = number // 5 * 64, number % 5 * 64
        tile = ds.pixel_array[top : top + 64, left : left + 64]
        np.testing.assert_array_equal(one.measured.values, tile)
        assert one.remarks == ()
    ds.add_new(0x0019100A, "US", 23)  # the last two places of the grid are empty
    assert len(load_slices(save(ds))) == 23
    ds.ImageType = ["ORIGINAL", "PRIMARY"]  # without the word, as after anonymising
    assert len(load_slices(save(ds))) == 23
    for vr, value in (("UN", b"\x19\0"), ("IS", "25"), ("UN", b"25")):
        ds.add_new(0x0019100A, vr, value)
        assert len(load_slices(save(ds))) == 25


def test_a_mosaic_of_an_unknown_number_is_refused_in_a_sentence() -> None:
    ds = read_mosaic()
    del ds[0x0019100A]
    with pytest.raises(UnreadableImage, match="mosaic that does not say how many slices it holds; convert"):
        load_slices(save(ds))


def test_a_mosaic_that_does_not_fit_is_refused_in_a_sentence() -> None:
    ds = read_mosaic()
    ds.add_new(0x0019100A, "US", 48)  # a grid of 7 x 7 in 320 x 320 pixels
    with pytest.raises(UnreadableImage, match="slices do not fit into its picture; convert"):
        load_slices(save(ds))


def test_the_word_mosaic_alone_is_no_proof() -> None:
    ds = read_mosaic()
    ds.add_new(0x0019100A, "US", 1)
    assert only(save(ds)).pixels.shape == (320, 320)
    del ds[0x0019100A]
    ds.NumberOfFrames, ds.Rows = 5, 64  # as enhanced files keep it
    assert [one.pixels.shape for one in load_slices(save(ds))] == [(64, 320)] * 5
    ds = read_mosaic()
    ds.add_new(0x00190010, "LO", "SOMEBODY ELSE")  # whose element means something else
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    assert only(save(ds)).pixels.shape == (320, 320)


# --- 02: pixels that are no squares -------------------------------------------------------------------------


def test_heads_keep_their_proportions() -> None:
    folder = CASES / "02-anisotropic-nifti"
    isotropic = load_slices(folder / "axial_iso.nii.gz", modality="MR")
    thick = load_slices(folder / "sagittal_5x.nii.gz", modality="MR")
    assert len(thick) == len(isotropic) == 24
    for one, other in zip(thick, isotropic, strict=True):
        np.testing.assert_allclose(measure_head(one.pixels), measure_head(other.pixels), atol=6)
        assert one.spacing == other.spacing == 1.5
    assert [remark for remark in thick[9].remarks if "coarse in one direction" in remark]
    assert isotropic[9].remarks == ()
    found = only(folder / "spacing_3x1.5.dcm")
    assert found.pixels.shape == (128, 128)
    upright = only(CASES / "04-iop-flip" / "supine" / "06.dcm")
    np.testing.assert_allclose(measure_head(found.pixels), measure_head(upright.pixels), atol=3)


# --- 03: MR that is negative in places ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fieldmap", "undershoot"])
def test_negative_mr_is_mr(name: str) -> None:
    path = CASES / "03-negative-mr" / f"{name}.nii.gz"
    said = load_slices(path, modality="MR")
    for one, other in zip(load_slices(path), said, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert (one.pixels == 255).mean() < 0.2
        assert np.ptp(one.pixels) == 255
        assert len(np.unique(one.pixels)) > 2
    assert said[0].remarks == ()
    as_ct = load_slices(path, modality="BT")
    assert (as_ct[4].pixels != said[4].pixels).any()


# --- 04: the same head, stored otherwise --------------------------------------------------------------------


@pytest.mark.parametrize("number", ["00", "06"])
def test_rows_that_run_up_are_the_same_picture(number: str) -> None:
    supine, flipped = (only(CASES / "04-iop-flip" / name / f"{number}.dcm") for name in ("supine", "rows_up"))
    np.testing.assert_array_equal(flipped.pixels, supine.pixels)
    assert supine.remarks == flipped.remarks == ()
    lesion = np.argwhere((supine.pixels > 230) & (supine.pixels < 250))
    assert lesion[:, 1].mean() > 75  # the patient's left on the right
    stored = pydicom.dcmread(CASES / "04-iop-flip" / "rows_up" / f"{number}.dcm").pixel_array
    np.testing.assert_array_equal(supine.measured.values, stored[::-1].astype(int) - 1024)


# --- 05 and 06: values that no scanner measured -------------------------------------------------------------


@pytest.mark.parametrize("window", [None, "stroke", "subdural"])
def test_wrapped_and_padded_ct_is_right(window: str | None) -> None:
    right, wrapped, padded = (
        only(CASES / "05-ct-wrap" / f"{name}.dcm", window=window).pixels
        for name in ("right", "wrap12", "padding63536")
    )
    np.testing.assert_array_equal(wrapped, right)
    corner = np.hypot(*(np.indices(right.shape) - 63.5)) > 63
    np.testing.assert_array_equal(padded[~corner], right[~corner])
    assert not padded[corner].any()


@pytest.mark.parametrize("element", [True, False], ids=["said", "not said"])
def test_16_bit_wrap_is_air(element: bool) -> None:
    hu = head(64, 1)[0]
    expected = only(save(dcm(hu.astype(np.int32) + 1024))).pixels
    padding = {"PixelPaddingValue": 63536} if element else {}
    for stored in (hu.astype(np.uint16), np.where(hu < -900, 63536, hu).astype(np.uint16)):
        one = only(save(dcm(stored, intercept=0, **padding)))
        np.testing.assert_array_equal(one.pixels, expected)


def test_padding_is_left_out_of_mr() -> None:
    low, none = (only(CASES / "06-mr-padding" / f"{name}.dcm") for name in ("low", "none"))
    rows, columns = np.indices(none.pixels.shape) - 63.5
    inside = np.hypot(rows, columns) < 30
    assert np.abs(low.pixels[inside].astype(int) - none.pixels[inside]).max() <= 1
    padding = pydicom.dcmread(CASES / "06-mr-padding" / "low.dcm").pixel_array == -32768
    assert padding.any()
    assert not low.pixels[padding].any()
    legacy = [render_slice(one, rendering="legacy").pixels[inside].astype(int) for one in (low, none)]
    assert np.abs(legacy[0] - legacy[1]).mean() < 60  # it was 254 for 186 before padding was known


@pytest.mark.parametrize("edges", [(4000, 4095), (4095, 4000), (4095, None)])
def test_padding_has_a_range_and_the_sign_of_the_pixels(edges: tuple[int, int | None]) -> None:
    measured = np.clip(head(64, 1)[0], 0, 400)
    stored = measured.copy()
    stored[:6] = 4095
    if edges[1] is not None:
        stored[6:8] = 4040
    ds = dcm(stored, modality="MR", slope=None, PixelPaddingValue=edges[0])
    if edges[1] is not None:
        ds.PixelPaddingRangeLimit = edges[1]
    expected = np.where(stored >= 4000, measured.min(), measured)
    found = only(save(ds))
    np.testing.assert_array_equal(found.pixels, only(expected, modality="MR").pixels)


# --- 07: HU without air, or with 1024 added -----------------------------------------------------------------


@pytest.mark.parametrize("window", [None, "brain", "stroke", "subdural"])
def test_hu_plus_1024_gets_the_window(window: str | None) -> None:
    folder = CASES / "07-ct-without-air"
    right = load_slices(folder / "hu.nii.gz", modality="BT", window=window)
    shifted = load_slices(folder / "plus1024.nii.gz", modality="BT", window=window)
    for one, other in zip(shifted, right, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.remarks == ("The values are Hounsfield units stored with 1024 added; 1024 was subtracted.",)
        assert other.remarks == ()


# --- what the header says of the picture --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}, "computed from others"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "PERFUSION", "CBF"]}, "computed from others"),
        ({"Modality": "US"}, "neither CT nor MR"),
        ({"Modality": "MG"}, "neither CT nor MR"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "The slice is sagittal"),
    ],
)
def test_what_is_no_axial_slice_of_ct_or_mr_is_said_so(change: dict[str, object], words: str) -> None:
    ds = dcm(head(64, 1)[0].astype(np.int32) + 1024)
    assert only(save(ds)).remarks == ()
    for name, value in change.items():
        setattr(ds, name, value)
    remarks = only(save(ds)).remarks
    assert [remark for remark in remarks if words in remark]
    assert not [remark for remark in remarks if "SENTINEL" in remark or "LOCALIZER" in remark]


def test_empty_tables_are_passed_over() -> None:
    ds = dcm(head(64, 1)[0].astype(np.int32) + 1024)
    expected = only(save(ds)).pixels
    for name in ("ModalityLUTSequence", "VOILUTSequence"):
        setattr(ds, name, [Dataset()])
        np.testing.assert_array_equal(only(save(ds)).pixels, expected)
