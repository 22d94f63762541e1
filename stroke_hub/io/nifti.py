"""NIfTI volumes -> axial slices, bottom to top, turned as a radiologist sees them."""

import gzip
import math
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.dicom import import_pydicom
from stroke_hub.io.limits import check_pages, check_size
from stroke_hub.io.rendering import Measured, compact, find_hounsfield, lay_out
from stroke_hub.io.windowing import AIR, PERCENTILES, Modality, stretch

__all__ = ["HEADER_SIZE", "decode_volume", "is_volume"]

HEADER_SIZE = 352  # bytes that tell NIfTI from anything else: the header of NIfTI-1 and four more
HEADER2_SIZE = 544  # of NIfTI-2
EXTENSIONS_SIZE = 1 << 24  # bytes that may stand between header and voxels
GZIP = b"\x1f\x8b"
SLACK = 65536  # bytes after the voxels: padding, and what a careless writer left
SAMPLED = 4_000_000  # voxels that percentiles are taken of: of more every k-th


def is_volume(start: bytes) -> bool:
    """Whether a file that starts with these bytes (at least `HEADER_SIZE`) is NIfTI in one file, or gzip."""
    return start[:2] == GZIP or _find_version(start) is not None


def decode_volume(stream: BinaryIO, *, modality: Modality | None = None, max_pixels: int) -> list[Measured]:
    """Decode a NIfTI-1 or -2 file, gzipped or not, into its axial slices.

    Parameters
    ----------
    stream : positioned at the start; never read beyond what its header announces and 64 KiB.
    modality : "MR" keeps negative volumes from being taken for CT in the rendering "legacy".
    max_pixels : of one slice; all together may have four times as many.

    Returns
    -------
    A slice for each axial plane of the closest canonical orientation, bottom to top; anterior is up, the
    patient's left is on the right, pixels are squares. The file's own display is from the 1st to the 99th
    percentile (of finite voxels, all slices together), and the CT window where a value lies below -500.

    Raises
    ------
    UnreadableImage : without the name of the source, which the caller puts before it.
    """
    try:
        return _decode(stream, modality, max_pixels)
    except UnreadableImage:
        raise
    except Exception:  # noqa: S110  # refused below, so that no text of the file hangs on it as a context
        pass
    raise UnreadableImage("is a damaged NIfTI volume or of a rare kind; convert it again (for example dcm2niix).")


