"""Pictures of many panels: slices with their maps, and how true the maps are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from stroke_hub.inference.results import Explanation, Layer
from stroke_hub.report.plots import GREY, NORMAL, STROKE, THIRD, styled, write_note

__all__ = ["draw_components", "draw_explanations", "draw_faithfulness"]

COLOURS = {"cnn": STROKE, "cnn_evidence": STROKE, "fused": THIRD, "attention": "#CC79A7"}
COLOURS |= dict.fromkeys(("vit", "vit_evidence", "vit depth 3"), NORMAL)


@styled
def draw_explanations(
    explanations: Sequence[Explanation],
    titles: Sequence[str],
    *,
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
    note: str = "",
) -> Figure:
    """Draw slices beside their maps, a row a slice; a known lesion is outlined."""
    rows = len(explanations)
    figure = Figure(figsize=(6.8, 1.42 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, 4, squeeze=False)
    for row, (e, title) in enumerate(zip(explanations, titles, strict=True)):
        pictures = [e.picture, e.overlay("cnn"), e.overlay("vit"), e.overlay("fused", opacity=0.7)]
        for axes, picture in zip(grid[row], pictures, strict=True):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        if masks is not None and (mask := masks[row]) is not None:
            grid[row, 0].contour(mask, [0.5], colors="#56B4E9", linewidths=0.8)
        grid[row, 0].set_ylabel(title, fontsize=7.5, rotation=0, ha="right", va="center")
        _annotate(grid[row], e)
    for axes, name in zip(grid[0], ("Original", "CNN: Grad-CAM", "ViT: relevance", "Fused, signed"), strict=True):
        axes.set_title(name)
    words = (
        "each map is scaled by itself: the log-odds written in it say how much it stands for; red for, blue against"
    )
    write_note(figure, words, note)
    return figure


def _annotate(row: Sequence[Axes], e: Explanation) -> None:
    """Write how many log-odds each map stands for.

    Maps are scaled by themselves, and one may carry next to nothing.
    """
    layers: tuple[Layer, ...] = ("cnn", "vit", "fused")
    carried = (e.contributions["cnn"], e.contributions["vit"], e.contributions["cnn"] + e.contributions["vit"])
    for axes, layer, value in zip(row[1:], layers, carried, strict=True):
        text = f"{value:+.2f} log-odds"
        if not (e.get_map(layer) > 0).any():
            text = f"no positive evidence\n{text}"
        place: Any = {"transform": axes.transAxes, "ha": "center", "va": "bottom", "fontsize": 6.5}
        axes.text(
            0.5, 0.03, text, color="white", path_effects=[withStroke(linewidth=1.6, foreground="black")], **place
        )


@styled
def draw_components(explanations: Sequence[Explanation], titles: Sequence[str], *, note: str = "") -> Figure:
    """Draw the component summary, a row a slice: both branches' evidence on one log-odds scale, and what they add.

    Both maps of a row share one colour scale, so that a branch that carries little looks like little.
    """
    rows = len(explanations)
    figure = Figure(figsize=(8.2, 1.45 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, 4, squeeze=False, width_ratios=[1, 1, 1.1, 1.6])
    for row, (e, title) in enumerate(zip(explanations, titles, strict=True)):
        limit = max(np.abs(e.cnn_evidence).max(), np.abs(e.vit_evidence).max(), 1e-12)
        grid[row, 0].imshow(e.pixels, cmap="gray", vmin=0, vmax=255)
        for axes, evidence in zip(grid[row, 1:3], (e.cnn_evidence, e.vit_evidence), strict=True):
            image = axes.imshow(evidence, cmap="RdBu_r", vmin=-limit, vmax=limit)
        bar = figure.colorbar(image, ax=grid[row, 2], fraction=0.08, pad=0.03, ticks=[-limit, 0, limit])
        bar.ax.set_yticklabels([f"{-limit:.0e}", "0", f"{limit:.0e}"], fontsize=6)
        for axes in grid[row, :3]:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        grid[row, 0].set_ylabel(title, fontsize=7.5, rotation=0, ha="right", va="center")
        _draw_contributions(grid[row, 3], e)
    names = ("Original", "CNN evidence", "ViT evidence", "Contributions (log-odds)")
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=9)
    words = "evidence in log-odds a pixel, both branches of a row on one scale: red for, blue against"
    write_note(figure, words, note)
    return figure


def _draw_contributions(axes: Axes, e: Explanation) -> None:
    names = ["baseline", "vit", "cnn"]
    values = [e.contributions[name] for name in names] + [e.log_odds]
    labels = [e.baseline, f"ViT (norm {e.norms['vit']:.1f})", f"CNN (norm {e.norms['cnn']:.1f})", "total"]
    colours = [STROKE if value > 0 else NORMAL for value in values[:-1]] + [GREY]
    order = [0, 1, 2, 3]
    axes.barh(order, values, color=colours, height=0.7)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(order, labels, fontsize=7)
    axes.tick_params(axis="x", labelsize=7)
    span = max(np.abs(values).max(), 1e-6)
    axes.set_xlim(-1.7 * span, 1.7 * span)
    for y, value in zip(order, values, strict=True):
        axes.text(value, y, f" {value:+.2f} ", va="center", ha="left" if value >= 0 else "right", fontsize=7)


@styled
def draw_faithfulness(
    result: dict[str, Any], *, measures: dict[str, tuple[str, int]], controls: Sequence[str], note: str = ""
) -> Figure:
    """Draw every map against every control, a panel a measure: means and 95 % intervals of what `judge` found.

    `measures` gives each measure's title, and +1 where more is better, -1 where less is, 0 where neither.
    """
    cells = {name: " x ".join(f"{px:g}" for px in sides) for name, sides in result["cell_px"].items()}
    measured = (
        f"{result['n']} slices of {result['groups']} groups, {result['n_masks']} with a lesion mask; means and "
        "95 % intervals over groups"
    )
    words = (
        "arrows point to better; grey: controls, dotted: the best of them; "
        f"hollow: variants; a cell of the CNN is {cells['cnn']} px, a patch {cells['vit']} px"
    )
    figure = Figure(figsize=(9.6, 13.2), layout="constrained")
    grid = figure.subplots(-(-len(measures) // 4), 4, sharey=True)
    for axes in grid.flat[len(measures) :]:
        axes.remove()
    by_name = dict(zip(measures, grid.flat, strict=False))
    for measure, (title, sign) in measures.items():
        axes = by_name[measure]
        _draw_measure(axes, result["measures"][measure], sign, controls)
        axes.set_title(f"{title} {'→' if sign > 0 else '←'}" if sign else f"{title} (chance)", fontsize=8.5)
    for measure, lowest in (("randomisation", -1), ("randomisation_size", 0), ("randomisation_chance", 0)):
        axes = by_name[measure]
        axes.set_xlim(lowest, 1)  # a small correlation has to look small
        axes.text(0.5, 0.25, "controls: 1", transform=axes.transAxes, color=GREY, ha="center", fontsize=7.5)
    by_name["sensitivity"].set_xlim(-0.01, None)
    by_name["sensitivity"].set_xscale("symlog", linthresh=0.1)  # a map of next to nothing may change a hundredfold
    write_note(figure, measured, words, note)
    return figure


def _draw_measure(axes: Axes, cells: dict[str, Any], sign: int, controls: Sequence[str]) -> None:
    order = [*(name for name in cells if name not in controls), *controls]
    places = {name: row + (name in controls) * 0.6 for row, name in enumerate(order)}
    for name, cell in cells.items():
        if cell:
            colour, marker = (GREY, "s") if name in controls else (COLOURS.get(name, THIRD), "o")
            face = colour if name in (*controls, "cnn", "vit", "fused") else "white"
            reach = [cell["mean"] if cell[end] is None else cell[end] for end in ("low", "high")]
            axes.plot(reach, [places[name]] * 2, color=colour, linewidth=1.6)
            axes.plot(cell["mean"], places[name], marker, color=colour, markerfacecolor=face, markersize=4.5)
    means = [sign * cells[name]["mean"] for name in controls if cells.get(name)]
    if means:
        axes.axvline(sign * max(means), color=GREY, linewidth=0.8, linestyle=":")
    if not any(cells.values()):
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY)
    axes.set_yticks(list(places.values()), list(places), fontsize=7.5)
    axes.set_ylim(max(places.values()) + 0.6, -0.6)
    axes.tick_params(axis="x", labelsize=7)
