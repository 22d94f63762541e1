"""Where the head lies in a slice, so that the model sees the head and not the black around it.

Threshold, largest part, bounding box, on a small copy. What is thin beside the head (a table, a headrest, a
pillow's edge, text) goes, wherever it lies; gaps in the head are closed, so that face and brain are one part. A
scalp that is as dim as noise, as in DWI, is left out: else rounding the values would decide whether it is there.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stroke_hub.io.morphology import close_gaps, fill_holes, find_otsu, label_parts, measure_distance
from stroke_hub.io.windowing import Grey

__all__ = ["NO_HEAD", "Box", "crop", "find_head", "find_head_mask"]

SIDE = 128  # pixels that the longer side is shrunk to: an opening of 650 x 650 pixels costs ten times the JPEG
FAINTEST = 20  # grey levels of 255: air lies below
THRESHOLD = 60  # brain in CT windows and in MR lies above; the noise of MR and a dim scalp of DWI below
OTSU = 0.7  # of Otsu's threshold (1979), where the picture is so dark that this is less
MIN_RADIUS = 0.06  # of the longer side: what is narrower everywhere is no head
CLOSING = 5  # pixels of 128: the air of nose and sinuses is bridged, so that a face is one part
CORE = 0.2  # of the head's radius: what is narrower than this is a table, a headrest or text, not the head
MARGIN = 1  # pixels of 128 around the head: dark fluid between brain and bone belongs to it
MIN_PART = 0.2  # of the largest part's area: the smaller lobe of a stripped brain stays, and a dot goes

NO_HEAD = "No head was found in the slice; the whole picture was used."


class Box(NamedTuple):
    """A rectangle of whole pixels in a picture: `top`, `left` from 0, `height` and `width` at least 1."""

    top: int
    left: int
    height: int
    width: int


def find_head(pixels: Grey) -> Box | None:
    """Find the box around the head in a slice, so that it can be cropped.

    Parameters
    ----------
    pixels : grey levels, (H, W) uint8; CT, MR or skull-stripped MR, on a dark background.

    Returns
    -------
    The box in the pixels of the picture; None where nothing in it is as large and as compact as a head: then the
    whole picture is used, and `NO_HEAD` is what to say.
    """
    mask = find_head_mask(pixels)
    if mask is None:
        return None
    factor = _find_factor(pixels)
    edges = []
    for axis, side in ((1, pixels.shape[0]), (0, pixels.shape[1])):
        lines = np.flatnonzero(mask.any(axis=axis))
        edges += [max(0, int(lines[0]) - MARGIN) * factor, min(side, (int(lines[-1]) + 1 + MARGIN) * factor)]
    top, bottom, left, right = edges
    return Box(top, left, bottom - top, right - left)


def find_head_mask(pixels: Grey) -> NDArray[np.bool_] | None:
    """Find the pixels of the head on a small copy of a slice, for its box and its grey scale.

    Returns
    -------
    (h, w) bool, the picture shrunk so that its longer side has at most 128 pixels; holes in the head are
    filled. None where there is no head.
    """
    small = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).reduce(_find_factor(pixels)))
    threshold = min(THRESHOLD, max(FAINTEST, OTSU * find_otsu(small)))
    lit = small > threshold
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if not rows.size:
        return None
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # what lies around it decides nothing
    inner = np.s_[CLOSING:-CLOSING, CLOSING:-CLOSING]
    bright = np.zeros([side + 2 * CLOSING for side in lit[part].shape], bool)
    bright[inner] = lit[part]
    depth = measure_distance(fill_holes(close_gaps(bright)))
    radius = float(depth.max())
    if radius < MIN_RADIUS * max(small.shape):
        return None
    narrow = CORE * radius
    near = measure_distance(depth <= narrow) <= narrow + 1  # what the erosion took comes back
    labels = label_parts(fill_holes(bright) & near)[inner]
    areas = np.bincount(labels.ravel())
    if len(areas) < 2:
        return None
    is_kept = areas >= MIN_PART * areas[1:].max()
    is_kept[0] = False  # the background
    mask = np.zeros(small.shape, bool)
    mask[part] = is_kept[labels]
    return mask


def crop(pixels: Grey, box: Box | None) -> Grey:
    """Cut a box out of a picture; all of it where there is none."""
    if box is None:
        return pixels
    return pixels[box.top : box.top + box.height, box.left : box.left + box.width]


def _find_factor(pixels: Grey) -> int:
    """By how much a picture is shrunk, as a whole number: averaging whole blocks takes a fifth of the time."""
    longest = max(len(pixels), len(pixels[0]))
    return max(1, math.ceil(longest / SIDE))
