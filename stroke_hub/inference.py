"""Slices in, calibrated probabilities out; files in, a table out. Nothing here knows of datasets."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stroke_hub.answers import CLASSES, Answering, Prediction, Sight, answer, to_squares
from stroke_hub.archives import may_hold_slices
from stroke_hub.errors import UnreadableImage
from stroke_hub.novelty import measure_distance
from stroke_hub.pixels import Slice, load_slices
from stroke_hub.progress import track

if TYPE_CHECKING:  # torch is imported where it is used: an exported model answers without it
    import pandas as pd
    import torch
    from torch import Tensor

    from stroke_hub.model import ResNetViT

__all__ = [
    "Prediction",
    "compute_distance",
    "compute_features",
    "predict",
    "predict_paths",
    "read_logits",
    "to_float_pixels",
    "to_pixels",
]


def to_pixels(model: Sight, slices: Sequence[Slice]) -> "Tensor":
    """Slices as the model's squares, uint8 (N, S, S)."""
    import torch

    return torch.from_numpy(to_squares(model, slices))


def to_float_pixels(pixels: "Tensor", device: "torch.device | str") -> "Tensor":
    """Grey uint8 (N, S, S) as the model's input, float32 (N, 3, S, S) in [0, 1], on `device`."""
    grey = pixels.to(device).float().div_(255)
    return grey[:, None].expand(-1, 3, -1, -1)


def predict(
    model: "ResNetViT | Answering", slices: "Slice | Sequence[Slice] | Tensor", *, batch_size: int = 32
) -> Prediction:
    """Predict, as in evaluation mode, whatever mode the model is in; the model is not changed.

    Parameters
    ----------
    model : a model on any device, or a `Predictor`.
    slices : one slice, several, or uint8 squares (N, S, S) as `to_pixels` gives them.
    batch_size : how many go through the model at once.
    """
    if isinstance(model, Answering):
        return model.predict(slices, batch_size=batch_size)
    import torch

    from stroke_hub.model import get_evaluable

    if isinstance(slices, Slice):
        slices = [slices]
    if not len(slices):
        return answer(np.zeros((0, len(CLASSES)), np.float32), temperature=1.0, threshold=0.5)
    pixels = slices if isinstance(slices, torch.Tensor) else to_pixels(model, slices)
    device = model.temperature.device
    evaluable = get_evaluable(model)
    logits, distance = [], []
    with torch.inference_mode():
        for batch in track(pixels.split(batch_size), "predicting"):
            features = evaluable.features(to_float_pixels(batch, device))
            logits.append(evaluable.head(features).float().cpu())
            distance.append(compute_distance(model, features))
    return answer(
        torch.cat(logits).numpy(),
        temperature=float(model.temperature),
        threshold=float(model.threshold),
        distance=np.concatenate(distance),
        limit=float(model.feature_distance_limit),
        squares=pixels.cpu().numpy(),
    )


def compute_features(model: "ResNetViT", squares: "Tensor", *, name: str = "") -> "Tensor":
    """Both branches' features, float32 (N, F), on the CPU, of uint8 squares (N, S, S); `name` is for the bar."""
    import torch

    from stroke_hub.model import get_evaluable

    evaluable, device = get_evaluable(model), model.temperature.device
    with torch.no_grad():  # not inference mode: a head may be trained on them
        batches = track(squares.split(32), f"features{name and ' of the '}{name}")
        return torch.cat([evaluable.features(to_float_pixels(batch, device)).float().cpu() for batch in batches])


def compute_distance(model: "ResNetViT", features: "Tensor") -> NDArray[np.float64]:
    """How far features (N, F) are from the training slices', (N,): `novelty.measure_distance`."""
    scale = model.feature_scale
    return measure_distance(
        features.float().cpu().numpy(),
        model.feature_mean.float().cpu().numpy(),
        None if scale is None else scale.float().cpu().numpy(),
    )


def read_logits(model: "ResNetViT", logits: "Tensor") -> Prediction:
    """Calibrated probabilities and labels of logits (N, 2), of slices whose features nobody measured."""
    return answer(logits.numpy(), temperature=float(model.temperature), threshold=float(model.threshold))


def predict_paths(
    model: "ResNetViT | Answering", sources: Sequence[str | Path], *, batch_size: int = 32
) -> "pd.DataFrame":
    """Predict files and every image below folders; one bad file never ends the run.

    Returns
    -------
    A row a slice, in the order of the sorted paths: path, index (frame), label, stroke_probability, unusual (unlike
    the training slices), error (one sentence, "" where fine; with one, those three are missing).
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    waiting: list[tuple[dict[str, Any], Slice]] = []

    def flush() -> None:
        prediction = predict(model, [s for _, s in waiting], batch_size=batch_size)
        columns = (prediction.label, prediction.probability, prediction.unusual)
        for (row, _), label, probability, unusual in zip(waiting, *columns, strict=True):
            row |= {"label": label, "stroke_probability": probability, "unusual": bool(unusual)}
        waiting.clear()

    for path in track(_find_images(sources), "predicting"):
        try:
            slices = load_slices(path)
        except UnreadableImage as error:
            rows.append({"path": str(path), "index": 0, "error": str(error)})
            continue
        for s in slices:
            rows.append({"path": str(path), "index": s.index, "error": ""})
            waiting.append((rows[-1], s))
        if len(waiting) >= batch_size:
            flush()
    flush()
    return pd.DataFrame(rows, columns=["path", "index", "label", "stroke_probability", "unusual", "error"])


def _find_images(sources: Sequence[str | Path]) -> list[Path]:
    """The files named, and the images below the folders named; a missing one stays, to become an error row."""
    found: list[Path] = []
    for source in map(Path, sources):
        inside = sorted(p for p in source.rglob("*") if may_hold_slices(p.name) and p.name[0] != ".")
        found += inside if source.is_dir() else [source]
    return found
