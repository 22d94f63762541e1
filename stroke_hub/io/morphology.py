"""Shapes in a small binary picture, as OpenCV has them, by numpy: threshold, closing, holes, distance, parts."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stroke_hub.io.windowing import Grey

__all__ = ["close_gaps", "fill_holes", "find_otsu", "label_parts", "measure_distance"]

Mask = NDArray[np.bool_]

# steps of the 3 x 3 chamfer metric (Borgefors, 1986), as whole numbers of 1/65536 pixel, as OpenCV adds them
UNIT = 1 << 16
STRAIGHT, DIAGONAL = round(0.955 * UNIT), round(1.3693 * UNIT)
FAR = 1 << 30  # beyond any distance in a picture of at most 2000 x 2000 pixels


def find_otsu(pixels: Grey) -> int:
    """Find the threshold that separates a picture's grey levels best, for a mask of what is bright (Otsu, 1979).

    Returns
    -------
    The lowest level whose split, at most that level against above it, has the largest variance between both sides;
    0 where all pixels are alike.
    """
    share = np.bincount(pixels.ravel(), minlength=256) / pixels.size
    below, moment = np.cumsum(share), np.cumsum(share * np.arange(256))
    above = 1 - below
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (moment[-1] * below - moment) ** 2 / (below * above)
    variance[(np.minimum(below, above) < 1e-7) | ~np.isfinite(variance)] = 0
    return int(np.argmax(variance))


def close_gaps(bright: Mask) -> Mask:
    """Close gaps of a mask that a disc of 5 x 5 pixels does not fit into; nothing lies beyond the edge."""
    return ~_dilate(~_dilate(bright))


def fill_holes(bright: Mask) -> Mask:
    """Fill what the background, which the first pixel belongs to, does not reach by its four sides."""
    background = bright == bright[0, 0]
    runs = _link_runs(background, reach=0)
    return np.asarray(bright | ~_draw_runs(runs, runs.first == 0, background.shape))


def measure_distance(mask: Mask) -> NDArray[np.float32]:
    """Measure how far each pixel of a mask is from the nearest one outside, in pixels, for its width.

    Returns
    -------
    float32 (H, W), of the 3 x 3 chamfer metric: 0.955 for a straight step, 1.3693 for a diagonal one (Borgefors,
    1986). What lies beyond the edge does not count as outside.
    """
    far = np.where(mask, np.int32(FAR), np.int32(0))
    # A shortest path goes along one diagonal first, then straight. The four ways of a kind are walked together, a
    # row at a time: numpy's own `accumulate` takes as long for one of them.
    rows, columns = far.shape
    ways = np.stack([far, far[:, ::-1], far[::-1], far[::-1, ::-1]], axis=2)
    _walk(ways.reshape(rows, -1), DIAGONAL, shift=4)
    nearest = np.minimum(ways[..., 0], ways[:, ::-1, 1])
    nearest = np.minimum(nearest, np.minimum(ways[::-1, :, 2], ways[::-1, ::-1, 3]))
    side = max(rows, columns)
    ways = np.full((side, 4, side), FAR, np.int32)
    ways[:rows, 0, :columns], ways[:rows, 1, :columns] = nearest, nearest[::-1]
    ways[:columns, 2, :rows], ways[:columns, 3, :rows] = nearest.T, nearest.T[::-1]
    _walk(ways.reshape(side, -1), STRAIGHT, shift=0)
    down = np.minimum(ways[:rows, 0, :columns], ways[:rows, 1, :columns][::-1])
    right = np.minimum(ways[:columns, 2, :rows], ways[:columns, 3, :rows][::-1])
    return np.asarray(np.minimum(down, right.T).astype(np.float32) * np.float32(1 / UNIT))


def label_parts(mask: Mask, *, diagonal: bool = True) -> NDArray[np.intp]:
    """Number the connected parts of a mask, so that each can be measured.

    Parameters
    ----------
    diagonal : whether pixels that touch at a corner belong together.

    Returns
    -------
    (H, W), 0 outside the mask, 1 and up for the parts in the order of their first pixels.
    """
    runs = _link_runs(mask, reach=int(diagonal))
    is_first = runs.first == np.arange(len(runs.first))
    return _draw_runs(runs, np.cumsum(is_first)[runs.first], mask.shape)


class _Runs(NamedTuple):
    """The runs of a mask's rows, as places in the flat picture with a column of background on either side.

    edges : (2 N,), starts and ends in turn, ends excluded. first : (N,), of each the first run of its part.
    """

    edges: NDArray[np.intp]
    first: NDArray[np.intp]


def _link_runs(mask: Mask, *, reach: int) -> _Runs:
    """Find the parts of a mask by its runs, which touch those of the row above within `reach` columns."""
    rows, columns = mask.shape
    width = columns + 2
    padded = np.zeros((rows, width), bool)
    padded[:, 1:-1] = mask
    flat = padded.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    # the runs of the row above that a run touches follow each other
    begin = np.searchsorted(ends, starts - width - reach, side="right")
    end = np.searchsorted(starts, ends - width + reach, side="left")
    counts = np.maximum(end - begin, 0)
    lower = np.repeat(np.arange(len(starts)), counts)
    upper = np.arange(len(lower)) + np.repeat(begin - np.cumsum(counts) + counts, counts)
    part = np.arange(len(starts))
    while True:  # each run takes the smallest number of those it touches, and passes it on
        left, right = part[lower], part[upper]
        if (left == right).all():
            return _Runs(edges, part)
        smaller = np.minimum(left, right)
        np.minimum.at(part, left, smaller)
        np.minimum.at(part, right, smaller)
        while (part != (further := part[part])).any():
            part = further


def _draw_runs(runs: _Runs, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Draw each run with its value, on 0."""
    rows, columns = shape
    lengths = np.diff(runs.edges, prepend=0, append=rows * (columns + 2))
    drawn = np.zeros(len(lengths), values.dtype)
    drawn[1::2] = values
    return np.repeat(drawn, lengths).reshape(rows, columns + 2)[:, 1:-1]


def _dilate(mask: Mask) -> Mask:
    """Widen a mask by OpenCV's ellipse of 5 x 5: three rows of five, and one pixel above and below them."""
    rows, columns = mask.shape
    padded = np.zeros((rows + 4, columns + 4), bool)
    padded[2:-2, 2:-2] = mask
    wide = padded[:, :columns] | padded[:, 4:]
    for shift in (1, 2, 3):
        wide |= padded[:, shift : shift + columns]
    dilated = padded[:rows, 2:-2] | padded[4:, 2:-2]
    for shift in (1, 2, 3):
        dilated |= wide[shift : shift + rows]
    return dilated


def _walk(values: NDArray[np.int32], step: int, *, shift: int) -> None:
    """Make each value of (rows, N) the least of those above it, with each row's `step` added; in place.

    Parameters
    ----------
    shift : by how many places to the right a step goes.
    """
    along = (np.arange(len(values), dtype=np.int32) * np.int32(step))[:, None]
    values -= along
    for above, below in pairwise(zip(values[:, : values.shape[1] - shift], values[:, shift:], strict=True)):
        np.minimum(below[1], above[0], out=below[1])
    values += along
