"""What a visitor sent: one slice, or the slices of a scan."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import hashlib
import os
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

import stroke_hub
from stroke_hub.errors import pluralise
from stroke_hub.io.windowing import WINDOWS, Window
from stroke_hub.progress import hush

if TYPE_CHECKING:
    from stroke_hub.inference.scan_answer import ScanPrediction
    from stroke_hub.scan.scan import Scan

__all__ = [
    "GONE",
    "MAX_PIXELS",
    "MAX_SLICES",
    "MODALITY_CHOICES",
    "WINDOW_CHOICES",
    "Reading",
    "Study",
    "make_key",
    "open_scan",
    "read_study",
]

ModalityChoice: TypeAlias = Literal["auto", "CT", "MR"]
WindowChoice: TypeAlias = Literal["auto"] | Window

MODALITY_CHOICES: tuple[ModalityChoice, ...] = get_args(ModalityChoice)
WINDOW_CHOICES: tuple[WindowChoice, ...] = ("auto", *WINDOWS)
MAX_PIXELS = 16_000_000  # of one slice
MAX_SLICES = 5_000  # of one request: others wait for a shared machine
GONE = "The file has been deleted; upload it again."


class Reading(NamedTuple):
    """How a visitor wants a file read; "auto" leaves it to the file and the model."""

    modality: ModalityChoice = "auto"
    window: WindowChoice = "auto"

    @property
    def options(self) -> dict[str, Any]:
        """Options of `load_slices` and `load_files`."""
        return {name: None if choice == "auto" else choice for name, choice in self._asdict().items()}


class Study(NamedTuple):
    """What was read of an upload.

    name : the file's, or how many files there are, fit to print.
    sha256 : of the file's bytes; of several files, of their sorted digests, a line each; "" of an example.
    slices : from foot to head, decoded when they are asked for.
    scan : where there are several slices, their scan; None of one slice, which is answered by itself.
    remarks : what was chosen and what is odd about the series, a plain sentence each.
    answer : for the scan, once it was predicted.
    example : the caption of an example, or "". truth : "Stroke" or "Normal" of an example, else "".
    outline : the lesion mask of an example, (H, W) uint8, or None.
    key : of what the browser holds of it; another one when its maps are computed in another way.
    """

    name: str
    sha256: str
    slices: Sequence[stroke_hub.Slice]
    scan: Scan | None = None
    remarks: tuple[str, ...] = ()
    answer: ScanPrediction | None = None
    example: str = ""
    truth: str = ""
    outline: NDArray[np.uint8] | None = None
    key: str = ""

    @property
    def highest(self) -> int:
        """The number, from 1, of the slice of highest probability; 1 before it was predicted."""
        return self.answer.ranked[0] + 1 if self.answer else 1


def open_scan(paths: str | list[str] | None, reading: Reading, *, series: str | None = None) -> Scan:
    """Read the headers of an upload, a file or several, and open its slices; one slice is a scan of one.

    Raises
    ------
    UnreadableImage : there is no file, or none holds a slice, or no series is `series`, or there are too many
        slices.
    """
    chosen = [paths] if isinstance(paths, str) else paths or []
    if not chosen:
        raise stroke_hub.UnreadableImage("There is no file; upload a slice or a scan first.")
    if not all(map(os.path.exists, chosen)):
        raise stroke_hub.UnreadableImage(GONE)
    source = chosen[0] if len(chosen) == 1 else chosen
    with hush():
        scan = stroke_hub.load_scan(source, series=series, max_pixels=MAX_PIXELS, **reading.options)
    if len(scan) > MAX_SLICES:
        raise stroke_hub.UnreadableImage(
            f"{scan.source}: has {pluralise(len(scan), 'slice')}, more than the {MAX_SLICES:,} allowed; "
            "upload a part of them."
        )
    return scan


def read_study(paths: str | list[str] | None, reading: Reading, *, series: str | None = None) -> Study:
    """Open an upload as `open_scan` does, to show its slices one by one.

    Raises
    ------
    UnreadableImage : as `open_scan`.
    """
    scan = open_scan(paths, reading, series=series)
    return Study(
        name=scan.source,
        sha256=_hash_files([paths] if isinstance(paths, str) else paths or []),
        slices=scan.slices if len(scan) > 1 else [scan.slices[0]],
        scan=scan if len(scan) > 1 else None,
        remarks=scan.remarks,
        key=make_key(),
    )


def make_key() -> str:
    """Make a new key for what the browser holds of a study."""
    return secrets.token_hex(8)


def _hash_files(paths: list[str]) -> str:
    digests = []
    for path in paths:
        with open(path, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(f"{digest}\n" for digest in sorted(digests)).encode()).hexdigest()
