"""A scan: the axial slices of one series, from foot to head, and where they lie in the patient."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stroke_hub.io.slices import Slice
from stroke_hub.io.windowing import Modality

__all__ = ["Scan"]


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
    """

    slices: Sequence[Slice]
    positions: NDArray[np.float64]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64] | None = None
    modality: Modality | None = None
    source: str = ""
    files: Sequence[tuple[str, str]] = field(default_factory=tuple)
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.slices)

    def __repr__(self) -> str:
        return f"Scan({len(self)} slices, modality={self.modality!r}, source={self.source!r})"

    def restore(self, maps: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Put maps back into the scan's own voxels; each map's sum is kept.

        Parameters
        ----------
        maps : one for each slice, in their order, (H, W) as its `pixels`.

        Returns
        -------
        float32 of `shape`, columns first.
        """
        raise NotImplementedError
