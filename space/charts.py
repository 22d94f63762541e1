"""Charts as inline SVG: they take the colours of the page, light or dark, and load nothing."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from render import render

__all__ = ["Line", "draw_chart"]

# px; left, right, top and bottom are those of the plot, without the words beside it
BOX = {"width": 360, "height": 300, "left": 66, "right": 348, "top": 10, "bottom": 256}
POINTS = 200  # of a curve at most: the eye cannot tell more apart
TICKS = 5


class Line(NamedTuple):
    """A curve: x and y of equal length; `style` is "one", "two" or "three" of style.css; `dots` mark the points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str = "one"
    dots: bool = False


def draw_chart(
    title: str,
    lines: Sequence[Line],
    *,
    axes: tuple[str, str],
    limits: tuple[float, float, float, float] | None = None,
    diagonal: bool = False,
) -> str:
    """Draw curves over common axes, with a legend below, as an HTML figure.

    Parameters
    ----------
    axes : titles of x and y.
    limits : x from, x to, y from, y to; by default those of the data, with y from 0 at most.
    diagonal : whether to draw the line from the lower left to the upper right.
    """
    x0, x1, y0, y1 = limits or _find_limits(lines)

    def place_x(x: float) -> float:
        return round(BOX["left"] + (x - x0) / ((x1 - x0) or 1) * (BOX["right"] - BOX["left"]), 1)

    def place_y(y: float) -> float:
        return round(BOX["bottom"] - (y - y0) / ((y1 - y0) or 1) * (BOX["bottom"] - BOX["top"]), 1)

    curves = []
    for line in lines:
        kept = sorted({round(i) for i in np.linspace(0, len(line.x) - 1, POINTS)}) if len(line.x) else []
        points = [(place_x(line.x[i]), place_y(line.y[i])) for i in kept]
        curves.append({"name": line.name, "style": line.style, "dots": line.dots, "points": points})
    return render(
        "chart.html",
        title=title,
        axes=axes,
        box=BOX,
        curves=curves,
        diagonal=diagonal,
        x_ticks=[{"place": place_x(x), "words": f"{x:.3g}"} for x in np.linspace(x0, x1, TICKS)],
        y_ticks=[{"place": place_y(y), "words": f"{y:.3g}"} for y in np.linspace(y0, y1, TICKS)],
    )


def _find_limits(lines: Sequence[Line]) -> tuple[float, float, float, float]:
    xs, ys = ([value for line in lines for value in getattr(line, axis)] for axis in ("x", "y"))
    return min(xs), max(xs), min(0.0, *ys), max(ys)
