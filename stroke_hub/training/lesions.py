"""What lesions teach: the scores of cells, learned with the rest or fitted to still backbones.

Masks of real lesions teach them, or simulated bleeding where a dataset of CT has none.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stroke_hub.data.bleeding import lay_bleeding
from stroke_hub.data.masks import Masks
from stroke_hub.errors import DatasetError
from stroke_hub.inference.predict import to_float_pixels
from stroke_hub.io.windowing import Modality, Window
from stroke_hub.models.resnet_vit import LESION_GRID, ResNetViT, get_evaluable
from stroke_hub.progress import say, track

__all__ = [
    "SLICES",
    "UNKNOWN",
    "Laid",
    "ScoredView",
    "compute_cells",
    "fit_bleeding",
    "fit_cells",
    "fit_scores",
    "lay_many",
    "mark_unknown",
    "measure_scores",
    "share_cells",
    "spread",
    "start_scores",
]

WEIGHT = 5.0  # of the cells beside the slice's own loss
PRIOR = -4.0  # log-odds of a lesion in a cell, before anything is learned
UNKNOWN = 2  # added to the label of a stroke whose lesion nobody drew
PENALTY = 3e-4  # of the squared weights, chosen by cross-validation over 956 real MR training slices
SLICES = 1500  # at most, that a fit holds in memory: 256 cells of all features each
ITERATIONS = 60


class ScoredView(nn.Module):
    """Show the model with the scores of its cells beside the logits."""

    def __init__(self, model: ResNetViT) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (N, 2) and scores (N, 2, 16, 16) of float pixels (N, 3, S, S) in [0, 1]."""
        model = self.model
        maps, tokens = model.map_stages(x), model.vit.forward_features(model.normalise_vit(x))
        return cast(Tensor, model.head(model.join(maps, tokens))), model.score_cells(maps, tokens)


def mark_unknown(labels: Tensor, masks: Masks) -> Tensor:
    """Mark the strokes whose lesion nobody drew in labels (N,)."""
    return labels + UNKNOWN * torch.from_numpy(~masks.known)


def start_scores(model: ResNetViT) -> None:
    """Let a model start as its lesion scores: the head sees nothing else yet, and they know nothing."""
    places = [model.cnn_features - 1, len(model.feature_mean) - 1]
    last = cast(nn.Linear, model.head[-1])
    with torch.no_grad():
        model.lesion.weight.zero_()
        model.lesion.bias.fill_(PRIOR)
        if last is model.head[0]:
            last.weight.zero_()
            last.bias.zero_()
            last.weight[0, places], last.weight[1, places] = -0.5, 0.5


def measure_scores(scores: Tensor, shares: Tensor, known: Tensor) -> Tensor:
    """Measure the loss of cells, summed over slices and averaged over their cells.

    Cross-entropy with the share of a cell that is lesion: of both branches' sum and, half as heavy, of twice each
    branch's own, so that the one which learns later is not left to nothing.

    Parameters
    ----------
    scores : (N, 2, 16, 16). shares : (N, 16, 16). known : bool (N,).
    """
    total = scores.new_zeros(())
    for weight, one in ((1.0, scores.sum(1)), (0.5, 2 * scores[:, 0]), (0.5, 2 * scores[:, 1])):
        losses = F.binary_cross_entropy_with_logits(one, shares, reduction="none").mean((1, 2))
        total = total + WEIGHT * weight * losses[known].sum()
    return total


def fit_scores(model: ResNetViT, squares: Tensor, masks: Masks) -> None:
    """Fit the scores of cells to still backbones, in place; the head then is their sum.

    Pooled features beside the scores made the answer worse in cross-validation over real MR slices (AUROC 0.785
    instead of 0.813), so the head leaves them out.

    Parameters
    ----------
    squares : uint8 (N, S, S), training slices that are not augmented.
    """
    taken = np.flatnonzero(masks.known)
    if len(taken) > SLICES:
        say(f"note: lesion scores are fitted to {SLICES:,} of {len(taken):,} training slices, spread evenly.")
    rows = torch.from_numpy(spread(taken, SLICES))
    weight, bias = fit_cells(
        compute_cells(model, squares[rows.to(squares.device)]), share_cells(masks.squares[rows])
    )
    start_scores(model)
    with torch.no_grad():
        model.lesion.weight.copy_(weight[None])
        model.lesion.bias.copy_(bias)


