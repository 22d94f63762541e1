"""Where maps lie: how much of a map, and whether its strongest pixel, is in the lesion that a mask shows.

The measures are described in `evaluation.faithfulness`. They cost one explanation a slice, so that every report on
slices with masks has them; what else judges a map takes a hundred.
"""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import Tensor

from stroke_hub.data.masks import find_masked, read_masks
from stroke_hub.evaluation.controls import Array, Named, draw_controls, find_best_control
from stroke_hub.inference.explain import explain
from stroke_hub.io.sight import FramedSlice
from stroke_hub.metrics.intervals import bound_share
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.progress import track

__all__ = [
    "TINY",
    "Grids",
    "bound_mean",
    "find_grids",
    "find_regions",
    "fit_mask",
    "localise",
    "measure_localisation",
    "rank_pixels",
]

Grids: TypeAlias = dict[str, tuple[int, int]]

TINY = float(np.finfo(np.float32).tiny)
REPORTED = ("pointing", "pointing_inside", "mass", "rank", "dice")  # measures that need no word on cells
MOST = 500  # slices: the full preset explains so many in some minutes without a GPU


def measure_localisation(
    model: ResNetViT, table: pd.DataFrame, squares: Tensor, root: Path, *, batch_size: int = 32
) -> dict[str, Any] | None:
    """Measure how well maps show where a lesion is, on the stroke slices of a table that have a mask.

    Parameters
    ----------
    table, squares : N slices, and what the model sees of them, uint8 (N, S, S).

    Returns
    -------
    As `runs.report.Localisation`; None where no slice has a mask with a lesion. Of more than 500 slices, 500 are
    taken evenly.

    Raises
    ------
    DatasetError : a mask cannot be read.
    """
    rows = np.flatnonzero((table["label"] == 1).to_numpy() & find_masked(table))
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST)).round().astype(int)]
    lesions = read_masks(model, root, table.iloc[rows]).squares.numpy() > 127 if len(rows) else np.zeros((0, 1, 1))
    shown = lesions.any((1, 2))
    rows, lesions = rows[shown], lesions[shown]
    if not len(rows):
        return None
    parts: dict[str, dict[str, list[Array]]] = {name: {} for name in REPORTED}
    batches = np.split(np.arange(len(rows)), range(batch_size, len(rows), batch_size))
    for batch in track(batches, "comparing maps with lesions"):
        pixels = squares[rows[batch]]
        explanations = explain(model, pixels, batch_size=len(batch))
        maps = {
            name: np.stack([getattr(e, f"{name}_map") for e in explanations]) for name in ("cnn", "vit", "fused")
        }
        maps |= draw_controls(pixels.cpu().numpy(), (0, int(batch[0])))
        chance = np.random.default_rng((0, int(batch[0]), 1)).random(pixels.shape)
        regions = find_regions(lesions[batch], {})
        for name, relevance in maps.items():
            ranks, positive = rank_pixels(relevance, chance), np.clip(relevance, 0, None)
            found = localise(positive, ranks, lesions[batch], regions)
            for measure in REPORTED:
                parts[measure].setdefault(name, []).append(found[measure])
    values = {
        measure: {name: np.concatenate(of) for name, of in by_map.items()} for measure, by_map in parts.items()
    }
    best = {measure: find_best_control(of, 1) or "" for measure, of in values.items()}
    _, codes = np.unique(table["group"].to_numpy(str)[rows], return_inverse=True)
    return {
        "n_stroke": int((table["label"] == 1).sum()),
        "n": len(rows),
        "groups": int(codes.max()) + 1,
        "controls": best,
        "measures": {
            measure: {
                name: bound_share(np.bincount(codes, of[source].clip(0, 1)), np.bincount(codes))
                for name, source in (("cnn", "cnn"), ("vit", "vit"), ("fused", "fused"), ("control", best[measure]))
            }
            for measure, of in values.items()
        },
    }


def find_grids(model: ResNetViT) -> Grids:
    """Count rows and columns of the CNN's last map and of the patches."""
    blank = torch.zeros(1, 3, model.image_size, model.image_size, device=model.temperature.device)
    with torch.inference_mode():
        rows, columns = model.map_cnn(blank).shape[2:]
    return {"cnn": (rows, columns), "vit": tuple(model.vit.patch_embed.grid_size)}


def fit_mask(framed: FramedSlice, mask: Array | None) -> Array:
    """Fit a lesion (H, W) into the square (S, S) that the model sees of its slice; none is an empty one."""
    if mask is None:
        return np.zeros(framed.square.shape, bool)
    return framed.fit(mask.astype(np.uint8) * np.uint8(255)) > 127


def rank_pixels(relevance: Array, chance: Array) -> Array:
    """Rank every pixel of maps (N, S, S), 0 the most relevant; `chance` (N, S, S) orders equals."""
    order = np.lexsort((chance.reshape(len(chance), -1), -relevance.reshape(len(chance), -1)), axis=-1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(order.shape[1])[None], axis=1)
    return ranks.reshape(relevance.shape)


def find_regions(lesions: Array, grids: Grids) -> Named:
    """Find the regions of lesions (N, S, S): these, what counts as pointing at them, the cells that they touch."""
    size = lesions.shape[1]
    near = [ndimage.distance_transform_edt(~lesion) <= size * 15 / 224 for lesion in lesions]
    regions = {"mass": lesions, "pointing": np.stack(near)}
    for name, (rows, columns) in grids.items():
        row, column = np.arange(size) * rows // size, np.arange(size) * columns // size
        cells = np.zeros((len(lesions), rows, columns), bool)
        slices, down, across = lesions.nonzero()
        cells[slices, row[down], column[across]] = True
        regions[f"mass_{name}_cells"] = cells[:, row[:, None], column]
    return regions


def localise(positive: Array, ranks: Array, lesions: Array, regions: Named) -> Named:
    """Measure where maps (N, S, S), >= 0, lie: NaN without a lesion, 0 where the map is."""
    area, total = lesions.sum((1, 2)), np.maximum(positive.sum((1, 2), dtype=np.float64), TINY)
    strong = (positive >= 0.5 * positive.max((1, 2), keepdims=True)) & (positive > 0)
    both, whole = (strong & lesions).sum((1, 2)), strong.sum((1, 2)) + area
    first = (ranks < area[:, None, None]) & lesions & (positive > 0)
    found = {
        name: (positive * region).sum((1, 2), dtype=np.float64) / total
        for name, region in regions.items()
        if name != "pointing"
    } | {
        "pointing_inside": ((ranks == 0) & (positive > 0) & lesions).any((1, 2)).astype(float),
        "pointing": ((ranks == 0) & (positive > 0) & regions["pointing"]).any((1, 2)).astype(float),
        "rank": first.sum((1, 2)) / np.maximum(area, 1),
        "dice": 2 * both / np.maximum(whole, 1),
        "iou": both / np.maximum(whole - both, 1),
    }
    return {name: np.where(area > 0, value, np.nan) for name, value in found.items()}


def bound_mean(values: Array, names: Array) -> dict[str, Any] | None:
    """Estimate mean and "score" interval over groups of what is defined of shares (N,)."""
    kept = np.isfinite(values)
    if not kept.any():
        return None
    _, codes = np.unique(names[kept], return_inverse=True)
    found = bound_share(np.bincount(codes, values[kept].clip(0, 1)), np.bincount(codes))
    return {"mean": float(values[kept].mean()), "low": found["low"], "high": found["high"], "n": int(kept.sum())}
