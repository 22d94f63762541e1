"""Two evaluations of the same slices, side by side, with intervals of the differences."""

import json
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from stroke_hub.data.records import SLICE_NUMBERS
from stroke_hub.errors import RunError
from stroke_hub.evaluation.patients import Compared, compare_patients
from stroke_hub.files import write_text
from stroke_hub.metrics.intervals import METRICS, bootstrap_intervals, bootstrap_rivals
from stroke_hub.report.figures import draw_forest
from stroke_hub.report.formatting import METRIC_TITLES, PATIENT_TITLES, say_interval
from stroke_hub.report.plots import save_figure
from stroke_hub.runs.report import Report, read_report
from stroke_hub.runs.run_folder import RESULTS_FILE, SPLIT_FILE

__all__ = ["Comparison", "Side", "compare", "compare_reports", "write_comparison"]

SAME = 0.01  # between two machines


class Side(TypedDict):
    """Say which evaluated folder one side is, what its data stand for, and its model's threshold."""

    folder: str
    note: str
    data_sha256: str | None
    threshold: float


class Comparison(TypedDict):
    """Hold two evaluations of the same slices side by side: what comparison.json holds.

    n, n_stroke : slices in both, and those with stroke. groups, groups_stroke : the same of patients.
    metrics : by name, of slices. by_patient : "sensitivity" and "specificity" of patients (any slice called), and
        the AUROC of scans by each rule.
    """

    a: Side
    b: Side
    n: int
    n_stroke: int
    groups: int
    groups_stroke: int
    metrics: dict[str, Compared]
    by_patient: dict[str, Compared]


def compare(run_a: str | Path, run_b: str | Path) -> Comparison:
    """Compare two evaluated folders on the slices that both hold: each one's metrics, and their differences.

    Raises
    ------
    RunError : a folder is not an evaluated one, or they have no slice in common, or disagree on a label.
    """
    (about_a, rows_a), (about_b, rows_b) = (_read(Path(run)) for run in (run_a, run_b))
    both = rows_a.merge(rows_b[["image_path", "true_label", "stroke_probability"]], on="image_path")
    if both.empty:
        raise RunError(f"{run_a} and {run_b}: have no slice in common; compare evaluations of the same dataset.")
    if (both["true_label_x"] != both["true_label_y"]).any():
        raise RunError(f"{run_a} and {run_b}: call the same slices by other labels; compare one dataset's.")
    label, group = both["true_label_x"].to_numpy("int64"), both["group"].to_numpy(str)
    a, b = (both[f"stroke_probability_{side}"].to_numpy() for side in "xy")
    at_a, at_b = about_a["threshold"], about_b["threshold"]
    own_a = bootstrap_intervals(label, a, group, threshold=at_a)
    rival = bootstrap_rivals(label, a, {"b": (b, at_b)}, group, threshold=at_a)["b"]
    table = both.rename(columns={"image_path": "path", "true_label_x": "label"})
    return {
        "a": about_a,
        "b": about_b,
        "n": len(both),
        "n_stroke": int(label.sum()),
        "groups": int(both["group"].nunique()),
        "groups_stroke": int(both["group"][label == 1].nunique()),
        "metrics": {
            name: {"a": own_a[name], "b": rival["own"][name], "difference": rival["difference"][name]}
            for name in METRICS
        },
        "by_patient": compare_patients(table, a, b, threshold_a=at_a, threshold_b=at_b),
    }


def compare_reports(own: Report, new: Report) -> tuple[list[str], bool]:
    """Compare what was measured now with a model's own report, figure by figure.

    Returns
    -------
    A line a figure, and whether all agree. On the same data a figure must be the same within 0.01, which is more
    than other machines round; on other data it must lie in the interval that the report gives for it.
    """
    # the whole dataset's hash tells too what training made of it: copies in one group, leaks left out
    before, after = own.data.measured_sha256, new.data.measured_sha256
    same = before == after if before else (own.data.sha256, own.data.split) == (new.data.sha256, new.data.split)
    lines = [
        f"{new.data.split} slices, SHA-256 {after}, {'as' if same else 'other than'} in the report",
        f"{'':34}{'report':26}{'now':10}",
    ]
    agree = True
    for part, figures in new.test.items():
        reported = own.test[part].intervals
        for name, interval in figures.intervals.items():
            if name not in reported:  # a report of an older version
                continue
            was, now = reported[name], interval.value
            if was.value is None or now is None:
                fine, words = True, "not defined in one of them"
            elif same:
                fine = abs(now - was.value) <= SAME
                words = "the same" if fine else "DIFFERS on the same data"
            elif was.low is None or was.high is None:
                fine, words = True, "the report has no interval"
            else:
                fine = was.low - 1e-6 <= now <= was.high + 1e-6
                words = "inside" if fine else "OUTSIDE"
            agree &= fine
            shown = "-" if now is None else f"{now:.3f}"
            lines.append(f"{part + ' ' + METRIC_TITLES[name]:34}{say_interval(was):26}{shown:10}{words}")
    return lines, agree


def write_comparison(result: Comparison, out: str | Path) -> None:
    """Write comparison.json and a forest plot of the differences (comparison.png, .svg) into a folder."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    slices = {"n": result["n"], "n_stroke": result["n_stroke"], "groups": result["groups"]}
    rows = [_read_row(METRIC_TITLES[name], cell) | slices for name, cell in result["metrics"].items()]
    rows += [
        _read_row(PATIENT_TITLES.get(name, name), cell) | {"heading": "by patient", "groups": result["groups"]}
        for name, cell in result["by_patient"].items()
    ]
    note = "; ".join(dict.fromkeys(filter(None, (result["a"]["note"], result["b"]["note"]))))
    names = f"{Path(result['a']['folder']).name} minus {Path(result['b']['folder']).name}"
    figure = draw_forest(
        rows, reference=0.0, reference_label="no difference", title=names, xlabel="difference", note=note
    )
    save_figure(figure, out / "comparison")
    write_text(out / "comparison.json", json.dumps(result, indent=2, allow_nan=False) + "\n")


def _read_row(label: str, cell: Compared) -> dict[str, Any]:
    """Read a row of the forest plot."""
    gap = cell["difference"]
    return {"label": label, "reason": gap.get("undefined")} | {key: gap[key] for key in ("value", "low", "high")}


def _read(run: Path) -> tuple[Side, pd.DataFrame]:
    """Read what an evaluated folder says of itself, and its predictions with their patients and scans."""
    report = read_report(run)
    for name in (RESULTS_FILE, SPLIT_FILE):
        if not (run / name).is_file():
            raise RunError(f"{run}: has no {name}, so it is not an evaluated run; evaluate it first.")
    results = pd.read_csv(run / RESULTS_FILE)[["image_path", "true_label", "stroke_probability"]]
    split = pd.read_csv(run / SPLIT_FILE, dtype=str, keep_default_na=False)  # a patient may be called NA
    known = [name for name in ("group", "scan", *SLICE_NUMBERS) if name in split]
    about: Side = {
        "folder": str(run),
        "note": report.data.note,
        "data_sha256": report.data.sha256,
        "threshold": report.model.threshold,
    }
    return about, results.join(split.set_index("path")[known], on="image_path")
