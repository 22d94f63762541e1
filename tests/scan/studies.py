"""Small synthetic studies, as DICOM, NIfTI and pictures (nothing of a patient)."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from tests.io.synth import dcm

SIZE = (10, 12, 6)  # to the right, to the front, upwards
AFFINE = np.array([[1.5, 0, 0, -7], [0, 1.5, 0, -9], [0, 0, 5.0, 20], [0, 0, 0, 1]])
VOXELS = np.full(SIZE, -1000, np.int16)
VOXELS[2:8, 2:10] = np.random.default_rng(0).integers(-20, 100, (6, 8, 6))
VOXELS[2, 3] = 1300
IOPS = ((1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, -1, 0),
        (0, 1, 0, 1, 0, 0), (0, -1, 0, 1, 0, 0), (0, 1, 0, -1, 0, 0), (0, -1, 0, -1, 0, 0))  # fmt: skip


def save(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def slice_of(z: float = 0.0, *, side: int = 6, **more: Any) -> Dataset:
    """A small axial slice at a height, its content after its height."""
    more.setdefault("ipp", (0, 0, z))
    pixels = np.full((side, side), 24, np.int16)
    pixels[1:-1, 1:-1] = 1060 + int(z)
    return dcm(pixels, **more)


def stack(count: int = 6, *, step: float = 5.0, **more: Any) -> list[Dataset]:
    """A series of slices."""
    return [slice_of(step * index, number=index + 1, **more) for index in range(count)]


def as_dicom(iop: tuple[int, ...] = IOPS[0]) -> list[Dataset]:
    """`VOXELS` as slices whose rows and columns run as `iop` says."""
    along = np.reshape(iop, (2, 3)).astype(float)
    found = []
    for z in range(SIZE[2]):
        corner, pixels = _lay(along, z)
        found.append(dcm(pixels + 1024, iop=iop, ipp=tuple(corner), number=SIZE[2] - z, series="1.2.3.4"))
    return found


def _lay(along: np.ndarray, z: int) -> tuple[np.ndarray, np.ndarray]:
    """The corner in DICOM's coordinates and the pixels of a plane of `VOXELS` with these directions."""
    plane = VOXELS[:, :, z]  # [x to the right, y to the front]
    axes = [int(np.abs(one).argmax()) for one in along]  # of a row, of a column
    pixels = plane if axes == [1, 0] else plane.T  # rows run along y, or along x
    start = np.zeros(2)
    for axis, way in zip(axes, along, strict=True):
        if way[axis] > 0:  # to the left or backwards: against the voxels
            pixels = np.flip(pixels, 1 if axis == axes[0] else 0)
            start[axis] = SIZE[axis] - 1
    corner = AFFINE @ (*start, z, 1)
    return np.array([-corner[0], -corner[1], corner[2]]), np.ascontiguousarray(pixels)


def as_enhanced() -> bytes:
    """`VOXELS` as one file of frames, from head to foot."""
    slices = as_dicom()[::-1]
    ds = slices[0]
    frames = []
    for one in slices:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = one.ImagePositionPatient
        frame.PlanePositionSequence = Sequence([position])
        frames.append(frame)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = ds.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = ds.PixelSpacing, 5
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([orientation]), Sequence([measures])
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(ds, name)
    ds.NumberOfFrames = len(slices)
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    ds.PixelData = b"".join(one.PixelData for one in slices)
    return save(ds)


def as_nifti() -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(VOXELS, AFFINE)


def write(folder: Path, slices: Iterable[Dataset], *, name: str = "IM") -> Path:
    """Write slices into a folder under names that say nothing of their order."""
    slices = list(slices)
    numbers = list(range(len(slices)))
    np.random.default_rng(0).shuffle(numbers)
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in zip(numbers, slices, strict=True):
        (folder / f"{name}{number:04d}").write_bytes(save(one))
    return folder


def series(number: int, slices: list[Dataset], description: str = "", **more: Any) -> list[Dataset]:
    """Make slices a series of their own."""
    uid = generate_uid()
    for one in slices:
        one.SeriesInstanceUID, one.SeriesNumber, one.SeriesDescription = uid, number, description
        for key, value in more.items():
            setattr(one, key, value)
    return slices
