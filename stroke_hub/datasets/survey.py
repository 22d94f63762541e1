"""What has to be measured in a scan's voxels before its slices can be chosen: lesions, and where a head is."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stroke_hub.data.contents import load_first, load_lesion
from stroke_hub.datasets.grids import read_grid
from stroke_hub.datasets.scan_table import ScanRecord
from stroke_hub.errors import UnreadableImage
from stroke_hub.io.elements import import_pydicom
from stroke_hub.io.framing import find_head
from stroke_hub.io.quiet import silence
from stroke_hub.scan.addresses import write_address

__all__ = ["SliceSource", "list_sources", "measure_lesions", "trim_ends"]


class SliceSource(NamedTuple):
    """Say where a slice comes from.

    number : from foot to head, from 0. file : of a picture, or the address of a slice in a volume.
    mask : likewise; None where there is none. label : that the dataset gives it; None where it gives none.
    """

    number: int
    file: Path
    mask: Path | None
    label: int | None


def list_sources(record: ScanRecord) -> list[SliceSource]:
    """List the slices of a scan, from foot to head.

    Raises
    ------
    UnreadableImage : the header of the volume cannot be read.
    """
    if isinstance(record.image, Path):
        grid = read_grid(record.image)
        image, mask = record.image, record.mask
        sources = []
        for stored in range(grid.slices):
            number = grid.number(stored)
            drawn = mask.with_name(write_address(mask.name, number)) if isinstance(mask, Path) else None
            address = image.with_name(write_address(image.name, number))
            sources.append(SliceSource(number, address, drawn, _get_label(record, stored)))
        return sorted(sources)
    masks = record.mask if isinstance(record.mask, tuple) else (None,) * len(record.image)
    return [
        SliceSource(number, file, mask, _get_label(record, number))
        for number, (file, mask) in enumerate(zip(record.image, masks, strict=True))
    ]


def _get_label(record: ScanRecord, stored: int) -> int | None:
    if record.label == 1 and record.mask is not None:
        return None  # the mask knows better which of the slices
    return record.label[stored] if isinstance(record.label, tuple) else record.label


def measure_lesions(record: ScanRecord) -> NDArray[np.float64] | None:
    """Measure the lesion of each slice in mm2, from foot to head, (N,); None where the scan has no mask.

    A mask of pictures, which know no mm, gives infinity where it has any lesion.

    Raises
    ------
    DatasetError, UnreadableImage : a mask cannot be read.
    """
    if isinstance(record.mask, tuple):
        return np.array([np.inf if mask is not None and load_lesion(mask).any() else 0.0 for mask in record.mask])
    if record.mask is None:
        return None
    grid = read_grid(record.mask)
    voxels = _count_voxels(record.mask, grid.axis)
    if grid.turned:
        voxels = voxels[::-1]
    return np.asarray(voxels * float(np.prod(grid.sides[:2])))


def _count_voxels(mask: Path, axis: int) -> NDArray[np.int64]:
    """Count the voxels of the lesion in each slice of a mask, in the order of its file."""
    import_pydicom()  # nibabel would, from another end than a thread that reads DICOM
    import nibabel

    with silence():
        try:
            image: Any = nibabel.load(mask, mmap=False)
            lesion = np.asanyarray(image.dataobj) > 0.5  # not what is no number
            lesion = lesion.reshape(lesion.shape[:3])
        except Exception:
            raise UnreadableImage(f"{mask.name}: is a damaged mask; copy or convert it again.") from None
    return np.asarray(np.count_nonzero(lesion, axis=tuple(other for other in range(3) if other != axis)), np.int64)


def trim_ends(record: ScanRecord, sources: list[SliceSource]) -> list[SliceSource]:
    """Leave out the slices below the first and above the last in which prediction would find a head.

    Only the ends are decoded for that: finding the head takes longer than all else that is done to a slice. A slice
    that the dataset itself calls a stroke stays; a label of the whole scan says nothing of the slice. Air looks
    alike in all patients, whom an audit would take for one.

    Raises
    ------
    DatasetError : a slice cannot be read.
    """

    def shows_head(number: int) -> bool:
        if isinstance(record.label, tuple) and sources[number].label == 1:
            return True
        return find_head(load_first(sources[number].file, modality=record.modality)[0].pixels) is not None

    first = next((number for number in range(len(sources)) if shows_head(number)), len(sources))
    last = next((number for number in reversed(range(first + 1, len(sources))) if shows_head(number)), first)
    return sources[first : last + 1]
