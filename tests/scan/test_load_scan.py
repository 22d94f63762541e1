"""Claims of load_scan: one scan from whatever holds it, in order and in its own voxels, or else a sentence."""

import gzip
import io
import itertools
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_rescale
from pydicom.uid import RLELossless

from stroke_hub import Scan, UnreadableImage, load_files, load_scan, load_slices
from stroke_hub.io.geometry import make_square, undo_square
from stroke_hub.io.quiet import silence
from stroke_hub.scan.load_scan import load_scans
from tests.hostile import list_hostile, pack
from tests.scan.studies import (
    AFFINE,
    IOPS,
    VOXELS,
    as_dicom,
    as_enhanced,
    as_nifti,
    save,
    series,
    slice_of,
    stack,
    write,
)

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
NIBABEL = Path(nibabel.__file__).parent / "tests" / "data"
LOCALIZER = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
CASES = Path(__file__).parents[1] / "io" / "cases"
ORIENTATIONS = [
    codes for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
]


def show(scan: Scan) -> np.ndarray:
    return np.stack([one.pixels for one in scan.slices])


def take_back(scan: Scan) -> np.ndarray:
    """The measured values of all slices, put back into the scan's voxels."""
    return scan.restore(one.measured.values.astype(np.float32) for one in scan.slices)


def turn(codes: tuple[str, ...]) -> nibabel.Nifti1Image:
    return as_nifti().as_reoriented(ornt_transform(axcodes2ornt(("R", "A", "S")), axcodes2ornt(codes)))


EXPECTED = np.stack([one.pixels for one in load_slices(as_nifti().to_bytes(), modality="BT")])

# --- one head, many containers ------------------------------------------------------------------------------


def make_zip(tmp_path: Path) -> bytes:
    return pack({f"a/{path.name}": path.read_bytes() for path in write(tmp_path / "d", as_dicom()).iterdir()})


def write_zip(tmp_path: Path) -> Path:
    (tmp_path / "study.zip").write_bytes(make_zip(tmp_path))
    return tmp_path / "study.zip"


