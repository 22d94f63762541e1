"""The sample dataset: brain slices simulated from the MNI152 templates, each lesion with its mask.

No patient is in it, so it may be looked at, shared and trained on anywhere. Coordinates are millimetres: x to
the side, y to the front, z upwards; stacks of slices are (slice, row, column).
"""

import csv
import json
import math
import shutil
from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from scipy import ndimage
from scipy.spatial.transform import Rotation

from stroke_hub.data.lesions import load_lesions
from stroke_hub.errors import DatasetError

__all__ = ["PatientPlan", "SimulatedSlice", "plan_patients", "simulate_patient", "simulate_scan", "write_sample"]

Lesion = Literal["none", "infarct", "bleed"]
Scan = Literal["CT", "DWI", "FLAIR"]
Split = Literal["train", "test"]
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Grid = tuple[Floats, Floats, Floats]  # z, y, x in mm

VERSION = 2  # of the simulation: raise it when the same seed gives other pixels
FIELD_OF_VIEW = 250.0  # mm: the largest of 100 simulated heads measures 230
LEVELS = (2.0, 50.0)  # mm above the commissures: thalamus to above the ventricles, where brain is sizeable
SCAN_LEVELS = (-8.0, 66.0)  # mm: a step of lesions' cells below and above those of `data.lesions`
TEST_SHARE = 7 / 22  # 280 of 880 patients
SMALL = (0.012, 0.085)  # share of the brain that a lesion covers in its middle slice
LARGE = (0.045, 0.2)  # an infarct on CT: of those of SMALL, 10 HU below their surroundings, half could not be seen
STROKE_SHARE = 1 / 6  # the Kaggle dataset has 393 stroke to 1984 normal slices in train, 119 to 657 in test
DESCRIPTION = "simulated brain slice (stroke_hub sample dataset), not a patient"
TRIALS = 40  # lesions tried before the one that comes nearest to the wanted share
CALCIFICATIONS = ((-21, -40, 10), (21, -40, 10), (0, -28, 3))  # choroid plexus, pineal gland: template x, y, z
INDEX_COLUMNS = ("path", "label", "modality", "patient", "split", "sequence", "lesion", "mask")
FOLDERS = {"train": ("2- Control/Normal", "1- Stroke/Stroke"), "test": ("normal", "stroke")}  # normal, stroke

README = """# Simulated brain slices

Simulated from the MNI152 templates by stroke_hub's `write_sample`. **No patient is in it, and nothing clinical
can be concluded from it.** CT ("BT") is shown at window width 80 HU, level 40 HU; MR is DWI or FLAIR.

- `deep/`: 8-bit grey PNG slices in the Kaggle dataset's layout. Patients are disjoint between splits.
- `masks/`: the lesion (255) of every stroke slice, under the slice's own path below `deep/`.
- `index.csv`: {columns}. `settings.json`: {settings}

Shapes and places of infarcts: lesions of the Stroke Outcome Optimization Project, OpenNeuro ds004889 (CC0).

Templates: ICBM152 nonlinear 2009a (1 mm), as shipped with nilearn (Fonov et al., NeuroImage 47 (2009) S102; Fonov
et al., NeuroImage 54 (2011) 313-327). Their licence:

Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose and
without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill
University make no representations about the suitability of this software for any purpose. It is provided "as is"
without express or implied warranty. The authors are not responsible for any data loss, equipment damage, property
loss, or injury to subjects or patients resulting from the use or misuse of this software package.
"""


class PatientPlan(NamedTuple):
    """What one patient of the dataset is, before anything is drawn."""

    number: int
    split: Split
    sequence: Scan
    lesion: Lesion

    @property
    def modality(self) -> Literal["BT", "MR"]:
        """The Kaggle dataset's name: ``"BT"`` for CT, ``"MR"`` for DWI and FLAIR."""
        return "BT" if self.sequence == "CT" else "MR"


class SimulatedSlice(NamedTuple):
    """One axial slice, front up; all arrays are (H, W).

    `pixels` is the picture (uint8), `mask` the lesion and `brain` all within the skull (bool), `clean` the picture
    before noise, window and rounding (float32; HU for CT, share of full scale for MR).
    """

    pixels: NDArray[np.uint8]
    mask: Bools
    brain: Bools
    clean: Floats
    sequence: Scan
    lesion: Lesion


