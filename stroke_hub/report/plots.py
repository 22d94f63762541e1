"""Plots of numbers, in one style: colour-blind safe, legible at half a page's width, as PNG and SVG.

Every function takes plain data and gives a matplotlib Figure; `save_figure` writes it. Nothing here touches
pyplot's global state, so figures may be drawn in any thread.
"""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from stroke_hub.files import atomic_write
from stroke_hub.progress import track
from stroke_hub.runs.report import Bin, Confusion, Curve, NetBenefit

__all__ = [
    "GREY",
    "KEY",
    "NORMAL",
    "PLAIN",
    "STROKE",
    "THIRD",
    "WIDTH",
    "draw_confusion",
    "draw_curves",
    "draw_histograms",
    "draw_net_benefit",
    "draw_precision_recall",
    "draw_reliability",
    "draw_roc",
    "save_figure",
    "save_figures",
    "styled",
    "write_note",
]

# Okabe and Ito's palette (2008): told apart with every common colour blindness, and in grey
NORMAL, STROKE, GREY, THIRD = "#0072B2", "#D55E00", "#666666", "#009E73"
LINES = {"overall": GREY, "BT": STROKE, "MR": NORMAL}
CURVES = {"overall": "all slices", "BT": "CT", "MR": "MR"}  # what they are called
DASHES = {"overall": "-", "BT": "--", "MR": "-."}
STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    # an SVG is set in the first that its viewer has: Verdana is as wide as DejaVu Sans, the others are narrower
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica", "sans-serif"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "stroke_hub",  # the same picture gives the same file
    "svg.fonttype": "none",
}
PLAIN: Any = {"parse_math": False}  # words from outside, in which a $ is a $
MARKERS = {"o": 9, "s": 6.5, "^": 5.5, "D": 3.5}  # and sizes in points
WIDTH = 4.2  # inches: half a page
KEY = 0.001  # height of a row that nothing but a legend fills: it makes its own room

P = ParamSpec("P")


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `stem`.png (160 dpi) and `stem`.svg, each whole or not at all.

    The ids in the SVG carry a hash of the picture, and its style sheet names it, so that many stand in one page.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        with matplotlib.rc_context(STYLE), atomic_write(stem.with_name(f"{stem.name}.{kind}")) as partial:
            figure.savefig(partial, format=kind, dpi=160, metadata=metadata)
            if kind == "svg":
                partial.write_text(_keep_apart(partial.read_text("utf-8")), "utf-8")


def save_figures(pictures: Mapping[str, Callable[[], Figure]], folder: Path) -> None:
    """Draw and save figures by name, with progress."""
    for name, draw in track(pictures.items(), "drawing figures", total=len(pictures)):
        save_figure(draw(), folder / name)


def _keep_apart(svg: str) -> str:
    # ids are hashes of places to the last bit, and the layout's rounding differs between calls: count them instead
    for number, name in enumerate(dict.fromkeys(re.findall(r'\sid="([a-z]+[0-9a-f]{10})"', svg))):
        svg = svg.replace(name, f"{name[0]}{number}")
    mark = f"figure-{sha256(svg.encode()).hexdigest()[:12]}"
    ids = re.compile(r'(\sid="|\bhref="#|url\(#)')
    svg = re.sub("<[^<>]+>", lambda tag: ids.sub(rf"\1{mark}-", tag[0]), svg)
    # matplotlib writes `*{...}`, which would restyle everything else in the page
    return svg.replace("<svg ", f'<svg id="{mark}" ', 1).replace(">*{", f">#{mark} *{{", 1)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a drawing function draw in STYLE."""

    @wraps(draw)
    def draw_in_style(*args: P.args, **options: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **options)

    return draw_in_style


def write_note(figure: Figure, *lines: str) -> None:
    """Write small grey lines at the bottom, broken where they reach the figure's width; empty ones are left out."""
    width = int(20 * figure.get_figwidth())  # characters of 7 points
    words = "\n".join(textwrap.fill(line, width) for line in lines if line)
    if words:
        figure.supxlabel(words, fontsize=7, color=GREY, **PLAIN)


def _start(*notes: str, height: float = 3.6, rows: Sequence[float] = (1,)) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    write_note(figure, *notes)
    return figure, figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)[:, 0].tolist()


def _write_key(figure: Figure, axes: Axes, key: Axes, title: str = "") -> None:
    """Write a legend below the axes, where no curve runs; the figure grows with it."""
    handles, labels = axes.get_legend_handles_labels()
    key.axis("off")
    key.legend(handles, labels, loc="center", fontsize=7.5, title=title, title_fontsize=7.5, handlelength=2.8)
    figure.set_figheight(figure.get_figheight() + 0.155 * (len(labels) + bool(title)))


def _tell_missing(axes: Axes, of_parts: Mapping[str, str | None]) -> None:
    """Write into an empty frame why it is empty."""
    if not any(of_parts.values()):
        axes.text(0.5, 0.5, "undefined: one class only", ha="center", color=GREY, backgroundcolor="white")


