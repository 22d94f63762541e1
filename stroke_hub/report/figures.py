"""The figures of a report, drawn from its numbers."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from stroke_hub.report.formatting import BASELINES, Estimate, format_interval, name_value, say_interval
from stroke_hub.report.methods import list_rules
from stroke_hub.report.plots import (
    GREY,
    KEY,
    NORMAL,
    PLAIN,
    STROKE,
    WIDTH,
    draw_confusion,
    draw_curves,
    draw_histograms,
    draw_net_benefit,
    draw_precision_recall,
    draw_reliability,
    draw_roc,
    save_figures,
    styled,
    write_note,
)
from stroke_hub.runs.report import Interval, Part, Report, Subgroup
from stroke_hub.runs.run_folder import find_best_epoch

__all__ = ["draw_forest", "draw_report"]

THRESHOLDS = {  # short enough for several in a line
    "half": "0.5",
    "youden": "Youden",
    "sensitivity95": "95 % sensitivity",
    "specificity95": "95 % specificity",
}


@styled
def draw_forest(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    reference: float | None = None,
    reference_label: str = "",
    xlabel: str = "AUROC",
    note: str = "",
) -> Figure:
    """Draw a forest plot: a row for each subgroup, baseline or difference, with its interval and what it rests on.

    Parameters
    ----------
    rows : one mapping a row: "label"; "value", or None and a "reason"; "low" and "high", or None; counts "n",
        "n_stroke" and "groups", each of which may be missing; "heading", written above the first of its rows;
        "bold" for a row that stands out.
    reference, reference_label : a dotted line and its name; at 0, values are written with their sign.
    """
    figure = Figure(figsize=(WIDTH, 1), layout="constrained")
    figure.suptitle(title, fontsize=10, fontweight="bold", **PLAIN)
    write_note(figure, note)
    names, plot, words = figure.subplots(1, 3, width_ratios=(KEY, 1, KEY), sharey=True)  # texts make their own room
    y, heading = 0.0, None
    for row in rows:
        if row.get("heading") not in (None, heading):
            heading = row["heading"]
            above: Any = {"fontsize": 8, "fontweight": "bold", "in_layout": False} | PLAIN
            names.text(0, y + 0.15, textwrap.shorten(heading, 50), va="center", backgroundcolor="white", **above)
            y += 0.22
        weight = "bold" if row.get("bold") else "normal"
        label, told = textwrap.fill(row["label"], 20), _tell_row(row, signed=reference == 0)
        depth = 0.08 + 0.135 * (1 + max(label.count("\n"), told.count("\n")))
        y += depth / 2
        names.text(0, y, label, va="center", fontsize=8, fontweight=weight, **PLAIN)
        words.text(
            0, y, told, va="center", fontsize=7, color="black" if row["value"] is not None else GREY, **PLAIN
        )
        _draw_row(plot, row, y)
        y += depth / 2
    names.set_zorder(1)  # headings reach over the dotted line
    _scale_forest(plot, rows, reference, reference_label)
    plot.set(xlabel=xlabel, ylim=(y + 0.05, 0))
    words.set_title(f"{xlabel} [95 % interval]", loc="left", fontsize=7, fontweight="normal", color=GREY)
    for axes in (names, words):
        axes.set_xlim(0, 1)
        axes.axis("off")
    figure.set_figheight(y + 1.1)
    return figure


def _tell_row(row: Mapping[str, Any], *, signed: bool) -> str:
    """Write a row's value and interval, or why there is none, and what it rests on."""
    if row["value"] is None:
        words = f"undefined: {row['reason']}" if row.get("reason") else "undefined"
    else:
        number = ("{:+.3f}" if signed else "{:.3f}").format
        words = format_interval(row["value"], row.get("low"), row.get("high"), number=number)
    nouns = {"n_stroke": "stroke", "groups": "patient"}
    counts = [f"n = {row['n']:,}"] if "n" in row else []
    counts += [f"{row[key]:,} {noun}{'s' * (row[key] != 1)}" for key, noun in nouns.items() if key in row]
    rests_on = ", ".join(count.replace(" ", "\N{NO-BREAK SPACE}") for count in counts)
    return "\n".join(textwrap.wrap(words, 36) + textwrap.wrap(rests_on, 38))


def _draw_row(axes: Axes, row: Mapping[str, Any], y: float) -> None:
    colour, marker, size, width = (STROKE, "D", 4.5, 2) if row.get("bold") else (NORMAL, "o", 3.5, 1.2)
    if row["value"] is not None:
        if row.get("low") is not None:
            axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
        axes.plot(row["value"], y, marker, color=colour, markersize=size)


