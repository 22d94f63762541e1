"""Claims of stroke_hub.io.nifti: every orientation comes out upright, and no more is read than announced."""

import gzip
import itertools
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from stroke_hub import UnreadableImage, load_slices
from stroke_hub.io.slices import render_slice
from stroke_hub.io.windowing import WINDOWS, stretch
from tests.hostile import VOLUME, nifti, zeros

ORIENTATIONS = [
    codes for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
]


def show(content: bytes, **options: object) -> np.ndarray:
    return np.stack([one.pixels for one in load_slices(content, **options)])


def test_a_marked_head_is_seen_as_by_a_radiologist() -> None:
    voxels = np.zeros((8, 10, 6), np.int16)  # to the right, to the front, upwards
    voxels[7, 9, 5] = 1000  # right, front, top
    voxels[0, 0, 0] = 500  # left, back, bottom
    shown = show(nifti(voxels))
    assert shown.shape == (6, 10, 8)
    assert shown[5, 0, 0] == 255  # the last slice is the top one, front is up, the right side is on the left
    assert shown[0, 9, 7] > 0
    assert np.count_nonzero(shown) == 2


@pytest.mark.parametrize("codes", ORIENTATIONS, ids="".join)
def test_every_orientation_is_shown_alike(codes: tuple[str, str, str]) -> None:
    assert len(set(ORIENTATIONS)) == 48
    straight = nibabel.Nifti1Image(VOLUME, np.diag([3.0, 3.0, 5.0, 1.0]))
    ornt = ornt_transform(axcodes2ornt(("R", "A", "S")), axcodes2ornt(codes))
    turned = straight.as_reoriented(ornt)
    assert nibabel.aff2axcodes(turned.affine) == codes
    assert inv_ornt_aff(ornt, VOLUME.shape).shape == (4, 4)
    expected = show(straight.to_bytes(), modality="BT")
    np.testing.assert_array_equal(show(turned.to_bytes(), modality="BT"), expected)
    canonical = nibabel.as_closest_canonical(turned).get_fdata()
    windowed = stretch(canonical, 0, 80)
    np.testing.assert_array_equal(expected, np.moveaxis(windowed, 2, 0).transpose(0, 2, 1)[:, ::-1, ::-1])


def test_oblique_volumes_go_to_the_closest_axes() -> None:
    angle = 0.3
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    np.testing.assert_array_equal(show(nifti(VOLUME, affine)), show(nifti(VOLUME)))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", "f8"])
def test_kinds_of_files_show_the_same(kind: type, endianness: str, dtype: str) -> None:
    header = kind.header_class(endianness=endianness)
    header.set_data_dtype(np.dtype(endianness + dtype))
    content = kind(VOLUME.astype(dtype), np.eye(4), header).to_bytes()
    for one in (content, gzip.compress(content), content + bytes(1000)):
        np.testing.assert_array_equal(show(one), show(nifti(VOLUME)))
    extended = kind(VOLUME, np.eye(4), header)
    extended.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"words" * 50))
    np.testing.assert_array_equal(show(extended.to_bytes()), show(nifti(VOLUME)))


def test_gzip_of_several_members_is_read() -> None:
    content = nifti(VOLUME)
    np.testing.assert_array_equal(show(gzip.compress(content[:400]) + gzip.compress(content[400:])), show(content))


def test_hu_gets_the_window_and_others_their_percentiles() -> None:
    hu = np.linspace(-1000, 300, 5 * 6 * 4).reshape(5, 6, 4)
    for window in (None, *WINDOWS):
        centre, width = WINDOWS[window or "brain"]
        shown = stretch(hu, centre - width / 2, centre + width / 2)
        expected = shown[::-1, ::-1].transpose(2, 1, 0)
        np.testing.assert_array_equal(show(nifti(hu), window=window), expected)
    for voxels, options in ((hu, {"modality": "MR"}), (hu + 600, {})):
        low, high = np.percentile(voxels, (1, 99))
        expected = np.rint(np.clip((voxels - low) / (high - low), 0, 1) * 255)[::-1, ::-1].transpose(2, 1, 0)
        legacy = [render_slice(one, rendering="legacy").pixels for one in load_slices(nifti(voxels), **options)]
        np.testing.assert_array_equal(legacy, expected)


def test_scaled_integers_are_their_scaled_values() -> None:
    image = nibabel.Nifti1Image(np.linspace(-1000, 300, 60).reshape(5, 6, 2), np.eye(4))
    image.set_data_dtype(np.int16)  # nibabel chooses slope and intercept
    values = nibabel.Nifti1Image.from_bytes(image.to_bytes()).get_fdata()
    expected = stretch(values, 0, 80)[::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_allclose(show(image.to_bytes()), expected, atol=1)


def test_what_is_not_finite_is_black() -> None:
    voxels = np.random.default_rng(0).uniform(0, 100, (6, 7, 3)).astype(np.float32)
    voxels[0, 0, 0], voxels[1, 1, 1], voxels[2, 2, 2] = np.nan, np.inf, -np.inf
    shown = show(nifti(voxels))
    assert shown[0, 6, 5] == shown[1, 5, 4] == shown[2, 4, 3] == 0
    assert np.ptp(shown) == 255
    assert not show(nifti(np.full((3, 3, 2), 7.0))).any()


def test_two_axes_and_one_volume_of_four() -> None:
    assert show(nifti(VOLUME[:, :, 0])).shape == (1, 7, 6)
    np.testing.assert_array_equal(show(nifti(VOLUME[..., None, None])), show(nifti(VOLUME)))


def test_modality_and_index() -> None:
    slices = load_slices(nifti(VOLUME), modality="BT")
    assert [(one.index, one.modality) for one in slices] == [(0, "BT"), (1, "BT"), (2, "BT")]
    assert {one.modality for one in load_slices(nifti(VOLUME))} == {None}


def test_limits_are_exact() -> None:
    content = nifti(np.zeros((4, 5, 3), np.int16))
    assert len(load_slices(content, max_pixels=20)) == 3
    with pytest.raises(UnreadableImage, match="4 x 5 pixels, more than the 19 allowed"):
        load_slices(content, max_pixels=19)
    with pytest.raises(UnreadableImage, match="more than 512 pages"):
        load_slices(nifti(np.zeros((1, 1, 513), np.int16)))
    with pytest.raises(UnreadableImage, match="100 pixels altogether"):
        load_slices(nifti(np.zeros((5, 5, 5), np.int16)), max_pixels=25)


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """In a process of its own: 1 GiB in a gzip of 4 MB, of which no more is inflated than the header announces."""
    (tmp_path / "bomb.nii.gz").write_bytes(zeros(1024, nifti(VOLUME)))
    code = (
        "import resource, sys; from stroke_hub import UnreadableImage, load_slices\n"
        "import nibabel, nibabel.nifti1, nibabel.orientations\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "try: load_slices(sys.argv[1])\n"
        "except UnreadableImage as error: print((peak() - before) // 1024, error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "bomb.nii.gz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown, words = done.stdout.split(" ", 1)
    assert "holds more than its header announces" in words
    assert int(grown) < 32  # MiB