@styled
def draw_curves(history: pd.DataFrame, *, best_epoch: int, note: str = "") -> Figure:
    """Draw loss, accuracy and AUROC over the epochs, from history.csv; the best epoch is marked."""
    figure = Figure(figsize=(2 * WIDTH, 3.1), layout="constrained")
    write_note(figure, note)
    grid = figure.subplot_mosaic([[0, 1, 2], [3, 3, 3]], height_ratios=(1, KEY))
    loss, accuracy, auroc, key = (grid[place] for place in range(4))
    loss.plot(history["epoch"], history["train_loss"], color=GREY, linestyle="--", label="training")
    loss.plot(history["epoch"], history["val_loss"], color=STROKE, label="validation")
    loss.set(title="Loss", ylabel="cross-entropy", ylim=(0, None))
    accuracy.plot(history["epoch"], history["val_accuracy"], color=STROKE)
    accuracy.set(title="Validation accuracy", ylim=(None, 1.005))
    auroc.plot(history["epoch"], history["val_auroc"], color=STROKE)
    auroc.set(title="Validation AUROC", ylim=(None, 1.005))
    for axes in (loss, accuracy, auroc):
        axes.axvline(best_epoch, color=GREY, linewidth=0.8, linestyle=":", label="best epoch")
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
    key.axis("off")
    key.legend(*loss.get_legend_handles_labels(), loc="center", ncols=3)
    return figure


@styled
def draw_confusion(confusion: Confusion, *, note: str = "") -> Figure:
    """Draw the confusion matrix with counts and the share of each true class."""
    counts = np.array([[confusion.tn, confusion.fp], [confusion.fn, confusion.tp]])
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, (axes,) = _start(note)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 0.5 else "black"
        part = f"{share[row, column]:.1%} of true" if counts[row].any() else "none is true"
        text = f"{count}\n{part}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
    names = ["Normal", "Stroke"]
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
    axes.set_xticks([0, 1], names)
    axes.set_yticks([0, 1], names)
    axes.spines[:].set_visible(False)
    return figure


@styled
def draw_roc(
    curves: dict[str, Curve],
    auroc: dict[str, str | None],
    *,
    points: Mapping[str, tuple[float, float]] | None = None,
    note: str = "",
) -> Figure:
    """Draw ROC curves, one for each part ("overall", "BT", "MR") with words for its AUROC; None leaves a part out.

    `points` marks operating points by name, each a false and a true positive rate; equal ones share a marker.
    """
    figure, (axes, key) = _start(note, rows=(1, KEY))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="chance")
    for part, words in auroc.items():
        if words is not None:
            curve = curves[part]
            label = f"{CURVES[part]} {words}"
            axes.plot(curve.fpr, curve.tpr, color=LINES[part], linestyle=DASHES[part], label=label)
    _tell_missing(axes, auroc)
    places: dict[tuple[float, float], list[str]] = {}
    for name, (fpr, tpr) in (points or {}).items():
        places.setdefault((round(fpr, 9), round(tpr, 9)), []).append(name)
    # each smaller than the one below it: neighbours do not hide each other
    for (place, names), (marker, size) in zip(places.items(), cycle(MARKERS.items()), strict=False):
        look: Any = {"color": "black", "markerfacecolor": "white", "linestyle": "", "zorder": 3, "clip_on": False}
        axes.plot(*place, marker=marker, markersize=size, label=", ".join(names), **look)
    axes.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))
    axes.set_aspect("equal")
    _write_key(figure, axes, key, "AUROC [95 % interval]" + "; thresholds" * bool(places))
    return figure


@styled
def draw_precision_recall(
    curves: dict[str, Curve],
    average_precision: dict[str, str | None],
    *,
    prevalence: float,
    note: str = "",
) -> Figure:
    """Draw precision-recall curves, with the share of strokes as the line that chance gives."""
    figure, (axes, key) = _start(note, rows=(1, KEY))
    axes.axhline(prevalence, color=GREY, linewidth=0.8, linestyle=":", label=f"chance ({prevalence:.3f})")
    for part, words in average_precision.items():
        if words is not None:
            x, y = curves[part].recall, curves[part].precision
            look: Any = {"color": LINES[part], "linestyle": DASHES[part]}
            axes.step(x, y, where="post", label=f"{CURVES[part]} {words}", **look)
    _tell_missing(axes, average_precision)
    axes.set(title="Precision-recall", xlabel="recall (sensitivity)", ylabel="precision (PPV)")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_aspect("equal")
    _write_key(figure, axes, key, "average precision [95 % interval]")
    return figure


@styled
def draw_histograms(
    label: NDArray[np.int64], probability: NDArray[np.float64], *, threshold: float, note: str = ""
) -> Figure:
    """Draw histograms of the predicted probability by true class."""
    figure, (axes, key) = _start(note, rows=(1, KEY))
    bins = np.linspace(0, 1, 21).tolist()
    for value, name, colour, hatch in ((0, "Normal", NORMAL, ""), (1, "Stroke", STROKE, "///")):
        axes.hist(
            probability[label == value],
            bins=bins,
            alpha=0.65,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            label=f"true {name} (n = {(label == value).sum()})",
        )
    axes.axvline(threshold, color="black", linewidth=0.8, linestyle="--", label=f"threshold {threshold:.2f}")
    axes.set(title="Predicted probability", xlabel="probability of Stroke", ylabel="slices (log scale)")
    _count_on_log(axes, ticks=9)
    _write_key(figure, axes, key)
    return figure


