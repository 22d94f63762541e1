"""The numbers of report.json by patient and by scan, and the flow of participants."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
import pandas as pd
from scipy.special import logit

from stroke_hub.data.records import LeftOut, name_scans, read_slice_numbers
from stroke_hub.metrics.classification import Floats, Labels
from stroke_hub.metrics.intervals import bootstrap_intervals, bootstrap_ratio
from stroke_hub.metrics.patients import (
    RULES,
    Names,
    ScanRule,
    compare_calls,
    compare_scans,
    count_patients,
    measure_calls,
    measure_rules,
    measure_within,
    predict_patients,
    score_scans,
)
from stroke_hub.progress import track
from stroke_hub.runs.report import PARTS

if TYPE_CHECKING:
    from stroke_hub.evaluation.baselines import Baseline  # brings torch, which a comparison does without

__all__ = [
    "Compared",
    "compare_by_scan",
    "compare_patients",
    "count_participants",
    "list_patients",
    "measure_patients",
]

PREVALENCES = (0.05, 0.2, 0.5)  # of patients with stroke: a screening list, an emergency department, a stroke unit


class Compared(TypedDict):
    """Hold one figure of two models, and the first minus the second: intervals as report.json has them."""

    a: dict[str, Any]
    b: dict[str, Any]
    difference: dict[str, Any]


class _Slices(NamedTuple):
    """The slices of a table in the order of their numbers, so that a scan's are from one end to the other."""

    order: Labels
    label: Labels
    group: Names
    scan: Names
    path: Names


def _order_slices(table: pd.DataFrame) -> _Slices:
    path = table["path"].to_numpy(str)
    order = np.lexsort((path, read_slice_numbers(table)))  # a slice without a number comes last
    columns = (table["group"].to_numpy(str), name_scans(table).to_numpy(str), path)
    return _Slices(order, table["label"].to_numpy(np.int64)[order], *(column[order] for column in columns))


def measure_patients(
    table: pd.DataFrame,
    probability: Floats,
    log_odds: Floats,
    *,
    threshold: float,
    points: Mapping[str, Mapping[str, Any]],
    rules: tuple[ScanRule, ...] = RULES,
) -> dict[str, dict[str, Any]]:
    """Measure by patient and by scan, for each part of the report's `test`.

    Parameters
    ----------
    table : N rows with path, label, group and modality; with a column scan, a patient may have several.
    probability, log_odds : (N,), calibrated, of Stroke.
    threshold : the model's own.
    points : operating points as `choose_operating_points` gives them.
    rules : from the log-odds of a scan's slices to the probability of the scan.
    """
    found = {}
    for part in track(PARTS, "measuring by patient"):
        rows = np.ones(len(table), bool) if part == "overall" else (table["modality"] == part).to_numpy(bool)
        found[part] = _measure_part(table[rows], probability[rows], log_odds[rows], threshold, points, rules)
    return found


def _measure_part(
    table: pd.DataFrame,
    probability: Floats,
    log_odds: Floats,
    threshold: float,
    points: Mapping[str, Mapping[str, Any]],
    rules: tuple[ScanRule, ...],
) -> dict[str, Any]:
    order, label, group, scan, _ = _order_slices(table)
    probability, log_odds = probability[order], log_odds[order]
    counts = count_patients(label, probability, group, scan, threshold=threshold)
    positive = counts.positive
    share = counts.found[positive] / counts.strokes[positive]

    def measure_at(threshold: float) -> dict[str, Any]:
        counts = count_patients(label, probability, group, scan, threshold=threshold)
        predicted = {"at_prevalence": predict_patients(counts, PREVALENCES)}
        return {"threshold": threshold} | measure_calls(counts) | predicted

    return {
        "n": len(counts.name),
        "n_stroke": int(positive.sum()),
        "n_mixed": int(counts.mixed.sum()),
        "scans": int(counts.scans.sum()),
        "stroke_scans": len(np.unique(scan[label == 1])),
        "missed": int(counts.missed.sum()),
        "missed_called": int((counts.missed & counts.called).sum()),
        "false_called": int((counts.called & ~positive).sum()),
        "any_slice": measure_at(threshold),
        "mean_sensitivity": bootstrap_ratio(share, np.ones(len(share)), proportion=True),
        "false_calls": bootstrap_ratio(counts.false_calls[~positive], counts.scans[~positive], proportion=False),
        "operating_points": {
            name: measure_at(point["threshold"]) for name, point in points.items() if point["threshold"] is not None
        },
        "rules": measure_rules(label, log_odds, group, scan, rules),
        "within": measure_within(label, probability, group),
    }


