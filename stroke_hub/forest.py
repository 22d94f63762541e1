"""Forest plots: subgroups, baselines or differences in rows, each with its interval and what it rests on."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stroke_hub.figures import GREY, KEY, NORMAL, PLAIN, STROKE, WIDTH, styled, write_note

__all__ = ["draw_forest"]


@styled
def draw_forest(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    reference: float | None = None,
    reference_label: str = "",
    xlabel: str = "AUROC",
    group: str = "patient",
    note: str = "",
) -> Figure:
    """Forest plot: a row for each subgroup, baseline or difference, with its interval and what it rests on.

    Parameters
    ----------
    rows : one mapping a row: "label"; "value", or None and a "reason"; "low" and "high", or None; counts "n",
        "n_stroke" and "groups", each of which may be missing; "heading", written above the first of its rows;
        "bold" for a row that stands out.
    reference, reference_label : a dotted line and its name; at 0, values are written with their sign.
    group : what one of the "groups" is called.
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
        label, told = textwrap.fill(row["label"], 20), _tell_row(row, group, signed=reference == 0)
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


def _tell_row(row: Mapping[str, Any], group: str, *, signed: bool) -> str:
    """A row's value and interval, or why there is none, and what it rests on."""
    form = "+.3f" if signed else ".3f"
    if row["value"] is None:
        words = f"undefined: {row['reason']}" if row.get("reason") else "undefined"
    else:
        reach = "" if row.get("low") is None else f" [{row['low']:{form}}, {row['high']:{form}}]"
        words = f"{row['value']:{form}}{reach}"
    nouns = {"n_stroke": "stroke", "groups": group}
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