class _Head(NamedTuple):
    place: Floats  # (3, slice, row, column): template x, y, z
    tissue: Floats  # share of a pixel that is brain tissue, not fluid
    grey: Floats  # share of that tissue that is grey matter
    depth: Floats  # mm outside the brain's hull
    brain: Bools
    grid: Grid


def write_sample(
    root: str | Path,
    *,
    patients: int = 880,
    slices_per_patient: int = 2,
    seed: int = 0,
    size: int = 192,
    show_progress: bool = True,
) -> Path:
    """Write the sample dataset under `root` and return `root`; the same arguments give the same bytes.

    Slices stand under ``deep/`` in the Kaggle dataset's layout, lesion masks under ``masks/``, one row per slice
    in ``index.csv``. A folder that holds exactly this dataset is left as it is; an interrupted call leaves none.

    Parameters
    ----------
    root : the folder to make; it may exist if it is empty.
    patients : at least 8, so that both splits hold both classes in both modalities.
    slices_per_patient, size : slices of each patient, and their height and width in pixels.
    seed : any non-negative integer.

    Raises
    ------
    DatasetError : `root` holds something else.
    ValueError : fewer than 8 patients.
    """
    root = Path(root)
    shape = {"slices": slices_per_patient, "size": size}
    settings = {"version": VERSION, "patients": patients, "seed": seed} | shape
    plans = plan_patients(patients, seed=seed)
    if _is_done(root, settings):
        return root
    from stroke_hub.progress import track

    partial = root.parent / f".{root.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with open(partial / "index.csv", "w", newline="", encoding="utf-8") as file:
            index = csv.writer(file, lineterminator="\n")
            index.writerow(INDEX_COLUMNS)
            for plan in track(plans, "simulating patients") if show_progress else plans:
                slices = simulate_patient((seed, plan.number), plan.sequence, plan.lesion, **shape)
                index.writerows(_write_slice(partial, plan, k, image) for k, image in enumerate(slices, 1))
        words = json.dumps(settings)
        readme = README.format(columns=", ".join(INDEX_COLUMNS), settings=words)
        (partial / "settings.json").write_text(words + "\n", encoding="utf-8")
        (partial / "README.md").write_text(readme, encoding="utf-8")
        partial.replace(root)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return root


def plan_patients(patients: int = 880, *, seed: int = 0) -> list[PatientPlan]:
    """Deal out splits, sequences and lesions, one stroke patient to five normal ones in every split and modality.

    CT strokes are infarcts and bleeds by turns, MR patients DWI and FLAIR by turns in either class. The patients'
    numbers are shuffled, so they tell nothing. Raises ValueError for fewer than 8 patients.
    """
    if patients < 8:
        raise ValueError(f"{patients} patients cannot fill 2 splits x 2 modalities x 2 classes; ask for 8 or more")
    test = max(4, round(TEST_SHARE * patients))
    numbers = iter(np.random.default_rng([seed, 0]).permutation(patients) + 1)
    plans = []
    splits: tuple[tuple[Split, int], ...] = (("train", patients - test), ("test", test))
    for (split, count), modality in product(splits, ("BT", "MR")):
        share = (count + (modality == "BT")) // 2
        strokes = max(1, round(STROKE_SHARE * share))
        for k in range(share):
            turn = (k if k < strokes else k - strokes) % 2
            lesion: Lesion = "none" if k >= strokes else ("infarct", "bleed")[turn if modality == "BT" else 0]
            sequence: Scan = "CT" if modality == "BT" else ("DWI", "FLAIR")[turn]
            plans.append(PatientPlan(int(next(numbers)), split, sequence, lesion))
    return sorted(plans)


