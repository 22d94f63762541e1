"""Many files are predicted, a few slices at a time; a file that cannot be read becomes a row that says so."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import heapq
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from demo_model import BATCH, DemoModel
from PIL import Image
from study import MAX_PIXELS

import stroke_hub
from stroke_hub.io.windowing import Window

__all__ = ["SHOWN", "Row", "Thumbnail", "predict_files"]

SHOWN = 48  # pictures of the gallery: more nobody looks through
MAX_SLICES = 5_000  # of one request; a shared machine has others waiting
HELD_PIXELS = 32_000_000  # decoded at a time


class Row(NamedTuple):
    """A slice and its answer, or a file and why it has none."""

    file: str
    slice: int | None
    label: str = ""
    probability_of_stroke: float | None = None
    unusual: bool | None = None
    error: str = ""


class Thumbnail(NamedTuple):
    """A picture of the gallery; the most suspicious ones are kept."""

    probability: float
    order: int
    words: str
    picture: np.ndarray[Any, Any]


def predict_files(
    model: DemoModel, paths: list[str], window: Window | None, gallery: list[Thumbnail] | None = None
) -> Iterator[list[Row]]:
    """Rows as they come, up to 16 slices at a time; a bad file is a row with its sentence.

    `gallery` collects the most suspicious slices as a heap.
    """
    waiting: list[tuple[str, stroke_hub.Slice]] = []
    count = 0
    model.predictor  # noqa: B018  a missing model is said before any file is read
    for file in stroke_hub.load_files(paths, window=window, max_pixels=MAX_PIXELS):
        if file.error:
            yield [*_flush(model, waiting, gallery), Row(file.name, None, error=file.error)]
            continue
        for s in file.slices:
            waiting.append((file.name, s))
            count += 1
            if len(waiting) >= BATCH or sum(other.pixels.size for _, other in waiting) > HELD_PIXELS:
                yield _flush(model, waiting, gallery)
            if count >= MAX_SLICES:
                words = f"only the first {MAX_SLICES:,} slices were predicted; upload the rest by itself."
                yield [*_flush(model, waiting, gallery), Row(file.name, None, error=words)]
                return
    yield _flush(model, waiting, gallery)


def _flush(
    model: DemoModel, waiting: list[tuple[str, stroke_hub.Slice]], gallery: list[Thumbnail] | None
) -> list[Row]:
    if not waiting:
        return []
    prediction = model.predict([s for _, s in waiting])
    rows = []
    for i, (name, s) in enumerate(waiting):
        p, label = float(prediction.probability[i]), prediction.label[i]
        rows.append(Row(name, s.index + 1, label, p, bool(prediction.unusual[i])))
        if gallery is not None:
            _keep(gallery, p, f"{name}, slice {s.index + 1}: {label}, {p:.1%}", s)
    waiting.clear()
    return rows


def _keep(gallery: list[Thumbnail], probability: float, words: str, s: stroke_hub.Slice) -> None:
    if len(gallery) == SHOWN and probability <= gallery[0].probability:
        return
    picture = Image.fromarray(s.pixels)
    picture.thumbnail((128, 128))
    seen = Thumbnail(probability, next(_ORDER), words, np.asarray(picture))
    (heapq.heappushpop if len(gallery) == SHOWN else heapq.heappush)(gallery, seen)


_ORDER = itertools.count()  # so that equal probabilities are never compared by their pictures
