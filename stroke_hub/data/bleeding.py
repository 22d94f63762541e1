"""Simulated bleeding, laid into normal CT slices: lesions with a mask, for datasets that have none.

A network that has been shown where a lesion lies learns to look there. Lesions that are pasted into normal pictures
have served to find what is abnormal before (Tan et al., 2020; Li et al., 2021, "CutPaste"). Here a pasted lesion is
brighter than brain by 8 to 31 HU, as fresh blood is, and has one of four shapes: a clot in the brain, a crescent
along the skull, blood in the sulci, blood in the ventricles. The noise of the slice stays.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stroke_hub.io.windowing import WINDOWS, Grey, Window

__all__ = ["Bleeding", "lay_bleeding"]

Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]

SIDE = 224  # pixels; lengths below are in those of a square of this side
BONE = 245  # grey levels from which a pixel is bone
LEAST_BRAIN = 0.08  # of the square's area: below, the slice lies above or under the brain
LEAST_LESION = 15  # pixels
RISE = (8.0, 31.0)  # HU by which blood is brighter than brain
OEDEMA = (1.5, 7.0)  # HU by which the rim of a clot is darker


class Bleeding(NamedTuple):
    """Hold a slice with pasted bleeding.

    square : uint8 (S, S). mask : bool (S, S), where the bleeding lies.
    """

    square: Grey
    mask: Mask


def lay_bleeding(square: Grey, rng: np.random.Generator, *, window: Window) -> Bleeding | None:
    """Lay one simulated bleeding into a normal CT slice.

    Parameters
    ----------
    square : uint8 (S, S), as a model sees it, in `window`.

    Returns
    -------
    None where the slice shows too little brain, or the shape that was drawn finds no place.
    """
    scale = len(square) / SIDE
    brain = _find_brain(square, scale)
    if brain is None:
        return None
    grey = square.astype(np.float32)
    level = float(np.median(grey[brain]))
    per_unit = 255 / WINDOWS[window][1]
    draw = SHAPES[rng.choice(len(SHAPES), p=SHARES)]
    lesion = draw(_Slice(grey, brain, ndimage.distance_transform_edt(brain), level, per_unit, scale), rng)
    if lesion.sum() < LEAST_LESION * scale**2:
        return None
    cover = ndimage.gaussian_filter(lesion.astype(np.float32), rng.uniform(0.6, 1.6) * scale)
    rise = rng.uniform(*RISE) * per_unit
    texture = grey - ndimage.gaussian_filter(grey, 2 * scale)
    blood = level + rise * (1 + 0.12 * _draw_noise(rng, grey.shape, 3 * scale)) + texture
    laid = grey * (1 - cover) + blood * cover
    if draw is _draw_clot and rng.random() < 0.5:
        wider = ndimage.binary_dilation(lesion, iterations=max(1, round(rng.integers(2, 8) * scale)))
        rim = ndimage.gaussian_filter(wider.astype(np.float32), 2 * scale) - cover
        laid -= rim.clip(0, 1) * rng.uniform(*OEDEMA) * per_unit * brain
    touched = brain | ndimage.binary_dilation(lesion)
    return Bleeding(np.where(touched, laid, grey).clip(0, 255).round().astype(np.uint8), lesion)


class _Slice(NamedTuple):
    """What the shapes are drawn into: `depth` in pixels from the skull, `level` of brain, grey levels a HU."""

    grey: Floats
    brain: Mask
    depth: NDArray[np.float64]
    level: float
    per_unit: float
    scale: float

    @property
    def centre(self) -> tuple[float, float]:
        return ndimage.center_of_mass(self.brain)  # type: ignore[no-any-return]


def _find_brain(square: Grey, scale: float) -> Mask | None:
    """Find what the skull encloses, without thin bridges; None where it is little."""
    bone = ndimage.binary_closing(square >= BONE, iterations=max(1, round(2 * scale)))
    inside = ndimage.binary_fill_holes(bone) & ~bone
    parts, count = ndimage.label(ndimage.binary_opening(inside, iterations=max(1, round(3 * scale))))
    if not count:
        return None
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    brain: Mask = ndimage.binary_dilation(largest, iterations=max(1, round(2 * scale))) & inside
    return brain if brain.mean() > LEAST_BRAIN else None


def _draw_noise(rng: np.random.Generator, shape: tuple[int, ...], smooth: float) -> Floats:
    noise = ndimage.gaussian_filter(rng.normal(size=shape).astype(np.float32), smooth)
    return noise / noise.std()  # type: ignore[no-any-return]


def _draw_clot(one: _Slice, rng: np.random.Generator) -> Mask:
    """An uneven ellipse of 3 to 22 pixels radius anywhere in the brain."""
    places = np.argwhere(one.depth > 4 * one.scale)
    if not len(places):
        return np.zeros_like(one.brain)
    row, column = places[rng.integers(len(places))]
    radius = np.exp(rng.uniform(np.log(3), np.log(22))) * one.scale
    stretch, turn = rng.uniform(0.6, 1.6), rng.uniform(0, np.pi)
    down, right = np.indices(one.brain.shape) - np.array([row, column]).reshape(2, 1, 1)
    along, across = right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)
    uneven = 0.25 * _draw_noise(rng, one.brain.shape, max(2 * one.scale, radius / 2))
    distance: Floats = np.hypot(along / stretch, across * stretch) / radius + uneven
    return one.brain & (distance < 1)


def _draw_crescent(one: _Slice, rng: np.random.Generator) -> Mask:
    """A crescent or a lens along the skull, at most 2.5 to 22 pixels thick."""
    down, right = np.indices(one.brain.shape) - np.array(one.centre).reshape(2, 1, 1)
    angle, width = rng.uniform(-np.pi, np.pi), rng.uniform(0.2, 1.3)
    away = np.abs((np.arctan2(down, right) - angle + np.pi) % (2 * np.pi) - np.pi) / width
    thickness = np.exp(rng.uniform(np.log(2.5), np.log(22))) * one.scale
    uneven = 1 + 0.15 * _draw_noise(rng, one.brain.shape, 6 * one.scale)
    edge: Floats = thickness * (1 - away ** rng.choice([2, 4])).clip(0) * uneven
    return one.brain & (one.depth < edge)


def _draw_sulci(one: _Slice, rng: np.random.Generator) -> Mask:
    """The dark furrows of one region."""
    smooth: Floats = ndimage.gaussian_filter(one.grey, one.scale)
    dark = smooth < one.level - 2 * one.per_unit
    row, column = one.centre + rng.uniform([-50, -40], [50, 40]) * one.scale
    down, right = np.indices(one.brain.shape) - np.array([row, column]).reshape(2, 1, 1)
    distance: Floats = np.hypot(down, right)
    return one.brain & dark & (distance < rng.uniform(15, 50) * one.scale)


def _draw_ventricles(one: _Slice, rng: np.random.Generator) -> Mask:
    """The dark spaces deep in the brain, below a level: blood sinks to the back."""
    dark = one.brain & (ndimage.gaussian_filter(one.grey, one.scale) < one.level - 6 * one.per_unit)
    deep: Mask = ndimage.binary_opening(dark & (one.depth > 25 * one.scale))
    rows = np.arange(len(one.brain))[:, None]
    return deep & (rows > one.centre[0] - rng.uniform(-10, 60) * one.scale)


SHAPES = (_draw_clot, _draw_crescent, _draw_sulci, _draw_ventricles)
SHARES = (0.35, 0.4, 0.15, 0.1)  # how often each is drawn
