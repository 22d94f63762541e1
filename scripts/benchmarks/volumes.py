"""The price of the slices of volumes: the cache of squares, against plain nibabel and a plain resize."""

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
from benchmarks.timing import Row, describe_ratios, time_in_turns
from PIL import Image

from stroke_hub import PRESETS, ResNetViT
from stroke_hub.data.cache import read_squares
from stroke_hub.data.simulated import Scan, simulate_patient
from stroke_hub.io.windowing import Modality
from stroke_hub.scan.addresses import write_address

SLICES = 32  # of a volume
DIFFERENT = 4  # volumes of a kind; what is read of further ones is a link to these
IMAGE: Any = nibabel.Nifti1Image  # has no types


class Kind(NamedTuple):
    """A kind of volume as datasets publish them: its side in pixels, its file's ending, and what is simulated."""

    side: int
    ending: str
    sequence: Scan
    modality: Modality


KINDS = {
    "mr_128_packed": Kind(128, ".nii.gz", "DWI", "MR"),
    "mr_256_packed": Kind(256, ".nii.gz", "DWI", "MR"),
    "ct_512_packed": Kind(512, ".nii.gz", "CT", "BT"),
    "ct_512": Kind(512, ".nii", "CT", "BT"),
}


def write_volumes(folder: Path, kind: Kind) -> list[Path]:
    """Simulated heads with the noise of a scanner as int16: noise decides how long unpacking takes."""
    files = []
    for number in range(DIFFERENT):
        stack = simulate_patient((0, number), kind.sequence, slices=SLICES, size=kind.side)
        clean = np.stack([one.clean for one in stack]).transpose(2, 1, 0)[::-1, ::-1]
        noise = np.random.default_rng(number).normal(size=clean.shape)
        values = clean + 4 * noise if kind.modality == "BT" else np.abs(1000 * clean + 15 * noise)
        files.append(folder / f"{number}{kind.ending}")
        side = 250 / kind.side
        nibabel.save(IMAGE(np.rint(values).astype(np.int16), np.diag([side, side, 1.5, 1.0])), files[-1])
    return files


def link_volumes(folder: Path, files: list[Path], count: int) -> Iterator[list[Path]]:
    """New names for so many volumes again and again, so that nothing is known of them from before."""
    for turn in itertools.count():
        names = []
        for number in range(count):
            source = files[number % len(files)]
            names.append(folder / f"{turn}-{number}{''.join(source.suffixes)}")
            os.link(source, names[-1])
        yield names


def read_plainly(files: list[Path]) -> None:
    """Read volumes as nibabel does it, voxels as they are stored."""
    for file in files:
        np.asanyarray(nibabel.load(file, mmap=False).dataobj)  # type: ignore[attr-defined]


def resize_plainly(files: list[Path], size: int) -> None:
    """The least that has to be done: read, stretch each slice from its minimum to its maximum, resize it."""
    for file in files:
        volume = np.asanyarray(nibabel.load(file, mmap=False).dataobj)  # type: ignore[attr-defined]
        for number in range(volume.shape[2]):
            values = volume[:, :, number].T.astype(np.float32)
            low, high = float(values.min()), float(values.max())
            grey = ((values - low) * (255 / max(high - low, 1))).astype(np.uint8)
            np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.BILINEAR))


def benchmark_volumes(slices: int = 512, rounds: int = 5) -> list[Row]:
    """How many times as long the cache of squares takes as plain nibabel reading, and as reading and resizing.

    Args:
        slices: of each kind of volume, in volumes of 32.
        rounds: in turns.
    """
    sight = ResNetViT(**PRESETS["compact"])
    count = max(1, slices // SLICES)
    rows: list[Row] = []
    before = os.environ.get("STROKE_HUB_CACHE")
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            names = link_volumes(folder, write_volumes(folder, kind), count)
            turns = itertools.count()

            def build(names: Iterator[list[Path]] = names, kind: Kind = kind, folder: Path = folder) -> None:
                os.environ["STROKE_HUB_CACHE"] = str(folder / f"cache{next(turns)}")  # noqa: B023  called at once
                addresses = [
                    file.with_name(write_address(file.name, number))
                    for file in next(names)
                    for number in range(SLICES)
                ]
                read_squares(sight, addresses, [kind.modality] * len(addresses))

            plain = write_volumes(folder, kind) * (count // DIFFERENT) or write_volumes(folder, kind)[:count]
            for words, clock in (("cpu", time.process_time), ("wall", time.perf_counter)):
                pairs = time_in_turns(build, lambda: read_plainly(plain), rounds=rounds, clock=clock)  # noqa: B023
                floor = time_in_turns(
                    lambda: resize_plainly(plain, sight.image_size),  # noqa: B023
                    lambda: read_plainly(plain),  # noqa: B023
                    rounds=rounds,
                    clock=clock,
                )
                least = float(np.median([first / second for first, second in floor]))
                bar = "<= 2" if words == "wall" and kind.side == 512 and kind.ending == ".nii.gz" else "none"
                rows.append(describe_ratios(f"{name}_{words}", pairs, bar, floor=least))
                spent = float(np.median([first for first, _ in pairs]))
                rows.append(
                    {"row": f"{name}_{words}_ms_a_slice", "value": 1000 * spent / (count * SLICES), "bar": "none"}
                )
    if before is None:
        os.environ.pop("STROKE_HUB_CACHE", None)
    else:
        os.environ["STROKE_HUB_CACHE"] = before
    return rows