def _scale_forest(axes: Axes, rows: Sequence[Mapping[str, Any]], reference: float | None, label: str) -> None:
    shown = [row.get(key) for row in rows if row["value"] is not None for key in ("value", "low", "high")]
    marks = [mark for mark in [*shown, reference] if mark is not None]
    low, high = min(marks, default=0.0), max(marks, default=1.0)
    spare = max(0.0, 0.05 - (high - low)) / 2  # to either side, where all marks are nearly one
    ticks = np.asarray(MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(low - spare, high + spare))
    if high <= 1:  # shares or their differences
        ticks = ticks[ticks < 1 + 1e-9]
    pad = 0.06 * (ticks[-1] - ticks[0])
    axes.set(xlim=(ticks[0] - pad, ticks[-1] + pad), xticks=ticks[:: 1 + (len(ticks) > 4)])
    axes.tick_params(left=False, labelleft=False, labelsize=8)
    axes.spines["left"].set_visible(False)
    if reference is not None:
        axes.axvline(reference, color=GREY, linewidth=0.9, linestyle=":", zorder=0)
        third = int(3 * (reference - ticks[0]) / (ticks[-1] - ticks[0]))  # 3 at the very end
        side = ("left", "center", "right", "right")[third]
        place: Any = {"transform": axes.get_xaxis_transform(), "ha": side, "va": "bottom"}
        axes.text(reference, 1, label, fontsize=7, color=GREY, **place)


def draw_report(report: Report, label: NDArray[np.int64], probability: NDArray[np.float64], folder: Path) -> None:
    """Draw every statistic of a report into PNG and SVG files.

    Parameters
    ----------
    label, probability : (N,), of the test slices, for the histograms.
    """
    pictures: dict[str, Callable[[], Figure]] = {
        name: lambda draw=draw: draw(report)  # type: ignore[misc]
        for name, draw in {
            "confusion_matrix": _draw_confusion,
            "roc_curve": _draw_roc,
            "precision_recall_curve": _draw_precision_recall,
            "reliability": _draw_reliability,
            "net_benefit": _draw_net_benefit,
            "forest_subgroups": _draw_subgroups,
            "forest_baselines": _draw_baselines,
        }.items()
    }
    overall, note = report.test["overall"], report.data.note
    pictures["probability_histograms"] = lambda: draw_histograms(
        label, probability, threshold=overall.threshold, note=note
    )
    if report.history is not None:
        history = pd.DataFrame(report.history)
        best = find_best_epoch(history)
        pictures["training_curves"] = lambda: draw_curves(history, best_epoch=best, note=note)
    save_figures(pictures, folder)


def _draw_confusion(report: Report) -> Figure:
    return draw_confusion(report.test["overall"].confusion, note=report.data.note)


def _draw_roc(report: Report) -> Figure:
    measured = report.test["overall"].operating_points
    points = {}
    for name, point in measured.items():
        specificity, sensitivity = point.specificity.value, point.sensitivity.value
        if specificity is not None and sensitivity is not None:
            points[THRESHOLDS.get(name, name)] = (1 - specificity, sensitivity)
    return draw_roc(report.curves, _say_parts(report, "auroc"), points=points, note=report.data.note)


def _draw_precision_recall(report: Report) -> Figure:
    overall = report.test["overall"]
    return draw_precision_recall(
        report.curves,
        _say_parts(report, "average_precision"),
        prevalence=overall.n_stroke / overall.n,
        note=report.data.note,
    )


def _say_parts(report: Report, metric: str) -> dict[str, str | None]:
    """Say by part a figure with its interval, for a legend; None where it is undefined."""
    intervals = {part: figures.intervals[metric] for part, figures in report.test.items()}
    return {part: None if i.value is None else say_interval(i) for part, i in intervals.items()}


def _draw_reliability(report: Report) -> Figure:
    calibration = report.test["overall"].calibration
    labels = (
        f"as trained: ECE {calibration.before.ece:.3f}",
        f"calibrated: ECE {calibration.after.ece:.3f}",
    )
    return draw_reliability(calibration.before.bins, calibration.after.bins, labels=labels, note=report.data.note)


def _draw_net_benefit(report: Report) -> Figure:
    overall = report.test["overall"]
    prevalence = overall.n_stroke / overall.n
    rules = {BASELINES[name]: curve for name, curve in list_rules(report).items()}
    return draw_net_benefit(overall.net_benefit, prevalence=prevalence, rules=rules, note=report.data.note)


def _draw_subgroups(report: Report) -> Figure:
    overall = report.test["overall"]
    rows = [{"label": "all slices", "bold": True} | _read_row(overall, overall.intervals["auroc"])]
    rows += [
        {"heading": row.column, "label": name_value(row.column, row.value)} | _read_row(row, row.auroc)
        for row in report.subgroups
    ]
    return draw_forest(
        rows,
        reference=overall.auroc,
        reference_label="all slices",
        title="AUROC by subgroup",
        note=report.data.note,
    )


def _draw_baselines(report: Report) -> Figure:
    overall = report.test["overall"]
    rows = [{"label": "the model", "bold": True} | _read_row(overall, overall.intervals["auroc"])]
    for row in report.baselines:
        interval = row.auroc or Estimate(None, None, None, "no training slices of both classes")
        rows.append({"label": BASELINES[row.name]} | _read_row(overall, interval))
    control = report.random_labels
    if control and control.mean is not None:
        drawn = Estimate(control.mean, control.low, control.high)
        rows.append({"label": f"shuffled labels, {control.shuffles} x"} | _read_row(overall, drawn))
    return draw_forest(
        rows,
        reference=0.5,
        reference_label="chance",
        title="The model beside simple rules and controls",
        note=report.data.note,
    )


def _read_row(counts: Part | Subgroup, interval: Interval | Estimate) -> dict[str, Any]:
    row = {"value": interval.value, "low": interval.low, "high": interval.high, "reason": interval.undefined}
    return row | {"n": counts.n, "n_stroke": counts.n_stroke, "groups": counts.groups}
