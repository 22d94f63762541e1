"""Claims of stroke_hub.io.geometry: however a head is stored, it is shown upright and in its own proportions."""

import io
import itertools
import math

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, ornt_transform
from pydicom.dataset import Dataset

from stroke_hub import Slice, UnreadableImage, load_slices
from stroke_hub.io.geometry import find_view, make_square
from tests.io.synth import dcm, head

ORIENTATIONS = [
    codes for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
]
LPS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
HEAD = np.stack([head(64, 3)[1]] * 32)  # superior, posterior, left; the lesion on the patient's left
HEAD = np.where(np.arange(32)[:, None, None] > 24, -1000, HEAD).astype(np.int16)  # air above the head


def store(codes: tuple[str, ...]) -> np.ndarray:
    """The head with its axes along these directions."""
    image = nibabel.Nifti1Image(HEAD.transpose(2, 1, 0), np.diag([-3.0, -3.0, 3.0, 1.0]))  # left, posterior, up
    return np.asarray(
        image.as_reoriented(ornt_transform(axcodes2ornt(("L", "P", "S")), axcodes2ornt(codes))).dataobj
    )


def write_dicom(pixels: np.ndarray, row: str, column: str, **options: object) -> bytes:
    """Stored pixels whose row runs towards one side of the patient and whose column towards another."""
    ds = dcm(pixels.astype(np.int32) + 1024, iop=(*LPS[row], *LPS[column]), **options)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def only(content: bytes) -> Slice:
    (one,) = load_slices(content)
    return one


@pytest.fixture(scope="module")
def upright() -> np.ndarray:
    """An axial plane, a coronal and a sagittal one as they shall be seen."""
    return only(write_dicom(HEAD[10], "L", "P")).pixels


def test_a_head_is_shown_with_the_nose_up_and_the_left_side_on_the_right(upright: np.ndarray) -> None:
    assert 230 < upright[39, 53] < 245  # the lesion, on the patient's left
    assert upright[39, 20] < 130
    assert upright[18, 31] < 30  # the ventricle, in front
    assert upright[2, 31] == 255  # the nose


@pytest.mark.parametrize("codes", ORIENTATIONS, ids="".join)
def test_48_orientations_as_nifti_are_one_picture(codes: tuple[str, str, str], upright: np.ndarray) -> None:
    straight = nibabel.Nifti1Image(HEAD.transpose(2, 1, 0), np.diag([-3.0, -3.0, 3.0, 1.0]))
    ornt = ornt_transform(axcodes2ornt(("L", "P", "S")), axcodes2ornt(codes))
    slices = load_slices(straight.as_reoriented(ornt).to_bytes())
    assert len(slices) == len(HEAD)
    np.testing.assert_array_equal(slices[10].pixels, upright)
    assert slices[10].remarks == ()
    assert (slices[10].plane, slices[10].spacing) == ("axial", 3.0)


