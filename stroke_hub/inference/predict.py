"""predict(): slices in, calibrated probabilities out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import ModelFormatError
from stroke_hub.inference.inputs import Given, Taken
from stroke_hub.inference.ood import measure_distance, measure_texture
from stroke_hub.inference.predictor import Predictor, _as_predictor
from stroke_hub.inference.results import Prediction, make_prediction, to_squares
from stroke_hub.inference.scan_answer import ScanPrediction
from stroke_hub.io.sight import Sight
from stroke_hub.io.slices import Slice
from stroke_hub.models.presets import CLASSES, find_baseline
from stroke_hub.progress import track
from stroke_hub.scan.scan import Scan

if TYPE_CHECKING:  # torch is imported where it is used: an exported model answers without it
    import torch
    from torch import Tensor

    from stroke_hub.inference.onnx_model import ExportedModel
    from stroke_hub.models.resnet_vit import ResNetViT

__all__ = [
    "check_precision",
    "compute_distance",
    "compute_features",
    "compute_textures",
    "predict",
    "predict_with_torch",
    "read_logits",
    "to_float_pixels",
    "to_pixels",
]


def to_pixels(model: Sight, slices: Sequence[Slice]) -> "Tensor":
    """Turn slices into the model's squares, uint8 (N, S, S)."""
    import torch

    return torch.from_numpy(to_squares(model, slices).squares)


def to_float_pixels(pixels: "Tensor", device: "torch.device | str") -> "Tensor":
    """Turn grey uint8 (N, S, S) into the model's input, float32 (N, 3, S, S) in [0, 1], on `device`."""
    grey = pixels.to(device).float().div_(255)
    return grey[:, None].expand(-1, 3, -1, -1)


@overload
def predict(
    model: "ResNetViT | ExportedModel | Predictor",
    slices: Scan,
    *,
    batch_size: int = ...,
    contributions: bool = ...,
) -> ScanPrediction: ...


@overload
def predict(
    model: "ResNetViT | ExportedModel | Predictor",
    slices: Given,
    *,
    batch_size: int = ...,
    contributions: bool = ...,
) -> Prediction: ...


def predict(
    model: "ResNetViT | ExportedModel | Predictor",
    slices: Given | Scan,
    *,
    batch_size: int = 32,
    contributions: bool = False,
) -> Prediction | ScanPrediction:
    """Predict, as in evaluation mode, whatever mode the model is in; the model is not changed.

    Parameters
    ----------
    model : a `ResNetViT` on any device, an `ExportedModel`, or a `Predictor` of either.
    slices : what holds them: a `Slice`, a path, a folder or zip archive (all its slices, in order), the bytes of
        a file, a PIL picture, an array (H, W) or (H, W, 3), or a list or generator of these. Each slice is
        rendered and framed as the model was trained, whatever its `pixels` show. An array or tensor uint8
        (N, S, S) is taken for squares, as `to_pixels` gives them, and is not framed again. A `Scan` is judged as
        one, batch by batch.
    batch_size : how many go through the model at once, at least 1.
    contributions : tell what each branch contributed, too: of a standard transformer for the same price, of others
        for that of a backward pass. Logits may differ by rounding from those without.

    Returns
    -------
    A `ScanPrediction` of a `Scan`, with the `Prediction` of its slices in it; else a `Prediction`.

    Raises
    ------
    RunError : an export has no contributions.
    ModelFormatError : the model is in half precision.
    UnreadableImage : a file cannot be read; it is named.
    TypeError : `model` is none of the three, or `slices` holds something else, as floats for squares.
    ValueError : an array has another shape, or `batch_size` is below 1; a scan has no slices.
    """
    return _as_predictor(model).predict(slices, batch_size=batch_size, contributions=contributions)