CONTAINERS: dict[str, Callable[[Path], Any]] = {
    "folder": lambda tmp: write(tmp / "study", as_dicom()),
    "folder in a folder": lambda tmp: write(tmp / "study" / "a" / "b", as_dicom()).parents[1],
    "zip": write_zip,
    "bytes of a zip": make_zip,
    "paths": lambda tmp: [str(path) for path in write(tmp / "study", as_dicom()).iterdir()],
    "bytes": lambda tmp: [save(one) for one in as_dicom()],
    "streams": lambda tmp: (io.BytesIO(save(one)) for one in as_dicom()),
    "enhanced": lambda tmp: as_enhanced(),
    "enhanced in a zip": lambda tmp: pack({"one.dcm": as_enhanced()}),
    "nii": lambda tmp: as_nifti().to_bytes(),
    "nii.gz": lambda tmp: gzip.compress(as_nifti().to_bytes()),
    "nii in a zip": lambda tmp: pack({"a.nii": as_nifti().to_bytes()}),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_one_head_in_every_container_is_one_scan(name: str, tmp_path: Path) -> None:
    scan = load_scan(CONTAINERS[name](tmp_path), modality="BT")
    np.testing.assert_array_equal(show(scan), EXPECTED)
    np.testing.assert_allclose(scan.positions, 20 + 5 * np.arange(6))
    restored = nibabel.as_closest_canonical(nibabel.Nifti1Image(take_back(scan), scan.affine))
    np.testing.assert_array_equal(restored.get_fdata(), VOXELS)
    np.testing.assert_allclose(restored.affine, AFFINE, atol=1e-6)
    assert scan.remarks == ()
    assert len(scan.files) == len(scan.origins) == len(scan) == 6
    if "nii" not in name:
        assert all(uid for _, uid in scan.files)


@pytest.mark.parametrize("codes", ORIENTATIONS, ids="".join)
@pytest.mark.parametrize("packed", [False, True])
def test_every_orientation_is_shown_alike_and_goes_back_as_it_was(codes: tuple[str, ...], packed: bool) -> None:
    turned = turn(codes)
    content = turned.to_bytes()
    scan = load_scan(gzip.compress(content, 1) if packed else content, modality="BT")
    np.testing.assert_array_equal(show(scan), EXPECTED)
    assert scan.shape == turned.shape
    np.testing.assert_array_equal(take_back(scan), turned.get_fdata())
    np.testing.assert_array_equal(scan.affine, turned.affine)
    np.testing.assert_allclose(scan.positions, 20 + 5 * np.arange(6))


@pytest.mark.parametrize("iop", IOPS, ids=str)
def test_every_orientation_of_dicom_goes_back_as_it_was(iop: tuple[int, ...]) -> None:
    slices = as_dicom(iop)
    scan = load_scan([save(one) for one in slices])
    np.testing.assert_array_equal(show(scan), EXPECTED)
    stored = np.stack([one.pixel_array.T - 1024.0 for one in slices], axis=2)
    np.testing.assert_array_equal(take_back(scan), stored)
    restored = nibabel.as_closest_canonical(nibabel.Nifti1Image(take_back(scan), scan.affine))
    np.testing.assert_array_equal(restored.get_fdata(), VOXELS)
    np.testing.assert_allclose(restored.affine, AFFINE, atol=1e-6)


def test_an_oblique_scan_goes_back_as_it_was() -> None:
    turned = nibabel.eulerangles.euler2mat(0.2, 0.1, 0.3)
    affine = AFFINE.copy()
    affine[:3, :3] = turned @ affine[:3, :3]
    volume = load_scan(nibabel.Nifti1Image(VOXELS, affine).to_bytes(), modality="BT")
    np.testing.assert_array_equal(take_back(volume), VOXELS)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    np.testing.assert_allclose(np.diff(volume.positions), 5, atol=1e-5)
    slices = as_dicom()
    lps = np.diag([-1.0, -1, 1])
    rotation = lps @ turned @ lps
    for one in slices:
        one.ImageOrientationPatient = [*rotation[:, 0].round(8), *rotation[:, 1].round(8)]
        corner = np.linalg.inv(AFFINE) @ [*(lps @ one.ImagePositionPatient), 1]
        one.ImagePositionPatient = list((lps @ (affine @ corner)[:3]).round(6))
    scan = load_scan([save(one) for one in slices])
    restored = nibabel.Nifti1Image(take_back(scan), scan.affine)
    np.testing.assert_allclose(nibabel.as_closest_canonical(restored).affine, affine, atol=1e-4)
    np.testing.assert_array_equal(nibabel.as_closest_canonical(restored).get_fdata(), VOXELS)
    assert scan.remarks == ()


@pytest.mark.parametrize("shape", [(10, 12), (7, 31), (1, 5)])
@pytest.mark.parametrize("sides", [(3.0, 1.0), (1.0, 2.5), (1.0, 1.03)])
def test_what_was_resampled_goes_back_by_the_adjoint(shape: tuple[int, int], sides: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(size=shape).astype(np.float32)
    after, _ = make_square(before, *sides, 10**6)
    evidence = rng.normal(size=after.shape).astype(np.float32)
    back = undo_square(evidence, *shape)
    assert float(back.sum(dtype=np.float64)) == pytest.approx(float(evidence.sum(dtype=np.float64)), abs=1e-4)
    assert float((back * before).sum()) == pytest.approx(float((evidence * after).sum()), abs=1e-3)


@pytest.mark.parametrize("codes", [("R", "A", "S"), ("S", "L", "P"), ("I", "P", "R")], ids="".join)
def test_the_sum_of_maps_is_kept_where_pixels_are_no_squares(codes: tuple[str, ...]) -> None:
    flat = nibabel.Nifti1Image(VOXELS, np.diag([4.0, 1.5, 5, 1]))
    turned = flat.as_reoriented(ornt_transform(axcodes2ornt(("R", "A", "S")), axcodes2ornt(codes)))
    scan = load_scan(turned.to_bytes(), modality="BT")
    maps = [np.random.default_rng(0).normal(size=one.pixels.shape).astype(np.float32) for one in scan.slices]
    assert maps[0].shape == (12, 27)
    voxels = scan.restore(maps)
    assert voxels.shape == turned.shape
    assert voxels.dtype == np.float32
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels, scan.affine)).get_fdata()
    np.testing.assert_allclose(canonical.sum(axis=(0, 1)), [one.sum() for one in maps], atol=1e-4)


