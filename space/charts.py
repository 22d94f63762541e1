"""Charts as inline SVG: they take the page's colours, in light and dark, and fetch nothing."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Line", "draw_chart", "draw_profile"]

WIDTH, HEIGHT = 360, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 44
POINTS = 200  # of a curve at most: more cannot be told apart


class Line(NamedTuple):
    """A curve: x and y of equal length; `style` is a class of style.css ("one" to "three"); `dots` mark points."""

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
    """Curves over common axes, with a legend below, as a figure.

    `limits` are x from, x to, y from, y to; by default those of the data.
    """
    x0, x1, y0, y1 = limits or _find_limits(lines)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - x0) / ((x1 - x0) or 1) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (y - y0) / ((y1 - y0) or 1) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_draw_axes(place, (x0, x1, y0, y1), axes)]
    if diagonal:
        (ax, ay), (bx, by) = place(x0, y0), place(x1, y1)
        parts.append(f'<line class="diagonal" x1="{ax:.1f}" y1="{ay:.1f}" x2="{bx:.1f}" y2="{by:.1f}"/>')
    for line in lines:
        keep = sorted({round(i) for i in np.linspace(0, len(line.x) - 1, POINTS)}) if len(line.x) else []
        points = [place(line.x[i], line.y[i]) for i in keep]
        if line.dots:
            parts += [f'<circle class="{line.style}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="{line.style}" points="{path}"/>')
    legend = "".join(f'<li class="{line.style}">{escape(line.name)}</li>' for line in lines)
    label = escape(f"{title}: {'; '.join(line.name for line in lines)}")
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
    caption = f"<figcaption>{escape(title)}</figcaption>"
    return f'<figure class="chart">{caption}{svg}<ul>{legend}</ul></figure>'


def _find_limits(lines: Sequence[Line]) -> tuple[float, float, float, float]:
    xs, ys = ([value for line in lines for value in getattr(line, axis)] for axis in ("x", "y"))
    return min(xs), max(xs), min(0.0, *ys), max(ys)


def _draw_axes(place: object, limits: tuple[float, float, float, float], axes: tuple[str, str]) -> str:
    x0, x1, y0, y1 = limits
    parts = []
    for i in range(5):
        x, y = x0 + i / 4 * (x1 - x0), y0 + i / 4 * (y1 - y0)
        px, _ = place(x, y0)  # type: ignore[operator]
        _, py = place(x0, y)  # type: ignore[operator]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py:.1f}" y2="{py:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{py + 4:.1f}" text-anchor="end">{y:.3g}</text>')
        parts.append(f'<text x="{px:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{x:.3g}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(axes[0])}</text>')
    turned = f'transform="rotate(-90 13 {middle})" text-anchor="middle"'
    parts.append(f'<text x="13" y="{middle}" {turned}>{escape(axes[1])}</text>')
    return "".join(parts)


def draw_profile(probability: ArrayLike, threshold: float, page: int) -> str:
    """Probability of stroke slice by slice, as small bars; the one of number `page` is marked."""
    values = np.asarray(probability, dtype=float)
    step = 280 / len(values)
    bars = "".join(
        f'<rect class="{"chosen" if i + 1 == page else "bar"}" x="{i * step:.2f}" width="{step * 0.8:.2f}" '
        f'y="{60 - 60 * value:.2f}" height="{60 * value:.2f}"/>'
        for i, value in enumerate(values)
    )
    y = 60 - 60 * threshold
    label = f"Probability of stroke by slice: highest in slice {page}, {values.max():.1%}"
    return (
        f'<figure class="profile"><figcaption>{label}</figcaption><svg viewBox="0 0 280 60" role="img" '
        f'aria-label="{label}">{bars}<line x1="0" x2="280" y1="{y:.1f}" y2="{y:.1f}"/></svg></figure>'
    )
