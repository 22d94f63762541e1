"""Shapes and places of real strokes, for the simulator.

The file holds the lesions of 929 stroke patients in the space of the MNI152 template, in cells of 2 x 2 x 4 mm,
smallest first; nothing else of a patient is in it. They are those of the Stroke Outcome Optimization Project
(OpenNeuro ds004889, CC0) that cover 150 mm2 or more of an axial plane between the thalamus and the top of the
ventricles. Coordinates are those of `data.simulated`: template millimetres x, y, z.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Lesions", "load_lesions"]

FILE = Path(__file__).with_name("lesions.npz")
EDGE = 0.5  # share of a cell from which a point lies in the lesion


class Lesions(NamedTuple):
    """Hold the lesions of N patients.

    packed : uint8 (N, bytes), the cells of each, by `numpy.packbits`.
    shape : cells along x, y and z.
    origin, step : (3,), the centre of the first cell, and the size of a cell, in mm.
    areas : (N, z), what each lesion covers of each plane, in mm2.
    """

    packed: NDArray[np.uint8]
    shape: tuple[int, ...]
    origin: NDArray[np.int64]
    step: NDArray[np.int64]
    areas: NDArray[np.float64]

    def unpack(self, number: int) -> NDArray[np.bool_]:
        """Unpack the cells of one lesion, bool (x, y, z)."""
        size = int(np.prod(self.shape))
        return np.unpackbits(self.packed[number], count=size).reshape(self.shape).astype(bool)

    def find(self, levels: NDArray[np.floating[Any]], low: float, high: float) -> NDArray[np.intp]:
        """Find the lesions that cover `low` to `high` mm2 of each plane nearest to `levels` (mm)."""
        planes = np.rint((levels - self.origin[2]) / self.step[2]).astype(int).clip(0, self.shape[2] - 1)
        areas = self.areas[:, planes]
        return np.flatnonzero(((areas >= low) & (areas <= high)).all(axis=1))

    def lay(self, number: int, place: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Tell which points lie in one lesion, bool (...), for points (3, ...) in mm."""
        shift = self.origin.reshape(3, *[1] * (place.ndim - 1))
        step = self.step.reshape(shift.shape)
        cells = self.unpack(number).astype(np.float32)
        inside: NDArray[np.bool_] = ndimage.map_coordinates(cells, (place - shift) / step, order=1) > EDGE
        return inside


@lru_cache(maxsize=1)
def load_lesions() -> Lesions:
    """Load the lesions that the package holds."""
    with np.load(FILE, allow_pickle=False) as file:
        packed, shape, origin, step = (file[name] for name in ("packed", "shape", "origin", "step"))
    sizes = tuple(int(cells) for cells in shape)
    count = int(np.prod(sizes))
    areas = np.stack(
        [np.unpackbits(row, count=count).reshape(sizes).sum((0, 1)) * float(step[0] * step[1]) for row in packed]
    )
    return Lesions(packed, sizes, origin, step, areas)
