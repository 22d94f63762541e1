"""Is the explanation true? Our maps, and controls that know no model, under the same measures.

A map is float (S, S), positive where it speaks for Stroke. Where pixels are ordered, the signed map orders them;
where mass or regions count, its positive part does. Equal pixels are ordered at random: a flat map is worth
what chance is worth. A map that a centred blob beats has explained nothing, so controls stand beside every figure.

deletion, insertion : RISE (Petsiuk et al., 2018), area under the probability while the most relevant pixels turn
    black, or appear on the slice blurred with sigma S/16.
road : (LeRF - MoRF) / 2 (Rong et al., 2022), pixels replaced by noisy linear imputation, 10 to 90 % kept.
average_drop, increase : of the probability, as a share and as how often, when the slice is multiplied by the map
    scaled to 0..1 (Chattopadhay et al., 2018).
regions_rank : Spearman correlation, over 16 regions, of what a map says of each with the log-odds that the slice
    loses without it, black or blurred (the mean of both); regions_error : of evidence, the mean absolute error of
    the same in log-odds, over that of predicting 0 everywhere.
pointing : the strongest pixel lies within 15/224 of the side from the lesion (Zhang et al., 2016).
pointing_inside : the strongest pixel lies in the lesion.
mass, rank : share of the relevance, and of the K strongest pixels, in a lesion of K pixels (Arras et al., 2022).
outside : relevance a pixel outside the head, the lit foreground, over that inside.
mass_cnn_cells, mass_vit_cells : mass in all the cells of the CNN's grid, or patches, that the lesion touches.
dice, iou : of the lesion with the pixels of at least half the map's maximum.
randomisation : Spearman correlation with the map after each parameter tensor was permuted (Adebayo et al., 2018),
    read at the centres of the map's own cells; of the patches for the fused map.
randomisation_size : its absolute value, which signs that flip at random do not average away.
randomisation_chance : the same of the maps of two models that were both permuted: what knowing nothing gives.
sensitivity : largest ||change|| / ||map|| under uniform noise of up to 2 grey levels (Yeh et al., 2019).
"""

import copy
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import logit
from scipy.stats import rankdata
from torch import Tensor, nn

from stroke_hub.data.contents import load_first
from stroke_hub.data.masks import find_mask
from stroke_hub.data.records import list_modalities
from stroke_hub.errors import DatasetError
from stroke_hub.evaluation.controls import (
    Array,
    Named,
    Seed,
    average_defined,
    divide,
    draw_controls,
    find_best_control,
)
from stroke_hub.evaluation.imputation import impute
from stroke_hub.evaluation.localisation import (
    TINY,
    Grids,
    bound_mean,
    find_grids,
    find_regions,
    fit_mask,
    localise,
    rank_pixels,
)
from stroke_hub.files import write_text
from stroke_hub.inference.explain import explain
from stroke_hub.inference.predict import read_logits, to_float_pixels
from stroke_hub.inference.relevance import compute_rollout
from stroke_hub.inference.results import Explanation, frame_slices
from stroke_hub.io.sight import frame_square
from stroke_hub.io.slices import Slice
from stroke_hub.metrics.intervals import bootstrap_figures
from stroke_hub.models.resnet_vit import ResNetViT, get_evaluable
from stroke_hub.progress import track
from stroke_hub.report.formatting import CONTROLS, LOCALISATION, MEASURES
from stroke_hub.report.heatmaps import draw_faithfulness
from stroke_hub.report.plots import (
    save_figure,
)

__all__ = ["MAPS", "judge", "judge_maps"]

MAPS = ("cnn", "vit", "fused", "cnn_evidence", "vit_evidence", "vit depth 3", "attention")
EVIDENCE = ("fused", "cnn_evidence", "vit_evidence")  # in log-odds
REGIONS = 4  # on a side
SHARES = (*LOCALISATION, "deletion", "insertion", "average_drop", "increase")  # that lie in [0, 1]
OWN = (
    "randomisation",
    "randomisation_size",
    "randomisation_chance",
    "sensitivity",
)  # a control ignores the model: not to be compared


