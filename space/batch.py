"""Predict many files, a few slices at a time; a file that cannot be read becomes a row that says why."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import heapq
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from demo_model import BATCH, HELD_PIXELS, DemoModel
from PIL import Image
from study import MAX_PIXELS, MAX_SLICES, Reading

import stroke_hub

__all__ = ["SHOWN", "Row", "Thumbnail", "predict_files"]

SHOWN = 48  # pictures of the gallery: nobody looks through more


class Row(NamedTuple):
    """A slice and its prediction, or a file and why it has none."""

    file: str
    slice: int | None
    label: str = ""
    probability_of_stroke: float | None = None
    unusual: bool | None = None
    error: str = ""
    remarks: str = ""


class Thumbnail(NamedTuple):
    """A small picture of a slice, with its prediction in words; `order` decides between equal probabilities."""

    probability: float
    order: int
    words: str
    picture: np.ndarray[Any, Any]


def predict_files(
    model: DemoModel, paths: list[str], reading: Reading, gallery: list[Thumbnail] | None = None
) -> Iterator[list[Row]]:
    """Predict files and yield their rows as they come, up to 16 slices at a time.

    Parameters
    ----------
    gallery : a heap that receives the slices with the highest probabilities of stroke.
    """
    waiting: list[tuple[str, stroke_hub.Slice]] = []
    count = 0
    model.predictor  # noqa: B018  without a model, fail before any file is read
    for file in stroke_hub.load_files(paths, max_pixels=MAX_PIXELS, **reading.options):
        if file.error:
            yield [*_flush(model, waiting, gallery), Row(file.name, None, error=file.error)]
            continue
        for s in file.slices:
            waiting.append((file.name, s))
            count += 1
            if len(waiting) >= BATCH or sum(other.pixels.size for _, other in waiting) > HELD_PIXELS:
                yield _flush(model, waiting, gallery)
            if count >= MAX_SLICES:
                words = f"only the first {MAX_SLICES:,} slices were predicted; upload the rest separately."
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
        remarks = " ".join(prediction.remarks[i])
        rows.append(Row(name, s.index + 1, label, p, bool(prediction.unusual[i]), remarks=remarks))
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
