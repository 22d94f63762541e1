"""The numbers of report.json, made from the probabilities of labelled slices."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stroke_hub.evaluation.baselines import Baseline
from stroke_hub.metrics.classification import (
    brier,
    expected_calibration_error,
    log_loss,
    measure,
    net_benefit,
    trace_curves,
)
from stroke_hub.metrics.intervals import bootstrap_intervals, bootstrap_rivals, delong_interval
from stroke_hub.metrics.reliability import (
    DECISION_THRESHOLDS,
    measure_recalibration,
    reliability,
    simulate_noise_floor,
    trace_decisions,
)
from stroke_hub.models.presets import CLASSES
from stroke_hub.progress import track
from stroke_hub.runs.report import PARTS

__all__ = [
    "describe_control",
    "list_errors",
    "measure_baselines",
    "measure_parts",
    "measure_subgroups",
    "trace_parts",
]

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]

BINS = 10
# columns of a table that are no property of a slice to compare by
PLAIN = {"path", "label", "group", "scan", "split", "mask", "modality", "fold", "sha256", "shuffled_label"}
MOST_VALUES = 12  # of a column: with more, a subgroup is a handful of slices


def measure_parts(
    table: pd.DataFrame,
    probability: Floats,
    uncalibrated: Floats,
    *,
    threshold: float,
    points: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Measure all slices and those of each modality, as the report's `test` has them.

    Parameters
    ----------
    table : N rows with label, group and modality.
    probability, uncalibrated : (N,), with the model's temperature and without.
    threshold : the model's own.
    points : operating points as `choose_operating_points` gives them.
    """
    parts = {}
    for part in track(PARTS, "measuring, with intervals over patients"):
        rows = np.ones(len(table), bool) if part == "overall" else (table["modality"] == part).to_numpy(bool)
        chosen = table[rows]
        parts[part] = _measure_part(chosen, probability[rows], uncalibrated[rows], threshold, points)
    return parts