def test_maps_of_another_number_or_size_are_refused() -> None:
    scan = load_scan(as_nifti().to_bytes())
    maps = [np.zeros(one.pixels.shape, np.float32) for one in scan.slices]
    for wrong in (maps[:-1], [*maps, maps[0]], [one.T for one in maps], []):
        with pytest.raises(ValueError, match="pass 6"):
            scan.restore(wrong)


# --- the same slices as elsewhere ---------------------------------------------------------------------------


@pytest.mark.parametrize("modality", [None, "BT", "MR"])
def test_slices_are_those_of_load_files(modality: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "a", as_dicom())
    mr = [slice_of(3.0 * index, modality="MR", slope=None, number=index) for index in range(5)]
    for one in mr:
        noise = np.random.default_rng(int(one.InstanceNumber)).gamma(2, 100, (40, 30))
        one.Rows, one.Columns, one.PixelData = 40, 30, noise.astype(np.uint16).tobytes()
    write(tmp_path / "b", series(2, mr))
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(turn(("S", "R", "P")).to_bytes()))
    deep = [Image.fromarray(np.random.default_rng(n).integers(0, 4000, (9, 8)).astype(np.uint16)) for n in range(4)]
    deep[0].save(tmp_path / "d.tif", save_all=True, append_images=[*deep[1:], Image.new("L", (8, 9), 7)])
    (tmp_path / "e.dcm").write_bytes((CASES / "01-mosaic" / "mosaic.dcm").read_bytes())
    for source in (folder, tmp_path / "b", tmp_path / "c.nii.gz", tmp_path / "d.tif", tmp_path / "e.dcm"):
        scan = load_scan(source, modality=modality, window="stroke")
        wanted = {
            (file.name, one.index): one
            for file in load_files(source, modality=modality, window="stroke")
            for one in file.slices
        }
        assert len(scan) == len(wanted)
        for _ in range(2):  # also when they are asked for again
            for origin, one in zip(scan.origins, scan.slices, strict=True):
                same = wanted[origin.file, origin.frame - 1]
                np.testing.assert_array_equal(one.pixels, same.pixels)
                np.testing.assert_array_equal(one.measured.values, same.measured.values)
                assert (one.remarks, one.modality, one.source, one.index, one.spacing, one.window) == (
                    *(same.remarks, same.modality, same.source, same.index, same.spacing, same.window),
                )
        assert scan.modality == wanted[scan.origins[0].file, scan.origins[0].frame - 1].modality


def test_slices_come_in_any_order_and_in_several_threads(tmp_path: Path) -> None:
    scan = load_scan(write_zip(tmp_path))
    np.testing.assert_array_equal(np.stack([one.pixels for one in scan.slices[::-1]]), EXPECTED[::-1])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: scan.slices[number].pixels, [*range(6)] * 5))
    np.testing.assert_array_equal(np.stack(found), np.concatenate([EXPECTED] * 5))
    with pytest.raises(IndexError):
        scan.slices[6]


def test_a_slice_that_cannot_be_decoded_says_so_when_it_is_asked_for(tmp_path: Path) -> None:
    slices = stack()
    slices[3].compress(RLELossless)
    content = save(slices[3])
    folder = write(tmp_path / "a", [one for index, one in enumerate(slices) if index != 3])
    (folder / "bad").write_bytes(content[:-12] + bytes(12))
    scan = load_scan(folder)
    assert scan.slices[2].pixels.shape == (6, 6)
    with pytest.raises(UnreadableImage, match=r"^bad: .*export it again"):
        scan.slices[3]


# --- real files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["anatomical.nii", "standard.nii.gz", "example4d.nii.gz", "functional.nii",
                                  "example_nifti2.nii.gz", "reoriented_anat_moved.nii"])  # fmt: skip