def compare_by_scan(
    table: pd.DataFrame, log_odds: Floats, baselines: "Mapping[str, Baseline]"
) -> dict[str, dict[str, Any]]:
    """Measure each baseline by scan, and among the slices of patients with both classes, beside the model.

    Parameters
    ----------
    log_odds : (N,), the model's.

    Returns
    -------
    By baseline that is defined, its keys `scans` and `within` of the report.
    """
    order, label, group, scan, _ = _order_slices(table)
    known = {name: one.probability[order] for name, one in baselines.items() if one.probability is not None}
    rivals = {name: logit(probability) for name, probability in known.items()}
    rules = {
        rule.name: compare_scans(label, log_odds[order], rivals, group, scan, rule)
        for rule in track(RULES, "comparing by scan")
    }
    return {
        name: {
            "scans": [{"name": rule} | compared[name] for rule, compared in rules.items()],
            "within": measure_within(label, probability, group),
        }
        for name, probability in known.items()
    }


def compare_patients(
    table: pd.DataFrame,
    probability_a: Floats,
    probability_b: Floats,
    *,
    threshold_a: float,
    threshold_b: float,
) -> dict[str, Compared]:
    """Measure two models by patient and by scan on the same slices, and a's figures minus b's.

    Returns
    -------
    "sensitivity" and "specificity" of patients (any slice called), and by the name of each rule the AUROC of scans;
    each as intervals "a", "b" and "difference".
    """
    order, label, group, scan, _ = _order_slices(table)
    a, b = probability_a[order], probability_b[order]
    calls = compare_calls(label, a, b, group, threshold_a=threshold_a, threshold_b=threshold_b)
    found = {name: Compared(a=one["a"], b=one["b"], difference=one["difference"]) for name, one in calls.items()}
    for rule in RULES:
        own = score_scans(label, logit(a), group, scan, rule)
        rival = compare_scans(label, logit(a), {"b": logit(b)}, group, scan, rule)["b"]
        auroc = bootstrap_intervals(own.label, own.probability, own.group, threshold=0.5)["auroc"]
        found[rule.name] = {"a": auroc, "b": rival["auroc"], "difference": rival["difference"]}
    return found


def list_patients(table: pd.DataFrame, probability: Floats, *, threshold: float) -> list[dict[str, Any]]:
    """List the patients: those with stroke, the least found first, then the others, the most false calls first."""
    order, label, group, scan, path = _order_slices(table)
    probability = probability[order]
    found = count_patients(label, probability, group, scan, threshold=threshold)
    rows: list[dict[str, Any]] = [
        {
            "patient": str(found.name[i]),
            "slices": int(found.slices[i]),
            "stroke_slices": int(found.strokes[i]),
            "found": int(found.found[i]),
            "false_calls": int(found.false_calls[i]),
            "probability": float(probability[found.highest[i]]),
            "path": str(path[found.highest[i]]),
        }
        for i in range(len(found.name))
    ]
    return sorted(rows, key=_rank)


def _rank(row: dict[str, Any]) -> tuple[Any, ...]:
    if row["stroke_slices"]:
        return 0, row["found"] / row["stroke_slices"], row["probability"], row["patient"]
    return 1, -row["false_calls"], -row["probability"], row["patient"]


def count_participants(table: pd.DataFrame, left_out: Sequence[LeftOut] | None) -> dict[str, Any]:
    """Count the participants from what was found to the parts, as the report's `participants`.

    Parameters
    ----------
    table : label, group and split of all slices that were kept.
    left_out : None where nobody recorded it.
    """
    parts = {}
    for split, part in table.groupby("split"):
        share = part.groupby("group")["label"].mean()
        parts[str(split)] = {
            "slices": len(part),
            "stroke_slices": int(part["label"].sum()),
            "patients": len(share),
            "stroke_patients": int((share > 0).sum()),
            "mixed_patients": int(((share > 0) & (share < 1)).sum()),
        }
    known = left_out is not None
    lost = left_out or ()
    return {
        "slices": len(table) + sum(count.slices for count in lost) if known else None,
        "patients": table["group"].nunique() + sum(count.patients for count in lost) if known else None,
        "left_out": [count._asdict() for count in lost] if known else None,
        "parts": parts,
    }
