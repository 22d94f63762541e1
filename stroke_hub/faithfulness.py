"""Is the explanation true? Our maps, and controls that know no model, under the same measures.

A map is float (S, S), positive where it speaks for Stroke. Wherever pixels are ordered, the signed map orders
them; wherever mass or regions count, its positive part does. Equal pixels are ordered at random, so that a flat map
is worth what chance is worth, and never what the order of the pixels in memory is worth.

Whoever publishes a figure from here publishes the controls beside it: a map that a centred blob beats has
explained nothing, however good its figure looks alone.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata
from torch import Tensor

from stroke_hub.explanation import Explanation, explain
from stroke_hub.figures import GREY, NORMAL, STROKE, THIRD, _styled
from stroke_hub.inference import read_logits, to_float_pixels, to_pixels
from stroke_hub.model import ResNetViT, get_evaluable
from stroke_hub.pixels import Slice, fit_square
from stroke_hub.progress import track
from stroke_hub.relevance import compute_rollout

__all__ = ["CONTROLS", "MAPS", "MEASURES", "draw_table", "judge"]

Floats: TypeAlias = NDArray[np.floating[Any]]
Bools: TypeAlias = NDArray[np.bool_]
Maps: TypeAlias = dict[str, Floats]  # name -> (N, S, S)
Values: TypeAlias = dict[str, dict[str, Floats]]  # measure -> map -> (N,), NaN where undefined

MAPS = ("cnn", "vit", "fused", "cnn_evidence", "vit_evidence", "vit depth 3", "attention")
CONTROLS = ("random", "blurred random", "centre Gaussian", "uniform brain", "edges", "intensity")
# measure -> title, +1 where more is better and -1 where less is
MEASURES = {
    "deletion": ("Deletion AUC", -1),
    "insertion": ("Insertion AUC", 1),
    "road": ("ROAD, combined", 1),
    "average_drop": ("Average drop", -1),
    "increase": ("Increase in confidence", 1),
    "pointing": ("Pointing game", 1),
    "mass": ("Mass in the lesion", 1),
    "mass_cnn_cells": ("Mass in CNN cells at it", 1),
    "mass_vit_cells": ("Mass in patches at it", 1),
    "rank": ("Relevance rank", 1),
    "dice": ("Dice at half maximum", 1),
    "iou": ("IoU at half maximum", 1),
    "randomisation": ("Randomised: Spearman", -1),
    "randomisation_size": ("Randomised: |Spearman|", -1),
    "sensitivity": ("Max-sensitivity", -1),
}
LOCALISATION = ("pointing", "mass", "mass_cnn_cells", "mass_vit_cells", "rank", "dice", "iou")
RANDOMISATION = ("randomisation", "randomisation_size")

FOREGROUND = 12  # grey levels: above what noise and compression leave outside a head
POINTING_MARGIN = 15 / 224  # of the side, as in Zhang et al. (2016)
SENSITIVITY_RADIUS = 2  # grey levels of 255
ROAD_KEPT = np.arange(1, 10) / 10  # shares of the pixels that stay, as Rong et al. (2022)
ROAD_NOISE = 0.01


def judge(
    model: ResNetViT,
    slices: Sequence[Slice] | Tensor,
    *,
    masks: Sequence[Bools | None] | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    steps: int = 10,
    randomisations: int = 3,
    draws: int = 3,
    replicates: int = 2000,
    batch_size: int = 16,
) -> dict[str, Any]:
    """Measure how true the maps for Stroke are, beside the controls; deterministic in `seed`.

    Parameters
    ----------
    model : in any mode and on any device; it is not changed.
    slices : N slices, or uint8 squares (N, S, S); give stroke slices, since what is explained is Stroke.
    masks : the lesion of each slice, bool in the slice's own shape, or None; without any, localisation is None.
    groups : N names; intervals resample whole groups (patients). Without them every slice is its own group.
    steps : equal steps of deletion and insertion.
    randomisations : models with permuted parameters to compare with.
    draws : noisy copies of each slice for max-sensitivity.
    replicates : of the bootstrap.
    batch_size : slices that go through the model at once.

    Returns
    -------
    Plain JSON. "measures": measure -> map -> {"mean", "low", "high", "n"} with 95 % percentile intervals;
    "advantage": measure -> map of ours -> its paired difference to the best control, positive where ours is better;
    "completeness": largest and mean absolute error in log-odds; "cell_px": the cells that bound localisation;
    "zero_maps": slices on which a map has nothing positive (they count as a miss and as no mass); "notes".
    What is undefined is None, and a note says why.

    Measures
    --------
    deletion, insertion : RISE (Petsiuk et al., 2018), area under the probability while the most relevant pixels
        turn black, or appear on the slice blurred with sigma S/16.
    road : (LeRF - MoRF) / 2 (Rong et al., 2022), pixels replaced by noisy linear imputation, 10 to 90 % kept.
    average_drop, increase : of the probability when the slice is multiplied by the map scaled to 0..1, as shares
        (Chattopadhay et al., 2018).
    pointing : the largest pixel lies within 15/224 of the side from the lesion (Zhang et al., 2016).
    mass, rank : share of the relevance, and of the K strongest pixels, inside a lesion of K pixels (Arras et al.,
        2022); mass_cnn_cells and mass_vit_cells take the lesion as all cells of that grid that it touches.
    dice, iou : of the lesion with the pixels of at least half the map's maximum.
    randomisation : Spearman correlation of a slice's map with that of the model after each of its parameter tensors
        was permuted (Adebayo et al., 2018), read at the centres of the map's own cells (fused: the patches);
        randomisation_size: of its absolute value, which signs that flip at random do not average away.
    sensitivity : largest ||change|| / ||map|| under uniform noise of up to 2 grey levels (Yeh et al., 2019).

    Raises
    ------
    ValueError : no slices, or masks or groups that are not as many as they.
    """
    pixels = slices if isinstance(slices, Tensor) else to_pixels(model, slices)
    count = len(pixels)
    for name, given in (("masks", masks), ("groups", groups)):
        if given is not None and len(given) != count:
            raise ValueError(f"there are {len(given)} {name} for {count} slices; give one for each.")
    if randomisations < 1 or steps < 2 or draws < 1:
        raise ValueError("randomisations and draws must be at least 1, steps at least 2.")
    evaluable = get_evaluable(model)
    lesions = [_fit_mask(model, mask) for mask in masks or [None] * count]
    grids = _find_grids(evaluable, pixels)
    parts: list[Values] = []
    cells: list[Maps] = []
    errors: list[Floats] = []
    for rows in track(torch.arange(count).split(batch_size), "judging maps"):
        seeds = [(seed, int(row)) for row in rows]
        explanations, maps = _draw_maps(evaluable, pixels[rows])
        errors.append(_measure_completeness(explanations))
        cells.append({name: _read_cells(values, grids[name]) for name, values in maps.items()})
        maps |= _draw_controls(pixels[rows].cpu().numpy(), seeds)
        values = _perturb_all(evaluable, pixels[rows], maps, seeds, steps)
        values |= _localise_all(maps, [lesions[row] for row in rows], grids, seeds)
        values["sensitivity"] = _measure_sensitivity(evaluable, pixels[rows], maps, seeds, draws)
        values["zero"] = {name: 1.0 * ~(m > 0).any((1, 2)) for name, m in maps.items()}
        parts.append(values)
    values = _join(parts)
    correlations = _randomise(evaluable, pixels, _stack(cells), grids, seed, randomisations, batch_size)
    values |= {"randomisation": _mean(correlations, 0), "randomisation_size": _mean(correlations, 0, np.abs)}
    return _report()
