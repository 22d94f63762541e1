"""Claims of stroke_hub.io.rendering: the same measured values are one picture, whatever file holds them."""

import io

import nibabel
import numpy as np
import pytest
from PIL import Image

from stroke_hub import Slice, load_slices
from stroke_hub.data.simulated import simulate_patient
from stroke_hub.io.rendering import UNKNOWN_PICTURE, count_levels, find_hounsfield
from stroke_hub.io.slices import render_slice
from tests.io.synth import dcm

SIDE = 256


@pytest.fixture(scope="module")
def heads() -> dict[str, list[np.ndarray]]:
    """Ten slices each of CT in whole HU and of MR in 12 bits, with noise; both classes."""
    found: dict[str, list[np.ndarray]] = {"BT": [], "MR": []}
    rng = np.random.default_rng(0)
    for modality, sequence in (("BT", "CT"), ("MR", "FLAIR")):
        for seed, lesion in enumerate(("none", "infarct")):
            for one in simulate_patient(seed, sequence, lesion, slices=5, size=SIDE):
                noise = rng.normal(0, 3 if modality == "BT" else 0.02, one.clean.shape)
                values = one.clean + noise if modality == "BT" else np.abs(one.clean + noise) * 1500
                found[modality].append(np.rint(values).astype(np.int16))
    return found