def test_volumes_of_nibabel_have_its_values(name: str) -> None:
    image = nibabel.load(NIBABEL / name)
    scan = load_scan(NIBABEL / name, modality="MR")
    data = image.get_fdata(dtype=np.float32)
    voxels = take_back(scan)
    np.testing.assert_allclose(scan.affine, image.affine)
    assert scan.shape == image.shape[:3]
    if data.ndim == 4:
        assert "volumes" in scan.remarks[0]
        first = load_scan(NIBABEL / name, modality="MR", series=1)
        if first.slices[0].pixels.shape == voxels.shape[1::-1]:
            np.testing.assert_array_equal(take_back(first), data[..., 0])
        data = data[..., -1]
    if scan.slices[0].measured.values.size == voxels[..., 0].size:  # squares: no pixel was resampled
        np.testing.assert_array_equal(voxels, data)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "examples_jpeg2k.dcm",
                                  "SC_rgb_rle_2frame.dcm", "liver_1frame.dcm", "693_J2KI.dcm"])  # fmt: skip
def test_files_of_pydicom_have_its_values(name: str) -> None:
    with silence():
        ds = pydicom.dcmread(PYDICOM / name)
        values = apply_rescale(ds.pixel_array, ds)
    scan = load_scan(PYDICOM / name)
    assert len(scan) == int(ds.get("NumberOfFrames", 1) or 1)
    assert [origin.uid for origin in scan.origins] == [ds.SOPInstanceUID] * len(scan)
    if ds.SamplesPerPixel == 1 and ds.BitsStored > 8:
        (one,) = scan.slices
        np.testing.assert_array_equal(one.measured.values, np.maximum(values, -1024))


@pytest.mark.parametrize(("folder", "count", "words"), [
    ("98892001", 5, "4 \"Scout\" is a localizer"),
    ("77654033", 4, "is neither CT nor MR"),
    ("98892003", 1, "is sagittal"),
    ("", 5, "2 patients"),
])  # fmt: skip
def test_studies_of_pydicom(folder: str, count: int, words: str) -> None:
    scan = load_scan(PYDICOM / "dicomdirtests" / folder)
    assert len(scan) == count
    assert words in " ".join(scan.remarks)
    by_uid = {}
    for path in (PYDICOM / "dicomdirtests").rglob("*"):
        if path.is_file() and path.name != "DICOMDIR":
            with silence():
                ds = pydicom.dcmread(path, force=True)
            by_uid[str(ds.get("SOPInstanceUID"))] = ds
    heights = [float(by_uid[uid].ImagePositionPatient[2]) for _, uid in scan.files]
    assert heights == sorted(heights)
    np.testing.assert_allclose(scan.positions, heights)


# --- an answer or a sentence for each -----------------------------------------------------------------------


class Case(NamedTuple):
    """What is given, and what must come of it: so many slices, and words of the remarks or of the refusal."""

    make: Callable[[Path], Any]
    count: int
    words: tuple[str, ...] = ()
    options: dict[str, Any] = {}  # noqa: RUF012
    is_regular: bool = True


def tilt(slices: list[Dataset], degrees: float) -> list[Dataset]:
    """Tilt the gantry: the planes turn, the table moves on along the body."""
    angle = np.radians(degrees)
    for index, one in enumerate(slices):
        one.ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(angle).round(6)), float(np.sin(angle).round(6))]
        one.ImagePositionPatient = [0, 0, 5.0 * index]
    return slices


def drop(slices: list[Dataset], *names: str) -> list[Dataset]:
    for one in slices:
        for name in names:
            if name in one:
                delattr(one, name)
    return slices


def repeat(values: list[Any], name: str, count: int = 6) -> list[Dataset]:
    """Slices at one position for each value of an element."""
    number = itertools.count(1)
    found = []
    for value in values:
        for one in stack(count, modality="MR"):
            one.InstanceNumber = next(number)
            setattr(one, name, value)
            found.append(one)
    return found


def shift(slices: list[Dataset], heights: list[float]) -> list[Dataset]:
    for one, height in zip(slices, heights, strict=True):
        one.ImagePositionPatient = [0, 0, height]
    return slices


