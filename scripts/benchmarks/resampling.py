"""AUROCs of many resamples at once, and their intervals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000


def draw_weights(count: int) -> Floats:
    """Draw how often each of `count` patients counts in every resample, (1 + resamples, count); first all once."""
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return np.concatenate([np.ones((1, count)), drawn])


def weigh(label: NDArray[np.int64], score: Floats, weight: Floats) -> float:
    """Compute the AUROC of slices that count `weight` times; NaN where one class has none."""
    order = np.argsort(score, kind="stable")
    stroke, normal = (weight * (label == value) for value in (1, 0))
    if not stroke.any() or not normal.any():
        return float("nan")
    _, ties = np.unique(score[order], return_inverse=True)
    strokes, normals = (np.bincount(ties, part[order]) for part in (stroke, normal))
    below = np.cumsum(normals) - normals
    return float((strokes * (below + normals / 2)).sum() / (strokes.sum() * normals.sum()))


def summarise(values: Floats) -> dict[str, Any]:
    """Give the first of the values, and the limits of 95 % of the others."""
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}