def fit_bleeding(
    model: ResNetViT, squares: Tensor, labels: Tensor, modalities: Sequence[Modality | None], *, seed: int
) -> None:
    """Fit the scores of cells to simulated bleeding in normal CT slices, in place; the head is not touched.

    Parameters
    ----------
    squares : uint8 (N, S, S), training slices that are not augmented. labels : (N,), 1 of strokes.
    modalities : of each; bleeding is laid into those of CT alone, but all normal slices say what it is not.

    Raises
    ------
    DatasetError : no normal CT slice shows a brain inside a skull.
    """
    normal = np.flatnonzero(labels.cpu().numpy() == 0)
    scans = normal[[modalities[row] == "BT" for row in normal.tolist()]]
    laid = lay_many(squares[spread(scans, SLICES // 2)].cpu(), model.window, seed=seed)
    plain = squares[spread(normal, SLICES - len(laid.rows))].cpu()
    taught = torch.cat([laid.squares, plain]).to(squares.device)
    shares = share_cells(torch.cat([laid.masks, torch.zeros_like(plain)]))
    weight, bias = fit_cells(compute_cells(model, taught), shares)
    with torch.no_grad():
        model.lesion.weight.copy_(weight[None])
        model.lesion.bias.copy_(bias)


class Laid(NamedTuple):
    """Hold slices with simulated bleeding.

    squares : uint8 (N, S, S). masks : uint8 (N, S, S), 255 in the bleeding. rows : (N,), the slice below each.
    """

    squares: Tensor
    masks: Tensor
    rows: NDArray[np.intp]


def lay_many(squares: Tensor, window: Window, *, seed: int) -> Laid:
    """Lay bleeding into normal CT slices, uint8 (N, S, S), wherever it finds a place.

    Raises
    ------
    DatasetError : it finds none in all slices.
    """
    rng = np.random.default_rng(seed)
    tried = [lay_bleeding(one, rng, window=window) for one in track(squares.numpy(), "laying bleeding")]
    laid = [one for one in tried if one is not None]
    if not laid:
        raise DatasetError("No normal CT slice shows a brain inside a skull; leave --lesions bleeding out.")
    masks = np.stack([one.mask for one in laid]).astype(np.uint8) * np.uint8(255)
    rows = np.flatnonzero([one is not None for one in tried])
    return Laid(torch.from_numpy(np.stack([one.square for one in laid])), torch.from_numpy(masks), rows)


def spread(rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Take at most `count` of the rows, spread evenly."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(np.intp)
    return rows.take(np.unique(places))


def share_cells(masks: Tensor) -> Tensor:
    """Compute the share of each cell that masks uint8 (N, S, S) cover, float32 (N, 256)."""
    return F.adaptive_avg_pool2d(masks.float() / 255, LESION_GRID).flatten(1)


def fit_cells(cells: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a logistic regression with an L2 penalty to standardised cells.

    Parameters
    ----------
    cells : (N, 256, F), what the branches see of each cell.
    shares : (N, 256), of each cell that is lesion.

    Returns
    -------
    Weights (F,) and bias (1,) of the cells as they are.
    """
    known = cells.flatten(0, 1).float()
    mean, deviation = known.mean(0), known.std(0).clamp_min(1e-6)
    known.sub_(mean).div_(deviation)
    weight = torch.zeros(known.shape[1], requires_grad=True)
    bias = torch.tensor([PRIOR], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, history_size=10)
    target = shares.flatten()

    def closure() -> float:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(known @ weight + bias, target) + PENALTY * weight.square().sum()
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    scaled = (weight / deviation).detach()
    return scaled, bias.detach() - scaled @ mean


def compute_cells(model: ResNetViT, squares: Tensor) -> Tensor:
    """Compute what both branches see in each cell, float32 (N, 256, F), the CNN first."""
    evaluable, device = get_evaluable(model), model.temperature.device
    found = []
    for batch in track(squares.split(32), "cells of the lesion grid"):
        x = to_float_pixels(batch, device)
        with torch.no_grad():
            tokens = evaluable.vit.forward_features(evaluable.normalise_vit(x))[
                :, evaluable.vit.num_prefix_tokens :
            ]
            patches = tokens.transpose(1, 2).unflatten(2, tuple(evaluable.vit.patch_embed.grid_size))
            maps = [*evaluable.map_stages(x), patches]
            side = (LESION_GRID, LESION_GRID)
            grids = [F.interpolate(one, side, mode="bilinear", align_corners=False) for one in maps]
        found.append(torch.cat(grids, 1).flatten(2).transpose(1, 2).cpu())
    return torch.cat(found)
