"""A slice of a volume has an address, as ``scans/049.nii.gz#012``: the file, and its number from foot to head.

A table of slices can so name the slices of volumes as it names picture files. The pixels are those of `load_scan`,
which prediction reads too. The volumes that were asked for last stay open.
"""

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.elements import import_pydicom
from stroke_hub.io.quiet import silence
from stroke_hub.io.slices import Slice, load_slices
from stroke_hub.io.windowing import Modality
from stroke_hub.scan.load_scan import load_scan
from stroke_hub.scan.scan import Scan

__all__ = ["Stamp", "load_addressed", "load_mask", "read_stamp", "split_address", "write_address"]

ADDRESS = re.compile(r"(.+)#(\d+)", re.DOTALL)
OPEN = 4  # volumes: more than the threads that read neighbours, and few temporary files

Stamp = tuple[int, ...]


def write_address(path: str, number: int) -> str:
    """Write the address of a slice of a volume; addresses sort as slices do, up to a thousand of them."""
    return f"{path}#{number:03d}"


def split_address(file: Path) -> tuple[Path, int | None]:
    """Split an address into the file and the number of the slice; None for a file that is a slice itself."""
    found = ADDRESS.fullmatch(file.name)
    if found is None or file.exists():  # a picture may be called slice#1
        return file, None
    return file.with_name(found[1]), int(found[2])


def read_stamp(file: Path | int) -> Stamp:
    """Read what changes when a file, or the open file of a descriptor, does.

    Raises
    ------
    OSError : there is no such file.
    """
    status = os.stat(file)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def load_addressed(file: Path, number: int, *, modality: Modality | None = None) -> Slice:
    """Load one slice of a volume, equal to that of `load_scan`.

    Parameters
    ----------
    number : of the slice, from foot to head, from 0.

    Raises
    ------
    UnreadableImage : it cannot be read, or has no such slice.
    OSError : there is no such file.
    """
    return _take(_SCANS.get(file, modality, lambda: load_scan(file, modality=modality)), number, file)


def load_mask(file: Path, number: int | None) -> NDArray[np.bool_]:
    """Load the lesion mask of a slice, (H, W), framed as `load_addressed` frames the slice on the same grid.

    Parameters
    ----------
    file : a volume whose lesion is all above 0.5, or a picture whose lesion is brighter than 127.
    number : of the slice in the volume; None for a picture.

    Raises
    ------
    UnreadableImage : it cannot be read, or has no such slice.
    OSError : there is no such file.
    """
    if number is None:
        return load_slices(file)[0].pixels > 127
    measured = _take(_MASKS.get(file, None, lambda: load_scan(_make_binary(file))), number, file).measured
    if measured is None:
        raise UnreadableImage(f"{file.name}: is no volume; give the mask as NIfTI.")
    return np.asarray(measured.values > 127)


def _take(scan: Scan, number: int, file: Path) -> Slice:
    if number >= len(scan):
        raise UnreadableImage(f"{file.name}: has {len(scan):,} slices, and no number {number}; count them from 0.")
    return scan.slices[number]


def _make_binary(file: Path) -> bytes:
    """Make a mask volume 0 and 255, so that its resampling has an edge at the half whatever its labels are."""
    import_pydicom()  # nibabel would, from another end than a thread that reads DICOM
    import nibabel

    with silence():
        try:
            image: Any = nibabel.load(file, mmap=False)
            lesion = np.asanyarray(image.dataobj) > 0.5  # not what is no number
        except Exception:
            raise UnreadableImage(f"{file.name}: is a damaged mask; copy or convert it again.") from None
        lesion = lesion.reshape(lesion.shape[:3])
        make: Any = nibabel.Nifti1Image  # has no types
        image = make(lesion.astype(np.uint8) * np.uint8(255), image.affine)
        image.set_sform(image.affine, 1)
        return bytes(image.to_bytes())


class _Opened:
    """The scans that were asked for last, while their files do not change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scans: OrderedDict[tuple[Path, Modality | None], tuple[Stamp, Scan]] = OrderedDict()

    def get(self, file: Path, modality: Modality | None, load: Callable[[], Scan]) -> Scan:
        with self._lock:
            stamp, key = read_stamp(file), (file, modality)
            known = self._scans.pop(key, None)
            if known is None or known[0] != stamp:
                known = stamp, load()
            self._scans[key] = known
            while len(self._scans) > OPEN:
                self._scans.popitem(last=False)
            return known[1]


_SCANS, _MASKS = _Opened(), _Opened()