def simulate_patient(
    seed: int | Sequence[int], sequence: Scan, lesion: Lesion = "none", *, slices: int = 4, size: int = 192
) -> list[SimulatedSlice]:
    """Simulate neighbouring slices of one head, lowest first; `lesion` is in every one of them.

    Head, levels and noise follow from `seed` alone: with ``"none"`` for `lesion` the same head comes out healthy.

    Parameters
    ----------
    seed : one or several non-negative integers.
    sequence : ``"CT"``, ``"DWI"`` or ``"FLAIR"``.
    lesion : an infarct is 7-13 HU below its surroundings on CT, 25-50 % of full scale above them on MR; a bleed
        has 60-70 HU and is for CT only (else ValueError). It takes 0.7-8.5 % of the brain in each slice.
    slices, size : how many slices, and their height and width in pixels over 250 mm.
    """
    if lesion == "bleed" and sequence != "CT":
        raise ValueError(f"a bleed is simulated on CT only, not on {sequence}")
    anatomy, scanner, illness, grain = _seed(seed)
    ruler = (np.arange(size) - (size - 1) / 2) * (FIELD_OF_VIEW / size)
    spacing = min(anatomy.uniform(3.0, 5.0), (LEVELS[1] - LEVELS[0]) / slices)
    reach = spacing * (slices - 1) / 2
    middle = anatomy.uniform(LEVELS[0] + reach, LEVELS[1] - reach)
    grid = (middle + spacing * (np.arange(slices) - (slices - 1) / 2), -ruler, ruler)
    head = _head(anatomy, grid)
    signal = _ct_signal(scanner, head) if sequence == "CT" else _mr_signal(scanner, head, sequence)
    mask = np.zeros(head.brain.shape, bool)
    if lesion == "infarct":
        mask = _lay_infarct(illness, head, LARGE if sequence == "CT" else SMALL)
    elif lesion == "bleed":
        mask = _draw_bleed(illness, head)
    if lesion != "none":
        signal = _add_lesion(illness, signal, head, mask, sequence, lesion)
    pixels, clean = _acquire(grain, signal, sequence)
    return [
        SimulatedSlice(*stacks, sequence, lesion) for stacks in zip(pixels, mask, head.brain, clean, strict=True)
    ]


def simulate_scan(
    seed: int | Sequence[int], *, infarct: bool, slices: int = 16, size: int = 128
) -> list[SimulatedSlice]:
    """Simulate a whole DWI scan, lowest slice first, with an infarct in as many slices as a real lesion covers.

    Parameters
    ----------
    seed : one or several non-negative integers; the same head comes out with and without the infarct.
    slices, size : how many slices over 74 mm, and their height and width in pixels over 250 mm.

    Returns
    -------
    The slices; `lesion` is "infarct" where one shows, and "none" elsewhere.
    """
    anatomy, scanner, illness, grain = _seed(seed)
    ruler = (np.arange(size) - (size - 1) / 2) * (FIELD_OF_VIEW / size)
    head = _head(anatomy, (np.linspace(*SCAN_LEVELS, slices), -ruler, ruler))
    signal = _mr_signal(scanner, head, "DWI")
    mask = np.zeros(head.brain.shape, bool)
    lesions = load_lesions()
    side = np.array([illness.choice([-1, 1]), 1, 1], np.float32)[:, None, None, None]
    while infarct and not mask.any():  # one that lies between two slices, or in a wide sulcus, shows nowhere
        number = int(illness.integers(len(lesions.packed)))
        mask = lesions.lay(number, head.place * side) & head.brain & (head.tissue > 0.5)
    if infarct:
        signal = _add_lesion(illness, signal, head, mask, "DWI", "infarct")
    pixels, clean = _acquire(grain, signal, "DWI")
    return [
        SimulatedSlice(*stacks, "DWI", "infarct" if stacks[1].any() else "none")
        for stacks in zip(pixels, mask, head.brain, clean, strict=True)
    ]


def _seed(seed: int | Sequence[int]) -> list[Generator]:
    """Generators of anatomy, scanner, illness and grain."""
    key = np.ravel(seed).tolist()
    return [np.random.default_rng([*key, stream]) for stream in range(4)]


@lru_cache(maxsize=1)
def _atlas() -> tuple[Floats, Floats, Floats]:
    """Shares of grey and of white matter at 1 mm; mm outside the brain's hull (inside: negative) at 2 mm."""
    from nilearn import datasets

    loaders = datasets.load_mni152_gm_template, datasets.load_mni152_wm_template, datasets.load_mni152_brain_mask
    grey, white, mask = (load(resolution=1).get_fdata(dtype=np.float32) for load in loaders)
    # The skull does not follow the sulci: a brain mask smoothed by 6 mm is what it is laid around.
    hull = ndimage.gaussian_filter(mask[::2, ::2, ::2], 3.0) > 0.42
    depth = 2 * (ndimage.distance_transform_edt(~hull) - ndimage.distance_transform_edt(hull))
    return grey, white, ndimage.gaussian_filter(depth, 1.0).astype(np.float32)