def judge(
    model: ResNetViT,
    slices: Sequence[Slice] | Tensor,
    *,
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    steps: int = 10,
    randomisations: int = 10,
    draws: int = 3,
    replicates: int = 2000,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Measure how true the maps for Stroke are, beside the controls; the same arguments give the same result.

    Parameters
    ----------
    model : in any mode and on any device; it is not changed.
    slices : N slices, or uint8 squares (N, S, S). Stroke is what is explained: give stroke slices.
    masks : the lesion of each slice (of squares: in the square), bool, or None where it has none.
    groups : N names: intervals resample whole groups (patients). By default every slice is its own.
    steps : equal steps of deletion and insertion, at least 2.
    randomisations, draws : models with permuted parameters, and noisy copies of each slice, to compare with. The
        level of chance is of pairs of these models: with one alone there is none.
    replicates : of the bootstrap, at least 100.
    batch_size : slices that go through the model at once.

    Returns
    -------
    Plain JSON; what is undefined is None, and "notes" says why. "measures": measure -> map -> mean, low, high
    and n. The 95 % intervals are those of `metrics/intervals.py`: "score" where a measure lies in [0, 1], else
    "expanded-bca". "advantage": measure -> map of ours -> paired difference to the control with the best mean on
    the same slices, a choice that favours the control, so that it is conservative for ours; positive where ours is
    better. "completeness": mean and largest error in log-odds. "cell_px": the cells that bound localisation.
    "zero_maps": slices where a map has nothing positive: a miss, and no mass.
    "randomisation_each": the mean correlation with each permuted model, by which the models differ.

    Raises
    ------
    ValueError : no slices, masks or groups that are not as many, or a number below its least.
    """
    count = len(slices)
    if not count or any(given is not None and len(given) != count for given in (masks, groups)):
        raise ValueError("Give at least one slice, and one mask (or None) and one group for each.")
    if steps < 2 or min(randomisations, draws, batch_size) < 1 or replicates < 100:
        raise ValueError("steps must be at least 2, randomisations, draws and batch_size 1, replicates 100.")
    whole = slices.cpu().numpy() if isinstance(slices, Tensor) else None
    framed = [*map(frame_square, whole)] if whole is not None else [*frame_slices(model, slices)]
    pixels = torch.from_numpy(np.stack([one.square for one in framed]))
    lesions = np.stack([fit_mask(*pair) for pair in zip(framed, masks or [None] * count, strict=True)])
    names = np.asarray(groups if groups is not None else range(count))
    model = get_evaluable(model)
    grids = find_grids(model)
    batches = [rows.numpy() for rows in torch.arange(count).split(batch_size)]
    parts = [
        _judge_batch(model, pixels[rows], lesions[rows], grids, (seed, int(rows[0])), steps, draws)
        for rows in track(batches, "judging maps")
    ]
    values = {measure: _join([part[measure] for part in parts]) for measure in parts[0]}
    lost = float(values.pop("lost")[""].mean())  # what predicting 0 is wrong by
    values["regions_error"] = {name: value / max(lost, TINY) for name, value in values["regions_error"].items()}
    each, chance = _randomise(model, pixels, values.pop("cells"), grids, seed, randomisations, batches)
    values["randomisation"] = {name: average_defined(v) for name, v in each.items()}
    values["randomisation_size"] = {name: average_defined(np.abs(v)) for name, v in each.items()}
    values["randomisation_chance"] = {name: average_defined(np.abs(v)) for name, v in chance.items()}
    numbers = {"seed": seed, "steps": steps, "randomisations": randomisations, "draws": draws}
    by_model = {name: average_defined(v.T) for name, v in each.items()}
    return {
        "n": count,
        "n_masks": int(lesions.any((1, 2)).sum()),
        "groups": len(set(names.tolist())),
        "target": "Stroke",
        "settings": numbers | {"replicates": replicates, "image_size": model.image_size},
        "cell_px": {name: [model.image_size / side for side in grid] for name, grid in grids.items()},
        "randomisation_each": {k: [None if np.isnan(x) else float(x) for x in v] for k, v in by_model.items()},
        **_summarise(values, names, seed, replicates),
    }


def _judge_batch(
    model: ResNetViT, pixels: Tensor, lesions: Array, grids: Grids, seed: Seed, steps: int, draws: int
) -> dict[str, Named]:
    explanations, maps = _draw_maps(model, pixels)
    values = {"cells": _read_cells(maps, grids), "completeness": _measure_completeness(explanations)}
    maps |= draw_controls(pixels.numpy(), seed)
    heads = maps["uniform brain"] > 0
    values["sensitivity"] = _measure_sensitivity(model, pixels, maps, seed, draws)
    chance = np.random.default_rng((*seed, 1)).random(pixels.shape)
    regions, lost = find_regions(lesions, grids), _remove_regions(model, pixels)
    for name, relevance in maps.items():
        ranks, positive = rank_pixels(relevance, chance), np.clip(relevance, 0, None)
        found = _perturb(model, pixels, ranks, positive, seed, steps) | localise(positive, ranks, lesions, regions)
        found["outside"] = divide(_average(positive, ~heads), _average(positive, heads))
        found |= _compare_regions(relevance, lost, in_log_odds=name in EVIDENCE)
        found["zero"] = positive.max((1, 2)) == 0
        for measure, value in found.items():
            values.setdefault(measure, {})[name] = value
    return values | {"lost": {"": np.mean([np.abs(taken).mean(1) for taken in lost], axis=0)}}


def _draw_maps(model: ResNetViT, pixels: Tensor) -> tuple[list[Explanation], Named]:
    """Explain uint8 squares (N, S, S): the explanations, and our maps, (N, S, S) each, as a user gets them."""
    size, count = model.image_size, len(pixels)
    explanations = explain(model, pixels, batch_size=count)
    deeper = explain(model, pixels, depth=3, batch_size=count)
    rollout = compute_rollout(model, to_float_pixels(pixels, model.temperature.device)).float()[:, None]
    names = ("cnn_map", "vit_map", "fused_map", "cnn_evidence", "vit_evidence")
    maps = [np.stack([getattr(e, name) for e in explanations]) for name in names]
    maps.append(np.stack([e.vit_map for e in deeper]))
    maps.append(F.interpolate(rollout, (size, size), mode="bilinear", align_corners=False)[:, 0].cpu().numpy())
    return explanations, dict(zip(MAPS, maps, strict=True))


def _read_cells(maps: Named, grids: Grids) -> Named:
    """Read maps at the centres of their own cells, (N, cells): the pixels between are copies, not evidence."""
    found = {}
    for name, values in maps.items():
        grid = grids["cnn" if name.startswith("cnn") else "vit"]
        cells = F.interpolate(torch.from_numpy(values)[:, None], grid, mode="bilinear", align_corners=False)
        found[name] = cells.flatten(1).numpy()
    return found


def _predict(model: ResNetViT, grey: Tensor) -> Array:
    """Predict the probability of Stroke, (N,), of float squares (N, S, S)."""
    x = grey[:, None].expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)  # 1.6 times as fast
    with torch.inference_mode():
        logits = model(x)
    return read_logits(model, logits.float().cpu()).probability


def _perturb(model: ResNetViT, pixels: Tensor, ranks: Array, positive: Array, seed: Seed, steps: int) -> Named:
    """Measure what the probability does as pixels of uint8 squares (N, S, S) go in the order of `ranks`."""
    device, size, total = model.temperature.device, pixels.shape[1], ranks[0].size
    square = pixels.numpy().astype(np.float32) / np.float32(255)
    static = np.random.default_rng((*seed, 2)).normal(0, 0.01, square.shape).astype(np.float32)
    arrays = (square, ndimage.gaussian_filter(square, (0, size / 16, size / 16)), static, ranks)
    grey, blurred, noise, place = (torch.from_numpy(array).to(device) for array in arrays)
    cuts = [place < round(total * step / steps) for step in range(steps + 1)]
    deletion = np.stack([_predict(model, grey.masked_fill(gone, 0)) for gone in cuts])
    insertion = np.stack([_predict(model, torch.where(shown, grey, blurred)) for shown in cuts])
    road = []
    for kept in (round(total * tenth / 10) for tenth in range(1, 10)):
        ends = place >= total - kept, place < kept
        morf, lerf = (_predict(model, torch.where(known, grey, impute(grey, known) + noise)) for known in ends)
        road.append((lerf - morf) / 2)
    scaled = positive / np.maximum(positive.max((1, 2), keepdims=True), TINY)
    before, after = deletion[0], _predict(model, grey * torch.from_numpy(scaled).to(device))
    return {
        "deletion": np.trapezoid(deletion, dx=1 / steps, axis=0),
        "insertion": np.trapezoid(insertion, dx=1 / steps, axis=0),
        "road": np.mean(road, axis=0),
        "average_drop": np.maximum(before - after, 0) / np.maximum(before, TINY),
        "increase": (after > before).astype(float),
    }


def _remove_regions(model: ResNetViT, pixels: Tensor) -> list[Array]:
    """Measure the log-odds that uint8 squares lose without each region, (N, 16): black, then blurred."""
    square = pixels.numpy().astype(np.float32) / np.float32(255)
    size, edges = len(square[0]), np.linspace(0, len(square[0]), REGIONS + 1).round().astype(int)
    whole, found = _predict_log_odds(model, square), []
    for fill in (np.zeros_like(square), ndimage.gaussian_filter(square, (0, size / 16, size / 16))):
        lost = []
        for top, bottom in pairwise(edges):
            for left, right in pairwise(edges):
                without = square.copy()
                without[:, top:bottom, left:right] = fill[:, top:bottom, left:right]
                lost.append(whole - _predict_log_odds(model, without))
        found.append(np.stack(lost, axis=1))
    return found


def _predict_log_odds(model: ResNetViT, square: Array) -> Array:
    probability = _predict(model, torch.from_numpy(square).to(model.temperature.device))
    return np.asarray(logit(probability.clip(1e-12, 1 - 1e-12)))


def _compare_regions(relevance: Array, lost: Sequence[Array], *, in_log_odds: bool) -> Named:
    """Compare what maps (N, S, S) say of each region with what its removal takes."""
    edges = np.linspace(0, relevance.shape[1], REGIONS + 1).round().astype(int)[:-1]
    said = np.add.reduceat(np.add.reduceat(relevance.astype(np.float64), edges, 1), edges, 2).reshape(
        len(relevance), -1
    )
    rank = np.stack([_correlate(said, taken) for taken in lost])
    error = np.mean([np.abs(said - taken).mean(1) for taken in lost], axis=0)
    return {
        "regions_rank": average_defined(rank),
        "regions_error": error if in_log_odds else np.full(len(said), np.nan),
    }


def _measure_completeness(explanations: Sequence[Explanation]) -> Named:
    """Measure errors in log-odds: of all contributions against z, of the fused map against both branches."""
    whole = [sum(e.contributions.values()) - e.log_odds for e in explanations]
    both = [e.contributions["cnn"] + e.contributions["vit"] for e in explanations]
    fused = [e.fused_map.sum(dtype=np.float64) for e in explanations]
    return {"contributions": np.abs(whole), "fused": np.abs(np.subtract(fused, both))}


def _measure_sensitivity(model: ResNetViT, pixels: Tensor, maps: Named, seed: Seed, draws: int) -> Named:
    rng = np.random.default_rng((*seed, 3))
    changes: dict[str, list[Array]] = {name: [] for name in maps}
    for _ in range(draws):
        noisy = np.clip(pixels.numpy() + rng.integers(-2, 3, pixels.shape), 0, 255).astype(np.uint8)
        others = _draw_maps(model, torch.from_numpy(noisy))[1] | draw_controls(noisy, seed)
        for name, values in maps.items():
            changes[name].append(np.linalg.norm(others[name] - values, axis=(1, 2)))
    sizes = {name: np.linalg.norm(values, axis=(1, 2)) for name, values in maps.items()}
    return {name: divide(np.max(changes[name], axis=0), sizes[name]) for name in maps}


def _randomise(
    model: ResNetViT, pixels: Tensor, cells: Named, grids: Grids, seed: int, count: int, batches: list[Array]
) -> tuple[Named, Named]:
    """Compute Spearman correlations of the cells of maps.

    With those of `count` models of permuted parameters, (count, N); of each of these with the next, (count - 1, N).
    """
    found, drawn = [], []
    for number in range(count):
        generator = torch.Generator().manual_seed(seed * count + number)
        other = copy.deepcopy(model)
        for parameter in other.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.data = parameter.data.flatten()[order].view_as(parameter)
        _refresh_batch_norms(other, pixels[batches[0]])
        words = f"randomised model {number + 1}/{count}"
        parts = [_read_cells(_draw_maps(other, pixels[rows])[1], grids) for rows in track(batches, words)]
        drawn.append(_join(parts))
        found.append({name: _correlate(cells[name], values)[None] for name, values in drawn[-1].items()})
    empty = {name: np.empty((0, len(pixels))) for name in cells}
    chance = [{name: _correlate(one[name], other[name])[None] for name in cells} for one, other in pairwise(drawn)]
    return _join(found), _join([empty, *chance])


def _refresh_batch_norms(model: ResNetViT, pixels: Tensor) -> None:
    """Renew the batch statistics of a permuted CNN.

    With those of the old weights it is dead on most inputs, and its map 0: there is nothing to correlate.
    """
    norms = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all of the batch below
        norm.train()
    with torch.no_grad():
        model(to_float_pixels(pixels, model.temperature.device))
    for norm in norms:
        norm.eval()


def _correlate(a: Array, b: Array) -> Array:
    """Compute the Spearman correlation of the rows of (N, cells), NaN where one of them is constant."""
    a, b = (rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (a, b))
    return divide((a * b).sum(1), np.sqrt((a * a).sum(1) * (b * b).sum(1)))


def _average(values: Array, region: Array) -> Array:
    """Average values (N, S, S) over a region of each, (N,); NaN where it is empty."""
    return divide((values * region).sum((1, 2), dtype=np.float64), region.sum((1, 2)).astype(np.float64))


def _join(parts: Sequence[Named]) -> Named:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _summarise(values: dict[str, Named], names: Array, seed: int, replicates: int) -> dict[str, Any]:
    completeness, zero = values.pop("completeness"), values.pop("zero")
    notes = [
        f"{', '.join(OWN)}: no advantage, since controls read no parameter (1) and some no pixel (0)",
        "advantage: the best control is chosen on the same slices, which favours it: conservative for our maps",
    ]
    if not np.isfinite(values["mass"]["random"]).any():
        notes.append(f"{', '.join(LOCALISATION)}: None, since no slice has a lesion mask")
    if len(set(names.tolist())) < 2:
        notes.append("low and high: None, since an interval needs two groups or more")
    for measure in ("sensitivity", "randomisation", "outside", "regions_rank"):
        missing = {name: int(np.isnan(v).sum()) for name, v in values[measure].items() if np.isnan(v).any()}
        if missing:
            notes.append(f"{measure}: undefined for flat or negative maps, on so many slices of each: {missing}")
    best = {m: find_best_control(values[m], MEASURES[m][1]) for m in MEASURES if m not in OWN}
    columns = {(m, name): v for m in MEASURES if m not in SHARES for name, v in values[m].items()}
    for measure, control in best.items():
        if control is not None:
            for name in MAPS:
                gap = values[measure][name] - values[measure][control]
                columns[f"advantage {measure}", name] = MEASURES[measure][1] * gap
    resampled = _resample(columns, names, seed, replicates)
    return {
        "measures": {
            m: {name: bound_mean(v, names) if m in SHARES else resampled[m, name] for name, v in values[m].items()}
            for m in MEASURES
        },
        "advantage": {
            m: control and {name: _name_control(resampled[f"advantage {m}", name], control) for name in MAPS}
            for m, control in best.items()
        },
        "completeness": {k: {"mean": float(v.mean()), "max": float(v.max())} for k, v in completeness.items()},
        "zero_maps": {name: int(v.sum()) for name, v in zero.items()},
        "notes": notes,
    }


def _resample(
    columns: Mapping[tuple[str, str], Array], names: Array, seed: int, replicates: int
) -> dict[tuple[str, str], dict[str, Any] | None]:
    """Estimate mean and "expanded-bca" interval over groups of what is defined of each column (N,)."""
    table = np.stack([*columns.values()], axis=1)
    kept = np.isfinite(table)
    known = [str(number) for number in range(len(columns))]

    def compute(weight: Array) -> Named:
        means = divide(weight @ np.where(kept, table, 0), weight @ kept.astype(float))
        return dict(zip(known, means.T, strict=True))

    groups = {number: len(np.unique(names[of])) for number, of in zip(known, kept.T, strict=True)}
    found = bootstrap_figures(compute, names, groups, replicates=replicates, seed=seed)
    result: dict[tuple[str, str], dict[str, Any] | None] = {}
    for key, number, of in zip(columns, known, kept.T, strict=True):
        interval = found[number]
        limits = {"mean": interval["value"], "low": interval["low"], "high": interval["high"], "n": int(of.sum())}
        result[key] = limits if of.any() else None
    return result


def _name_control(difference: dict[str, Any] | None, control: str) -> dict[str, Any] | None:
    return difference and {"control": control} | difference


def judge_maps(model: ResNetViT, table: pd.DataFrame, root: str | Path, out: str | Path, *, note: str = "") -> None:
    """Measure whether the maps of a table's stroke slices are true: faithfulness.json and figures/faithfulness.

    Raises
    ------
    DatasetError : a slice cannot be read, or there is no stroke slice.
    """
    root, out = Path(root), Path(out)
    strokes = table[table["label"] == 1]
    if strokes.empty:
        raise DatasetError(f"{root}: has no stroke slices here, and maps for Stroke are judged on those.")
    rows = zip(strokes["path"], list_modalities(strokes), strict=True)
    slices = [load_first(root / path, modality=modality)[0] for path, modality in rows]
    masks = [find_mask(strokes, root, path) for path in strokes["path"]]
    result = judge(model, slices, masks=masks, groups=strokes["group"].tolist())
    figure = draw_faithfulness(result, measures=MEASURES, controls=CONTROLS, note=note)
    save_figure(figure, out / "figures" / "faithfulness")
    write_text(out / "faithfulness.json", json.dumps({"note": note} | result, indent=2, allow_nan=False) + "\n")
