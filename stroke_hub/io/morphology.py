"""Shapes in a small binary picture, as OpenCV has them, by numpy: threshold, closing, holes, distance, parts."""

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
    labels = label_parts(background, diagonal=False)
    return np.asarray(bright | (labels != labels[0, 0]))


def measure_distance(mask: Mask) -> NDArray[np.float32]:
    """Measure how far each pixel of a mask is from the nearest one outside, in pixels, for its width.

    Returns
    -------
    float32 (H, W), of the 3 x 3 chamfer metric: 0.955 for a straight step, 1.3693 for a diagonal one (Borgefors,
    1986). What lies beyond the edge does not count as outside.
    """
    far = np.where(mask, np.int32(FAR), np.int32(0))
    # a shortest path goes along one diagonal first, then straight
    rows = len(far)
    leaning = []
    for flip in (1, -1):
        # one column more each row: columns of the sheared picture are diagonals
        wide = np.full((rows, far.shape[1] + rows), FAR, np.int32)
        wide[:, : far.shape[1]] = far[::flip]
        sheared = wide.ravel()[: -rows or None].reshape(rows, -1)
        wide.ravel()[: -rows or None].reshape(rows, -1)[:] = _walk(sheared, DIAGONAL)
        leaning.append(wide[::flip, : far.shape[1]])
    nearest = np.minimum(*leaning)
    distance = np.minimum(_walk(nearest, STRAIGHT), _walk(nearest.T, STRAIGHT).T)
    return (distance.astype(np.float32)) * np.float32(1 / UNIT)


def label_parts(mask: Mask, *, diagonal: bool = True) -> NDArray[np.intp]:
    """Number the connected parts of a mask, so that each can be measured.

    Parameters
    ----------
    diagonal : whether pixels that touch at a corner belong together.

    Returns
    -------
    (H, W), 0 outside the mask, 1 and up for the parts in the order of their first pixels.
    """
    padded = np.pad(mask, ((0, 0), (1, 1))).ravel()
    edges = np.flatnonzero(padded[1:] != padded[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]  # runs of a row, end excluded, as places in the flat picture
    width = mask.shape[1] + 2
    # the runs of the row above that a run touches follow each other
    reach = int(diagonal)
    first = np.searchsorted(ends, starts - width - reach, side="right")
    last = np.searchsorted(starts, ends - width + reach, side="left")
    counts = np.maximum(last - first, 0)
    lower = np.repeat(np.arange(len(starts)), counts)
    upper = np.arange(len(lower)) + np.repeat(first - np.cumsum(counts) + counts, counts)
    part = np.arange(len(starts))
    while True:  # each run takes the smallest number of those it touches, and passes it on
        before = part.copy()
        smaller = np.minimum(part[lower], part[upper])
        np.minimum.at(part, part[lower], smaller)
        np.minimum.at(part, part[upper], smaller)
        while (part != part[part]).any():
            part = part[part]
        if (part == before).all():
            break
    _, numbers = np.unique(part, return_inverse=True)
    flat = np.zeros(padded.size, np.intp)
    flat[padded] = np.repeat(numbers + 1, ends - starts)
    return flat.reshape(-1, width)[:, 1:-1]


def _dilate(mask: Mask) -> Mask:
    """Widen a mask by OpenCV's ellipse of 5 x 5: three rows of five, and one pixel above and below them."""
    rows, columns = mask.shape
    padded = np.pad(mask, 2)
    wide = padded[:, :columns] | padded[:, 4:]
    for shift in (1, 2, 3):
        wide |= padded[:, shift : shift + columns]
    dilated = padded[:rows, 2:-2] | padded[4:, 2:-2]
    for shift in (1, 2, 3):
        dilated |= wide[shift : shift + rows]
    return dilated


def _walk(values: NDArray[np.int32], step: int) -> NDArray[np.int32]:
    """The least of all values in a column, each with its distance times `step` added."""
    along = np.arange(len(values), dtype=np.int32)[:, None] * np.int32(step)
    down = np.minimum.accumulate(values - along, axis=0) + along
    up = np.minimum.accumulate((values + along)[::-1], axis=0)[::-1] - along
    nearest: NDArray[np.int32] = np.minimum(down, up)
    return nearest