def _smooth(rng: Generator, grid: Grid, scale: float) -> Floats:
    """A Gaussian random field on `grid`'s points, mean 0 and variance 1 everywhere, smooth over `scale` mm."""
    weights = []
    for axis in grid:
        knots = np.arange(axis.min() - 2 * scale, axis.max() + 2.01 * scale, scale)
        weight = np.exp(-0.5 * ((axis[:, None] - knots) / (0.8 * scale)) ** 2)
        weights.append((weight / np.linalg.norm(weight, axis=1, keepdims=True)).astype(np.float32))
    field = rng.standard_normal([weight.shape[1] for weight in weights], np.float32)
    # Not `@`: threaded products this small stall where cores are shared (12 ms for 2), and may round differently.
    for weight, product_of in zip(weights, ("zk,kji->zji", "yj,zji->zyi", "xi,zyi->zyx"), strict=True):
        field = np.einsum(product_of, weight, field)
    return field


def _blur(stack: Floats | Bools, sigma: float) -> Floats:
    return np.asarray(ndimage.gaussian_filter(stack.astype(np.float32), (0.0, sigma, sigma)), np.float32)


def _head(rng: Generator, grid: Grid) -> _Head:
    """One person's head on `grid`: the template turned, scaled, shifted and warped."""
    z, y, x = np.meshgrid(*grid, indexing="ij")
    turns = rng.normal(0.0, (6.0, 4.0, 1.5)).clip(-12, 12)  # degrees about z, x and y
    scale = rng.normal(1.0, (0.035, 0.035, 0.03)).clip(0.92, 1.07)
    shift = rng.normal((0.0, -17.0, 0.0), (2.5, 3.0, 0.0))
    matrix = Rotation.from_euler("zxy", turns, degrees=True).as_matrix() / scale[:, None]
    place = (np.einsum("ij,jzyx->izyx", matrix, np.stack([x, y, z])) + shift[:, None, None, None]).astype(
        np.float32
    )
    # Broad warps make the head's shape, fine ones its own gyri; steeper ones would fold the sulci.
    for width, height in ((75.0, 2.8), (16.0, 1.8)):
        place += np.stack([height * _smooth(rng, grid, width) for _ in range(3)])
    voxel = place + np.array([98, 134, 72], np.float32)[:, None, None, None]
    *tissues, hull = _atlas()
    grey, white = (ndimage.map_coordinates(tissue, voxel, order=1) for tissue in tissues)
    depth = ndimage.map_coordinates(hull, voxel / 2, order=1, cval=60.0)
    shrinkage = rng.uniform(0.1, 0.5)  # what ageing does: wider ventricles and sulci
    tissue = ((grey + white - shrinkage) / 0.5).clip(0, 1)
    share = ((grey / (grey + white).clip(0.05) - 0.5) * 1.4 + 0.5).clip(0, 1)
    return _Head(place, tissue, share, depth, depth < 0, grid)


def _lay_infarct(rng: Generator, head: _Head, shares: tuple[float, float]) -> Bools:
    """Lay a real lesion where it was, or mirrored, that covers such shares of the brain in every slice."""
    lesions = load_lesions()
    tissue = head.brain & (head.tissue > 0.5)
    brain = head.brain.sum((1, 2))
    cell = abs(float(head.grid[2][1] - head.grid[2][0])) ** 2  # mm2
    low, high = shares[0] * brain.min() * cell, shares[1] * brain.max() * cell
    side = np.array([rng.choice([-1, 1]), 1, 1], np.float32)[:, None, None, None]
    best, least = np.zeros(head.brain.shape, bool), -1.0
    for number in rng.permutation(lesions.find(head.grid[0], low, high))[:TRIALS]:
        mask = lesions.lay(int(number), head.place * side) & tissue
        covered = mask.sum((1, 2)) / brain
        if shares[0] <= covered.min() and covered.max() <= shares[1]:
            return mask
        if covered.max() <= shares[1] and covered.min() > least:
            best, least = mask, float(covered.min())
    return best


