"""Out-of-distribution slices: how far a slice lies from the training slices, and a limit on it.

A slice is looked at twice, and the larger of both distances counts.

- Its features: a Mahalanobis distance with a full covariance, after Lee et al. (2018), arXiv:1807.03888. Theirs
  uses several layers, disturbs the input along its gradient, and takes the least distance to a class mean. Ours
  uses one layer (what the head reads), no gradients and one mean: with class means strokes were flagged 6.4 and 2.7
  times as often as normal slices.
- Its texture: the same distance of simple statistics of the picture, its grey levels and its edges at four scales.
  They know nothing of the network. By features alone, two small models let 27 and 5 of 76 pictures of other organs
  pass, with the texture none (`docs/out-of-distribution-inputs.md`).

The covariance is shrunk after Ledoit and Wolf (2004) and counts strokes twice as much as normal slices.
Beyond 2,048 features there is no such matrix, and features count by their z-scores.
With equal weights strokes, which are few, lay beyond the limit 3.5 times as often as normal slices.
Older models lack the texture, or the whitening matrix: then features or their z-scores alone count.
scikit-learn is imported where a model is trained.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from stroke_hub.models.resnet_vit import ResNetViT

__all__ = ["TEXTURE_SIZE", "describe_unusual", "find_unusual", "measure_distance", "measure_texture", "store_limit"]

Floats = NDArray[np.float64]

QUANTILE = 0.995  # of the slices that set the limit; of fresh simulated slices about 2 % lie beyond it
STROKE_WEIGHT = 2 / 3  # of all slices in the covariance; with 1/2 strokes were flagged 3.5 times as often
SCALE_FLOOR = 0.1  # of its branch's mean deviation: a feature that hardly stirs in training must not shout
VARIANCE_FLOOR = 1e-6  # of a z-score: no direction counts more than a thousandfold
LEVELS = 16  # bins of grey levels
SCALES = 4  # each half as large as the one before; the smallest square, of 32 pixels, allows no fifth
FLAT = 0.02  # of full scale: smaller steps are no edges
TEXTURE_SIZE = LEVELS + 9 * SCALES
WHITENED = 2048  # features at most: a probe of the preset full has 5,120, whose matrix would take 105 MB
BLANK = 16  # grey levels: real slices span 82 and more, and a constant's features may lie anywhere


def measure_distance(
    features: NDArray[np.floating],
    mean: NDArray[np.floating],
    scale: NDArray[np.floating] | None,
    whitening: NDArray[np.floating] | None = None,
) -> Floats:
    """Measure how far slices lie from the training slices, (N,) float64, >= 0.

    This is the root mean square of whitened z-scores, a Mahalanobis distance divided by sqrt(F): about 1 for a
    training slice.

    Parameters
    ----------
    features : (N, F), both branches' concatenated.
    mean, scale : (F,), `feature_mean` and `feature_scale` of the model; without a scale, of an older model, every
        feature counts as it is.
    whitening : (F, F), `feature_whitening`; without it, of an older model, the z-scores count as uncorrelated.
    """
    away = np.asarray(features, np.float64) - np.asarray(mean, np.float64)
    if scale is not None:
        away /= np.asarray(scale, np.float64)
    if whitening is not None:
        away = away @ np.asarray(whitening, np.float64).T
    distance: Floats = np.sqrt(np.mean(away**2, axis=1))
    return distance


def measure_texture(pixels: "Tensor") -> "Tensor":
    """Measure what squares look like, without a network: grey levels, and edges at several scales.

    Parameters
    ----------
    pixels : (N, S, S) float, 0 to 1, S at least 32.

    Returns
    -------
    (N, `TEXTURE_SIZE`): square roots of the shares of 16 grey levels; at each scale, of the steps to the right, of
    those downwards and of the Laplacian, the mean, the root mean square and the share that is nearly 0.
    """
    import torch

    # differences of cumulative shares: half the work of comparing with both ends of every bin
    below = [(pixels < level / LEVELS).float().mean((1, 2)) for level in range(1, LEVELS)]
    ends = zip([torch.zeros_like(below[0]), *below], [*below, torch.ones_like(below[0])], strict=True)
    found = [torch.stack([(high - low).clamp_min(0).sqrt() for low, high in ends], 1)]
    for scale in range(SCALES):
        if scale:
            pixels = torch.nn.functional.avg_pool2d(pixels[:, None], 2)[:, 0]
        right, down = pixels[:, :, 1:] - pixels[:, :, :-1], pixels[:, 1:] - pixels[:, :-1]
        laplacian = right[:, 1:-1, 1:] - right[:, 1:-1, :-1] + down[:, 1:, 1:-1] - down[:, :-1, 1:-1]
        for steps in (right, down, laplacian):
            size = steps.abs()
            flat = (size < FLAT).float().mean((1, 2))
            found.append(torch.stack([size.mean((1, 2)), size.square().mean((1, 2)).sqrt(), flat], 1))
    return torch.cat(found, 1)


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
    return (
        f"unlike the training slices (distance {distance:.2f}, limit {limit:.2f}): how good answers are was not "
        "measured on slices like it"
    )


def store_limit(
    model: "ResNetViT", train: "Tensor", labels: "Tensor", val: "Tensor", textures: tuple["Tensor", "Tensor"]
) -> None:
    """Set scales, whitenings and limit of the distances of a trained model that has its `feature_mean`, in place.

    A limit is the greater of two 99.5 % quantiles of distances: of the training slices, and of the validation
    slices, which no weight was fitted to. The latter alone hang on few patients: with 13 (250 slices of real CT),
    4.7 % of the test slices were beyond it, and 2.2 % beyond the greater of the two.

    Parameters
    ----------
    train, val : (N, F), (M, F) float32 on the CPU, features of slices that are not augmented.
    labels : (N,), classes of the training slices.
    textures : of the same slices, as `measure_texture` gives them.
    """
    mean, split = model.feature_mean.float().cpu().numpy(), model.cnn.num_features
    deviation = train.std(0, correction=0)
    scale = np.concatenate([_floor(deviation[:split].numpy()), _floor(deviation[split:].numpy())])
    whitening, limit = _fit_distance(train, val, labels, mean, scale)
    model.feature_scale = model.feature_mean.new_tensor(scale)
    model.feature_whitening = None if whitening is None else model.feature_mean.new_tensor(whitening)
    model.feature_distance_limit.fill_(limit)
    own = textures[0].mean(0).numpy()
    scale = _floor(textures[0].std(0, correction=0).numpy())
    whitening, limit = _fit_distance(*textures, labels, own, scale)
    model.texture_mean = model.feature_mean.new_tensor(own)
    model.texture_scale = model.feature_mean.new_tensor(scale)
    assert whitening is not None  # noqa: S101  a texture has few numbers
    model.texture_whitening = model.feature_mean.new_tensor(whitening / limit)  # so that its limit is 1


def _floor(deviation: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(deviation.clip(SCALE_FLOOR * float(deviation.mean()) + 1e-6), np.float32)


def _fit_distance(
    train: "Tensor",
    val: "Tensor",
    labels: "Tensor",
    mean: NDArray[np.float32],
    scale: NDArray[np.float32],
) -> tuple[NDArray[np.float32] | None, float]:
    """Fit the whitening of a distance, where the features are not too many, and its limit."""
    whitening = None
    if len(mean) <= WHITENED:
        whitening = _fit_whitening((train.numpy() - mean) / scale, labels.cpu().numpy())
    limits = []
    for features in (train, val):
        distances = [measure_distance(some.numpy(), mean, scale, whitening) for some in features.split(1024)]
        limits.append(float(np.quantile(np.concatenate(distances), QUANTILE)))
    return whitening, max(limits)


def _fit_whitening(z: NDArray[np.float32], labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Fit the matrix (F, F), lower triangular, that makes z-scores (N, F) uncorrelated with variance 1."""
    from sklearn.covariance import LedoitWolf

    share = np.mean(labels == 1).clip(1 / len(labels), 1 - 1 / len(labels))
    weight = np.where(labels == 1, STROKE_WEIGHT / share, (1 - STROKE_WEIGHT) / (1 - share))
    balanced = np.asarray(z, np.float64) * np.sqrt(weight)[:, None]
    covariance = LedoitWolf(assume_centered=True).fit(balanced).covariance_
    # where every slice is the same, shrinking leaves 0 on the diagonal
    covariance[np.diag_indices_from(covariance)] += VARIANCE_FLOOR
    return np.linalg.inv(np.linalg.cholesky(covariance)).astype(np.float32)