def encode(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write_dicom(values: np.ndarray, modality: str, **more: object) -> bytes:
    shift = 1024 if modality == "BT" else 0
    rescaled = {} if shift else {"slope": None}
    ds = dcm(values.astype(np.int32) + shift, modality={"BT": "CT"}.get(modality, modality), **rescaled, **more)
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_nifti(values: np.ndarray) -> bytes:
    voxels = values[::-1, ::-1].T[..., None]
    return nibabel.Nifti1Image(voxels, np.eye(4), dtype=values.dtype).to_bytes()


def put(values: np.ndarray, modality: str) -> dict[str, object]:
    """The same slice in every kind of file that keeps its values."""
    stored = values.astype(np.int32) + (1024 if modality == "BT" else 0)
    return {
        "array": values,
        "float array": values.astype(np.float64),
        "float TIFF": encode(Image.fromarray(values.astype(np.float32)), "TIFF"),
        "16-bit PNG": encode(Image.fromarray(stored.astype(np.uint16)), "PNG"),
        "DICOM": write_dicom(values, modality),
        "DICOM with a window": write_dicom(values, modality, WindowCenter="300", WindowWidth="900"),
        "NIfTI": write_nifti(values),
        "float NIfTI": write_nifti(values.astype(np.float32)),
    }


def show(source: object, **options: object) -> Slice:
    (one,) = load_slices(source, **options)
    return one


@pytest.mark.parametrize("modality", ["BT", "MR"])
@pytest.mark.parametrize("window", [None, "stroke"])
def test_every_container_gives_one_picture(
    heads: dict[str, list[np.ndarray]], modality: str, window: str | None
) -> None:
    window = window if modality == "BT" else None
    for values in heads[modality]:
        shown = {kind: show(one, modality=modality, window=window) for kind, one in put(values, modality).items()}
        for kind, one in shown.items():
            np.testing.assert_array_equal(one.pixels, shown["array"].pixels, err_msg=kind)
            shifted = ("The values are Hounsfield units stored with 1024 added; 1024 was subtracted.",)
            assert one.remarks == (shifted if modality == "BT" and kind == "16-bit PNG" else ()), kind


def test_ct_is_as_the_dataset_writes_it(heads: dict[str, list[np.ndarray]]) -> None:
    for hu in heads["BT"]:
        picture = np.rint((hu / 80.0).clip(0, 1) * 255).astype(np.uint8)  # as write_sample does
        np.testing.assert_array_equal(show(hu, modality="BT").pixels, picture)
        exported = show(encode(Image.fromarray(picture), "PNG"), modality="BT")
        np.testing.assert_array_equal(exported.pixels, picture)
        assert len(exported.remarks) == 1
        assert "is a picture, not Hounsfield units" in exported.remarks[0]


def test_mr_of_8_bits_is_scaled_as_its_values_are(heads: dict[str, list[np.ndarray]]) -> None:
    for values in heads["MR"]:
        expected = show(values, modality="MR").pixels.astype(int)
        for brightest in (150, 255):  # of 255: half of what a picture has is often left unused
            picture = np.rint(values / values.max() * brightest).astype(np.uint8)
            found = show(encode(Image.fromarray(picture), "PNG"), modality="MR")
            assert np.abs(found.pixels - expected).max() <= 3  # a level of 150 is 1.7 of 255, and edges are rounded
            assert found.remarks == ()
        shifted = show(values * 3.5 - 700, modality="MR").pixels
        assert np.abs(shifted - expected).max() <= 1


def test_background_does_not_set_the_scale_of_mr(heads: dict[str, list[np.ndarray]]) -> None:
    values = heads["MR"][3]
    padded = np.pad(values, 150)  # two and a half times the side, of which the head's mask is coarser
    for one in (padded, padded[100:-100, 100:-100]):
        inside = show(one, modality="MR").pixels
        margin = (inside.shape[0] - SIDE) // 2
        core = inside[margin : margin + SIDE, margin : margin + SIDE].astype(int)
        assert np.abs(core - show(values, modality="MR").pixels).max() <= 8


def test_who_says_nothing_is_told_so(heads: dict[str, list[np.ndarray]]) -> None:
    picture = np.rint((heads["BT"][0] / 80.0).clip(0, 1) * 255).astype(np.uint8)
    for source in (
        picture,
        encode(Image.fromarray(picture), "PNG"),
        picture.astype(np.uint16) * 257,
        picture / 255,
    ):
        one = show(source)
        np.testing.assert_array_equal(one.pixels, picture)
        assert one.remarks == (UNKNOWN_PICTURE,)
        assert "give the modality, BT (CT) or MR" in UNKNOWN_PICTURE
        assert render_slice(one, modality="MR").remarks == ()
    values = show(heads["MR"][0])
    assert "Give the modality, BT (CT) or MR" in values.remarks[0]
    np.testing.assert_array_equal(values.pixels, show(heads["MR"][0], modality="MR").pixels)
    hu = show(heads["BT"][0])  # plainly CT
    np.testing.assert_array_equal(hu.pixels, picture)
    assert hu.remarks == ()


@pytest.mark.parametrize("window", ["brain", "stroke", "subdural"])
def test_a_window_that_is_not_applied_is_said_so(heads: dict[str, list[np.ndarray]], window: str) -> None:
    picture = np.arange(400, dtype=np.uint8).reshape(20, 20)
    mr = heads["MR"][0]
    for source, modality in (
        (picture, "BT"),
        (picture, "MR"),
        (picture, None),
        (mr, "MR"),
        (mr, None),
        (picture / 255, "BT"),
    ):
        one = show(source, modality=modality, window=window)
        assert any("window" in remark and "applied" in remark for remark in one.remarks), (modality, one.remarks)
        np.testing.assert_array_equal(one.pixels, show(source, modality=modality).pixels)


@pytest.mark.parametrize("change", ["plus 1024", "clipped", "stripped", "0 to 100", "padded"])
def test_hu_without_air_gets_its_window(heads: dict[str, list[np.ndarray]], change: str) -> None:
    for hu in heads["BT"]:
        inside = (hu > (0 if change == "0 to 100" else -20)) & (hu < 100)
        stored = {
            "plus 1024": hu + 1024,
            "clipped": hu.clip(-100, 300),
            "stripped": np.where(inside, hu, 0),
            "0 to 100": np.where(inside, hu, 0).clip(0, 100),
            "padded": np.where(np.hypot(*(np.indices(hu.shape) - 127.5)) > 126, -3024, hu),
        }[change].astype(np.int16)
        for window in ("brain", "stroke", "subdural"):
            expected = show(hu, modality="BT", window=window).pixels
            for kind, source in put(stored, "MR").items():  # which only says that nothing is added
                if "PNG" in kind and stored.min() < 0:
                    continue
                found = show(source, modality="BT", window=window)
                np.testing.assert_array_equal(found.pixels[inside], expected[inside], err_msg=kind)


def test_mr_with_negative_values_is_no_ct() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.indices((96, 96)) - 47.5
    inside = np.hypot(rows, columns) < 40
    kinds = {
        "undershoot": np.where(inside, rng.normal(800, 100, inside.shape), rng.normal(0, 5, inside.shape)),
        "field map": np.where(inside, rng.uniform(-600, 600, inside.shape), 0),
        "wide field map": np.where(inside, rng.uniform(-1500, 1500, inside.shape), 0),
        "phase": rng.uniform(-4096, 4095, inside.shape),
    }
    kinds["undershoot"][40, 40:42] = -610
    for name, values in kinds.items():
        for source in (values, write_nifti(values.astype(np.int16)), write_nifti(values.astype(np.float32))):
            one = show(source)
            assert (one.pixels == 255).mean() < 0.3, name
            assert np.ptp(one.pixels) == 255
            np.testing.assert_array_equal(show(source, modality="MR").pixels, one.pixels)
        how = find_hounsfield(count_levels(values.astype(np.float32)))
        assert how is None or how.evidence == "possible"


def test_who_says_the_modality_wins(heads: dict[str, list[np.ndarray]]) -> None:
    hu = heads["BT"][0]
    for source in (hu, write_nifti(hu), write_dicom(hu, "BT")):
        assert (show(source, modality="MR").pixels != show(source, modality="BT").pixels).any()
        assert show(source, modality="MR").modality == "MR"
    undershoot = np.where(hu > -500, 500, -200).astype(np.int16)
    assert set(np.unique(show(write_nifti(undershoot), modality="BT").pixels)) == {0, 255}


def test_one_slice_serves_models_of_two_renderings(heads: dict[str, list[np.ndarray]]) -> None:
    for modality in ("BT", "MR"):
        one = show(write_dicom(heads[modality][0], modality))
        before = one.pixels.copy()
        legacy = render_slice(one, rendering="legacy", window="stroke")
        again = render_slice(legacy, window="subdural")
        expected = show(write_dicom(heads[modality][0], modality), window="subdural")
        np.testing.assert_array_equal(again.pixels, expected.pixels)
        assert again.remarks == expected.remarks
        np.testing.assert_array_equal(one.pixels, before)
        assert (legacy.pixels != again.pixels).any()
    bare = Slice(heads["BT"][0].clip(0, 255).astype(np.uint8))
    np.testing.assert_array_equal(render_slice(bare, rendering="legacy").pixels, bare.pixels)


def test_the_model_may_say_what_the_file_does_not(heads: dict[str, list[np.ndarray]]) -> None:
    picture = (heads["MR"][0].clip(0, 1500) / 10).astype(np.uint8)
    np.testing.assert_array_equal(
        render_slice(show(picture), modality="MR").pixels, show(picture, modality="MR").pixels
    )
    said = show(picture, modality="BT")
    assert render_slice(said, modality="MR").modality == "BT"


def test_tiff_pages_have_one_unit(heads: dict[str, list[np.ndarray]]) -> None:
    pages = [Image.fromarray((hu.astype(np.int32) + 1024).astype(np.uint16)) for hu in heads["BT"][:3]]
    pages.append(Image.fromarray(np.full((SIDE, SIDE), 24, np.uint16)))  # air alone tells no unit
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    slices = load_slices(buffer.getvalue(), modality="BT")
    for one, hu in zip(slices, heads["BT"][:3], strict=False):
        np.testing.assert_array_equal(one.pixels, show(hu, modality="BT").pixels)
    assert not slices[3].pixels.any()


def test_repr_is_short() -> None:
    assert repr(show(np.zeros((20, 30), np.uint8), modality="BT")) == (
        "Slice(30 x 20, modality='BT', source='image', index=0, remarks=1)"
    )
