"""Numbers in, pictures out: one style, colour-blind safe, legible at half a page's width, PNG and SVG.

Every function takes plain data and gives a matplotlib Figure; `save_figure` writes it. Nothing here touches
pyplot's global state, so figures may be drawn in any thread.
"""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stroke_hub.files import replacing

__all__ = [
    "GREY",
    "NORMAL",
    "STROKE",
    "STYLE",
    "THIRD",
    "draw_confusion",
    "draw_curves",
    "draw_histograms",
    "draw_precision_recall",
    "draw_roc",
    "save_figure",
    "styled",
]

# Okabe and Ito's palette (2008): told apart with every common colour blindness, and in grey
NORMAL, STROKE, GREY, THIRD = "#0072B2", "#D55E00", "#666666", "#009E73"
LINES = {"overall": GREY, "BT": STROKE, "MR": NORMAL}
DASHES = {"overall": "-", "BT": "--", "MR": "-."}
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "stroke_hub",  # the same picture gives the same file
    "svg.fonttype": "none",
}
HALF_WIDTH = (4.2, 3.6)  # inches

P = ParamSpec("P")


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `stem`.png (160 dpi) and `stem`.svg, each whole or not at all."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        with matplotlib.rc_context(STYLE), replacing(stem.with_name(f"{stem.name}.{kind}")) as partial:
            figure.savefig(partial, format=kind, dpi=160, metadata=metadata)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a drawing function draw in STYLE."""

    @wraps(draw)
    def draw_in_style(*args: P.args, **options: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **options)

    return draw_in_style


def _start(note: str, size: tuple[float, float] = HALF_WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    if note:
        figure.supxlabel(note, fontsize=7, color=GREY)
    return figure, figure.subplots()


@styled
def draw_curves(history: pd.DataFrame, *, best_epoch: int, note: str = "") -> Figure:
    """Loss, accuracy and AUROC over the epochs, from history.csv; the best epoch is marked."""
    figure = Figure(figsize=(8.4, 2.9), layout="constrained")
    loss, accuracy, auroc = figure.subplots(1, 3)
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
        axes.xaxis.get_major_locator().set_params(integer=True)
    loss.legend()
    if note:
        figure.supxlabel(note, fontsize=7, color=GREY)
    return figure


@styled
def draw_confusion(confusion: dict[str, int], *, note: str = "") -> Figure:
    """The confusion matrix with counts and the share of each true class."""
    counts = np.array([[confusion["tn"], confusion["fp"]], [confusion["fn"], confusion["tp"]]])
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = _start(note)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 0.5 else "black"
        text = f"{count}\n{share[row, column]:.1%} of true"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
    names = ["Normal", "Stroke"]
    axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
    axes.set_xticks([0, 1], names)
    axes.set_yticks([0, 1], names)
    axes.spines[:].set_visible(False)
    return figure


@styled
def draw_roc(curves: dict[str, dict[str, list[float]]], auroc: dict[str, str | None], *, note: str = "") -> Figure:
    """ROC curves, one for each part ("overall", "BT", "MR") with words for its AUROC; None leaves a part out."""
    figure, axes = _start(note)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="chance")
    for part, words in auroc.items():
        if words is not None:
            curve = curves[part]
            label = f"{part} {words}"
            axes.plot(curve["fpr"], curve["tpr"], color=LINES[part], linestyle=DASHES[part], label=label)
    axes.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.01))
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize=8, title="AUROC [95 % interval]", title_fontsize=8)
    return figure


@styled
def draw_precision_recall(
    curves: dict[str, dict[str, list[float]]],
    average_precision: dict[str, str | None],
    *,
    prevalence: float,
    note: str = "",
) -> Figure:
    """Precision-recall curves, with the share of strokes as the line that chance gives."""
    figure, axes = _start(note)
    axes.axhline(prevalence, color=GREY, linewidth=0.8, linestyle=":", label=f"chance ({prevalence:.3f})")
    for part, words in average_precision.items():
        if words is not None:
            curve = curves[part]
            label = f"{part} {words}"
            axes.step(
                curve["recall"],
                curve["precision"],
                where="post",
                color=LINES[part],
                linestyle=DASHES[part],
                label=label,
            )
    axes.set(title="Precision-recall", xlabel="recall (sensitivity)", ylabel="precision (PPV)")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_aspect("equal")
    axes.legend(loc="lower left", fontsize=8, title="average precision [95 % interval]", title_fontsize=8)
    return figure


@styled
def draw_histograms(
    label: NDArray[np.int64], probability: NDArray[np.float64], *, threshold: float, note: str = ""
) -> Figure:
    """Histograms of the predicted probability by true class."""
    figure, axes = _start(note)
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
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, 12 * axes.get_ylim()[1])  # a decade for the legend
    axes.legend(loc="upper center", frameon=True, edgecolor="white", framealpha=1)
    return figure
