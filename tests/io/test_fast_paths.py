"""What is computed in a fast way is what the plain way gives, bit by bit: squares of earlier models hang on it."""

import io
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from stroke_hub.io import framing
from stroke_hub.io.framing import find_head_mask
from stroke_hub.io.morphology import DIAGONAL, FAR, STRAIGHT, UNIT, close_gaps, find_otsu, measure_distance
from stroke_hub.io.nifti import _find_percentiles
from stroke_hub.io.rendering import (
    Hounsfield,
    Levels,
    Measured,
    count_levels,
    find_hounsfield,
    render,
    to_hounsfield,
)
from stroke_hub.io.slices import load_slices
from stroke_hub.io.windowing import PERCENTILES, stretch

Mask = NDArray[np.bool_]
SEEDS = st.integers(0, 2**32 - 1)


def draw_slice(seed: int) -> NDArray[np.uint8]:
    """Blobs of any size, grain and brightness in a picture of any shape: heads, specks, edges, nothing."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 300, 2)
    blobs = ndimage.gaussian_filter(rng.normal(size=(height, width)), rng.uniform(0.3, 20))
    blobs = (blobs - blobs.min()) / max(1e-9, float(np.ptp(blobs)))
    return np.asarray((blobs ** rng.uniform(0.5, 4) * rng.integers(1, 256)).astype(np.uint8))


def measure_plainly(mask: Mask) -> NDArray[np.float32]:
    """The chamfer distance by its own definition: steps until nothing changes."""
    far = np.where(mask, FAR, 0).astype(np.int64)
    steps = [
        (y, x, STRAIGHT if 0 in (y, x) else DIAGONAL) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)
    ]
    while True:
        wide = np.pad(far, 1, constant_values=FAR)
        rows, columns = far.shape
        near = far
        for y, x, step in steps:
            near = np.minimum(near, wide[1 + y : 1 + y + rows, 1 + x : 1 + x + columns] + step)
        if (near == far).all():
            return far.astype(np.float32) * np.float32(1 / UNIT)
        far = near


def find_head_mask_plainly(pixels: NDArray[np.uint8]) -> Mask | None:
    """The mask of the head in the whole picture, by scipy."""
    small = np.asarray(Image.fromarray(pixels).reduce(framing._find_factor(pixels)))
    threshold = min(framing.THRESHOLD, max(framing.FAINTEST, framing.OTSU * find_otsu(small)))
    bright = np.pad(small > threshold, framing.CLOSING)
    depth = measure_plainly(ndimage.binary_fill_holes(close_gaps(bright)))
    radius = float(depth.max())
    if radius < framing.MIN_RADIUS * max(small.shape):
        return None
    narrow = framing.CORE * radius
    near = measure_plainly(depth <= narrow) <= narrow + 1
    labels, parts = ndimage.label(ndimage.binary_fill_holes(bright) & near, np.ones((3, 3)))
    if not parts:
        return None
    areas = np.bincount(labels.ravel())
    kept = areas >= framing.MIN_PART * areas[1:].max()
    kept[0] = False
    return np.asarray(kept[labels][framing.CLOSING : -framing.CLOSING, framing.CLOSING : -framing.CLOSING])


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_the_head_is_that_of_the_plain_way(seed: int) -> None:
    pixels = draw_slice(seed)
    found, expected = find_head_mask(pixels), find_head_mask_plainly(pixels)
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_array_equal(found, expected)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_distances_are_those_of_single_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 40, 2)) < rng.uniform(0.3, 1)
    mask.flat[0] = False  # else there is no distance
    np.testing.assert_array_equal(measure_distance(mask), measure_plainly(mask))


def draw_values(seed: int) -> NDArray[np.int16]:
    """Values as CT, MR, shifted or wrapped CT, pictures and odd files have them."""
    rng = np.random.default_rng(seed)
    head = rng.choice([rng.normal(35, 15), rng.normal(400, 200), rng.normal(90, 60)])
    values = np.where(rng.random((60, 50)) < rng.uniform(0, 0.9), rng.choice([-1000, 0, -2000]), head)
    values = values + rng.normal(0, rng.uniform(0, 200), values.shape) + rng.choice([0, 0, 1024])
    if rng.random() < 0.3:
        values = np.where(values < 0, values + 4096, values)
    if rng.random() < 0.2:
        values = values.clip(0, 255)
    if rng.random() < 0.3:
        values[0, :3] = rng.choice([-32768, -3024, 30_900, 32_000, 32_767], 3)
    return np.asarray(np.rint(values).clip(-32768, 32767).astype(np.int16))


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, slope=st.sampled_from([1.0, 0.5, -2.0]), intercept=st.sampled_from([0.0, -1024.0]))
def test_counted_levels_tell_what_all_values_tell(seed: int, slope: float, intercept: float) -> None:
    values = draw_values(seed)
    real = values.astype(np.float64) * slope + intercept
    counted, whole = count_levels(values, slope, intercept), Levels(real.ravel(), None, real.ravel())
    assert counted.counts is not None
    assert find_hounsfield(counted) == find_hounsfield(whole)
    assert _find_percentiles(counted) == tuple(np.percentile(real, PERCENTILES))


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, modality=st.sampled_from(["BT", "MR"]), offset=st.sampled_from([0.0, -1024.0]))
def test_levels_that_are_looked_up_are_those_computed(seed: int, modality: Any, offset: float) -> None:
    values, how = draw_values(seed), Hounsfield(offset, evidence="plain")
    found, _ = render(Measured(values, None, how), modality=modality)
    expected, _ = render(Measured(values.astype(np.float32), None, how), modality=modality)
    np.testing.assert_array_equal(found, expected)
    if modality == "BT":
        np.testing.assert_array_equal(found, stretch(to_hounsfield(values, how), 0, 80))


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_a_volume_of_int16_is_seen_as_one_of_float32(axes: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    image: Any = nibabel.Nifti1Image  # has no types
    for low in (-1000, 0):
        head = np.hypot(*np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 50), indexing="ij")) < 0.8
        voxels = np.where(head[..., None], 40, low) + rng.normal(0, 6, (40, 50, 5))
        voxels = np.rint(voxels).transpose(axes)
        affine = np.eye(4)[:, [*axes, 3]]
        as_int, as_float = (
            load_slices(io.BytesIO(image(voxels.astype(kind), affine).to_bytes()))
            for kind in (np.int16, np.float32)
        )
        for one, other in zip(as_int, as_float, strict=True):
            np.testing.assert_array_equal(one.pixels, other.pixels)
            assert one.measured is not None
            assert other.measured is not None
            np.testing.assert_array_equal(one.measured.values, other.measured.values)
            assert one.measured.hounsfield == other.measured.hounsfield
