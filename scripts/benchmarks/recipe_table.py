"""Predictions of many runs on the same slices -> the figures of a row each, a Markdown table, what it shows.

What a cell holds is the seed in the middle (of an even number the lower of the two) by that cell's figure, with
that seed's 95 % interval over patients. The mean of the seeds' probabilities would be an ensemble, which no run is,
and flatter a recipe that scatters. An interval over patients knows nothing of how trainings scatter, so the seeds
stand beside it, and a difference counts as shown only where every seed has it too.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from stroke_hub.metrics.classification import auroc, choose_threshold
from stroke_hub.metrics.intervals import bootstrap_intervals, paired_bootstrap, resample_groups
from stroke_hub.progress import track
from stroke_hub.report.formatting import format_interval

__all__ = ["REFERENCE", "average_shuffles", "judge", "measure_roc_point", "measure_rows", "write_table"]

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Tables = Mapping[int, pd.DataFrame]

REFERENCE = "probe"  # the row that all others are compared with
METRICS = ("auroc", "average_precision", "sensitivity", "roc_sensitivity")
HEADER = (
    "recipe",
    "validation AUROC (minus the probe's; seeds above it)",
    "test AUROC",
    "of each seed",
    "minus the probe's (seeds above it)",
    "average precision",
    "sensitivity, threshold of 95 % specificity on validation (specificity on test)",
    "sensitivity at 95 % specificity on the test slices' own ROC curve",
    "CPU s",
)


# --- figures ------------------------------------------------------------------------------------------------


def measure_rows(
    tables: Mapping[str, Tables],
    seconds: Mapping[str, Mapping[int, float]],
    *,
    words: Mapping[str, str],
    replicates: int = 10_000,
) -> list[dict[str, Any]]:
    """Measure rows, and compare each with the row "probe" where there is one.

    Parameters
    ----------
    tables : by row and seed, a run's predictions: path, label, group, split (val or test) and probability, and
        where labels were shuffled what it was trained on as shuffled_label. All have the same test slices. A row
        without validation slices is a baseline: it has one table and no threshold.
    seconds : by row and seed, CPU seconds of the training, where they are known.
    words : what each row is called.
    replicates : of the bootstrap.

    Returns
    -------
    A dictionary a row: "name", "words", "seeds", "val_auroc", every name of `METRICS`, "specificity" and
    "cpu_seconds" of the middle seed, "runs" with the same of every seed, "difference" and "val_difference" to
    the probe; with shuffled labels instead "control", the mean over the seeds.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, runs in track(tables.items(), "measuring, with intervals over patients", total=len(tables)):
        known = seconds.get(name, {})
        rows[name] = {"name": name, "words": words[name]} | _measure_row(runs, known, replicates)
    reference = rows.get(REFERENCE)
    for name, row in rows.items():
        if reference is not None and name != REFERENCE and "control" not in row:
            row["difference"] = _compare(row, reference, tables[name], tables[REFERENCE], replicates)
            row["val_difference"] = _compare_seeds(row, reference, "val_auroc")
    return list(rows.values())


def _measure_row(tables: Tables, seconds: Mapping[int, float], replicates: int) -> dict[str, Any]:
    runs = [
        {"seed": seed, "cpu_seconds": seconds.get(seed)} | _measure_run(table, replicates)
        for seed, table in tables.items()
    ]
    row: dict[str, Any] = {"seeds": [run["seed"] for run in runs]}
    row |= {metric: _find_middle(runs, metric)[metric] for metric in METRICS}
    row["specificity"] = _find_middle(runs, "sensitivity")["specificity"]
    for figure in ("val_auroc", "cpu_seconds"):
        known = [run[figure] for run in runs if run[figure] is not None]
        row[figure] = statistics.median_low(known) if known else None
    if any("shuffled_label" in table for table in tables.values()):
        row["control"] = average_shuffles([run["auroc"]["value"] for run in runs])
    return row | {"runs": runs}


