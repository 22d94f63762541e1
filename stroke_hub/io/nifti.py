"""NIfTI volumes -> axial slices, bottom to top, turned as a radiologist sees them."""

import gzip
import io
import math
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.elements import import_pydicom
from stroke_hub.io.limits import Limits, check_pages, check_size
from stroke_hub.io.pages import refuse_damage
from stroke_hub.io.rendering import Levels, Measured, compact, count_levels, find_hounsfield, lay_out
from stroke_hub.io.windowing import AIR, PERCENTILES, Modality, stretch
from stroke_hub.progress import track

__all__ = ["GZIP", "HEADER_SIZE", "Volume", "VolumeHeader", "is_volume", "read_volume_header"]

HEADER_SIZE = 352  # bytes that tell NIfTI from anything else: the header of NIfTI-1 and four more
HEADER2_SIZE = 544  # of NIfTI-2
EXTENSIONS_SIZE = 1 << 24  # bytes that may stand between header and voxels
GZIP = b"\x1f\x8b"
SLACK = 65536  # bytes after the voxels: padding, and what a careless writer left
SAMPLED = 4_000_000  # voxels that percentiles are taken of: of more every k-th
BLOCK = 1 << 24  # bytes of a volume that are in memory at once


def is_volume(start: bytes) -> bool:
    """Whether a file that starts with these bytes (at least `HEADER_SIZE`) is NIfTI in one file, or gzip."""
    return start[:2] == GZIP or _find_version(start) is not None


_refuse_damage = refuse_damage(
    "is a damaged NIfTI volume or of a rare kind; convert it again (for example dcm2niix)."
)


class VolumeHeader(NamedTuple):
    """What the header of a NIfTI file says.

    shape : voxels along the three axes. volumes : how many there are, more than one where a file has four axes.
    affine : (4, 4) float64, voxel -> RAS millimetres. has_place : whether the file itself says it.
    turned : for each axis of the file the closest axis of right, anterior, superior, and 1 or -1 for its direction.
    spacing : the height and the width of a pixel of an axial slice in mm; None where nobody says.
    """

    shape: tuple[int, int, int]
    volumes: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: NDArray[np.float64]
    has_place: bool
    turned: tuple[tuple[int, int], ...]
    spacing: tuple[float, float] | None

    @property
    def axis(self) -> int:
        """The axis of the file that the axial slices follow each other along."""
        return next(axis for axis, (goal, _) in enumerate(self.turned) if goal == 2)


@_refuse_damage
def read_volume_header(stream: BinaryIO, limits: Limits) -> VolumeHeader:
    """Read the header of a NIfTI-1 or -2 file, gzipped or not, from a stream at its start.

    Raises
    ------
    UnreadableImage : without the name of the source, which the caller puts before it.
    """
    return _read_start(stream, limits)[1]


