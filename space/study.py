"""A file that a visitor sent, decoded into slices."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import hashlib
import io
import os
from typing import Any, NamedTuple

import stroke_hub
from stroke_hub.io.windowing import Window

__all__ = ["MAX_PIXELS", "Study", "read_study"]

MAX_PIXELS = 16_000_000  # of one slice; a volume may hold four times as many, and a session keeps one


class Study(NamedTuple):
    """A file that was read: its slices, and what may be said of it.

    name : the file's, fit to print. sha256 : of its bytes. windowed : whether a CT window changes it.
    """

    name: str
    sha256: str
    slices: list[stroke_hub.Slice]
    windowed: bool = False
    example: str = ""


def read_study(path: str | None, window: Window | None = None) -> Study:
    """Decode an upload.

    Raises
    ------
    UnreadableImage : it is none, or cannot be decoded.
    """
    if path is None:
        raise stroke_hub.UnreadableImage("There is no file; upload a slice first.")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        raise stroke_hub.UnreadableImage("The file is no longer here; upload it again.") from None
    slices = _decode(content, path, window)
    return Study(
        name=slices[0].source,
        sha256=hashlib.sha256(content).hexdigest(),
        slices=slices,
        windowed=_is_windowed(content, path, slices),
    )


def _decode(content: bytes, path: str, window: Window | None) -> list[stroke_hub.Slice]:
    stream = io.BytesIO(content)
    stream.name = os.path.basename(path)
    options: dict[str, Any] = {"max_pixels": MAX_PIXELS, "window": window}
    return stroke_hub.load_slices(stream, **options)


def _is_windowed(content: bytes, path: str, slices: list[stroke_hub.Slice]) -> bool:
    """Whether windows change what is seen: so with CT, and with a volume that holds Hounsfield units."""
    if slices[0].modality is not None:  # a DICOM header said so: pictures have none
        return slices[0].modality == "BT"
    if content[:2] != b"\x1f\x8b" and content[344:347] not in (b"n+1", b"ni1"):  # no NIfTI, packed or plain
        return False
    middle = len(slices) // 2
    looks = [_decode(content, path, window)[middle].pixels for window in ("stroke", "subdural")]
    return bool((looks[0] != looks[1]).any())