def picture(path: Path, value: int, size: tuple[int, int] = (9, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def pictures(tmp: Path) -> Path:
    for number in (10, 9, 2, 1):
        picture(tmp / "p" / f"s{number}.png", number)
    return tmp / "p"


def pages(tmp: Path) -> Path:
    tmp.joinpath("t").mkdir()
    all_ = [Image.new("L", (9, 8), number) for number in range(5)]
    all_[0].save(tmp / "t" / "a.tif", save_all=True, append_images=all_[1:])
    return tmp / "t" / "a.tif"


def study(tmp: Path) -> Path:
    """What a scanner sends: a plan, the head for reading, for bone, with contrast, and a reconstruction."""
    write(tmp / "s", series(1, [slice_of(iop=(0, 1, 0, 0, 0, -1))], "Topogram", **LOCALIZER))
    write(tmp / "s", series(2, stack(30, step=0.6), "Head thin", SliceThickness=0.6), name="A")
    write(tmp / "s", series(3, stack(8), "Head 5.0", ConvolutionKernel=["H31s", "3"]), name="B")
    write(tmp / "s", series(4, stack(9), "Bone 5.0", ConvolutionKernel="H60s"), name="C")
    write(tmp / "s", series(5, stack(10), "CTA", ContrastBolusAgent="IOMERON"), name="D")
    write(tmp / "s", series(6, stack(11), "MPR", ImageType=["DERIVED", "SECONDARY", "MPR"]), name="E")
    return tmp / "s"


def four(tmp: Path, *, bval: str = "") -> Path:
    volumes = np.stack([VOXELS, VOXELS + 1, VOXELS + 2], axis=3)
    path = tmp / "dwi.nii.gz"
    nibabel.save(nibabel.Nifti1Image(volumes, AFFINE), path)
    if bval:
        (tmp / "dwi.bval").write_text(bval)
    return path


def mixed(tmp: Path) -> Path:
    folder = write(tmp / "s", stack())
    content = save(slice_of(90))
    (folder / "cut.dcm").write_bytes(content[:-30])
    (folder / "text.png").write_text("no picture")
    (folder / "notes.txt").write_text("read me")
    return folder


def copied(tmp: Path) -> Path:
    slices = stack()
    write(tmp / "s", slices)
    write(tmp / "s" / "again", slices[:2])
    return tmp / "s"


def empty(tmp: Path) -> Path:
    (tmp / "none").mkdir()
    return tmp / "none"


def patients(tmp: Path) -> Path:
    write(tmp / "s", series(1, stack(), "One", PatientID="SENTINEL1"))
    write(tmp / "s", series(2, stack(7), "Two", PatientID="SENTINEL2"), name="B")
    return tmp / "s"


def thousands(tmp: Path) -> list[bytes]:
    one = slice_of(0)
    one.SOPInstanceUID, one.ImagePositionPatient, one.InstanceNumber = "1.2.3.1000", ["0", "0", "1000"], 1
    content = save(one)
    return [
        content.replace(b"1.2.3.1000", b"1.2.3.%d" % number).replace(b"0\\0\\1000", b"0\\0\\%d" % number)
        for number in range(1000, 3000)
    ][::-1]


TABLE = {
    "a single slice": Case(lambda tmp: save(slice_of(7)), 1),
    "a single picture": Case(lambda tmp: next(pictures(tmp).iterdir()), 1, is_regular=False),
    "a slice of unknown thickness": Case(
        lambda tmp: save(*drop([slice_of()], "SliceThickness")), 1, ("thick",), {}, False
    ),
    "tilt": Case(lambda tmp: write(tmp / "s", tilt(stack(), 18)), 6, ("sheared by 18°", "gantry"), {}, False),
    "a tilt of nothing": Case(lambda tmp: write(tmp / "s", tilt(stack(), 0.1)), 6),
    "uneven": Case(
        lambda tmp: write(tmp / "s", shift(stack(7), [0, 3, 5, 9, 12, 16, 18])), 7, ("not evenly",), {}, False
    ),
    "two spacings": Case(
        lambda tmp: write(tmp / "s", shift(stack(9), [0, 5, 10, 15, 20, 30, 40, 50, 60])),
        9,
        ("5.0 to 10.0 mm apart",),
        {},
        False,
    ),
    "jitter": Case(lambda tmp: write(tmp / "s", shift(stack(5), [0, 5.001, 9.999, 15, 20])), 5),
    "a gap": Case(
        lambda tmp: write(tmp / "s", [*stack(4), slice_of(25), slice_of(30)]),
        6,
        ("1 slice seems to be missing between 15.0 and 25.0 mm",),
        {},
        False,
    ),
    "a double": Case(lambda tmp: write(tmp / "s", [*stack(), slice_of(10, number=9)]), 6, ("1 position had more",)),
    "copies": Case(copied, 6, ("2 slices came twice",)),
    "b-values": Case(
        lambda tmp: write(tmp / "s", repeat([0, 1000, 3000], "DiffusionBValue")), 6, ("slices of 1,000",)
    ),
    "low b-values": Case(
        lambda tmp: write(tmp / "s", repeat([0, 50, 400], "DiffusionBValue")), 6, ("slices of 400",)
    ),
    "points in time": Case(
        lambda tmp: write(tmp / "s", repeat([1, 2, 3], "TemporalPositionIdentifier")),
        6,
        ("3 points in time; the first",),
    ),
    "echoes": Case(lambda tmp: write(tmp / "s", repeat([20.0, 90.0], "EchoTime")), 6, ("20, 90 ms; the longest",)),
    "magnitude and phase": Case(
        lambda tmp: write(
            tmp / "s", repeat([["ORIGINAL", "PRIMARY", "P"], ["ORIGINAL", "PRIMARY", "M"]], "ImageType")
        ),
        6,
        ("left out",),
    ),
    "nothing tells apart": Case(
        lambda tmp: write(tmp / "s", repeat([1, 1], "SeriesNumber")), 6, ("2 slices at each",)
    ),
    "numbered slice by slice": Case(
        lambda tmp: write(
            tmp / "s", [one for n, one in enumerate(stack()) if not setattr(one, "AcquisitionNumber", n)]
        ),
        6,
    ),
    "a study": Case(
        study,
        8,
        (
            '3 "Head 5.0"',
            '"Topogram" is a localizer',
            '"Bone 5.0" has a sharp kernel',
            '"CTA" was taken with contrast',
            '"MPR" was computed',
            '"Head thin" has slices of 0.6 mm',
        ),
    ),
    "a study by number": Case(study, 9, ("sharp kernel",), {"series": 4}),
    "a study by name": Case(study, 30, (), {"series": "head thin"}),
    "a study by a part of a name": Case(study, 10, ("contrast",), {"series": "cta"}),
    "a study by what is not there": Case(study, 0, ("no series 99", '2 "Head thin" (30 slices)'), {"series": 99}),
    "a localizer inside": Case(
        lambda tmp: write(tmp / "s", [*stack(), slice_of(iop=(0, 1, 0, 0, 0, -1), **LOCALIZER)]),
        6,
        ("1 slice of the series was left out",),
    ),
    "localizers alone": Case(lambda tmp: write(tmp / "s", stack(3, **LOCALIZER)), 3, ("is a localizer",)),
    "coronal": Case(
        lambda tmp: write(tmp / "s", [slice_of(iop=(1, 0, 0, 0, 0, -1), ipp=(0, 5 * n, 0)) for n in range(5)]),
        5,
        ("is coronal",),
    ),
    "no positions": Case(
        lambda tmp: write(tmp / "s", drop(stack(), "ImagePositionPatient")), 6, ("instance numbers",), {}, False
    ),
    "no positions or numbers": Case(
        lambda tmp: write(tmp / "s", drop(stack(), "ImagePositionPatient", "InstanceNumber")),
        6,
        ("file names",),
        {},
        False,
    ),
    "a mosaic": Case(lambda tmp: CASES / "01-mosaic" / "mosaic.dcm", 25, ("order of their frames",), {}, False),
    "two modalities": Case(
        lambda tmp: [
            *write(tmp / "s", stack()).iterdir(),
            *write(tmp / "m", series(2, stack(9, modality="MR"))).iterdir(),
        ],
        9,
        ("CT, MR",),
    ),
    "one of two modalities": Case(
        lambda tmp: [
            *write(tmp / "s", stack()).iterdir(),
            *write(tmp / "m", series(2, stack(9, modality="MR"))).iterdir(),
        ],
        6,
        ("is MR",),
        {"modality": "CT"},
    ),
    "two patients": Case(patients, 7, ("2 patients",)),
    "files that are none": Case(mixed, 6, ("2 files", "cut.dcm", "ends before", "text.png")),
    "four axes": Case(four, 6, ("Of 3 volumes the last",)),
    "four axes and b-values": Case(
        lambda tmp: four(tmp, bval="0 1000 2000"), 6, ("number 2 was taken", "b-value 1,000")
    ),
    "four axes and a wish": Case(four, 6, ("number 1 was taken",), {"series": 1}),
    "four axes and a wrong wish": Case(four, 0, ("no volume 4", "from 1 to 3"), {"series": 4}),
    "a volume beside its mask": Case(lambda tmp: [as_nifti().to_bytes(), four(tmp)], 6, ("Of 2 series",)),
    "pictures": Case(pictures, 4, ("order of their names",), {}, False),
    "pages": Case(pages, 5, ("its own order",), {}, False),
    "an array": Case(lambda tmp: np.zeros((5, 6), np.uint8), 1, (), {}, False),
    "2,000 slices": Case(thousands, 2000),
    "2,000 planes": Case(lambda tmp: nibabel.Nifti1Image(np.ones((3, 4, 2000), np.int16), AFFINE).to_bytes(), 2000),
    "an empty folder": Case(empty, 0, ("none: holds no image",)),
    "an empty list": Case(lambda tmp: [], 0, ("an empty list is no scan",)),
    "a folder that is not there": Case(lambda tmp: tmp / "lost", 0, ("lost: does not exist",)),
    "a folder of text": Case(lambda tmp: [mixed(tmp) / "text.png"], 0, ("text.png: is not a PNG",)),
    "a plan without a picture": Case(lambda tmp: PYDICOM / "rtplan.dcm", 0, ("rtplan.dcm: holds no slice",)),
    "a cut volume": Case(lambda tmp: as_nifti().to_bytes()[:-9], 0, ("ends before its last voxel",)),
    "a cut packed volume": Case(lambda tmp: gzip.compress(as_nifti().to_bytes())[:-30], 0, ("damaged NIfTI",)),
    "a wrong modality": Case(lambda tmp: save(slice_of()), -1, ("pass",), {"modality": "PET"}),
    "a wrong window": Case(lambda tmp: save(slice_of()), -1, ("pass",), {"window": "lung"}),
}


SLOW = {"2,000 slices": pytest.mark.slow}  # 2 ms a header


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in TABLE])
def test_every_kind_gets_an_answer_or_a_sentence(name: str, tmp_path: Path) -> None:
    case = TABLE[name]
    source = case.make(tmp_path)
    if case.count <= 0:
        with pytest.raises(UnreadableImage if case.count == 0 else ValueError) as caught:
            load_scan(source, **case.options)
        assert all(words in str(caught.value) for words in case.words), caught.value
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)
        return
    scan = load_scan(source, **case.options)
    assert len(scan) == len(scan.slices) == len(scan.positions) == case.count
    said = " ".join(scan.remarks)
    assert all(words in said for words in case.words), said
    assert scan.remarks or not case.words
    assert all(remark.endswith(".") for remark in scan.remarks)
    assert "SENTINEL" not in said + repr(scan) + repr(scan.origins)
    assert (np.diff(scan.positions) > 0).all()
    assert (scan.affine is not None) == case.is_regular, said
    ends = scan.slices[0], scan.slices[-1]
    assert all(one.pixels.dtype == np.uint8 for one in ends)
    if case.count < 100:
        maps = [np.ones(ends[0].pixels.shape, np.float32)] * case.count
        assert scan.restore(maps).shape == scan.shape


