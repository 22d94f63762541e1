"""explain(): one forward -> probability, CNN map, ViT map, fused map and what each branch contributed.

The mathematics is in `relevance`; here it becomes pictures and numbers for a reader.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stroke_hub.cams import CAMS, Cam, compute_cams
from stroke_hub.inference import compute_distance, read_logits, to_float_pixels, to_pixels
from stroke_hub.model import CLASSES, ResNetViT
from stroke_hub.novelty import describe_unusual
from stroke_hub.pixels import Slice
from stroke_hub.progress import track
from stroke_hub.relevance import Relevance, compute_relevance, compute_rollout, has_closed_form

__all__ = ["Explanation", "explain"]

Target = Literal["Stroke", "Normal", "predicted"]
Layer = Literal["cnn", "vit", "fused"]
Method = Literal["relevance", "attention"] | Cam
FloatMap = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why the model says what it says of one slice; S is the model's image size.

    target : the class explained, "Stroke" or "Normal"; every sign below is seen from it.
    label : the class predicted, by the model's threshold.
    probability : of `target`, calibrated, in [0, 1].
    log_odds : the same as log-odds: sigmoid(log_odds) = probability.
    cnn_map : float32 (S, S), >= 0, Grad-CAM of the CNN branch; a display map.
    vit_map : float32 (S, S), >= 0, attention relevance of the ViT branch; a display map.
    cnn_evidence : float32 (S, S), signed log-odds per pixel, summing to contributions["cnn"].
    vit_evidence : float32 (S, S), the same for contributions["vit"]: that sum allocated over the patches.
    fused_map : float32 (S, S), cnn_evidence + vit_evidence. It is not the sum of the two display maps.
    contributions : log-odds of "cnn", "vit" and "baseline" (the training-mean features), summing to log_odds.
    interaction : log-odds that neither branch carries alone, split evenly; 0 for a head of one hidden layer.
    norms : Euclidean norms of the branches' features: a diagnostic, not a contribution.
    method : how the maps were computed.
    pixels : uint8 (S, S), the square that the model saw.
    distance : from the training slices, as in `Prediction`, and distance_limit : the model's limit (or infinity).
    unusual : whether the slice is beyond that, or blank: then all of the above means little.
    """

    target: str
    label: str
    probability: float
    log_odds: float
    cnn_map: FloatMap
    vit_map: FloatMap
    cnn_evidence: FloatMap
    vit_evidence: FloatMap
    fused_map: FloatMap
    contributions: dict[str, float]
    interaction: float
    norms: dict[str, float]
    method: str
    pixels: NDArray[np.uint8]
    distance: float
    distance_limit: float
    unusual: bool

    def get_map(self, layer: Layer) -> FloatMap:
        """The float32 (S, S) map that `layer` names: "cnn", "vit" (>= 0) or "fused" (signed)."""
        maps = {"cnn": self.cnn_map, "vit": self.vit_map, "fused": self.fused_map}
        if layer not in maps:
            raise ValueError(f"layer is {layer!r}, but must be one of {list(maps)}.")
        return maps[layer]

    @property
    def remarks(self) -> list[str]:
        """What a reader must not miss: a slice unlike the training slices, and maps without positive evidence."""
        warning = [describe_unusual(self.distance, self.distance_limit)] if self.unusual else []
        names: dict[Layer, str] = {
            "cnn": "Grad-CAM of the CNN",
            "vit": "relevance of the ViT",
            "fused": "fused map",
        }
        return warning + [
            f"{name}: no positive evidence for {self.target}"
            for layer, name in names.items()
            if not (self.get_map(layer) > 0).any()
        ]

    def overlay(self, layer: Layer = "cnn", *, opacity: float = 0.5, colormap: str | None = None) -> Image.Image:
        """The slice under one map, an RGB picture (S, S).

        Colour and opacity grow with strength, each map scaled by its own largest absolute value; a map without
        evidence leaves the slice as it is.

        Parameters
        ----------
        layer : "cnn", "vit" or "fused". The first is the default because it places lesions best: on the masks of
            the simulated slices its strongest pixel hits in 66 %, the fused map's in 36 %, the ViT map's in 11 %.
        opacity : of the strongest pixel, 0 to 1.
        colormap : a matplotlib name; by default "inferno", and "RdBu_r" for the signed fused map.
        """
        import matplotlib

        values = self.get_map(layer)
        strength = np.abs(values).max()
        grey = np.repeat(self.pixels[..., None], 3, axis=2).astype(np.float32)
        if strength > 0:
            scaled = values / strength
            # a diverging map is near white around zero: beginning half way out leaves no veil where nothing is
            signed = 0.5 + np.sign(scaled) * (0.25 + 0.25 * np.abs(scaled))
            position = signed if layer == "fused" else scaled
            cmap = matplotlib.colormaps[colormap or ("RdBu_r" if layer == "fused" else "inferno")]
            colour = cmap(position)[..., :3].astype(np.float32) * 255
            cover = opacity * np.abs(scaled)[..., None] ** 0.7  # below 1, so that weaker regions stay visible
            grey = grey * (1 - cover) + colour * cover
        return Image.fromarray(grey.round().astype(np.uint8))


