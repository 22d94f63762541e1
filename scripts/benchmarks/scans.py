"""The linear probe in cross-validation over all patients, by slice and by scan, and on test slices.

Features are computed once. Each of five folds of whole patients is predicted by heads that were fitted to the
others, three times over. The recipe itself was chosen on patients of the training split.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from benchmarks.resampling import Floats, draw_weights, summarise, weigh
from benchmarks.scan_rules import Fit, Series, attend, measure_scan_rules, write_scan_rules
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from stroke_hub.data.loader import decode_squares
from stroke_hub.data.masks import has_masks, read_masks
from stroke_hub.data.records import hash_records, list_modalities, read_records
from stroke_hub.evaluation.baselines import measure_trivial_features
from stroke_hub.evaluation.controls import draw_controls
from stroke_hub.files import write_text
from stroke_hub.inference.predict import compute_features
from stroke_hub.inference.results import upsample
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.progress import say, track
from stroke_hub.runs.train_config import LESION_CELLS, TrainConfig
from stroke_hub.training.fit import build_model
from stroke_hub.training.lesions import SLICES, compute_cells, fit_cells, lay_many, share_cells, spread
from stroke_hub.training.probe import fit_logistic

FOLDS, REPEATS, HIGHEST = 5, 3, 3
TITLES = {
    "hybrid": "both branches",
    "cnn": "CNN alone",
    "vit": "ViT alone",
    "plain": "both branches without lesion scores",
    "logistic": "no network: logistic regression on nine statistics of grey level and size, and the slice number",
    "trees": "no network: boosted trees on the same",
}


def benchmark_scans(
    *,
    data_dir: Path,
    out: Path,
    cnn: str,
    cnn_weights: str,
    vit: str,
    vit_weights: str,
    image_size: int = 224,
    data_note: str = "",
) -> list[dict[str, Any]]:
    """Measure the probe in cross-validation over all patients, and on the test split.

    Args:
        data_dir: a dataset; with scans.csv every slice of whole scans counts.
        out: the folder for scans.md and scans.json.
        cnn: timm name of the CNN.
        cnn_weights: its weights: imagenet, hf-hub:OWNER/NAME or a safetensors file.
        vit: timm name of the transformer.
        vit_weights: its weights.
        image_size: side of the squares in pixels.
        data_note: what the data are, for the caption.
    """
    records = read_records(data_dir)
    table = records.table.reset_index(drop=True)
    config = TrainConfig(
        recipe="probe", cnn=cnn, cnn_weights=cnn_weights, vit=vit, vit_weights=vit_weights, image_size=image_size
    ).resolve()
    model = build_model(config, table)
    squares = decode_squares(model, records.root, table)
    number = (
        pd.to_numeric(table["slice"], errors="coerce").fillna(0) if "slice" in table else pd.Series(0, table.index)
    )
    trivial = np.column_stack(
        [measure_trivial_features(squares), _measure_levels(squares), number.to_numpy(np.float64)]
    )
    label, group = table["label"].to_numpy(np.int64), table["group"].to_numpy(str)
    features = mirrored = None
    if has_masks(table):
        masks = read_masks(model, records.root, table)
        cells = torch.cat([compute_cells(model, part).half() for part in squares.split(64)])
        shares = share_cells(masks.squares)
        fits = {name: _score(name, model, cells, shares, masks.known) for name in ("hybrid", "cnn", "vit")}
        pointed = _point(model, table, squares, masks.squares, cells, shares, masks.known)
    elif set(list_modalities(table)) == {"BT"}:
        pointed = {}
        seen = _see(model, squares)
        other = _see(model, squares.flip(2))
        features, mirrored = seen.features, other.features
        laid = _lay(model, squares, label, seed=config.seed)
        fits = {name: _bleed(name, model, seen, other, laid, label) for name in ("hybrid", "cnn", "vit")}
        fits |= {"plain": _probe("hybrid", model, seen.features, other.features, label)}
    else:
        pointed = {}
        mirrored = compute_features(model, squares.flip(2), name="mirrored slices")
        features = compute_features(model, squares, name="slices")
        fits = {name: _probe(name, model, features, mirrored, label) for name in ("hybrid", "cnn", "vit")}
    fits |= {"logistic": _logistic(trivial, label), "trees": _trees(trivial, label)}
    folded = {name: _cross_validate(fit, label, group) for name, fit in track(fits.items(), "folds")}
    train, test = (np.flatnonzero(table["split"] == split) for split in ("train", "test"))
    tested = {name: fit(train, test)[None] for name, fit in fits.items()}
    positive = np.isin(group, np.unique(group[label == 1]))
    parts: dict[str, Any] = {
        "all slices": _measure(folded, label, group),
        "slices of positive scans": _measure(
            {k: v[:, positive] for k, v in folded.items()}, label[positive], group[positive]
        ),
        f"scans, mean of the {HIGHEST} highest slices": _measure(folded, label, group, by_scan=True),
        "test split, slices": _measure(tested, label[test], group[test]),
    }
    if not (label[positive] == 0).any():  # no patient has slices of both classes
        del parts["slices of positive scans"]
    rules = {}
    if "scan" in table and features is not None and mirrored is not None:
        series = Series(group, number.to_numpy(np.float64))
        rules = _compare_rules(model, features, mirrored, folded, label, group, series)
    result = {
        "data": {
            "note": data_note,
            "sha256": hash_records(records),
            "slices": len(table),
            "scans": len(set(group)),
        },
        "settings": {"cnn": cnn, "vit": vit, "image_size": image_size, "folds": FOLDS, "repeats": REPEATS},
        "measured": parts,
        "pointing": pointed,
        "scan_rules": rules,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "scans.json", json.dumps(result, indent=1) + "\n")
    text = _write_table(parts) + _write_pointing(pointed) + (write_scan_rules(rules) if rules else "")
    write_text(out / "scans.md", text)
    say(text)
    return []


def _compare_rules(
    model: ResNetViT,
    features: Tensor,
    mirrored: Tensor,
    folded: dict[str, Floats],
    label: NDArray[np.int64],
    group: NDArray[np.str_],
    series: Series,
) -> dict[str, Any]:
    """Compare rules from slices to a scan; what learns of features does without lesion scores."""
    split = model.cnn_features
    averaged = (series.average(features), series.average(mirrored))
    learned = {
        "pooled features, averaged with both neighbours'": _probe("hybrid", model, *averaged, label),
        "gated attention over pooled features": attend(features, mirrored, label, series, split=split),
    }
    scored = {"the recipe": folded["hybrid"], "pooled features": folded.get("plain", folded["hybrid"])}
    scored |= {name: _cross_validate(fit, label, group) for name, fit in track(learned.items(), "scan rules")}
    scored |= {"boosted trees, no network": folded["trees"], "logistic regression, no network": folded["logistic"]}
    beside = dict.fromkeys(scored, "the recipe") | dict.fromkeys(learned, "pooled features")
    return measure_scan_rules(scored, beside, label, series)


def _measure_levels(squares: Tensor) -> Floats:
    """Measure three percentiles of what is not black, (N, 3): with six trivial features, nine statistics."""
    return np.array(
        [np.percentile(one[one > 0], [50, 90, 99]) if one.any() else [0.0] * 3 for one in squares.numpy()]
    )


def _probe(name: str, model: ResNetViT, features: Tensor, mirrored: Tensor, label: NDArray[np.int64]) -> Fit:
    branches = "both" if name == "hybrid" else name

    def fit(known: NDArray[np.int64], asked: NDArray[np.int64]) -> Floats:
        taught = torch.cat([features[known], mirrored[known]])
        labels = torch.from_numpy(np.tile(label[known], 2))
        weight, bias = fit_logistic(taught, labels, split=model.cnn_features, branches=branches)
        return np.asarray(features[asked].double().numpy() @ weight + bias)

    return fit


class _Seen(NamedTuple):
    """Hold what still backbones see of N slices: features (N, F) and cells (N, 256, C) in half precision."""

    features: Tensor
    cells: Tensor


def _see(model: ResNetViT, squares: Tensor) -> _Seen:
    cells = torch.cat([compute_cells(model, part).half() for part in squares.split(64)])
    return _Seen(compute_features(model, squares, name="slices"), cells)


class _LaidCells(NamedTuple):
    """Hold cells (N, 256, C) of slices with simulated bleeding, its shares (N, 256), and the slice below each."""

    cells: Tensor
    shares: Tensor
    rows: NDArray[np.intp]


def _lay(model: ResNetViT, squares: Tensor, label: NDArray[np.int64], *, seed: int) -> _LaidCells:
    normal = np.flatnonzero(label == 0)
    laid = lay_many(squares[normal], model.window, seed=seed)
    cells = torch.cat([compute_cells(model, part).half() for part in laid.squares.split(64)])
    return _LaidCells(cells, share_cells(laid.masks), normal[laid.rows])


def _bleed(
    name: str, model: ResNetViT, seen: _Seen, mirrored: _Seen, laid: _LaidCells, label: NDArray[np.int64]
) -> Fit:
    """Probe features and lesion scores that simulated bleeding in the known normal slices taught."""
    split = model.cnn_features
    branches = "both" if name == "hybrid" else name
    cnn, vit = slice(0, model.cnn_channels), slice(model.cnn_channels, None)
    heard = {"both": slice(None), "cnn": cnn, "vit": vit}[branches]

    def fit(known: NDArray[np.int64], asked: NDArray[np.int64]) -> Floats:
        taught = spread(np.flatnonzero(np.isin(laid.rows, known)), SLICES // 2)
        plain = spread(known[label[known] == 0], SLICES - len(taught))
        cells = torch.cat([laid.cells[taught][..., heard], seen.cells[plain][..., heard]])
        shares = torch.cat([laid.shares[taught], torch.zeros(len(plain), cells.shape[1])])
        weight = torch.zeros(seen.cells.shape[2])
        weight[heard], _ = fit_cells(cells, shares)

        def join(one: _Seen, rows: NDArray[np.int64]) -> Tensor:
            held = one.cells[rows].float()
            parts = torch.stack([held[..., cnn] @ weight[cnn], held[..., vit] @ weight[vit]], 1)
            highest = parts.sum(1).topk(LESION_CELLS, 1).indices[:, None].expand(-1, 2, -1)
            scores = parts.gather(2, highest).mean(2)
            features = one.features[rows]
            return torch.cat([features[:, :split], scores[:, :1], features[:, split:], scores[:, 1:]], 1)

        features = torch.cat([join(seen, known), join(mirrored, known)])
        labels = torch.from_numpy(np.tile(label[known], 2))
        head, bias = fit_logistic(features, labels, split=split + 1, branches=branches, scored=True)
        return np.asarray(join(seen, asked).double().numpy() @ head + bias)

    return fit


def _score(name: str, model: ResNetViT, cells: Tensor, shares: Tensor, seen: NDArray[np.bool_]) -> Fit:
    """Score slices by their cells of highest lesion score, as a probe with masks does."""
    heard = {"hybrid": slice(None), "cnn": slice(0, model.cnn_channels), "vit": slice(model.cnn_channels, None)}[
        name
    ]

    def fit(known: NDArray[np.int64], asked: NDArray[np.int64]) -> Floats:
        taught = known[seen[known]]
        weight, bias = fit_cells(cells[taught][..., heard], shares[taught])
        scores = cells[asked][..., heard].float() @ weight + bias
        return np.asarray(scores.topk(LESION_CELLS, 1)[0].mean(1).double().numpy())

    return fit


def _point(
    model: ResNetViT,
    table: pd.DataFrame,
    squares: Tensor,
    masks: Tensor,
    cells: Tensor,
    shares: Tensor,
    seen: NDArray[np.bool_],
) -> dict[str, Any]:
    """Measure where lesion scores point on test strokes with a mask, beside controls that know no model."""
    train = np.flatnonzero((table["split"] == "train") & seen)
    weight, bias = fit_cells(cells[train], shares[train])
    strokes = np.flatnonzero((table["split"] == "test") & (table["label"] == 1) & seen)
    lesions = masks[strokes].numpy() > 127
    near = np.stack([ndimage.distance_transform_edt(~one) <= len(one) * 15 / 224 for one in lesions])
    whole = cells[strokes].float()
    split = model.cnn_channels
    parts = {
        "CNN": whole[..., :split] @ weight[:split] + bias / 2,
        "ViT": whole[..., split:] @ weight[split:] + bias / 2,
        "both": whole @ weight + bias,
    }
    size = squares.shape[1]
    maps = {name: upsample(_keep_highest(one).view(-1, 16, 16).numpy(), size) for name, one in parts.items()}
    controls = draw_controls(squares[strokes].numpy(), (0, 0))
    rows = np.arange(len(strokes))
    found: dict[str, dict[str, Floats]] = {}
    for name, values in {**maps, **{f"control: {name}": one for name, one in controls.items()}}.items():
        positive = np.clip(values, 0, None).astype(np.float64)
        strongest = positive.reshape(len(rows), -1).argmax(1)
        found[name] = {
            "pointing": near.reshape(len(rows), -1)[rows, strongest].astype(float),
            "inside": lesions.reshape(len(rows), -1)[rows, strongest].astype(float),
            "mass": (positive * lesions).sum((1, 2)) / np.maximum(positive.sum((1, 2)), 1e-12),
        }
    _, codes = np.unique(table["group"].to_numpy(str)[strokes], return_inverse=True)
    weights = draw_weights(codes.max() + 1)[:, codes]
    weights = weights / weights.sum(1, keepdims=True)
    averaged = {name: {key: weights @ value for key, value in one.items()} for name, one in found.items()}
    result: dict[str, Any] = {
        name: {key: summarise(value) for key, value in one.items()} for name, one in averaged.items()
    }
    for key in ("pointing", "inside", "mass"):
        best = max(
            (name for name in averaged if name.startswith("control")), key=lambda name: averaged[name][key][0]
        )
        for name in maps:
            result[name][f"{key} minus best control"] = summarise(averaged[name][key] - averaged[best][key]) | {
                "other": best
            }
    return {"strokes": len(strokes), "maps": result}


def _keep_highest(scores: Tensor) -> Tensor:
    """Keep the cells that a slice's score averages, and how far they are above the highest that is left out."""
    highest = scores.topk(LESION_CELLS + 1, 1)[0]
    return (scores - highest[:, -1:]).clamp_min(0)


