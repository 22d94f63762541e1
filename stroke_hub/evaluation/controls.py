"""Maps that know no model, and which of them is best: what a map has to beat before it explains anything."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stroke_hub.report.formatting import CONTROLS

__all__ = ["Array", "Named", "Seed", "average_defined", "divide", "draw_controls", "find_best_control"]

Array: TypeAlias = NDArray[Any]
Named: TypeAlias = dict[str, Array]  # by map: float (N, S, S), or values (N,) that are NaN where undefined
Seed: TypeAlias = tuple[int, int]  # the user's, and the number of the batch's first slice

FOREGROUND = 12  # grey levels: above what noise and compression leave outside a head


def draw_controls(pixels: NDArray[np.uint8], seed: Seed) -> Named:
    """Draw the controls of uint8 squares (N, S, S), float32 (N, S, S) each."""
    size, square = pixels.shape[1], pixels / 255
    noise = np.random.default_rng((*seed, 0)).normal(size=(2, *pixels.shape))
    axis = (np.arange(size) - (size - 1) / 2) / (size / 6)
    heads = np.zeros(pixels.shape)
    for head, lit in zip(heads, pixels > FOREGROUND, strict=True):
        labelled, parts = ndimage.label(lit)
        if parts:  # the largest
            head[:] = ndimage.binary_fill_holes(labelled == np.bincount(labelled[lit]).argmax())
    maps = (
        np.abs(noise[0]),
        ndimage.gaussian_filter(noise[1], (0, size / 12, size / 12)),  # as smooth as a map of few cells
        np.broadcast_to(np.exp(-0.5 * (axis[:, None] ** 2 + axis**2)), pixels.shape),
        np.ones(pixels.shape),
        heads,
        np.hypot(ndimage.sobel(square, 1), ndimage.sobel(square, 2)),
        square,
    )
    return {name: values.astype(np.float32) for name, values in zip(CONTROLS, maps, strict=True)}


def find_best_control(values: Named, sign: int) -> str | None:
    """Find the control with the best mean; None where none is defined."""
    means = {name: float(sign * average_defined(values[name][:, None])[0]) for name in CONTROLS}
    best = max(CONTROLS, key=lambda name: np.nan_to_num(means[name], nan=-np.inf))
    return None if np.isnan(means[best]) else best


def average_defined(values: Array) -> Array:
    """Average over the first axis, of what is defined."""
    return divide(np.nansum(values, 0), np.isfinite(values).sum(0))


def divide(a: Array, b: Array) -> Array:
    """Divide; NaN where the divisor is not above 0."""
    quotient = np.full(a.shape, np.nan)
    np.divide(a, b, out=quotient, where=b > 0)
    return quotient