def _count_on_log(axes: Axes, *, ticks: int) -> None:
    """Put a y axis of counts on a logarithmic scale that begins at 0, with about so many ticks above that."""
    axes.set_yscale("symlog", linthresh=1)
    top = 1.3 * max(axes.get_ylim()[1], 1)
    powers = [10**power for power in range(1 + int(np.log10(top)))]
    step = 1 + len(powers) // ticks
    axes.set(ylim=(0, top), yticks=[0, *powers[step - 1 :: step]])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))


@styled
def draw_reliability(
    bins_before: Sequence[Bin],
    bins_after: Sequence[Bin],
    *,
    labels: tuple[str, str] = ("before", "after"),
    note: str = "",
) -> Figure:
    """Draw the reliability diagram before and after calibration, over the number of slices in each bin.

    Parameters
    ----------
    bins_before, bins_after : the bins that are not empty; an empty sequence is left out.
    labels : the words for both, such as "before: ECE 0.041".
    """
    bars_mean = "bars: slices per bin, grey before, hatched after"
    whiskers_mean = "whiskers: 95 % intervals over patients, where several bear on a bin"
    figure, (axes, strip, key) = _start(bars_mean, whiskers_mean, note, height=4.0, rows=(1, 0.26, KEY))
    strip.sharex(axes)
    names = ("low", "high", "n", "mean_probability", "stroke_share")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="perfect calibration")
    before: Any = {"color": GREY, "linestyle": "--", "marker": "s", "markersize": 7, "markerfacecolor": "white"}
    after: Any = {"color": STROKE, "linestyle": "-", "marker": "o", "markersize": 4}
    bars: Any = ({"facecolor": "#cccccc"}, {"facecolor": "none", "edgecolor": STROKE, "hatch": "////"})
    for bins, label, look, bar in zip((bins_before, bins_after), labels, (before, after), bars, strict=True):
        if bins:
            low, high, n, x, y = (np.array([getattr(one, name) for one in bins]) for name in names)
            axes.plot(x, y, label=label, linewidth=1.2, clip_on=False, **look)
            for one in bins:
                if one.share_low is not None and one.share_high is not None:
                    place, reach = [one.mean_probability] * 2, [one.share_low, one.share_high]
                    axes.plot(place, reach, color=look["color"], linewidth=0.9, zorder=1)
            strip.bar(low, n, high - low, align="edge", **bar)
    axes.set(title="Reliability", ylabel="share of strokes", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.tick_params(labelbottom=False)
    strip.set(xlabel="probability of Stroke", ylabel="slices\n(log scale)")
    strip.tick_params(axis="y", labelsize=7)
    _count_on_log(strip, ticks=4)
    _write_key(figure, axes, key)
    return figure


@styled
def draw_net_benefit(
    benefit: NetBenefit, *, prevalence: float, rules: Mapping[str, Sequence[float]] | None = None, note: str = ""
) -> Figure:
    """Draw the decision curve (Vickers and Elkin, 2006): what calling strokes is worth, by a false alarm's weight.

    Parameters
    ----------
    benefit : its thresholds rise. Below 0 the axis ends soon: there a lower value is only harm.
    prevalence : the share of strokes that both were computed at.
    rules : curves of simple rules at the same thresholds, by the words of the legend.
    """
    words = "true less weighed false positives per slice; weight: threshold / (1 - threshold)"
    figure, (axes, key) = _start(words, note, rows=(1, KEY))
    if benefit.low:
        low, high = (np.array(limits, np.float64) for limits in (benefit.low, benefit.high))
        band: Any = {"color": STROKE, "alpha": 0.2, "linewidth": 0, "label": "its 95 % interval over patients"}
        axes.fill_between(benefit.threshold, low, high, **band)
    axes.plot(benefit.threshold, benefit.model, color=STROKE, label="model")
    for (name, curve), dash in zip((rules or {}).items(), cycle(("-.", (0, (1, 1)))), strict=False):
        look: Any = {"color": THIRD, "linestyle": dash, "linewidth": 1.2}
        axes.plot(benefit.threshold, curve, label=textwrap.shorten(name, 60), **look)
    share = f"call every slice stroke (prevalence {prevalence:.3f})"
    axes.plot(benefit.threshold, benefit.treat_all, color=NORMAL, linestyle="--", linewidth=1.2, label=share)
    axes.axhline(0, color=GREY, linestyle=":", linewidth=1.2, label="call none")
    top = 1.15 * max([prevalence, 0.01, *(value for value in benefit.high if value is not None)])
    reach = (benefit.threshold[0], benefit.threshold[-1]) if len(benefit.threshold) > 1 else (0, 1)
    axes.set(title="Decision curve", xlabel="threshold probability", ylabel="net benefit per slice")
    axes.set(xlim=reach, ylim=(-min(0.05, top / 4), top))
    _write_key(figure, axes, key)
    return figure
