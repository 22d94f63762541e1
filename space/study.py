"""A file that a visitor sent, decoded into slices."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import hashlib
import io
import os
from typing import NamedTuple

import stroke_hub
from stroke_hub.io.slices import render_slice
from stroke_hub.io.windowing import Window

__all__ = ["MAX_PIXELS", "Study", "read_study"]

MAX_PIXELS = 16_000_000  # of one slice; a volume may hold four times as many, and a session keeps one


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


def read_study(path: str | None, window: Window | None = None) -> Study:
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
    slices = stroke_hub.load_slices(stream, max_pixels=MAX_PIXELS, window=window)
    return Study(name=slices[0].source, sha256=hashlib.sha256(content).hexdigest(), slices=slices)