def _measure_run(table: pd.DataFrame, replicates: int) -> dict[str, Any]:
    """The figures of one run; where no validation threshold has 95 % specificity, nobody is called Stroke."""
    val, test = (table[table["split"] == split] for split in ("val", "test"))
    found: dict[str, Any] = {"val_auroc": None, "threshold": None}
    if len(val):
        label = val["shuffled_label" if "shuffled_label" in val else "label"].to_numpy(np.int64)
        probability = val["probability"].to_numpy(np.float64)
        found["val_auroc"] = auroc(label, probability)
        found["threshold"] = choose_threshold(label, probability, rule="specificity95")
    label, probability, group = _read_columns(test)
    at = float("inf") if found["threshold"] is None else found["threshold"]
    measured = bootstrap_intervals(label, probability, group, threshold=at, replicates=replicates)
    found |= {name: measured[name] for name in ("auroc", "average_precision")}
    found |= {name: measured[name] if len(val) else None for name in ("sensitivity", "specificity")}
    return found | {"roc_sensitivity": measure_roc_point(label, probability, group, replicates=replicates)}


def measure_roc_point(
    label: Labels, probability: Floats, group: Sequence[str], *, replicates: int = 10_000
) -> dict[str, Any]:
    """Sensitivity (N slices) where their own ROC curve has 95 % specificity, and its percentile interval.

    The point is found anew in every resample of patients. It flatters: a threshold is chosen before.

    Returns
    -------
    "value", "low", "high", "method"; 0 where every threshold calls more than 5 % of the normals Stroke.
    """
    order = np.argsort(-probability, kind="stable")
    stroke = label[order] == 1
    last = np.append(np.flatnonzero(np.diff(probability[order])), len(label) - 1)  # of each tie
    names, index = np.unique(np.asarray(group)[order], return_inverse=True)

    def find(counts: Floats) -> Floats:
        tp, fp = (np.cumsum(counts[:, index] * of, axis=1)[:, last] for of in (stroke, ~stroke))
        normals = fp[:, -1:]
        with np.errstate(invalid="ignore"):  # a resample without a class is left out
            allowed = (normals - fp) / normals >= 0.95
            sensitivity: Floats = np.max(np.where(allowed, tp, 0.0), axis=1) / tp[:, -1]
        return np.where(normals[:, 0] > 0, sensitivity, np.nan)

    drawn = np.concatenate([find(counts) for counts in resample_groups(len(names), replicates, seed=0)])
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    value = float(find(np.ones((1, len(names))))[0])
    return {"value": value, "low": float(low), "high": float(high), "method": "percentile bootstrap of groups"}


def average_shuffles(aurocs: Sequence[float]) -> dict[str, Any]:
    """Mean test AUROC of trainings on shuffled labels, and its 95 % interval by Student's t over the shuffles.

    The test slices are fixed: the interval says whether this evaluation rewards knowing nothing.

    Returns
    -------
    "mean", "low", "high" and "holds_half"; None but for the mean where there is one shuffle.
    """
    mean, count = statistics.fmean(aurocs), len(aurocs)
    if count < 2:
        return {"mean": mean, "low": None, "high": None, "holds_half": None}
    reach = float(student.ppf(0.975, count - 1)) * statistics.stdev(aurocs) / count**0.5
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "holds_half": abs(mean - 0.5) <= reach}


def _compare(
    row: dict[str, Any], reference: dict[str, Any], tables: Tables, others: Tables, replicates: int
) -> dict[str, Any]:
    """Test AUROC of a row minus the probe's: the middle seeds, over the same resamples of patients."""
    a, b = (
        of[_find_middle(one["runs"], "auroc")["seed"]].query("split == 'test'").sort_values("path")
        for one, of in ((row, tables), (reference, others))
    )
    if a["path"].tolist() != b["path"].tolist():
        raise ValueError(f"{row['name']} and {REFERENCE} were not measured on the same slices")
    label, probability, group = _read_columns(a)
    found = paired_bootstrap(
        label, probability, _read_columns(b)[1], group, threshold_a=0.5, threshold_b=0.5, replicates=replicates
    )
    return found["auroc"] | _compare_seeds(row, reference, "auroc")


def _compare_seeds(row: dict[str, Any], reference: dict[str, Any], figure: str) -> dict[str, Any]:
    """Each seed against the probe's, which has the same validation slices; a baseline against every seed."""

    def read(run: dict[str, Any]) -> Any:
        return run[figure]["value"] if isinstance(run[figure], dict) else run[figure]

    ours, theirs = ({run["seed"]: read(run) for run in one["runs"]} for one in (row, reference))
    if row["val_auroc"] is None:
        ours = dict.fromkeys(theirs, next(iter(ours.values())))
    pairs = [(ours[seed], theirs[seed]) for seed in theirs if ours.get(seed) is not None]
    above, below = sum(a > b for a, b in pairs), sum(a < b for a, b in pairs)
    mean = statistics.fmean(a - b for a, b in pairs) if pairs else None
    return {"mean": mean, "above": above, "below": below, "pairs": len(pairs)}