def predict_with_torch(model: "ResNetViT", slices: Taken, *, batch_size: int, contributions: bool) -> Prediction:
    """Predict with a model in PyTorch: `predict` without the choice of a backend."""
    import torch

    from stroke_hub.inference.relevance import compute_relevance
    from stroke_hub.models.resnet_vit import get_evaluable

    check_precision(model)
    squares, remarks, modalities = to_squares(model, slices)
    if not len(squares):
        return make_prediction(np.zeros((0, len(CLASSES)), np.float32), temperature=1.0, threshold=0.5)
    device = model.temperature.device
    evaluable = get_evaluable(model)
    names = model.baselines
    rows = [find_baseline(model.modalities, modality, count=len(names)) for modality in modalities]
    numbers = torch.tensor(rows, device=device).split(batch_size)
    batches = list(zip(torch.from_numpy(squares).split(batch_size), numbers, strict=True))
    logits, distance, parts = [], [], []
    with torch.inference_mode():
        for batch, compared in track(batches, "predicting"):
            x = to_float_pixels(batch, device)
            if contributions:
                # CPUs convolve this layout faster: 1.4 times the tiny preset's slices a second, 1.15 the compact's
                x = x.contiguous(memory_format=torch.channels_last)
                relevance = compute_relevance(evaluable, x, x.new_ones(len(x)), rows=compared)
                features, found = relevance.features, relevance.logits
                parts.append(relevance.contributions.cpu())
            else:
                features = evaluable.features(x)
                found = evaluable.head(features)
            logits.append(found.float().cpu())
            distance.append(compute_distance(model, features, x))
    return make_prediction(
        torch.cat(logits).numpy(),
        temperature=float(model.temperature),
        threshold=float(model.threshold),
        distance=np.concatenate(distance),
        limit=float(model.feature_distance_limit),
        squares=squares,
        contributions=torch.cat(parts).numpy() if contributions else None,
        baseline=[names[row] for row in rows] if contributions else None,
        remarks=remarks,
    )


def check_precision(model: "ResNetViT") -> None:
    """Refuse a model in half precision, whose threshold, temperature and evidence are rounded.

    Raises
    ------
    ModelFormatError : some of its numbers are float16 or bfloat16.
    """
    import torch

    if halved := {value.dtype for value in model.state_dict().values()} & {torch.float16, torch.bfloat16}:
        name = str(halved.pop()).removeprefix("torch.")
        raise ModelFormatError(f"The model is in {name}, but answers in float32 only; call model.float() first.")


def compute_features(model: "ResNetViT", squares: "Tensor", *, name: str = "") -> "Tensor":
    """Compute both branches' features, float32 (N, F) on the CPU, of uint8 squares (N, S, S); `name` is shown."""
    import torch

    from stroke_hub.models.resnet_vit import get_evaluable

    evaluable, device = get_evaluable(model), model.temperature.device
    with torch.no_grad():  # not inference mode: a head may be trained on them
        batches = track(squares.split(32), f"features{name and ' of the '}{name}")
        return torch.cat([evaluable.features(to_float_pixels(batch, device)).float().cpu() for batch in batches])


def compute_distance(model: "ResNetViT", features: "Tensor", x: "Tensor") -> NDArray[np.float64]:
    """Compute the distance (N,) of slices from the training slices: of features or of texture, whichever is larger.

    Parameters
    ----------
    features : (N, F). x : (N, 3, S, S), the squares that they are of, as `to_float_pixels` gives them.

    Returns
    -------
    In the units of the features' distance, so that one limit is that of both.
    """
    names = ("feature_scale", "feature_whitening", "texture_mean", "texture_scale", "texture_whitening")
    held = {name: value.float().cpu().numpy() for name in names if (value := getattr(model, name)) is not None}
    mean = model.feature_mean.float().cpu().numpy()
    distance = measure_distance(
        features.float().cpu().numpy(), mean, held.get("feature_scale"), held.get("feature_whitening")
    )
    if "texture_mean" not in held or not model.feature_distance_limit.isfinite():
        return distance
    texture = measure_texture(x[:, 0]).cpu().numpy()
    beside = measure_distance(texture, held["texture_mean"], held["texture_scale"], held["texture_whitening"])
    return np.maximum(distance, float(model.feature_distance_limit) * beside)


def compute_textures(squares: "Tensor") -> "Tensor":
    """Compute the texture, float32 (N, T), of uint8 squares (N, S, S), by `ood.measure_texture`."""
    import torch

    return torch.cat([measure_texture(to_float_pixels(batch, "cpu")[:, 0]) for batch in squares.split(32)])


def read_logits(model: "ResNetViT", logits: "Tensor") -> Prediction:
    """Turn logits (N, 2) into calibrated probabilities and labels, of slices whose features were not measured."""
    return make_prediction(logits.numpy(), temperature=float(model.temperature), threshold=float(model.threshold))
