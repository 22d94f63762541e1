"""Slices in, calibrated probabilities out. Nothing here knows of files."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stroke_hub.model import CLASSES, ResNetViT, get_evaluable
from stroke_hub.novelty import find_unusual, measure_distance
from stroke_hub.pixels import Slice, fit_square
from stroke_hub.progress import track

__all__ = [
    "Prediction",
    "compute_distance",
    "compute_features",
    "predict",
    "read_logits",
    "to_float_pixels",
    "to_pixels",
]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of N slices.

    probability : (N,) float64 in [0, 1], of Stroke, calibrated.
    label : N class names, by the model's threshold.
    logits : (N, 2) float32, of Normal and Stroke, uncalibrated.
    distance : (N,) float64, >= 0, from the training slices (`novelty.measure_distance`).
    unusual : (N,) bool, whether that is beyond the model's limit, or the slice blank: then the rest means little.
        Always False of a model without a limit.
    """

    probability: NDArray[np.float64]
    label: list[str]
    logits: NDArray[np.float32]
    distance: NDArray[np.float64]
    unusual: NDArray[np.bool_]


def to_pixels(model: ResNetViT, slices: Sequence[Slice]) -> Tensor:
    """Slices as the model's squares, uint8 (N, S, S)."""
    squares = [
        fit_square(s.pixels, model.image_size, resize=model.resize, interpolation=model.interpolation)
        for s in slices
    ]
    return torch.from_numpy(np.stack(squares))


def to_float_pixels(pixels: Tensor, device: torch.device | str) -> Tensor:
    """Grey uint8 (N, S, S) as the model's input, float32 (N, 3, S, S) in [0, 1], on `device`."""
    grey = pixels.to(device).float().div_(255)
    return grey[:, None].expand(-1, 3, -1, -1)


def predict(model: ResNetViT, slices: Slice | Sequence[Slice] | Tensor, *, batch_size: int = 32) -> Prediction:
    """Predict, as in evaluation mode, whatever mode the model is in; the model is not changed.

    Parameters
    ----------
    slices : one slice, several, or uint8 squares (N, S, S) as `to_pixels` gives them.
    batch_size : how many go through the model at once.
    """
    if isinstance(slices, Slice):
        slices = [slices]
    if not len(slices):
        return Prediction(np.zeros(0), [], np.zeros((0, len(CLASSES)), np.float32), np.zeros(0), np.zeros(0, bool))
    pixels = slices if isinstance(slices, Tensor) else to_pixels(model, slices)
    device = model.temperature.device
    evaluable = get_evaluable(model)
    logits, distance = [], []
    with torch.inference_mode():
        for batch in track(pixels.split(batch_size), "predicting"):
            features = evaluable.features(to_float_pixels(batch, device))
            logits.append(evaluable.head(features).float().cpu())
            distance.append(compute_distance(model, features))
    return read_logits(model, torch.cat(logits), np.concatenate(distance), pixels)


def compute_features(model: ResNetViT, squares: Tensor, *, name: str = "") -> Tensor:
    """Both branches' features, float32 (N, F), on the CPU, of uint8 squares (N, S, S); `name` is for the bar."""
    evaluable, device = get_evaluable(model), model.temperature.device
    with torch.no_grad():  # not inference mode: a head may be trained on them
        batches = track(squares.split(32), f"features{name and ' of the '}{name}")
        return torch.cat([evaluable.features(to_float_pixels(batch, device)).float().cpu() for batch in batches])


def compute_distance(model: ResNetViT, features: Tensor) -> NDArray[np.float64]:
    """How far features (N, F) are from the training slices', (N,): `novelty.measure_distance`."""
    scale = model.feature_scale
    return measure_distance(
        features.float().cpu().numpy(),
        model.feature_mean.float().cpu().numpy(),
        None if scale is None else scale.float().cpu().numpy(),
    )


def read_logits(
    model: ResNetViT,
    logits: Tensor,
    distance: NDArray[np.float64] | None = None,
    pixels: Tensor | None = None,
) -> Prediction:
    """Calibrated probabilities and labels of logits (N, 2), and whether their slices are unusual.

    Parameters
    ----------
    distance : (N,), from the training slices; where it was not measured, NaN is passed on and nothing is unusual.
    pixels : (N, S, S), the squares that go with `distance`.
    """
    values = logits.double().numpy()
    probability = 1 / (1 + np.exp((values[:, 0] - values[:, 1]) / float(model.temperature)))
    label = [CLASSES[int(p >= float(model.threshold))] for p in probability]
    unusual = np.zeros(len(logits), bool)
    if distance is None or pixels is None:
        distance = np.full(len(logits), np.nan)
    else:
        unusual = find_unusual(distance, float(model.feature_distance_limit), pixels.cpu().numpy())
    return Prediction(probability, label, logits.numpy(), distance, unusual)