def _logistic(x: Floats, label: NDArray[np.int64]) -> Fit:
    def fit(known: NDArray[np.int64], asked: NDArray[np.int64]) -> Floats:
        rule = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x[known], label[known])
        return np.asarray(rule.decision_function(x[asked]))

    return fit


def _trees(x: Floats, label: NDArray[np.int64]) -> Fit:
    def fit(known: NDArray[np.int64], asked: NDArray[np.int64]) -> Floats:
        rule = HistGradientBoostingClassifier(early_stopping=False, random_state=0).fit(x[known], label[known])
        return np.asarray(rule.decision_function(x[asked]))

    return fit


def _cross_validate(fit: Fit, label: NDArray[np.int64], group: NDArray[np.str_]) -> Floats:
    """Score every slice by a fit that did not see its patient, (repeats, N)."""
    scores = np.zeros((REPEATS, len(label)))
    for repeat in range(REPEATS):
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=repeat)
        for known, asked in folds.split(label, label, group):
            scores[repeat, asked] = fit(known, asked)
    return scores


def _measure(
    scores: dict[str, Floats], label: NDArray[np.int64], group: NDArray[np.str_], *, by_scan: bool = False
) -> dict[str, Any]:
    """Measure each AUROC, averaged over repeats, and the hybrid's differences, with intervals over patients."""
    names, codes = np.unique(group, return_inverse=True)
    if by_scan:
        members = [np.flatnonzero(codes == code) for code in range(len(names))]
        label = np.array([label[rows].max() for rows in members])
        scores = {
            name: np.array([[np.sort(one[rows])[-HIGHEST:].mean() for rows in members] for one in values])
            for name, values in scores.items()
        }
        codes = np.arange(len(names))
    weights = draw_weights(len(names))[:, codes]
    found = {}
    for name, values in scores.items():
        found[name] = np.mean([[weigh(label, one, weight) for weight in weights] for one in values], axis=0)
    better = max(("cnn", "vit"), key=lambda name: found[name][0])
    result: dict[str, Any] = {name: summarise(values) for name, values in found.items()}
    for name, other in (("hybrid minus its better branch", better), ("hybrid minus trees", "trees")):
        result[name] = summarise(found["hybrid"] - found[other]) | {"other": other}
    return result


def _write_pointing(pointed: dict[str, Any]) -> str:
    if not pointed:
        return ""
    keys = ("pointing", "inside", "mass", "pointing minus best control", "inside minus best control")
    lines = [
        "",
        f"{pointed['strokes']} test strokes",
        "",
        "| | " + " | ".join(keys) + " |",
        "|---|" + "---|" * len(keys),
    ]
    for name, one in pointed["maps"].items():
        cells = [
            f"{one[k]['value']:.3f} [{one[k]['low']:.3f}, {one[k]['high']:.3f}]" if k in one else "" for k in keys
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _write_table(parts: dict[str, Any]) -> str:
    rows = [
        *(name for name in TITLES if name in next(iter(parts.values()))),
        "hybrid minus its better branch",
        "hybrid minus trees",
    ]
    lines = ["| | " + " | ".join(parts) + " |", "|---|" + "---|" * len(parts)]
    for row in rows:
        cells = []
        for found in parts.values():
            one = found[row]
            sign = "+" if "minus" in row else ""
            cells.append(f"{one['value']:{sign}.3f} [{one['low']:{sign}.3f}, {one['high']:{sign}.3f}]")
        lines.append(f"| {TITLES.get(row, row)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