@overload
def explain(
    model: ResNetViT,
    slices: Slice,
    *,
    target: Target = ...,
    depth: int = ...,
    method: Method = ...,
    batch_size: int = ...,
) -> Explanation: ...
@overload
def explain(
    model: ResNetViT,
    slices: Sequence[Slice] | Tensor,
    *,
    target: Target = ...,
    depth: int = ...,
    method: Method = ...,
    batch_size: int = ...,
) -> list[Explanation]: ...
def explain(
    model: ResNetViT,
    slices: Slice | Sequence[Slice] | Tensor,
    *,
    target: Target = "Stroke",
    depth: int = 1,
    method: Method = "relevance",
    batch_size: int = 16,
) -> Explanation | list[Explanation]:
    """Explain one slice or many, for the price of one forward.

    Parameters
    ----------
    model : in any mode and on any device; it is not changed, and threads may share it.
    slices : a slice, a sequence of them, or uint8 squares (N, S, S).
    target : the class explained; "predicted" takes each slice's own.
    depth : transformer blocks that the ViT map looks through; above 1 by autograd, at a higher price.
    method : of the two display maps. "relevance" is the closed form; "attention" takes rollout (Abnar and Zuidema,
        2020) for the ViT map, which knows no class; the names in `cams.CAMS` take both from the grad-cam package,
        many times slower. Probability, contributions, evidence and fused map are the same for all.
    batch_size : how many go through the model at once.

    Returns
    -------
    An `Explanation`, or a list of them for a sequence.

    Raises
    ------
    ValueError : for an unknown target or method, or a depth below 1.
    ModelFormatError : the transformer's attention cannot be read.
    """
    if target not in (*CLASSES, "predicted"):
        raise ValueError(f"target is {target!r}, but must be 'Stroke', 'Normal' or 'predicted'.")
    if depth < 1:
        raise ValueError(f"depth is {depth}, but must be at least 1.")
    if depth > len(model.vit.blocks):
        raise ValueError(f"depth is {depth}, but the transformer has {len(model.vit.blocks)} blocks.")
    if method not in ("relevance", "attention", *CAMS):
        raise ValueError(f"method is {method!r}, but must be one of {['relevance', 'attention', *CAMS]}.")
    many = [slices] if isinstance(slices, Slice) else slices
    if not len(many):
        return []
    pixels = many if isinstance(many, Tensor) else to_pixels(model, many)
    batches = track(pixels.split(batch_size), "explaining")
    explained = [e for batch in batches for e in _explain_batch(model, batch, target, depth, method)]
    return explained[0] if isinstance(slices, Slice) else explained