@pytest.mark.parametrize("codes", ORIENTATIONS, ids="".join)
def test_48_orientations_as_dicom(codes: tuple[str, str, str], upright: np.ndarray) -> None:
    column, row, normal = codes  # of the volume: the first axis runs down a column
    stored = store(codes)
    middle = {"S": 10, "I": len(HEAD) - 1 - 10}.get(normal, stored.shape[2] // 2 - (normal in "RA"))
    one = only(write_dicom(stored[:, :, middle], row, column))
    if normal in "SI":
        np.testing.assert_array_equal(one.pixels, upright)
        assert one.plane == "axial"
        assert one.remarks == ()
        return
    plane = "sagittal" if normal in "LR" else "coronal"
    shown = (
        HEAD[::-1, :, 32] if plane == "sagittal" else HEAD[::-1, 32]
    )  # superior up; posterior or left on the right
    expected = only(write_dicom(shown, "P" if plane == "sagittal" else "L", "I")).pixels
    np.testing.assert_array_equal(one.pixels, expected)
    assert not one.pixels[:7].any()  # the air above the head is above
    assert one.plane == plane
    assert one.remarks == (f"The slice is {plane}; models are trained on axial slices.",)


def test_tilted_gantries_are_axial_and_oblique_slices_are_said_so() -> None:
    for degrees, plane, oblique in ((18.5, "axial", False), (-30, "axial", False), (42, "axial", True)):
        angle = math.radians(degrees)
        view = find_view((1, 0, 0, 0, math.cos(angle), math.sin(angle)))
        assert (view.plane, view.is_oblique) == (plane, oblique)
        assert view.tilt == pytest.approx(abs(degrees))


@pytest.mark.parametrize(
    "directions", [(), (1, 0, 0), (0,) * 6, (1, 0, 0, 1, 0, 0), (math.nan,) * 6, (2, 0, 0, 0, 2, 0)]
)
def test_what_is_no_orientation_turns_nothing(directions: tuple[float, ...]) -> None:
    assert find_view(directions) is None


@pytest.mark.parametrize(
    "options",
    [{"spacing": (3.0, 1.5)}, {"spacing": (3.0, 1.5), "row": "P", "column": "L"}, {"ratio": [2, 1]}],
    ids=["PixelSpacing", "transposed", "PixelAspectRatio"],
)
def test_pixels_become_squares(options: dict[str, object], upright: np.ndarray) -> None:
    row, column = options.get("row", "L"), options.get("column", "P")
    stored = HEAD[10] if row == "L" else HEAD[10].T
    ds = dcm(
        stored[::2].astype(np.int32) + 1024, iop=(*LPS[row], *LPS[column]), spacing=options.get("spacing", (1, 1))
    )
    if "ratio" in options:
        del ds.PixelSpacing
        ds.PixelAspectRatio = options["ratio"]
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    one = only(buffer.getvalue())
    assert one.pixels.shape == upright.shape
    assert np.mean(np.abs(one.pixels.astype(int) - upright) < 40) > 0.9  # the same head, interpolated
    assert one.spacing == (None if "ratio" in options else 1.5)  # a ratio tells no length
    assert one.remarks == ()


@given(st.floats(), st.floats(), st.sampled_from([np.int16, np.float32, np.uint8]))
def test_no_spacing_breaks_a_slice(height: float, width: float, kind: type) -> None:
    pixels = np.arange(6 * 7).reshape(6, 7).astype(kind)
    try:
        squares, resampled = make_square(pixels, height, width, 10_000)
    except UnreadableImage:
        pytest.fail("a picture of 6 x 7 pixels cannot become too large")
    assert squares.dtype == kind
    assert resampled == (squares is not pixels)
    assert squares.size <= 16 * pixels.size


def test_slices_that_would_become_too_large_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="more than the 100 allowed"):
        make_square(np.zeros((9, 9), np.int16), 2.0, 1.0, 100)


def test_frames_of_enhanced_files_have_their_own_geometry(upright: np.ndarray) -> None:
    """An axial frame stored upside down with pixels of 6 x 3 mm, and the same frame as it is seen."""
    ds = dcm(np.concatenate([HEAD[10], HEAD[10][::-1]]).astype(np.int32) + 1024)
    ds.NumberOfFrames, ds.Rows = 2, 64
    del ds.PixelSpacing, ds.ImageOrientationPatient
    groups = []
    for directions, spacing in (((1, 0, 0, 0, 1, 0), [3, 3]), ((1, 0, 0, 0, -1, 0), [6, 3])):
        group, orientation, measures = Dataset(), Dataset(), Dataset()
        orientation.ImageOrientationPatient, measures.PixelSpacing = list(directions), spacing
        group.PlaneOrientationSequence, group.PixelMeasuresSequence = [orientation], [measures]
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = groups
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    plain, stretched = load_slices(buffer.getvalue())
    np.testing.assert_array_equal(plain.pixels, upright)
    assert stretched.pixels.shape == (128, 64)
    assert np.mean(np.abs(stretched.pixels[1::2].astype(int) - upright) < 70) > 0.9
    assert plain.spacing == stretched.spacing == 3.0