def _draw_bleed(rng: Generator, head: _Head) -> Bools:
    """An irregular blob within one hemisphere: of a drawn area, for a threshold would leave some slices empty."""
    z, y, x = np.meshgrid(*head.grid, indexing="ij", sparse=True)
    tissue = head.brain & (head.tissue > 0.5) & (np.abs(head.place[0]) > 2)
    middle = len(z) // 2
    row, column = rng.choice(np.argwhere(tissue[middle] & (head.depth[middle] < -3)))
    one_side = np.sign(head.place[0]) == np.sign(head.place[0][middle, row, column])
    inside = one_side & (head.depth < -2)  # a bleed presses sulci and ventricles away
    share = math.exp(rng.uniform(*np.log(SMALL)))
    height = 1.3 * float(np.ptp(z)) / 2 + 2  # mm: reaches past the outer slices, which cut it at a smaller radius
    areas = head.brain.sum((1, 2)) * share * (1 - ((z - z[middle]) / (1.4 * height)).ravel() ** 2)
    radius = math.sqrt(share * head.brain[middle].sum() / math.pi) * abs(x.ravel()[1] - x.ravel()[0])
    angle, squash = rng.uniform(0, math.pi), rng.uniform(0.6, 1.0)
    dx, dy = x - x[..., column : column + 1], y - y[:, row : row + 1]
    along = (dx * math.cos(angle) + dy * math.sin(angle)) * squash
    across = (dy * math.cos(angle) - dx * math.sin(angle)) / squash
    roughness = 0.3 * _smooth(rng, head.grid, max(0.55 * radius, 3.0)) + 0.12 * _smooth(rng, head.grid, 3.0)
    remoteness = np.hypot(along, across) / radius - 0.6 * roughness
    remoteness[~inside] = np.inf
    ranked = np.sort(remoteness.reshape(len(remoteness), -1), axis=1)
    limits = np.take_along_axis(ranked, areas.astype(int)[:, None], axis=1)[..., None]
    return np.asarray((remoteness < limits) & inside, bool)


def _wrap(rng: Generator, head: _Head, inside: Floats, values: Sequence[float]) -> Floats:
    """Lay skull and scalp around the signal `inside`; `values`: bone, marrow, fat, skin, air."""
    bone, marrow, fat, skin, air = values
    gap, thickness, scalp = rng.uniform((1.5, 5.0, 4.2), (3.5, 8.0, 7.0))
    # Skulls are thicker in front and behind than at the temples.
    swell = 1 + 0.14 * _smooth(rng, head.grid, 35.0) + 0.15 * (np.abs(head.place[1] + 17) / 60 - 0.7)
    depth = (head.depth - gap) / swell.clip(0.6)
    skull = np.array([0.0, 0.3 * thickness, 0.35 * thickness, 0.65 * thickness, 0.7 * thickness, thickness])
    cover = thickness + np.array([0.8, scalp - 3.2, scalp - 2.4, scalp, scalp + 0.8])
    profile = [bone, bone, marrow, marrow, bone, bone, fat, fat, skin, skin, air]
    around = np.interp(depth, np.concatenate([skull, cover]), profile).astype(np.float32)
    return np.asarray(np.where(depth < 0, inside, around), np.float32)


def _ct_signal(rng: Generator, head: _Head) -> Floats:
    """A healthy head in HU."""
    fluid, white, grey = rng.uniform((5.0, 28.0, 37.0), (8.0, 32.0, 40.0))
    hu: Floats = fluid + head.tissue * (white + head.grey * (grey - white) - fluid)
    hu += 1.2 * _smooth(rng, head.grid, 12.0)
    hu += rng.uniform(0, 4) * np.exp(head.depth.clip(max=0) / 8)  # beam hardening beneath the skull
    x, y, z = head.place
    hu += rng.uniform(25, 60) * np.exp(-((x / 0.9) ** 2)) * (head.depth > -38) * (1 - head.tissue)  # falx
    for x0, y0, z0 in CALCIFICATIONS:
        radius, density = rng.uniform(1.5, 3.0), rng.uniform(40, 200) * (rng.random() < 0.4)
        hu += density * np.exp(-((x - x0) ** 2 + (y - y0) ** 2 + (z - z0) ** 2) / (2 * radius**2))
    return _wrap(rng, head, hu, (1100.0, 500.0, -80.0, 50.0, -1000.0))