def _find_middle(runs: Sequence[dict[str, Any]], metric: str) -> dict[str, Any]:
    """The run in the middle by a metric; of an even number the lower one."""
    ranked = sorted(runs, key=lambda run: run[metric]["value"] if run[metric] else 0.0)
    return ranked[(len(ranked) - 1) // 2]


def _read_columns(test: pd.DataFrame) -> tuple[Labels, Floats, list[str]]:
    columns = test["label"].to_numpy(np.int64), test["probability"].to_numpy(np.float64)
    return *columns, test["group"].astype(str).tolist()


# --- words --------------------------------------------------------------------------------------------------


def write_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of `measure_rows` as a Markdown table."""
    lines = [HEADER, ["---"] * len(HEADER), *(_write_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _write_cells(row: dict[str, Any]) -> list[str]:
    control, runs = row.get("control"), row["runs"]
    each = ", ".join(f"{run['auroc']['value']:.3f}" for run in runs) if len(runs) > 1 else ""
    seconds = "" if row["cpu_seconds"] is None else f"{row['cpu_seconds']:.0f}"
    if control:
        mean = _tell(control | {"value": control["mean"]})
        return [f"{row['words']}, mean of {len(runs)}", "", mean, each, "", "", "", "", seconds]
    validation, sensitivity = "", ""
    if row["val_auroc"] is not None:
        gap = row.get("val_difference")
        validation = f"{row['val_auroc']:.3f}" + (f" ({gap['mean']:+.3f}; {_say_above(gap)})" if gap else "")
        sensitivity = f"{_tell(row['sensitivity'])} ({row['specificity']['value']:.3f})"
    difference = ""
    if gap := row.get("difference"):
        reach = "" if gap["low"] is None else f" [{gap['low']:+.3f}, {gap['high']:+.3f}]"
        difference = f"{gap['value']:+.3f}{reach} ({_say_above(gap)})"
    figures = [_tell(row[metric]) for metric in ("auroc", "average_precision", "roc_sensitivity")]
    return [row["words"], validation, figures[0], each, difference, figures[1], sensitivity, figures[2], seconds]


def _say_above(gap: dict[str, Any]) -> str:
    return f"{gap['above']} of {gap['pairs']}"


def judge(rows: Sequence[dict[str, Any]], *, rivals: Sequence[str]) -> list[str]:
    """What the table shows in sentences, and what it does not.

    A difference is shown where its interval leaves 0 out and every seed has its sign.

    Parameters
    ----------
    rivals : names of the rows that the probe should beat.
    """
    gaps = {row["name"]: row["difference"] for row in rows if row.get("difference")}
    words = {row["name"]: row["words"] for row in rows}
    compared = [name for name in rivals if name in gaps]
    beaten, better = ([name for name in compared if shown(gaps[name])] for shown in (_is_below, _is_above))
    unclear = [name for name in compared if name not in beaten + better]
    said = {
        "The probe is shown to be better than": beaten,
        "The probe is shown to be worse than": better,
        "These slices show no difference between the probe and": unclear,
    }
    sentences = [f"{start}: {'; '.join(words[name] for name in named)}." for start, named in said.items() if named]
    held = {None: "one shuffle has no interval", True: "which holds 0.5", False: "which does not hold 0.5"}
    for control in (row["control"] for row in rows if "control" in row):
        mean = _tell(control | {"value": control["mean"]})
        sentences.append(f"Shuffled labels give a mean test AUROC of {mean}, {held[control['holds_half']]}.")
    return sentences


def _is_below(gap: dict[str, Any]) -> bool:
    return gap["high"] is not None and gap["high"] < 0 and gap["below"] == gap["pairs"]


def _is_above(gap: dict[str, Any]) -> bool:
    return gap["low"] is not None and gap["low"] > 0 and gap["above"] == gap["pairs"]


def _tell(interval: Mapping[str, Any]) -> str:
    """Write a figure with its interval."""
    return format_interval(interval["value"], interval["low"], interval["high"])