def _find_version(start: bytes) -> int | None:
    if start[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") and start[344:348] in (b"n+1\0", b"ni1\0"):
        return 1
    if start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") and start[4:8] in (b"n+2\0", b"ni2\0"):
        return 2
    return None


def _decode(stream: BinaryIO, modality: Modality | None, max_pixels: int) -> list[Measured]:
    packed = stream.read(2) == GZIP
    stream.seek(0)
    source: Any = gzip.GzipFile(fileobj=stream) if packed else stream  # inflates what is asked for, no more
    start = source.read(HEADER_SIZE)
    if _find_version(start) == 2:
        start += source.read(HEADER2_SIZE - HEADER_SIZE)
    header = _read_header(start)
    shape = _check_shape(header.get_data_shape(), max_pixels)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UnreadableImage("holds colours or complex numbers, not one value a voxel; convert it to float32.")
    offset = int(header.get_data_offset())
    length = math.prod(shape) * dtype.itemsize
    if not len(start) <= offset <= len(start) + EXTENSIONS_SIZE:
        raise UnreadableImage("says that its voxels start where they cannot; convert the volume again.")
    source.read(offset - len(start))
    content = source.read(length)
    if len(content) < length:
        raise UnreadableImage("ends before its last voxel; copy or convert the volume again.")
    if len(source.read(SLACK + 1)) > SLACK:
        raise UnreadableImage("holds more than its header announces; convert the volume again.")
    raw = np.frombuffer(content, dtype).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    voxels, spacing = _orient(raw, header.get_best_affine(), header.get_zooms())
    check_pages(voxels.shape[2], raw.size, max_pixels)
    pages, total = [], 0
    for page in _measure(voxels, slope or 1.0, intercept or 0.0, modality):
        pages.append(lay_out(page, None, spacing, max_pixels))
        total += pages[-1].values.size
        check_pages(len(pages), total, max_pixels)
    return pages


def _read_header(start: bytes) -> Any:
    """The header alone: nibabel would parse extensions too, and one kind of them is a patient's DICOM header."""
    import_pydicom()  # nibabel would, from another end than a thread that reads DICOM
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    version = _find_version(start)
    if version is None:
        raise UnreadableImage("is gzip, but holds no NIfTI volume; unpack it, or convert the scan to .nii.gz.")
    if start[344:347] == b"ni1" or start[4:7] == b"ni2":
        raise UnreadableImage("is a NIfTI header whose voxels lie in another file; convert both to one .nii.gz.")
    kind: Any = Nifti1Header if version == 1 else Nifti2Header
    return kind(start[: 348 if version == 1 else 540])


def _check_shape(shape: tuple[int, ...], max_pixels: int) -> tuple[int, int, int]:
    """Three sides, none of them zero and all within the limits."""
    sides = [int(side) for side in shape]
    if not sides or min(sides) < 1:
        raise UnreadableImage("holds no slices; convert the volume again.")
    if math.prod(sides[3:]) > 1:
        raise UnreadableImage(f"holds {math.prod(sides[3:]):,} volumes; save one of them as a file of three axes.")
    x, y, z = (*sides[:3], 1, 1)[:3]
    for pair in ((x, y), (x, z), (y, z)):  # whatever the orientation will make of it
        check_size(*pair, max_pixels)
    check_pages(1, x * y * z, max_pixels)
    return x, y, z


def _orient(
    raw: NDArray[Any], affine: NDArray[Any], zooms: tuple[float, ...]
) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """Voxels along right, anterior, superior (a view); the height and the width of a pixel of an axial slice."""
    import_pydicom()
    import nibabel.orientations

    orientations: Any = nibabel.orientations  # has no types

    if not np.isfinite(affine).all():
        raise UnreadableImage("has an orientation that is no number; convert the volume again.")
    orientation = orientations.io_orientation(affine)
    if not np.isfinite(orientation).all():
        raise UnreadableImage("has an orientation that is flat; convert the volume again.")
    sides = {int(axis): float(side) for (axis, _), side in zip(orientation, zooms, strict=False)}
    spacing = sides.get(1, math.nan), sides.get(0, math.nan)
    known = all(math.isfinite(side) and side > 0 for side in spacing)
    return np.asarray(orientations.apply_orientation(raw, orientation)), spacing if known else None


def _measure(voxels: NDArray[Any], slope: float, intercept: float, modality: Modality | None) -> Iterator[Measured]:
    """The axial slices, turned for a radiologist."""
    step = max(1, math.ceil(voxels.size / SAMPLED))
    sample = voxels.ravel(order="K")[::step].astype(np.float64) * slope + intercept
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        raise UnreadableImage("holds no finite voxel; convert the volume again.")
    low, high = (float(edge) for edge in np.percentile(sample, PERCENTILES))
    if not math.isfinite(high - low):
        raise UnreadableImage("spans more than a float can hold; rescale the volume and try again.")
    if high == low:
        low, high = float(sample.min()), float(sample.max())
    how = find_hounsfield(sample)
    is_windowed = modality != "MR" and sample.min() <= AIR
    for z in range(voxels.shape[2]):
        values = voxels[::-1, ::-1, z].T.astype(np.float64) * slope + intercept
        values[~np.isfinite(values)] = sample.min()  # black, also in a slice that has nothing else
        own = None if is_windowed else stretch(values, low, high)
        yield Measured(compact(values), own, how, plane="axial")