def _mr_signal(rng: Generator, head: _Head, sequence: Scan) -> Floats:
    """A healthy head as a share of full scale, under its bias field."""
    flair = sequence == "FLAIR"
    fluid, white, grey = (0.06, 0.32, 0.42) if flair else (0.09, 0.34, 0.40)
    signal: Floats = fluid + head.tissue * (white + head.grey * (grey - white) - fluid)
    signal += 0.012 * _smooth(rng, head.grid, 8.0)
    # Caps and spots of the ageing white matter are no strokes: both classes have them.
    ventricles = _blur((1 - head.tissue) * (head.depth < -20), 3.0)
    spots = (_smooth(rng, head.grid, 5.0) - rng.uniform(2.2, 3.5)).clip(0, 0.6)
    ageing = rng.uniform(0, 0.35) * ventricles + rng.uniform(0, 0.3) * spots
    signal += ageing * head.tissue * (1 - head.grey) * (1.0 if flair else 0.3)
    shell = (0.04, 0.12, 0.38, 0.25, 0.0) if flair else (0.02, 0.05, 0.09, 0.07, 0.0)
    brightness = rng.uniform(0.6, 1.2)
    signal = _wrap(rng, head, signal, [value * brightness for value in shell])
    bias = np.exp(rng.uniform(0.03, 0.2) * _smooth(rng, head.grid, 90.0))
    return np.asarray(signal * rng.uniform(0.9, 1.15) * bias.clip(0.6, 1.3), np.float32)


def _add_lesion(rng: Generator, signal: Floats, head: _Head, mask: Bools, scan: Scan, lesion: Lesion) -> Floats:
    """Put the lesion in, softened over a pixel at its edge and uneven within."""
    soft = _blur(mask, 0.7)
    uneven = 1 + 0.07 * _smooth(rng, head.grid, 6.0).clip(-1.5, 1.5)
    if lesion == "infarct":
        strength = -rng.uniform(8.6, 11.7) if scan == "CT" else rng.uniform(0.33, 0.45)
        return signal + strength * soft * uneven
    oedema = rng.uniform(0, 8) * (_blur(mask, 3.0) * (1 - soft))
    blood = (rng.uniform(64.0, 68.5) * uneven).clip(62, 70)
    return signal * (1 - soft) + blood * soft - oedema


def _acquire(rng: Generator, signal: Floats, sequence: Scan) -> tuple[NDArray[np.uint8], Floats]:
    """The picture that a scanner makes of `signal`, and the same without noise, window and rounding."""
    clean = _blur(signal, 1.0 if sequence == "DWI" else 0.6)
    if sequence == "CT":
        noise = rng.uniform(7.5, 10.5) * rng.standard_normal(signal.shape)  # HU, before the kernel smooths it
        share = (
            clean + _blur(noise, 0.9)
        ) / 80.0  # 2.8 HU are left, as a brain kernel leaves; window width 80 HU, level 40 HU: 0 to 80 HU
    else:
        level = rng.uniform(0.02, 0.04) if sequence == "DWI" else rng.uniform(0.012, 0.025)
        real, imaginary = (_blur(level * rng.standard_normal(signal.shape), 0.4) for _ in range(2))
        share = np.hypot(clean + real, imaginary)
    return np.rint(share.clip(0, 1) * 255).astype(np.uint8), clean


def _write_slice(root: Path, plan: PatientPlan, number: int, image: SimulatedSlice) -> tuple[str, ...]:
    """Write one slice and its mask; return its row of the index."""
    stroke = plan.lesion != "none"
    patient = f"p{plan.number:03d}"
    path = f"deep/{plan.split}/{FOLDERS[plan.split][stroke]}{plan.modality}/{patient}_s{number:02d}_simulated.png"
    mask = path.replace("deep/", "masks/", 1) if stroke else ""
    pictures = {path: image.pixels} | ({mask: image.mask.astype(np.uint8) * 255} if stroke else {})
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", DESCRIPTION)
    for name, pixels in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name, pnginfo=text)
    row = path, "Stroke" if stroke else "Normal", plan.modality, patient
    return *row, plan.split, plan.sequence, plan.lesion, mask


def _is_done(root: Path, settings: dict[str, int]) -> bool:
    """Whether `root` holds the dataset of these settings already; raises DatasetError if it holds anything else."""
    if not root.exists():
        return False
    if root.is_dir() and not any(root.iterdir()):
        root.rmdir()  # makes way: not every system renames onto an empty folder
        return False
    try:
        written = json.loads((root / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        written = None
    if written == settings and (root / "index.csv").is_file():
        return True
    what = "a sample dataset with other settings" if isinstance(written, dict) else "not a sample dataset"
    raise DatasetError(f"{root} already exists and is {what}: choose another folder, or delete this one first")
