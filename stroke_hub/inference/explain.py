"""explain(): a probability, the maps of both branches, their sum, and what each branch contributed, by one forward.

relevance.py has the mathematics; here it becomes maps and numbers for a reader.
"""

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from stroke_hub.extras import name_extras
from stroke_hub.inference.inputs import Given, One, Taken
from stroke_hub.inference.predict import check_precision, compute_distance, to_float_pixels
from stroke_hub.inference.predictor import Predictor, _as_predictor
from stroke_hub.inference.results import Explanation, Method, Target, frame_slices, make_explanations
from stroke_hub.inference.scan_answer import ScanExplanation
from stroke_hub.io.sight import FramedSlice
from stroke_hub.models.presets import find_baseline
from stroke_hub.progress import track
from stroke_hub.scan.scan import Scan

if TYPE_CHECKING:  # torch is imported where it is used: an exported model answers without it
    from collections.abc import Sequence

    from torch import Tensor

    from stroke_hub.inference.onnx_model import ExportedModel
    from stroke_hub.models.resnet_vit import ResNetViT

__all__ = ["explain", "explain_with_torch"]


@overload
def explain(
    model: "ResNetViT | ExportedModel | Predictor", slices: Scan, *, batch_size: int = ...
) -> ScanExplanation: ...


@overload
def explain(
    model: "ResNetViT | ExportedModel | Predictor",
    slices: One,
    *,
    target: Target = ...,
    depth: int = ...,
    method: Method = ...,
    batch_size: int = ...,
) -> Explanation: ...


@overload
def explain(
    model: "ResNetViT | ExportedModel | Predictor",
    slices: "Sequence[One] | Tensor",
    *,
    target: Target = ...,
    depth: int = ...,
    method: Method = ...,
    batch_size: int = ...,
) -> list[Explanation]: ...


@overload
def explain(
    model: "ResNetViT | ExportedModel | Predictor",
    slices: Given,
    *,
    target: Target = ...,
    depth: int = ...,
    method: Method = ...,
    batch_size: int = ...,
) -> Explanation | list[Explanation]: ...


def explain(
    model: "ResNetViT | ExportedModel | Predictor",
    slices: Given | Scan,
    *,
    target: Target = "Stroke",
    depth: int = 1,
    method: Method = "relevance",
    batch_size: int = 16,
) -> Explanation | list[Explanation] | ScanExplanation:
    """Explain one slice or many, for the price of one forward, or a scan as one.

    Parameters
    ----------
    model : a `ResNetViT` in any mode and on any device, an `ExportedModel`, or a `Predictor` of either. It is not
        changed, and threads may share it.
    slices : as of `predict`. A `Scan` has no other target, depth or method than the default.
    target : the class explained, in any case; "predicted" takes each slice's own.
    depth : transformer blocks that the ViT map looks through. 1 is gradient x attention; above 1 it is another
        definition, the relevance of Chefer et al. (2021), by autograd and at a higher price.
    method : of the two display maps. "relevance" is the closed form; "attention" takes rollout (Abnar and Zuidema,
        2020) for the ViT map, which knows no class; the names in `results.CAMS` take both from the
        grad-cam package, many times slower. Probability, contributions, evidence and fused map are the same for
        all. Case and hyphens do not matter; "grad-cam" is "relevance", whose CNN map is Grad-CAM.
    batch_size : how many go through the model at once, at least 1.

    Returns
    -------
    An `Explanation` of one slice, picture, array or file of one slice; a list of them for a list, folder, archive
    or file of several pages; a `ScanExplanation` of a `Scan`.

    Raises
    ------
    ValueError : for an unknown target or method, a depth below 1, and as of `predict`.
    ModelFormatError : the transformer's attention cannot be read, or the model is in half precision.
    RunError : an export is asked for another method or depth than its own, or it predicts only.
    UnreadableImage, TypeError : as of `predict`.
    """
    options: dict[str, Any] = {"target": target, "depth": depth, "method": method}  # a scan refuses some
    return _as_predictor(model).explain(slices, batch_size=batch_size, **options)


def explain_with_torch(
    model: "ResNetViT",
    slices: Taken,
    *,
    target: Target,
    depth: int,
    method: Method,
    batch_size: int,
) -> list[Explanation]:
    """Explain several slices with a model in PyTorch: `explain` without the choice of a backend."""
    check_precision(model)
    if depth < 1:
        raise ValueError(f"depth is {depth}, but must be at least 1.")
    if depth > len(model.vit.blocks):
        raise ValueError(f"depth is {depth}, but the transformer has {len(model.vit.blocks)} blocks.")
    framed = list(frame_slices(model, slices))
    explained = []
    for start in track(range(0, len(framed), batch_size), "explaining"):
        explained += _explain_batch(model, framed[start : start + batch_size], target, depth, method)
    return explained


def _explain_batch(
    model: "ResNetViT", framed: list[FramedSlice], target: Target, depth: int, method: Method
) -> list[Explanation]:
    import torch

    from stroke_hub.inference.relevance import compute_relevance, compute_rollout, has_closed_form

    device = model.temperature.device
    closed = depth == 1 and has_closed_form(model.vit)
    sign = None if target == "predicted" else torch.full((len(framed),), 1.0 if target == "Stroke" else -1.0)
    with torch.inference_mode(closed and method == "relevance"):
        x = to_float_pixels(torch.from_numpy(np.stack([one.square for one in framed])), device)
        names = model.baselines
        rows = [find_baseline(model.modalities, one.modality, count=len(names)) for one in framed]
        compared = torch.tensor(rows, device=device)
        relevance = compute_relevance(
            model, x, None if sign is None else sign.to(device), rows=compared, depth=depth
        )
        words = "closed form" if closed else f"autograd, depth {depth}"
        if method == "attention":
            relevance = relevance._replace(vit_map=compute_rollout(model, x))
            words = "attention rollout, not class-specific"
        elif method != "relevance":
            with name_extras(f"The method {method}"):
                from stroke_hub.inference.cams import compute_cams

                cnn_map, vit_map = compute_cams(model, x, relevance.sign, method)
            relevance = relevance._replace(cnn_map=cnn_map, vit_map=vit_map)
            words = f"{method}, by the grad-cam package"
    found = {name: values.cpu().numpy() for name, values in relevance._asdict().items()}
    return make_explanations(
        found | {"distance": compute_distance(model, relevance.features, x)},
        framed,
        temperature=float(model.temperature),
        threshold=float(model.threshold),
        limit=float(model.feature_distance_limit),
        target=target,
        method=words,
        baselines=[names[row] for row in rows],
    )
