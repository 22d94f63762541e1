"""Slices in, calibrated probabilities out. The engine knows nothing about files or datasets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stroke_hub.model import CLASSES, ResNetViT, get_evaluable
from stroke_hub.pixels import Slice, fit_square
from stroke_hub.progress import track

__all__ = ["Prediction", "predict", "read_logits", "to_float_pixels", "to_pixels"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of N slices.

    probability : (N,) float64 in [0, 1], of Stroke, calibrated.
    label : N class names, by the model's threshold.
    logits : (N, 2) float32, of Normal and Stroke, uncalibrated.
    """

    probability: NDArray[np.float64]
    label: list[str]
    logits: NDArray[np.float32]


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
        return Prediction(np.zeros(0), [], np.zeros((0, len(CLASSES)), np.float32))
    pixels = slices if isinstance(slices, Tensor) else to_pixels(model, slices)
    device = model.temperature.device
    evaluable = get_evaluable(model)
    with torch.inference_mode():
        batches = track(pixels.split(batch_size), "predicting")
        logits = torch.cat([evaluable(to_float_pixels(batch, device)).float().cpu() for batch in batches])
    return read_logits(model, logits)


def read_logits(model: ResNetViT, logits: Tensor) -> Prediction:
    """Calibrated probabilities and labels of logits (N, 2)."""
    values = logits.double().numpy()
    probability = 1 / (1 + np.exp((values[:, 0] - values[:, 1]) / float(model.temperature)))
    label = [CLASSES[int(p >= float(model.threshold))] for p in probability]
    return Prediction(probability, label, logits.numpy())