def test_the_sets_that_are_taken_are_whole(tmp_path: Path) -> None:
    scan = load_scan(write(tmp_path / "s", repeat([0, 1000, 3000], "DiffusionBValue")))
    numbers = {read_uid(path): pydicom.dcmread(path).DiffusionBValue for path in (tmp_path / "s").iterdir()}
    assert {numbers[uid] for _, uid in scan.files} == {1000}
    voxels = take_back(load_scan(four(tmp_path, bval="0 1000 2000")))
    np.testing.assert_array_equal(voxels, VOXELS + 1)


def read_uid(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def test_pictures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    picture(tmp_path / "p" / "thumb.png", 99, (3, 3))
    scan = load_scan(pictures(tmp_path))
    assert [int(one.pixels[0, 0]) for one in scan.slices] == [1, 2, 9, 10]
    assert "1 picture of another size was left out." in scan.remarks
    assert scan.shape == (9, 8, 4)


def test_hostile_files_end_in_a_scan_or_a_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    answers, refusals = 0, []
    for hostile in list_hostile():
        try:
            scan = load_scan(hostile.content)
            for number in {0, len(scan) // 2, len(scan) - 1}:
                assert scan.slices[number].pixels.size
            answers += 1
        except UnreadableImage as refusal:
            refusals.append(str(refusal))
    assert answers > 5
    assert refusals
    assert [words for words in refusals if not words.endswith(".") or "\n" in words] == []
    assert capfd.readouterr() == ("", "")


def test_nothing_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("stroke_hub.scan.load_scan.IN_MEMORY", 100)
    for name in ("a.nii.gz", "b.nii"):
        content = as_nifti().to_bytes()
        path = tmp_path / "z.zip"
        path.write_bytes(pack({name: gzip.compress(content) if name.endswith("gz") else content}))
        scan = load_scan(path, modality="BT")
        np.testing.assert_array_equal(show(scan), EXPECTED)
        assert list((tmp_path / "tmp").iterdir()) == []


MEASURE = """
import resource, sys
from stroke_hub import load_scan
for one in load_scan(sys.argv[1]).slices: one.pixels
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nii.gz", "zip"])
def test_the_memory_of_a_scan_does_not_grow_with_its_length(kind: str, tmp_path: Path) -> None:
    plane = np.random.default_rng(0).integers(-30, 90, (512, 512)).astype(np.int16)
    peaks = []
    for count in (150, 600):
        path = tmp_path / f"{count}.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
                for number in range(count):
                    one = slice_of(number)
                    one.Rows = one.Columns = 512
                    one.PixelData = (plane + 1024).tobytes()
                    archive.writestr(f"{number}.dcm", save(one))
        else:
            header = nibabel.Nifti1Image(np.zeros((512, 512, 1), np.int16), AFFINE).to_bytes()[:352]
            head = bytearray(header)
            head[46:48] = count.to_bytes(2, "little")
            with gzip.open(path, "wb", 1) as stream:
                stream.write(bytes(head))
                for _ in range(count):
                    stream.write(plane.tobytes())
        command = [sys.executable, "-c", MEASURE, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] <= 1.2 * peaks[0], peaks


def test_load_scans_gives_each_series_volume_and_picture_and_says_what_holds_none(tmp_path: Path) -> None:
    write(tmp_path / "in", [*series(2, stack(5), "thick"), *series(3, stack(4), "thin")])
    dicoms = sorted((tmp_path / "in").iterdir())
    pictures = {}
    for name in ("a", "b"):
        buffer = io.BytesIO()
        Image.fromarray(np.full((9, 8), 50 + ord(name), np.uint8)).save(buffer, "PNG")
        pictures[f"in/{name}.png"] = buffer.getvalue()
    archive, volume, words = tmp_path / "mixed.zip", tmp_path / "scan.nii", tmp_path / "words.png"
    archive.write_bytes(pack(pictures | {"cut.dcm": dicoms[0].read_bytes()[:300]}))
    as_nifti().to_filename(volume)
    words.write_text("words")
    found = list(load_scans([*dicoms, archive, words, volume]))
    assert {one.name: len(one.scan) for one in found if one.scan} == {
        "thick": 5,
        "thin": 4,
        "mixed.zip/in/a.png": 1,
        "mixed.zip/in/b.png": 1,
        "scan.nii": 6,
    }
    for one in found[:2]:
        assert one.scan is not None
        again = load_scan(dicoms, series=one.uid)
        assert (show(one.scan) == show(again)).all()
        assert list(one.scan.positions) == list(again.positions)
    assert [(one.name, one.error.split(":")[0]) for one in found if one.error] == [
        ("mixed.zip/cut.dcm", "cut.dcm"),
        ("words.png", "words.png"),
    ]
    with pytest.raises(ValueError, match="modality"):
        next(load_scans(volume, modality="PET"))  # type: ignore[arg-type]