def _explain_batch(
    model: ResNetViT, pixels: Tensor, target: Target, depth: int, method: Method
) -> list[Explanation]:
    device, size = model.temperature.device, model.image_size
    closed = depth == 1 and has_closed_form(model.vit)
    sign = None if target == "predicted" else torch.full((len(pixels),), 1.0 if target == "Stroke" else -1.0)
    with torch.inference_mode(closed and method == "relevance"):
        x = to_float_pixels(pixels.clone() if pixels.is_inference() else pixels, device)
        relevance = compute_relevance(model, x, None if sign is None else sign.to(device), depth=depth)
        cnn_map = _enlarge(relevance.cnn_map, size)
        vit_map = _enlarge(relevance.vit_map.clamp_min(0), size)
        words = "closed form" if closed else f"autograd, depth {depth}"
        if method == "attention":
            vit_map, words = _enlarge(compute_rollout(model, x), size), "attention rollout, not class-specific"
        elif method != "relevance":
            cnn_map, vit_map = compute_cams(model, x, relevance.sign, method)
            words = f"{method}, by the grad-cam package"
        return _describe(model, relevance, cnn_map, vit_map, pixels, target, words)


def _describe(
    model: ResNetViT,
    relevance: Relevance,
    cnn_map: Tensor,
    vit_map: Tensor,
    pixels: Tensor,
    target: Target,
    method: str,
) -> list[Explanation]:
    size = model.image_size
    cnn_maps, vit_maps = cnn_map.cpu().numpy(), vit_map.cpu().numpy()
    cnn_evidence = _spread(relevance.cnn_evidence, size).cpu().numpy()
    vit_evidence = _spread(relevance.vit_evidence, size).cpu().numpy()
    fused = cnn_evidence + vit_evidence
    distance = compute_distance(model, relevance.features)
    prediction = read_logits(model, relevance.logits.cpu(), distance, pixels)
    labels = prediction.label
    log_odds = relevance.log_odds.double().cpu()
    probability = log_odds.sigmoid().tolist()
    contributions, norms = relevance.contributions.tolist(), relevance.norms.tolist()
    interaction, squares = relevance.interaction.tolist(), pixels.cpu().numpy()
    return [
        Explanation(
            target=labels[i] if target == "predicted" else target,
            label=labels[i],
            probability=probability[i],
            log_odds=float(log_odds[i]),
            cnn_map=cnn_maps[i],
            vit_map=vit_maps[i],
            cnn_evidence=cnn_evidence[i],
            vit_evidence=vit_evidence[i],
            fused_map=fused[i],
            contributions=dict(zip(("cnn", "vit", "baseline"), contributions[i], strict=True)),
            interaction=interaction[i],
            norms=dict(zip(("cnn", "vit"), norms[i], strict=True)),
            method=method,
            pixels=squares[i],
            distance=float(distance[i]),
            distance_limit=float(model.feature_distance_limit),
            unusual=bool(prediction.unusual[i]),
        )
        for i in range(len(labels))
    ]


def _enlarge(grid: Tensor, size: int) -> Tensor:
    """Grids (N, h, w) as smooth maps (N, size, size)."""
    return F.interpolate(grid[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def _spread(grid: Tensor, size: int) -> Tensor:
    """Grids of sums (N, h, w) as densities (N, size, size) with the same sums.

    Bilinear weights of every cell add up to its area where the factor is whole; otherwise each cell is spread
    evenly over the pixels that it covers.
    """
    rows, columns = grid.shape[1:]
    if size % rows == 0 and size % columns == 0:
        return _enlarge(grid, size) / ((size // rows) * (size // columns))
    row = torch.arange(size, device=grid.device) * rows // size
    column = torch.arange(size, device=grid.device) * columns // size
    share = grid / (row.bincount(minlength=rows)[:, None] * column.bincount(minlength=columns))
    return share[:, row][:, :, column]
