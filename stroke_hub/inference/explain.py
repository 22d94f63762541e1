"""explain(): a probability, the maps of both branches, their sum, and what each branch contributed, by one forward.

relevance.py has the mathematics; here it becomes maps and numbers for a reader.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from stroke_hub.inference.predict import compute_distance, to_float_pixels
from stroke_hub.inference.predictor import Predictor, _as_predictor
from stroke_hub.inference.results import (
    METHODS,
    Explanation,
    Method,
    Target,
    check_target,
    frame_slices,
    make_explanations,
)
from stroke_hub.io.sight import FramedSlice, frame_square
from stroke_hub.io.slices import Slice
from stroke_hub.progress import track

if TYPE_CHECKING:  # torch is imported where it is used: an exported model answers without it
    from torch import Tensor

    from stroke_hub.inference.onnx_model import ExportedModel
    from stroke_hub.models.resnet_vit import ResNetViT

__all__ = ["explain", "explain_with_torch"]


@overload
def explain(
    model: "ResNetViT | ExportedModel | Predictor",
    slices: Slice,
    *,
    target: Target = ...,
    depth: int = ...,
    method: Method = ...,
    batch_size: int = ...,
) -> Explanation: ...


@overload
def explain(
    model: "ResNetViT | ExportedModel | Predictor",
    slices: "Sequence[Slice | FramedSlice] | Tensor",
    *,
    target: Target = ...,
    depth: int = ...,
    method: Method = ...,
    batch_size: int = ...,
) -> list[Explanation]: ...


def explain(
    model: "ResNetViT | ExportedModel | Predictor",
    slices: "Slice | Sequence[Slice | FramedSlice] | Tensor",
    *,
    target: Target = "Stroke",
    depth: int = 1,
    method: Method = "relevance",
    batch_size: int = 16,
) -> Explanation | list[Explanation]:
    """Explain one slice or many, for the price of one forward.

    Parameters
    ----------
    model : a `ResNetViT` in any mode and on any device, an `ExportedModel`, or a `Predictor` of either. It is not
        changed, and threads may share it.
    slices : a slice, a sequence of them, also framed by `frame_slice` already, or uint8 squares (N, S, S). Each
        slice is rendered and framed as the model was trained, whatever its `pixels` show.
    target : the class explained; "predicted" takes each slice's own.
    depth : transformer blocks that the ViT map looks through; above 1 by autograd, at a higher price.
    method : of the two display maps. "relevance" is the closed form; "attention" takes rollout (Abnar and Zuidema,
        2020) for the ViT map, which knows no class; the names in `results.CAMS` take both from the
        grad-cam package, many times slower. Probability, contributions, evidence and fused map are the same for
        all.
    batch_size : how many go through the model at once.

    Returns
    -------
    An `Explanation`, or a list of them for a sequence.

    Raises
    ------
    ValueError : for an unknown target or method, or a depth below 1.
    ModelFormatError : the transformer's attention cannot be read.
    RunError : an export is asked for another method or depth than its own, or it predicts only.
    TypeError : `model` is none of the three.
    """
    return _as_predictor(model).explain(slices, target=target, depth=depth, method=method, batch_size=batch_size)


def explain_with_torch(
    model: "ResNetViT",
    slices: "Sequence[Slice | FramedSlice] | Tensor",
    *,
    target: Target,
    depth: int,
    method: Method,
    batch_size: int,
) -> list[Explanation]:
    """Explain several slices with a model in PyTorch: `explain` without the choice of a backend."""
    import torch

    check_target(target)
    if depth < 1:
        raise ValueError(f"depth is {depth}, but must be at least 1.")
    if depth > len(model.vit.blocks):
        raise ValueError(f"depth is {depth}, but the transformer has {len(model.vit.blocks)} blocks.")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, but must be one of {list(METHODS)}.")
    if not len(slices):
        return []
    if isinstance(slices, torch.Tensor):
        framed = [frame_square(square) for square in slices.cpu().numpy()]
    else:
        framed = list(frame_slices(model, slices))
    explained = []
    for start in track(range(0, len(framed), batch_size), "explaining"):
        explained += _explain_batch(model, framed[start : start + batch_size], target, depth, method)
    return explained


def _explain_batch(
    model: "ResNetViT", framed: list[FramedSlice], target: Target, depth: int, method: Method
) -> list[Explanation]:
    import torch

    from stroke_hub.inference.cams import compute_cams
    from stroke_hub.inference.relevance import compute_relevance, compute_rollout, has_closed_form

    device = model.temperature.device
    closed = depth == 1 and has_closed_form(model.vit)
    sign = None if target == "predicted" else torch.full((len(framed),), 1.0 if target == "Stroke" else -1.0)
    with torch.inference_mode(closed and method == "relevance"):
        x = to_float_pixels(torch.from_numpy(np.stack([one.square for one in framed])), device)
        relevance = compute_relevance(model, x, None if sign is None else sign.to(device), depth=depth)
        words = "closed form" if closed else f"autograd, depth {depth}"
        if method == "attention":
            relevance = relevance._replace(vit_map=compute_rollout(model, x))
            words = "attention rollout, not class-specific"
        elif method != "relevance":
            cnn_map, vit_map = compute_cams(model, x, relevance.sign, method)
            relevance = relevance._replace(cnn_map=cnn_map, vit_map=vit_map)
            words = f"{method}, by the grad-cam package"
    found = {name: values.cpu().numpy() for name, values in relevance._asdict().items()}
    return make_explanations(
        found | {"distance": compute_distance(model, relevance.features)},
        framed,
        temperature=float(model.temperature),
        threshold=float(model.threshold),
        limit=float(model.feature_distance_limit),
        target=target,
        method=words,
    )
