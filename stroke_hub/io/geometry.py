"""How a slice lies in the patient, and how it is turned and resampled so that it looks as a radiologist expects.

An axial slice is shown with anterior up and the patient's left on the right. A coronal slice has the patient's left
on the right, a sagittal one posterior on the right, and both have superior up.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stroke_hub.io.limits import check_size

__all__ = ["Plane", "View", "find_view", "make_square", "turn_upright", "undo_square"]

Plane: TypeAlias = Literal["axial", "coronal", "sagittal"]

NORMALS: dict[int, Plane] = {0: "sagittal", 1: "coronal", 2: "axial"}
# To the right of the picture and down, as (axis, sign) in DICOM's coordinates: left, posterior, superior.
SHOWN: dict[Plane, tuple[tuple[int, int], tuple[int, int]]] = {
    "axial": ((0, 1), (1, 1)),
    "coronal": ((0, 1), (2, -1)),
    "sagittal": ((1, 1), (2, -1)),
}
MAX_TILT = 35.0  # degrees: CT gantries tilt by 30 at most
SAME = 0.02  # sides of a pixel that differ by less are equal: nobody sees it, and the values stay exact
MAX_RATIO = 16.0  # of the sides of a pixel: beyond it the header is wrong


class View(NamedTuple):
    """How stored pixels must be turned to be upright: transposed first, then flipped.

    `tilt` is the angle between the slice and its plane, in degrees.
    """

    plane: Plane
    is_transposed: bool
    is_flipped_down: bool
    is_flipped_right: bool
    tilt: float

    @property
    def is_oblique(self) -> bool:
        """Whether the slice lies between two planes."""
        return self.tilt > MAX_TILT


def find_view(directions: Sequence[float]) -> View | None:
    """Find the plane of a slice and how to turn it upright, from ImageOrientationPatient.

    Parameters
    ----------
    directions : six direction cosines, of a row (rightwards as stored) and of a column (downwards as stored), in
        DICOM's coordinates (left, posterior, superior).

    Returns
    -------
    None where they are not two perpendicular directions of length 1.
    """
    if len(directions) != 6 or not np.isfinite(directions).all():
        return None
    along = np.reshape(np.asarray(directions, float), (2, 3))
    if np.abs(np.linalg.norm(along, axis=1) - 1).max() > 0.1 or abs(float(along[0] @ along[1])) > 0.1:
        return None
    axes = [int(np.abs(along[0]).argmax()), 0]
    axes[1] = max((axis for axis in range(3) if axis != axes[0]), key=lambda axis: abs(along[1][axis]))
    normal = np.cross(along[0], along[1])
    plane = NORMALS[3 - sum(axes)]
    cosine = abs(float(normal[3 - sum(axes)])) / float(np.linalg.norm(normal))
    right, down = SHOWN[plane]
    is_transposed = axes[0] != right[0]
    row, column = along[::-1] if is_transposed else along
    return View(
        plane=plane,
        is_transposed=is_transposed,
        is_flipped_down=bool(column[down[0]] * down[1] < 0),
        is_flipped_right=bool(row[right[0]] * right[1] < 0),
        tilt=math.degrees(math.acos(min(1.0, cosine))),
    )


def turn_upright(pixels: NDArray[Any], view: View | None) -> NDArray[Any]:
    """Turn stored pixels (H, W) as their view says, without a change of any value."""
    if view is None:
        return pixels
    if view.is_transposed:
        pixels = pixels.T
    down, right = -1 if view.is_flipped_down else 1, -1 if view.is_flipped_right else 1
    return np.ascontiguousarray(pixels[::down, ::right])


def make_square(pixels: NDArray[Any], height: float, width: float, max_pixels: int) -> tuple[NDArray[Any], bool]:
    """Resample a slice so that its pixels are squares, at the finer of its two spacings.

    Parameters
    ----------
    pixels : (H, W) int16, float32 or uint8; the type is kept.
    height, width : the sides of a pixel, in any one unit.
    max_pixels : the largest H x W of the result.

    Returns
    -------
    The slice, and whether it was resampled. Pixels that are squares within 2 % stay as they are, and so do those
    whose sides are no positive numbers or differ more than 16 times: there the header is wrong.

    Raises
    ------
    UnreadableImage : the result would be larger than `max_pixels`.
    """
    if not (math.isfinite(height) and math.isfinite(width) and height > 0 and width > 0):
        return pixels, False
    ratio = height / width
    if abs(ratio - 1) < SAME or not 1 / MAX_RATIO <= ratio <= MAX_RATIO:
        return pixels, False
    rows, columns = pixels.shape
    rows, columns = max(1, round(rows * max(1, ratio))), max(1, round(columns * max(1, 1 / ratio)))
    check_size(columns, rows, max_pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)))
    resampled = np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR))
    if pixels.dtype.kind in "iu":
        resampled = np.rint(resampled)
    return resampled.astype(pixels.dtype), True


def undo_square(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Give what belongs to the pixels that `make_square` made to those that they were made of; the sum is kept.

    Parameters
    ----------
    values : (H, W), of the resampled slice: shares of a sum, as evidence is.
    rows, columns : of the slice before.

    Returns
    -------
    (rows, columns). The adjoint of the resampling: a pixel gets of each value the share that it had in its making.
    """
    height, width = values.shape
    if (height, width) == (rows, columns):
        return values
    down, right = _weigh(rows, height), _weigh(columns, width)
    return np.asarray(down.T @ values.astype(np.float64) @ right, np.float32)


@lru_cache(maxsize=8)
def _weigh(before: int, after: int) -> NDArray[np.float64]:
    """The weights of the resampling along one side, (after, before); those of each new pixel add up to 1."""
    unit = Image.fromarray(np.eye(before, dtype=np.float32))
    weights = np.asarray(unit.resize((before, after), Image.Resampling.BILINEAR), np.float64)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
