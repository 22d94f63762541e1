"""Pictures of other organs, a set that was fixed before any rule was measured on it.

`FILES` are of pydicom's own test files, `MORE_FILES` of the package pydicom-data, which is not installed with the
tests; duplicates and heads were left out. `SHAPES` are drawn: ellipses of soft tissue, fat, marrow and bone,
in HU for CT and in free units for MR, six of each.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from scipy.ndimage import gaussian_filter

from stroke_hub import Slice, load_slices

__all__ = ["FILES", "MORE_FILES", "SHAPES", "draw", "list_other_organs"]

FILES = (
    "CT_small.dcm",  # CT of a spine
    "ExplVR_BigEnd.dcm",  # ultrasound
    "JPEG2000.dcm",  # bone scan of a whole body
    "MR_small.dcm",  # a part of an MR slice of a joint
    "examples_jpeg2k.dcm",  # ultrasound of a lymph node
    "examples_overlay.dcm",  # MR of an abdomen
    "examples_palette.dcm",  # ultrasound
    "examples_ybr_color.dcm",  # ultrasound of a heart
)
MORE_FILES = (
    "JPGLosslessP14SV1_1s_1f_8b.dcm",  # ultrasound of a heart
    "MR-SIEMENS-DICOM-WithOverlays.dcm",  # MR of an abdomen
    "MR2_UNCR.dcm",  # MR of a shoulder
    "RG1_UNCR.dcm",  # radiograph of a chest
    "bad_sequence.dcm",  # CT of a spine
    "color-pl.dcm",  # ultrasound of a heart
    "explicit_VR-UN.dcm",  # CT of an abdomen
    "gdcm-US-ALOKA-16.dcm",  # ultrasound
)
SIZE = 192
FAT, MUSCLE, ORGAN, MARROW, BONE, AIR = -100.0, 55.0, 45.0, 120.0, 900.0, -1000.0
MR_OF = {FAT: 230.0, MUSCLE: 70.0, ORGAN: 110.0, MARROW: 200.0, BONE: 8.0, AIR: 3.0}

Float = NDArray[np.float64]
Tissue = list[tuple[float, float, float, float, float, float]]  # x, y, half-axes, angle in radians, HU


def _bone(x: float, y: float, a: float, b: float, angle: float = 0.0, cortex: float = 0.02) -> Tissue:
    return [(x, y, a, b, angle, BONE), (x, y, a - cortex, b - cortex, angle, MARROW)]


def _limb(x: float, a: float, rng: np.random.Generator) -> Tissue:
    return [(x, 0, a, a * rng.uniform(0.9, 1.1), 0, FAT), (x, 0, a * 0.85, a * 0.8, rng.uniform(0, 3), MUSCLE)]


def _knee(rng: np.random.Generator) -> Tissue:
    side = rng.uniform(-0.03, 0.03)
    condyles = _bone(-0.14 + side, 0.02, 0.15, 0.17, 0.3) + _bone(0.14 + side, 0.02, 0.15, 0.17, -0.3)
    return _limb(0, rng.uniform(0.4, 0.46), rng) + condyles + _bone(side, -0.27, 0.12, 0.06)


def _legs(rng: np.random.Generator) -> Tissue:
    parts: Tissue = []
    for x in (-0.24, 0.24):
        parts += _limb(x, rng.uniform(0.19, 0.23), rng)
        parts += _bone(x + rng.uniform(-0.03, 0.03), -0.04, 0.06, 0.06) + _bone(
            x * 1.3, 0.07, 0.03, 0.03, cortex=0.015
        )
    return parts


def _ankle(rng: np.random.Generator) -> Tissue:
    heel = _bone(0, 0.24, 0.12, 0.16) + _bone(0.02, -0.1, 0.14, 0.14)
    return [(0, 0.05, rng.uniform(0.25, 0.3), 0.43, 0, FAT), (0, 0.05, 0.22, 0.38, 0, MUSCLE), *heel]


def _trunk(rng: np.random.Generator) -> Tissue:
    a, b = rng.uniform(0.43, 0.48), rng.uniform(0.28, 0.34)
    return [(0, 0, a, b, 0, FAT), (0, 0, a - 0.05, b - 0.05, 0, MUSCLE), (0, -0.03, a - 0.1, b - 0.1, 0, FAT)]


def _spine(y: float) -> Tissue:
    arch: Tissue = [(0, y + 0.09, 0.13, 0.02, 0, BONE), (0, y + 0.13, 0.02, 0.07, 0, BONE)]
    return arch + _bone(0, y, 0.08, 0.065) + [(0, y + 0.085, 0.03, 0.025, 0, ORGAN)]


def _chest(rng: np.random.Generator) -> Tissue:
    lungs: Tissue = [(s * 0.2, -0.02, 0.15, rng.uniform(0.16, 0.2), s * 0.2, AIR) for s in (-1, 1)]
    heart: Tissue = [(0.05, -0.06, rng.uniform(0.09, 0.12), 0.09, 0.5, ORGAN)]
    turns = np.linspace(0, 2 * np.pi, 12, endpoint=False) + rng.uniform(0, 0.4)
    ribs: Tissue = [(0.39 * np.cos(t), 0.24 * np.sin(t), 0.045, 0.014, t + np.pi / 2, BONE) for t in turns]
    return _trunk(rng) + lungs + heart + ribs + _spine(0.16)


def _abdomen(rng: np.random.Generator) -> Tissue:
    liver: Tissue = [(-0.17, -0.05, rng.uniform(0.15, 0.2), 0.14, 0.4, ORGAN + 10), (0.22, 0, 0.08, 0.09, 0, ORGAN)]
    kidneys: Tissue = [(s * 0.17, 0.12, 0.05, 0.07, s * 0.4, ORGAN - 10) for s in (-1, 1)]
    bowel: Tissue = []
    for _ in range(5):
        x, y, r = rng.uniform(-0.1, 0.25), rng.uniform(-0.17, 0.0), rng.uniform(0.02, 0.05)
        bowel += [(x, y, r, r, 0, ORGAN - 20), (x, y, r * 0.6, r * 0.5, 0, AIR)]
    return _trunk(rng) + liver + kidneys + bowel + _spine(0.16)


def _shoulder(rng: np.random.Generator) -> Tissue:
    x = rng.uniform(-0.2, -0.1)
    soft: Tissue = [(0.1, 0.1, 0.5, 0.42, 0.3, FAT), (0.1, 0.12, 0.44, 0.36, 0.3, MUSCLE)]
    return soft + _bone(x, 0, 0.14, 0.14) + _bone(x + 0.25, 0.1, 0.1, 0.05, 0.6) + _bone(x - 0.02, 0.25, 0.07, 0.2)


def _phantom(rng: np.random.Generator) -> Tissue:
    r = rng.uniform(0.36, 0.44)
    rods: Tissue = []
    for t, value in zip(
        np.linspace(0, 2 * np.pi, 6, endpoint=False), (BONE, FAT, AIR, 120.0, 80.0, -30.0), strict=True
    ):
        rods.append((0.25 * np.cos(t), 0.25 * np.sin(t), 0.05, 0.05, 0, value))
    return [(0, 0, r, r, 0, 120.0), (0, 0, r - 0.02, r - 0.02, 0, 0.0), *rods]


SHAPES: dict[str, tuple[Callable[[np.random.Generator], Tissue], str]] = {
    "knee, CT": (_knee, "BT"),
    "knee, MR": (_knee, "MR"),
    "legs, CT": (_legs, "BT"),
    "legs, MR": (_legs, "MR"),
    "ankle, CT": (_ankle, "BT"),
    "chest, CT": (_chest, "BT"),
    "abdomen, CT": (_abdomen, "BT"),
    "abdomen, MR": (_abdomen, "MR"),
    "shoulder, MR": (_shoulder, "MR"),
    "phantom, CT": (_phantom, "BT"),
}


def draw(shape: str, seed: int) -> NDArray[np.uint8]:
    """Draw one shape, uint8 (192, 192).

    CT is shown in the brain window (width 80, level 40), MR from 0 to its 99.5th percentile.
    """
    make, modality = SHAPES[shape]
    rng = np.random.default_rng([seed, sorted(SHAPES).index(shape)])
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE - 0.5
    values: Float = np.full((SIZE, SIZE), AIR)
    for cx, cy, a, b, angle, value in make(rng):
        u, v = x - cx, y - cy
        along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
        values[(along / a) ** 2 + (across / b) ** 2 < 1] = value
    texture = gaussian_filter(rng.normal(0, 1, values.shape), 3)
    if modality == "BT":
        values = gaussian_filter(values, 0.7) + rng.normal(0, 5, values.shape) + 20 * texture
        return ((values.clip(0, 80)) / 80 * 255).astype(np.uint8)
    tissues = list(MR_OF)
    signal = np.interp(values, sorted(tissues), [MR_OF[t] for t in sorted(tissues)])
    signal = gaussian_filter(signal, 0.7) * (1 + texture) * (1 + 0.3 * x * rng.uniform(-1, 1)) + rng.rayleigh(
        4, values.shape
    )
    return (signal / np.quantile(signal, 0.995) * 255).clip(0, 255).astype(np.uint8)


def list_other_organs() -> list[Slice]:
    """List the pictures that need no further package: one slice of each of `FILES`, six of each of `SHAPES`."""
    read = [load_slices(str(get_testdata_file(name, download=False)))[0] for name in FILES]
    return read + [Slice(draw(shape, seed)) for shape in SHAPES for seed in range(6)]
