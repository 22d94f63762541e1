"""A scan: the axial slices of one series, from foot to head, and where they lie in the patient."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import pluralise
from stroke_hub.io.geometry import undo_square
from stroke_hub.io.slices import Slice
from stroke_hub.io.sources import SourceFile
from stroke_hub.io.windowing import Modality

__all__ = ["Axes", "Origin", "Scan"]

Axes: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


class Origin(NamedTuple):
    """Where a slice comes from, for those who write something beside it.

    file : its file's name, fit to print. uid : of the DICOM instance, "" elsewhere. frame : its number in the file,
    from 1 as DICOM counts. path : the file on disk, or the archive that holds it; None where bytes were given.
    source : the file itself, to be read again.
    """

    file: str
    uid: str
    frame: int
    path: Path | None
    source: SourceFile


@dataclass(frozen=True, eq=False, repr=False)
class Scan:
    """Hold one scan: its slices, their places and the grid of its own voxels.

    Parameters
    ----------
    slices : from foot to head, anterior up, the patient's left on the right. They are decoded when they are asked
        for, so that a scan of any length takes the memory of a few slices.
    positions : mm along the normal of the slices, (N,) float64, increasing; slice numbers where nobody says.
    shape : columns, rows and slices of the scan's own voxels, in the order in which its files store them.
    affine : (4, 4) float64, voxel (column, row, slice) -> RAS millimetres; None where the slices are not one
        regular grid (tilt, gaps, uneven spacing, or files that do not say).
    modality : "BT" (computed tomography), "MR", or None where nobody said.
    source : the name of what was given, without folders and fit to print.
    files : the file of each slice, and its instance UID where it has one; both fit to print.
    remarks : one plain sentence each: what was chosen, what is odd.
    origins : where each slice comes from: file, instance, frame.
    axes : for the way to the right of a picture, down it, and from slice to slice: the axis of `shape` that it
        follows, and 1 or -1 for its direction there.
    """

    slices: Sequence[Slice]
    positions: NDArray[np.float64]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64] | None = None
    modality: Modality | None = None
    source: str = ""
    files: Sequence[tuple[str, str]] = field(default_factory=tuple)
    remarks: tuple[str, ...] = ()
    origins: Sequence[Origin] = ()
    axes: Axes = ((0, 1), (1, 1), (2, 1))

    def __len__(self) -> int:
        return len(self.slices)

    def __repr__(self) -> str:
        return f"Scan({pluralise(len(self), 'slice')}, modality={self.modality!r}, source={self.source!r})"

    def restore(self, maps: Iterable[NDArray[np.float32]], *, mean: bool = False) -> NDArray[np.float32]:
        """Put maps back into the scan's own voxels; each map's sum is kept, or else its values.

        Parameters
        ----------
        maps : one for each slice, in their order, (H, W) as its `pixels`.
        mean : whether a voxel gets the mean of the pixels that were made of it, and not the sum of its shares.

        Returns
        -------
        float32 of `shape`, columns first; written as NIfTI with `affine` it lies over the scan. A map whose pixels
        were resampled to squares goes back by the shares that each voxel had in them.

        Raises
        ------
        ValueError : there are more or fewer maps than slices, or one has another size than its slice.
        """
        voxels = np.zeros(self.shape, np.float32, order="F")  # a slice in one piece, as NIfTI stores it
        turned = voxels.transpose([axis for axis, _ in self.axes])
        turned = turned[tuple(np.s_[::direction] for _, direction in self.axes)]  # to the right, down, upwards
        columns, rows, count = turned.shape
        size = self.slices[0].pixels.shape if count else (0, 0)
        number = 0
        for number, one in enumerate(maps, start=1):
            if number > count or one.shape != size:
                raise ValueError(f"map {number} is {one.shape}; pass {count} maps of {size}, one for each slice.")
            if not one.any():  # voxels that nobody writes take no memory
                continue
            given = undo_square(np.asarray(one, np.float32), rows, columns)
            if mean and size != (rows, columns):
                given = given / undo_square(np.ones(size, np.float32), rows, columns)
            turned[:, :, number - 1] = given.T
        if number != count:
            raise ValueError(f"there are {number} maps; pass {count}, one for each slice.")
        return voxels
