"""Predict many files, a few slices at a time; a file that cannot be read becomes a row that says why."""

from __future__ import annotations  # naming a type must not import torch before the page answers

from collections.abc import Iterator
from typing import NamedTuple

from demo_model import BATCH, HELD_PIXELS, DemoModel
from study import MAX_PIXELS, MAX_SLICES, Reading

import stroke_hub

__all__ = ["Row", "predict_files"]


class Row(NamedTuple):
    """A slice and its prediction, or a file and why it has none; columns are named as in `stroke-hub predict`.

    slice : its number from 1, of the file or of the scan. The command's column `index` counts from 0.
    """

    file: str
    slice: int | None
    label: str = ""
    stroke_probability: float | None = None
    unusual: bool | None = None
    error: str = ""
    remarks: str = ""


def predict_files(model: DemoModel, paths: list[str], reading: Reading) -> Iterator[list[Row]]:
    """Predict files and yield their rows as they come, up to 16 slices at a time."""
    waiting: list[tuple[str, stroke_hub.Slice]] = []
    count = 0
    model.predictor  # noqa: B018  without a model, fail before any file is read
    for file in stroke_hub.load_files(paths, max_pixels=MAX_PIXELS, **reading.options):
        if file.error:
            yield [*_flush(model, waiting), Row(file.name, None, error=file.error)]
            continue
        for s in file.slices:
            waiting.append((file.name, s))
            count += 1
            if len(waiting) >= BATCH or sum(other.pixels.size for _, other in waiting) > HELD_PIXELS:
                yield _flush(model, waiting)
            if count >= MAX_SLICES:
                words = f"only the first {MAX_SLICES:,} slices were predicted; upload the rest separately."
                yield [*_flush(model, waiting), Row(file.name, None, error=words)]
                return
    yield _flush(model, waiting)


def _flush(model: DemoModel, waiting: list[tuple[str, stroke_hub.Slice]]) -> list[Row]:
    if not waiting:
        return []
    prediction = model.predict([s for _, s in waiting])
    rows = []
    for i, (name, s) in enumerate(waiting):
        p, label = float(prediction.probability[i]), prediction.label[i]
        remarks = " ".join(prediction.remarks[i])
        rows.append(Row(name, s.index + 1, label, p, bool(prediction.unusual[i]), remarks=remarks))
    waiting.clear()
    return rows
