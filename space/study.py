"""A file that a visitor sent, decoded into slices."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import hashlib
import io
import os
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import stroke_hub
from stroke_hub.io.slices import render_slice
from stroke_hub.io.windowing import WINDOWS, Window

__all__ = ["MAX_PIXELS", "MODALITY_CHOICES", "WINDOW_CHOICES", "Reading", "Study", "read_study"]

ModalityChoice: TypeAlias = Literal["auto", "CT", "MR"]
WindowChoice: TypeAlias = Literal["auto"] | Window

MODALITY_CHOICES: tuple[ModalityChoice, ...] = get_args(ModalityChoice)
WINDOW_CHOICES: tuple[WindowChoice, ...] = ("auto", *WINDOWS)
MAX_PIXELS = 16_000_000  # of one slice; a volume may hold four times as many, and a session keeps one


class Reading(NamedTuple):
    """How a visitor wants a file read; "auto" leaves it to the file and the model."""

    modality: ModalityChoice = "auto"
    window: WindowChoice = "auto"

    @property
    def options(self) -> dict[str, Any]:
        """Options of `load_slices` and `load_files`."""
        return {name: None if choice == "auto" else choice for name, choice in self._asdict().items()}


class Study(NamedTuple):
    """A file that was read.

    name : the file's, fit to print. sha256 : of its bytes, "" of an example. example : its caption, or "".
    """

    name: str
    sha256: str
    slices: list[stroke_hub.Slice]
    example: str = ""

    @property
    def windowed(self) -> bool:
        """Whether another CT window would show other pixels."""
        first, second = (render_slice(self.slices[0], window=window).pixels for window in ("stroke", "subdural"))
        return bool((first != second).any())


def read_study(path: str | None, reading: Reading) -> Study:
    """Decode an upload into slices.

    Raises
    ------
    UnreadableImage : there is no file, or it cannot be decoded.
    """
    if path is None:
        raise stroke_hub.UnreadableImage("There is no file; upload a slice first.")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        raise stroke_hub.UnreadableImage("The file has been deleted; upload it again.") from None
    stream = io.BytesIO(content)
    stream.name = os.path.basename(path)
    slices = stroke_hub.load_slices(stream, max_pixels=MAX_PIXELS, **reading.options)
    return Study(name=slices[0].source, sha256=hashlib.sha256(content).hexdigest(), slices=slices)
