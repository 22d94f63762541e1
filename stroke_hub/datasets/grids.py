"""Where the voxels of a volume lie, from its header alone: its slices, and whether two grids are one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.limits import SCAN_LIMITS
from stroke_hub.io.nifti import VolumeHeader, read_volume_header
from stroke_hub.io.quiet import silence

__all__ = ["Grid", "read_grid"]

FAR = 0.1  # of a voxel: headers of one grid were seen to differ by roundings of float32, never by this


@dataclass(frozen=True, eq=False)
class Grid:
    """Hold where the voxels of a volume lie.

    Parameters
    ----------
    shape : voxels to the right, to the front and upwards, in the closest orientation of that kind.
    affine : (4, 4) float64, those voxels -> RAS millimetres.
    axis : of the file that the axial slices follow each other along. turned : whether the file starts at the head.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    axis: int
    turned: bool

    @property
    def slices(self) -> int:
        """How many axial slices there are."""
        return self.shape[2]

    @property
    def sides(self) -> NDArray[np.float64]:
        """The sides of a voxel in mm, (3,)."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def number(self, stored: int) -> int:
        """Number a slice from foot to head by its number in the file."""
        return self.slices - 1 - stored if self.turned else stored

    def matches(self, other: "Grid") -> bool:
        """Tell whether two volumes have the same voxels at the same places, however their files store them."""
        if self.shape != other.shape:
            return False
        far = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
        far[:, :3] *= np.array(self.shape) - 1
        apart = np.linalg.norm((far @ (self.affine - other.affine).T)[:, :3], axis=1)
        return bool(apart.max() <= FAR * self.sides.min())


def read_grid(file: Path) -> Grid:
    """Read the grid of a NIfTI file from its header.

    Raises
    ------
    UnreadableImage : it cannot be read; its name stands in the sentence.
    """
    try:
        with open(file, "rb") as stream, silence():
            return _turn(read_volume_header(stream, SCAN_LIMITS))
    except OSError as error:
        raise UnreadableImage(f"{file.name}: cannot be read; check its rights.") from error
    except UnreadableImage as error:
        raise UnreadableImage(f"{file.name}: {error}") from error


def _turn(header: VolumeHeader) -> Grid:
    turn, shape = np.zeros((4, 4)), [0, 0, 0]  # turned voxel -> stored voxel
    turn[3, 3] = 1
    for axis, (goal, direction) in enumerate(header.turned):
        shape[goal] = header.shape[axis]
        turn[axis, goal] = direction
        turn[axis, 3] = header.shape[axis] - 1 if direction < 0 else 0
    right, front, up = shape
    return Grid((right, front, up), header.affine @ turn, header.axis, header.turned[header.axis][1] < 0)
