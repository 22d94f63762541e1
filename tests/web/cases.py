"""Slices and scans of every kind that the page reads, simulated or drawn: nothing of a patient."""

import gzip
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import nibabel
import numpy as np
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from stroke_hub.data.simulated import Lesion, simulate_patient
from stroke_hub.data.simulated import Scan as Sequence
from stroke_hub.models.sample import EXAMPLES
from tests.hostile import compress
from tests.io.synth import dcm, head

SIZE, STEP = 192, 250 / 192
CASES = Path(__file__).parents[1] / "io" / "cases"
PACKED = (
    *(RLELossless, JPEGBaseline8Bit, JPEGLossless, JPEGLosslessSV1),
    *(JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000),
)
NATIVE = (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


class Case(NamedTuple):
    """What is opened: files by name, as which modality, and which of the slices are compared."""

    name: str
    files: dict[str, bytes]
    modality: str | None = None
    indices: tuple[int, ...] = (0,)


@cache
def simulate(sequence: Sequence, lesion: Lesion, count: int = 4, seed: int = 7) -> np.ndarray:
    """Slices (N, H, W) float32 from foot to head: HU of CT, 0 to 1 of MR; with noise."""
    clean = np.stack([one.clean for one in simulate_patient(seed, sequence, lesion, slices=count, size=SIZE)])
    noise = np.random.default_rng(seed).normal(0, 3 if sequence == "CT" else 0.02, clean.shape)
    return (clean + noise).astype(np.float32)


def save(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_ct(plane: np.ndarray, syntax: UID | None = None, **more: Any) -> bytes:
    """A plane of HU as a DICOM file; of 8 bits, in the brain window, where the syntax holds no more."""
    stored = np.rint(plane + 1024).clip(0, 4095).astype(np.uint16)
    ds = dcm(stored, spacing=(STEP, STEP), bits=12, **more)
    if syntax is None:
        return save(ds)
    if syntax == RLELossless:
        ds.compress(RLELossless)
        return save(ds)
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = stored.astype(">u2").tobytes()
    if syntax in NATIVE:
        ds["PixelData"].VR = "OW"
        return save(ds)
    if syntax == JPEGBaseline8Bit:
        stored = np.rint((plane / 80).clip(0, 1) * 255).astype(np.uint8)
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
        del ds.RescaleSlope, ds.RescaleIntercept
    ds.PixelData = encapsulate([pack(stored, syntax)])
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    return save(ds)


def pack(values: np.ndarray, syntax: UID) -> bytes:
    """One frame of a packed syntax."""
    if syntax == JPEGBaseline8Bit:
        return bytes(imagecodecs.jpeg8_encode(values, 92))
    if syntax in (JPEG2000Lossless, JPEG2000):
        options = {"reversible": True} if syntax == JPEG2000Lossless else {"level": 45}
        return bytes(imagecodecs.jpeg2k_encode(values, codecformat="j2k", **options))
    return compress(values, str(syntax))


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def write_volume(voxels: np.ndarray, affine: np.ndarray, **header: Any) -> bytes:
    image = nibabel.Nifti1Image(voxels, affine)
    for name, value in header.items():
        image.header[name] = value
    return bytes(image.to_bytes())


def list_slices() -> Iterator[Case]:
    """Forty slices and more, a case for each kind of file."""
    yield from _list_pictures()
    yield from _list_dicom()
    yield from _list_volumes()


def _list_pictures() -> Iterator[Case]:
    for path in sorted((*EXAMPLES.glob("normal*/*.png"), *EXAMPLES.glob("stroke*/*.png"))):
        for modality in (None, "MR" if "MR" in path.parent.name else "BT"):
            yield Case(f"{path.parent.name}, {modality}", {path.name: path.read_bytes()}, modality)
    picture = Image.open(EXAMPLES / "strokeBT" / "p485_s01_simulated.png").convert("L")
    grey = np.asarray(picture)
    colour = Image.merge("RGB", [picture, picture.point(lambda level: level // 2), picture])
    faded = colour.copy()
    faded.putalpha(picture.point(lambda level: 255 - level // 3))
    palette = colour.quantize(32)
    palette.info["transparency"] = bytes(range(100, 132))
    deep = grey.astype(np.uint16) * 200 + 13
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = {
        "deep.png": encode(Image.fromarray(deep), "PNG"),
        "wide.png": encode(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        "bits.png": encode(picture.point(lambda level: level > 90 and 255).convert("1"), "PNG"),
        "grey_alpha.png": encode(Image.merge("LA", [picture, picture]), "PNG"),
        "colour.png": encode(colour, "PNG"),
        "faded.png": encode(faded, "PNG"),
        "palette.png": encode(palette, "PNG"),
        "grey.jpg": encode(picture, "JPEG", quality=88),
        "turned.jpg": encode(colour, "JPEG", quality=80, exif=exif),
        "large.png": encode(picture.resize((700, 500)), "PNG"),
        "blank.png": encode(Image.new("L", (90, 60), 7), "PNG"),
    }
    for name, content in pictures.items():
        yield Case(name, {name: content})
    yield Case("deep MR", {"deep.png": pictures["deep.png"]}, "MR")


def _list_dicom() -> Iterator[Case]:
    ct, mr = simulate("CT", "infarct")[1], simulate("DWI", "infarct")[2]
    for syntax in (None, *NATIVE, *PACKED):
        name = "explicit" if syntax is None else syntax.name
        yield Case(name, {"slice.dcm": write_ct(ct, syntax)})
    flipped = write_ct(ct[::-1, ::-1].T, iop=(0, -1, 0, -1, 0, 0))
    yield Case("turned", {"slice.dcm": flipped})
    signal = mr * 1900
    yield Case("MR", {"slice.dcm": save(dcm(signal.clip(0), modality="MR", slope=None, spacing=(STEP, STEP)))})
    inverted = save(
        dcm((4000 - signal).clip(0), modality="MR", slope=None, PhotometricInterpretation="MONOCHROME1")
    )
    yield Case("MONOCHROME1", {"slice.dcm": inverted})
    flat = save(dcm(signal.clip(0)[::2], modality="MR", slope=None, spacing=(2 * STEP, STEP)))
    yield Case("pixels that are no squares", {"slice.dcm": flat})
    padded = ct.copy()
    padded[:20] = -1024 - 976
    ds = dcm(padded + 1024, signed=True, spacing=(STEP, STEP))
    ds.add_new(0x00280120, "SS", -976)
    yield Case("padding", {"slice.dcm": save(ds)})
    yield Case("sagittal", {"slice.dcm": write_ct(head()[6].astype(float), iop=(0, 1, 0, 0, 0, -1))})
    yield Case("a mosaic", {"mosaic.dcm": (CASES / "01-mosaic" / "mosaic.dcm").read_bytes()}, None, (9,))


def _list_volumes() -> Iterator[Case]:
    ct, mr = (simulate(*kind).transpose(2, 1, 0) for kind in (("CT", "bleed"), ("FLAIR", "infarct")))
    affine = np.diag([STEP, STEP, 5, 1])
    affine[:3, 3] = -120, -110, 30
    left, back = np.diag([-1, 1, 1, 1]), np.diag([1, -1, 1, 1])
    turn = np.eye(4)[[2, 0, 1, 3]].T
    yield Case("CT.nii", {"ct.nii": write_volume(np.rint(ct[:, ::-1]).astype(np.int16), affine)}, None, (1,))
    packed = gzip.compress(write_volume(mr[:, ::-1].astype(np.float32), affine @ left), mtime=0)
    yield Case("MR.nii.gz", {"mr.nii.gz": packed}, None, (2,))
    yield Case("MR as MR", {"mr.nii.gz": packed}, "MR", (0,))
    whole = (mr * 900).clip(0).astype(np.uint16)
    yield Case("uint16", {"mr.nii": write_volume(whole, affine @ back)}, "MR", (3,))
    scaled = write_volume(whole, affine, scl_slope=0.25, scl_inter=-3.5)
    yield Case("a slope", {"mr.nii": scaled}, "MR", (1,))
    moved = write_volume(np.moveaxis(np.rint(ct).astype(np.int16), 2, 0), affine @ turn)
    yield Case("axes in another order", {"ct.nii": moved}, None, (2,))
    yield Case("no orientation", {"ct.nii": write_volume(ct.astype(np.float32), affine, sform_code=0)}, "BT", (1,))
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[0.94, -0.34], [0.34, 0.94]]
    yield Case("tilted", {"ct.nii": write_volume(np.rint(ct).astype(np.int16), tilt @ affine)}, None, (1,))


def list_scans() -> Iterator[Case]:
    """Three scans: a DICOM series out of order, a packed volume, and pictures."""
    ct = simulate("CT", "infarct", 9, 11)
    series = {
        f"IM{(7 * number) % 9:03d}": write_ct(plane, ipp=(0, 0, 5.0 * number), number=9 - number)
        for number, plane in enumerate(ct)
    }
    yield Case("a DICOM series", series, None, (0, 4))
    affine = np.diag([STEP, STEP, 4, 1])
    mr = simulate("DWI", "infarct", 8, 13).transpose(2, 1, 0)[:, ::-1]
    yield Case("a volume", {"dwi.nii.gz": gzip.compress(write_volume(mr, affine), mtime=0)}, "MR", (5,))
    pictures = [np.rint((plane / 80).clip(0, 1) * 255).astype(np.uint8) for plane in simulate("CT", "none", 6, 17)]
    files = {f"slice{number}.png": encode(Image.fromarray(one), "PNG") for number, one in enumerate(pictures, 7)}
    yield Case("pictures", files, "BT", (3,))