def _measure_part(
    table: pd.DataFrame,
    probability: Floats,
    uncalibrated: Floats,
    threshold: float,
    points: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    label, group = table["label"].to_numpy(np.int64), table["group"].to_numpy(str)
    return measure(label, probability, threshold=threshold) | {
        "groups": len(set(group.tolist())),
        "intervals": bootstrap_intervals(label, probability, group, threshold=threshold),
        "delong": delong_interval(label, probability),
        "operating_points": {
            name: _measure_point(label, probability, group, point["threshold"])
            for name, point in points.items()
            if point["threshold"] is not None
        },
        "calibration": {
            "before": _measure_calibration(label, uncalibrated, group),
            "after": _measure_calibration(label, probability, group),
        },
        "net_benefit": trace_decisions(label, probability, group),
    }


def _measure_point(label: Labels, probability: Floats, group: NDArray[np.str_], threshold: float) -> dict[str, Any]:
    found = bootstrap_intervals(label, probability, group, threshold=threshold)
    names = ("sensitivity", "specificity", "ppv", "npv")
    return {"threshold": threshold} | {name: found[name] for name in names}


def _measure_calibration(label: Labels, probability: Floats, group: NDArray[np.str_]) -> dict[str, Any]:
    recalibration: dict[str, Any] = measure_recalibration(label, probability, group)
    return {
        "ece": expected_calibration_error(label, probability, bins=BINS),
        "log_loss": log_loss(label, probability),
        "brier": brier(label, probability, bins=BINS),
        "bins": reliability(label, probability, group, bins=BINS),
        "recalibration": recalibration | {"floor": simulate_noise_floor(probability)},
    }


def trace_parts(table: pd.DataFrame, probability: Floats) -> dict[str, dict[str, list[float]]]:
    """Trace ROC and precision-recall curves of all slices and of each modality's."""
    label = table["label"].to_numpy(np.int64)
    masks = {part: (table["modality"] == part).to_numpy(bool) | (part == "overall") for part in PARTS}
    return {part: trace_curves(label[mask], probability[mask]) for part, mask in masks.items()}


def measure_subgroups(table: pd.DataFrame, probability: Floats, *, threshold: float) -> list[dict[str, Any]]:
    """Measure subgroups: by modality, by slices a group has here, and by every further column.

    A column of numbers with more than 12 different ones is cut at its terciles; of words with more, left out.
    """
    sizes = table.groupby("group")["path"].transform("size")
    columns = {"modality": table["modality"].where(table["modality"].notna(), "unknown")}
    columns["slices of the group"] = pd.cut(
        sizes, [0, 1, 5, 20, np.inf], labels=["1", "2 to 5", "6 to 20", "more than 20"]
    ).astype(str)
    columns |= {name: table[name] for name in table.columns if name not in PLAIN}
    rows = []
    for name, values in columns.items():
        for value, mask in _divide(values):
            part = table[mask]
            label, group = part["label"].to_numpy(np.int64), part["group"].to_numpy(str)
            intervals = bootstrap_intervals(label, probability[mask], group, threshold=threshold)
            counts = {"n": len(part), "n_stroke": int(label.sum()), "groups": int(part["group"].nunique())}
            chosen = {metric: intervals[metric] for metric in ("auroc", "sensitivity", "specificity")}
            rows.append({"column": name, "value": value} | counts | chosen)
    return rows


def _divide(values: "pd.Series[Any]") -> list[tuple[str, NDArray[np.bool_]]]:
    """Divide the slices by a column: names and masks of the subgroups."""
    numbers = pd.to_numeric(values, errors="coerce")
    if values.nunique() > MOST_VALUES and numbers.notna().all():
        values = pd.qcut(numbers, 3, duplicates="drop").map(lambda cut: f"{cut.left:g} to {cut.right:g}")
    text = values.fillna("").astype(str)
    names = sorted(set(text) - {""})
    if not 1 <= len(names) <= MOST_VALUES:
        return []
    return [(name, (text == name).to_numpy(bool)) for name in names]


def measure_baselines(
    table: pd.DataFrame, probability: Floats, baselines: Mapping[str, Baseline], *, threshold: float
) -> list[dict[str, Any]]:
    """Measure each baseline, and the model's figures minus these over the same resamples.

    A baseline calls Stroke what is 0.5 or more.
    """
    label, group = table["label"].to_numpy(np.int64), table["group"].to_numpy(str)
    rivals = {name: (one.probability, 0.5) for name, one in baselines.items() if one.probability is not None}
    found = bootstrap_rivals(label, probability, rivals, group, threshold=threshold)
    rows = []
    for name, baseline in baselines.items():
        row: dict[str, Any] = {"name": name, "words": baseline.words}
        if baseline.probability is None:
            missing = dict.fromkeys(("auroc", "accuracy", "difference"))
            rows.append(row | missing | {"undefined": baseline.words})
            continue
        own, difference = (
            {metric: found[name][of][metric] for metric in ("auroc", "accuracy")} for of in ("own", "difference")
        )
        own["net_benefit"] = net_benefit(label, baseline.probability, DECISION_THRESHOLDS)["model"]
        rows.append(row | own | {"difference": difference})
    return rows


def describe_control(baselines: Mapping[str, Baseline]) -> dict[str, Any] | None:
    """Describe the control of shuffled labels, as the report has it; None where it is undefined."""
    control = baselines["probe"].control
    if control is None:
        return None
    return {
        "shuffles": len(control.shuffled),
        "aurocs": control.shuffled.tolist(),
        "mean": control.mean,
        "low": control.low,
        "high": control.high,
        "true_labels": control.auroc,
        "words": baselines["probe"].words,
    }


def list_errors(table: pd.DataFrame, probability: Floats, *, threshold: float) -> list[dict[str, Any]]:
    """List the misclassified slices, the most confident first."""
    predicted = (probability >= threshold).astype(int)
    confidence = np.where(predicted == 1, probability, 1 - probability)
    wrong = table.assign(probability=probability, predicted=predicted, confidence=confidence)
    wrong = wrong[wrong["predicted"] != wrong["label"]]
    wrong = wrong.sort_values(["confidence", "path"], ascending=[False, True])
    rows: list[dict[str, Any]] = wrong.to_dict("records")  # type: ignore[assignment]
    return [
        {
            "path": row["path"],
            "group": row["group"],
            "modality": row["modality"] if isinstance(row["modality"], str) else None,
            "truth": CLASSES[row["label"]],
            "predicted": CLASSES[row["predicted"]],
            "probability": float(row["probability"]),
            "confidence": float(row["confidence"]),
        }
        for row in rows
    ]
