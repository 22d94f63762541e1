"""Out-of-distribution slices: the distance of a slice's features from the training slices, and a limit on it.

Each feature counts in standard deviations of the training slices, a Mahalanobis distance (Lee et al., 2018) whose
covariance is diagonal. Only numpy is imported.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from stroke_hub.models.resnet_vit import ResNetViT

__all__ = ["describe_unusual", "find_unusual", "measure_distance", "store_limit"]

Floats = NDArray[np.float64]

QUANTILE = 0.99  # of the slices that set the limit: one in a hundred of their like is called unusual
SCALE_FLOOR = 0.1  # of its branch's mean deviation: a feature that hardly stirs in training must not shout
BLANK = 16  # grey levels: real slices span 82 and more, and a constant's features may lie anywhere


def measure_distance(
    features: NDArray[np.floating], mean: NDArray[np.floating], scale: NDArray[np.floating] | None
) -> Floats:
    """Measure how far slices lie from the training slices, (N,) float64, >= 0: the root mean square of z-scores.

    A training slice is at about 1 (some 0.9 in the median), at 2 a feature is off by two standard deviations.

    Parameters
    ----------
    features : (N, F), both branches' concatenated.
    mean, scale : (F,), `feature_mean` and `feature_scale` of the model; without a scale, of an older model, every
        feature counts as it is.
    """
    away = np.asarray(features, np.float64) - np.asarray(mean, np.float64)
    if scale is not None:
        away /= np.asarray(scale, np.float64)
    distance: Floats = np.sqrt(np.mean(away**2, axis=1))
    return distance


def find_unusual(distance: Floats, limit: float, squares: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find the slices that are unlike the training slices, (N,): beyond the limit, or blank.

    Parameters
    ----------
    distance : (N,), as `measure_distance` gives it.
    limit : `feature_distance_limit`; infinite, of an older model, nothing is unusual.
    squares : (N, S, S), what the model saw.
    """
    if not np.isfinite(limit):
        return np.zeros(len(distance), bool)
    unusual: NDArray[np.bool_] = (distance > limit) | (np.ptp(squares, axis=(1, 2)) < BLANK)
    return unusual


def describe_unusual(distance: float, limit: float) -> str:
    """Describe to a reader what is unusual about a slice."""
    if distance <= limit:
        return "a blank picture: there is nothing in it that could be judged"
    return f"unlike the training slices (distance {distance:.2f}, limit {limit:.2f}): the answer means little"


def store_limit(model: "ResNetViT", train: "Tensor", val: "Tensor") -> None:
    """Set `feature_scale` and `feature_distance_limit` of a trained model that has its `feature_mean`, in place.

    The limit is the greater of two 99 % quantiles of distances: of the training slices, and of the validation
    slices, which no weight was fitted to. The latter alone hang on few patients: with 13 (250 slices of real CT),
    4.7 % of the test slices were beyond it, and 2.2 % beyond the greater of the two.

    Parameters
    ----------
    train, val : (N, F), (M, F) float32 on the CPU, features of slices that are not augmented.
    """
    mean, split = model.feature_mean.float().cpu().numpy(), model.cnn.num_features
    deviation = train.std(0, correction=0)
    parts = (deviation[:split], deviation[split:])
    scale = np.concatenate([part.clamp_min(SCALE_FLOOR * float(part.mean()) + 1e-6).numpy() for part in parts])
    model.feature_scale = model.feature_mean.new_tensor(scale)
    limits = []
    for features in (train, val):
        distances = [measure_distance(some.numpy(), mean, scale) for some in features.split(1024)]
        limits.append(float(np.quantile(np.concatenate(distances), QUANTILE)))
    model.feature_distance_limit.fill_(max(limits))