class Volume:
    """Give the axial slices of a NIfTI-1 or -2 file, gzipped or not, each when it is asked for.

    The slices are the axial planes of the closest canonical orientation, bottom to top; anterior is up, the
    patient's left is on the right, pixels are squares. The file's own display is from the 1st to the 99th
    percentile (of finite voxels, all slices together), and the CT window where a value lies below -500. The voxels
    are gone through once, with a block of them in memory at a time.

    Parameters
    ----------
    stream : positioned at the start; never read beyond what its header announces and 64 KiB. It must stay open.
    limits : of a slice and of all slices.
    modality : "MR" keeps negative volumes from being taken for CT in the rendering "legacy".
    number : of the volume in a file of four axes, from 0; None refuses a file of several.
    scratch : where voxels are put down in the order of the slices, if the file is packed or holds them otherwise.
        It must stay open.

    Attributes
    ----------
    header : what the file says of the voxels.

    Raises
    ------
    UnreadableImage : without the name of the source, which the caller puts before it.
    """

    modality = None  # no NIfTI file says it

    @_refuse_damage
    def __init__(
        self,
        stream: BinaryIO,
        limits: Limits,
        *,
        modality: Modality | None = None,
        number: int | None = None,
        scratch: BinaryIO | None = None,
    ) -> None:
        source, header = _read_start(stream, limits)
        self.header, self._limits = header, limits
        if number is None and header.volumes > 1:
            raise UnreadableImage(f"holds {header.volumes:,} volumes; save one of them as a file of three axes.")
        check_pages(1, math.prod(header.shape) * header.volumes, limits)
        is_direct = source is stream and header.axis == 2
        length = math.prod(header.shape) * header.dtype.itemsize
        self._start = header.offset + (number or 0) * length if is_direct else 0
        self._stream = stream if is_direct else scratch or io.BytesIO()
        sample = self._go_through(source, number or 0, None if is_direct else self._stream)
        self._tell_scale(sample, modality)

    def __len__(self) -> int:
        return self.header.shape[self.header.axis]

    @_refuse_damage
    def __getitem__(self, number: int) -> Measured:
        values = self._read(range(len(self))[number])
        if values.dtype.kind == "f":
            values[~np.isfinite(values)] = self._darkest  # black, also in a slice that has nothing else
        own = None if self._is_windowed else stretch(values, *self._scale)
        page = Measured(compact(values), own, self._units, plane="axial")
        return lay_out(page, None, self.header.spacing, self._limits.pixels)

    def _read(self, number: int) -> NDArray[Any]:
        """The values of a slice, turned for a radiologist: int16 where they are stored so, else float64."""
        header = self.header
        if header.turned[header.axis][1] < 0:
            number = len(self) - 1 - number
        axes = [axis for axis in range(3) if axis != header.axis]
        size = header.shape[axes[0]] * header.shape[axes[1]]
        self._stream.seek(self._start + number * size * header.dtype.itemsize)
        content = self._stream.read(size * header.dtype.itemsize)
        plane = np.frombuffer(content, header.dtype).reshape([header.shape[axis] for axis in axes], order="F")
        plane = plane[tuple(slice(None, None, header.turned[axis][1]) for axis in axes)]
        canonical = plane if header.turned[axes[0]][0] == 0 else plane.T  # to the right, to the front
        turned = canonical[::-1, ::-1].T
        if header.dtype == np.int16 and (header.slope, header.intercept) == (1.0, 0.0):
            return np.array(turned, order="C")
        return turned.astype(np.float64) * header.slope + header.intercept

    def _go_through(self, source: Any, number: int, scratch: BinaryIO | None) -> Levels:
        """Read all voxels once: every k-th is given back, and the slices are put down where that is needed."""
        header = self.header
        nx, ny, nz = header.shape
        length = nx * ny * nz * header.dtype.itemsize
        _skip(source, number * length)
        step = max(1, math.ceil(nx * ny * nz / SAMPLED))
        sampled = np.empty(-(-nx * ny * nz // step), header.dtype)
        flips = tuple(slice(None, None, direction) for _, direction in header.turned)
        planes = max(1, BLOCK // (nx * ny * header.dtype.itemsize))
        for start in track(range(0, nz, planes), "reading voxels"):
            count = min(planes, nz - start)
            content = _read_fully(source, count * nx * ny * header.dtype.itemsize)
            block = np.frombuffer(content, header.dtype).reshape((nx, ny, count), order="F")
            for index in range(count):
                place = start + index if header.turned[2][1] > 0 else nz - 1 - start - index
                first = -place * nx * ny % step
                few = block[flips[0], flips[1], index].ravel(order="F")[first::step]
                begin = (place * nx * ny + first) // step
                sampled[begin : begin + few.size] = few
            if scratch is not None:
                self._put_down(block, start, scratch)
        _skip(source, (header.volumes - 1 - number) * length)
        if len(source.read(SLACK + 1)) > SLACK:
            raise UnreadableImage("holds more than its header announces; convert the volume again.")
        return count_levels(sampled, header.slope, header.intercept)

    def _put_down(self, block: NDArray[Any], start: int, scratch: BinaryIO) -> None:
        """Write some planes of the file to where the slices that they belong to will be read."""
        axis, nz = self.header.axis, self.header.shape[2]
        if axis == 2:
            scratch.write(block.T.data)  # in one piece, as it was read
            return
        turned = np.moveaxis(block, axis, 2).tobytes(order="F")
        part = len(turned) // block.shape[axis]  # of one slice
        whole = part // block.shape[2] * nz
        for number in range(block.shape[axis]):
            scratch.seek(number * whole + part // block.shape[2] * start)
            scratch.write(turned[number * part : (number + 1) * part])

    def _tell_scale(self, sample: Levels, modality: Modality | None) -> None:
        """The units and the grey scale of all slices together."""
        if not sample.values.size:
            raise UnreadableImage("holds no finite voxel; convert the volume again.")
        self._darkest, brightest = float(sample.values.min()), float(sample.values.max())
        self._units = find_hounsfield(sample)
        self._is_windowed = modality != "MR" and self._darkest <= AIR
        if self._is_windowed and math.isfinite(brightest - self._darkest):
            return  # nothing is stretched; percentiles take a third of the time of a volume of float32
        low, high = _find_percentiles(sample)
        if not math.isfinite(high - low):
            raise UnreadableImage("spans more than a float can hold; rescale the volume and try again.")
        self._scale = (low, high) if high != low else (self._darkest, brightest)


def _find_percentiles(levels: Levels) -> tuple[float, float]:
    """The percentiles of a volume's display, as `numpy.percentile` of all its values gives them."""
    if levels.counts is None:
        low, high = (float(edge) for edge in np.percentile(levels.values, PERCENTILES))
        return low, high
    order = np.argsort(levels.values)
    values, reached = levels.values[order], np.cumsum(levels.counts[order])
    edges = []
    for share in np.true_divide(PERCENTILES, 100):
        place = (reached[-1] - 1) * share
        pair = values[
            np.searchsorted(reached, [math.floor(place), math.floor(place) + 1], side="right").clip(
                max=len(values) - 1
            )
        ]
        edges.append(float(np.quantile(pair, place - math.floor(place))))
    return edges[0], edges[1]


def _read_start(stream: BinaryIO, limits: Limits) -> tuple[Any, VolumeHeader]:
    """What the voxels are read from, standing at the first, and the header."""
    packed = stream.read(2) == GZIP
    stream.seek(0)
    source: Any = gzip.GzipFile(fileobj=stream) if packed else stream  # inflates what is asked for, no more
    start = source.read(HEADER_SIZE)
    if _find_version(start) == 2:
        start += source.read(HEADER2_SIZE - HEADER_SIZE)
    header = _read_header(start)
    shape, volumes = _check_shape(header.get_data_shape(), limits)
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UnreadableImage("holds colours or complex numbers, not one value a voxel; convert it to float32.")
    offset = int(header.get_data_offset())
    if not len(start) <= offset <= len(start) + EXTENSIONS_SIZE:
        raise UnreadableImage("says that its voxels start where they cannot; convert the volume again.")
    _skip(source, offset - len(start))
    slope, intercept = header.get_slope_inter()
    affine = np.asarray(header.get_best_affine(), np.float64)
    turned, spacing = _orient(affine, header.get_zooms())
    check_pages(shape[next(axis for axis, (goal, _) in enumerate(turned) if goal == 2)], math.prod(shape), limits)
    has_place = bool(header["sform_code"] or header["qform_code"])
    return source, VolumeHeader(
        shape, volumes, dtype, offset, slope or 1.0, intercept or 0.0, affine, has_place, turned, spacing
    )


def _skip(source: Any, length: int) -> None:
    while length > 0:
        length -= len(_read_fully(source, min(length, BLOCK)))


def _read_fully(source: Any, length: int) -> bytes:
    content = bytes(source.read(length))
    if len(content) < length:
        raise UnreadableImage("ends before its last voxel; copy or convert the volume again.")
    return content


def _find_version(start: bytes) -> int | None:
    if start[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") and start[344:348] in (b"n+1\0", b"ni1\0"):
        return 1
    if start[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") and start[4:8] in (b"n+2\0", b"ni2\0"):
        return 2
    return None


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


def _check_shape(shape: tuple[int, ...], limits: Limits) -> tuple[tuple[int, int, int], int]:
    """Three sides, none of them zero and all within the limits, and how many volumes there are."""
    sides = [int(side) for side in shape]
    if not sides or min(sides) < 1:
        raise UnreadableImage("holds no slices; convert the volume again.")
    x, y, z = (*sides[:3], 1, 1)[:3]
    for pair in ((x, y), (x, z), (y, z)):  # whatever the orientation will make of it
        check_size(*pair, limits.pixels)
    check_pages(1, x * y * z, limits)
    return (x, y, z), math.prod(sides[3:])


def _orient(
    affine: NDArray[np.float64], zooms: tuple[float, ...]
) -> tuple[tuple[tuple[int, int], ...], tuple[float, float] | None]:
    """Which axis of the patient each axis follows; the height and the width of a pixel of an axial slice."""
    import_pydicom()
    import nibabel.orientations

    orientations: Any = nibabel.orientations  # has no types

    if not np.isfinite(affine).all():
        raise UnreadableImage("has an orientation that is no number; convert the volume again.")
    orientation = orientations.io_orientation(affine)
    if not np.isfinite(orientation).all():
        raise UnreadableImage("has an orientation that is flat; convert the volume again.")
    turned = tuple((int(goal), int(direction)) for goal, direction in orientation)
    sides = {goal: float(side) for (goal, _), side in zip(turned, zooms, strict=False)}
    spacing = sides.get(1, math.nan), sides.get(0, math.nan)
    known = all(math.isfinite(side) and side > 0 for side in spacing)
    return turned, spacing if known else None
