"""The tab for many files or a zip: a table that sorts, a CSV file, the most suspicious slices as pictures."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import base64
import csv
import heapq
import io
import itertools
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, cast

import gradio as gr
import numpy as np
from download import SAVE_FILE, encode_png, pack_file
from engine import BATCH, Engine
from PIL import Image
from uploads import KEPT_SECONDS, MAX_PIXELS, WINDOWS, Visits, answer_plainly, build_upload

import stroke_hub

__all__ = ["BatchTab", "Row", "predict_files"]

SHOWN = 48  # pictures of the gallery: more nobody looks through
MAX_SLICES = 5_000  # of one request; a shared machine has others waiting
HELD_PIXELS = 32_000_000  # decoded at a time
HERE = Path(__file__).parent
UPDATE_SECONDS = 1.0
COLUMNS = ("File", "Slice", "Answer", "Probability of stroke", "Unusual", "Error")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


class Row(NamedTuple):
    """A slice and its answer, or a file and why it has none."""

    file: str
    slice: int | None
    label: str = ""
    probability_of_stroke: float | None = None
    unusual: bool | None = None
    error: str = ""


class Seen(NamedTuple):
    """A picture of the gallery; the most suspicious ones are kept."""

    probability: float
    order: int
    words: str
    picture: np.ndarray[Any, Any]


def predict_files(
    engine: Engine, paths: list[str], window: str | None, gallery: list[Seen] | None = None
) -> Iterator[list[Row]]:
    """Rows as they come, up to 16 slices at a time; a bad file is a row with its sentence.

    `gallery` collects the most suspicious slices as a heap.
    """
    waiting: list[tuple[str, stroke_hub.Slice]] = []
    count = 0
    engine.model  # noqa: B018  a missing model is said before any file is read
    for file in stroke_hub.load_files(paths, window=cast(Any, window), max_pixels=MAX_PIXELS):
        if file.error:
            yield [*_flush(engine, waiting, gallery), Row(file.name, None, error=file.error)]
            continue
        for s in file.slices:
            waiting.append((file.name, s))
            count += 1
            if len(waiting) >= BATCH or sum(other.pixels.size for _, other in waiting) > HELD_PIXELS:
                yield _flush(engine, waiting, gallery)
            if count >= MAX_SLICES:
                words = f"only the first {MAX_SLICES:,} slices were predicted; upload the rest by itself."
                yield [*_flush(engine, waiting, gallery), Row(file.name, None, error=words)]
                return
    yield _flush(engine, waiting, gallery)


def _flush(engine: Engine, waiting: list[tuple[str, stroke_hub.Slice]], gallery: list[Seen] | None) -> list[Row]:
    if not waiting:
        return []
    prediction = engine.predict([s for _, s in waiting])
    rows = []
    for i, (name, s) in enumerate(waiting):
        p, label = float(prediction.probability[i]), prediction.label[i]
        rows.append(Row(name, s.index + 1, label, p, bool(prediction.unusual[i])))
        if gallery is not None:
            _keep(gallery, p, f"{name}, slice {s.index + 1}: {label}, {p:.1%}", s)
    waiting.clear()
    return rows


def _keep(gallery: list[Seen], probability: float, words: str, s: stroke_hub.Slice) -> None:
    if len(gallery) == SHOWN and probability <= gallery[0].probability:
        return
    picture = Image.fromarray(s.pixels)
    picture.thumbnail((128, 128))
    seen = Seen(probability, next(_ORDER), words, np.asarray(picture))
    (heapq.heappushpop if len(gallery) == SHOWN else heapq.heappush)(gallery, seen)


_ORDER = itertools.count()  # so that equal probabilities are never compared by their pictures


class BatchTab:
    """Components and handlers of the tab."""

    def __init__(self, engine: Engine, visits: Visits) -> None:
        self.engine, self.visits = engine, visits
        self.rows = gr.State([], time_to_live=KEPT_SECONDS)
        with gr.Row(equal_height=True):
            self.files = build_upload(label="Many files, or a zip of a series", file_count="multiple", height=170)
            with gr.Column(min_width=280):
                self.window = gr.Radio(list(WINDOWS), value="brain", label="CT window (DICOM and NIfTI)")
                with gr.Row():
                    self.run = gr.Button("Predict all", variant="primary")
                    self.stop = gr.Button("Stop")
        self.status = gr.HTML('<div class="page"><p class="legend" role="status">Nothing predicted yet.</p></div>')
        self.table = gr.HTML(js_on_load=(HERE / "table.js").read_text(encoding="utf-8"), apply_default_css=False)
        self.save = gr.Button("Download table (CSV)", size="sm")
        self.gallery = gr.HTML()
        self.file = gr.JSON(visible=False)
        quiet: dict[str, Any] = {"api_visibility": "private"}
        seen = [self.rows, self.status, self.table, self.gallery]
        running = self.run.click(
            answer_plainly(self.predict_all),
            [self.files, self.window],
            seen,
            concurrency_id="batch",
            concurrency_limit=1,
            show_progress_on=self.status,
            **quiet,
        )
        self.stop.click(None, None, None, cancels=[running], **quiet)
        made = self.save.click(answer_plainly(make_csv), self.rows, self.file, show_progress="hidden", **quiet)
        made.success(None, self.file, None, js=SAVE_FILE, **quiet)

    def predict_all(
        self, paths: list[str] | None, window: str, request: gr.Request | None = None
    ) -> Iterator[list[Any]]:
        """Predict everything, the table growing as it goes; the gallery comes at the end."""
        if not paths:
            raise gr.Error("There are no files; upload some first.", print_exception=False)
        self.visits.add(request, *paths)
        rows: list[Row] = []
        gallery: list[Seen] = []
        shown = 0.0
        for more in predict_files(self.engine, paths, window, gallery):
            rows += more
            if more and time.monotonic() - shown > UPDATE_SECONDS:  # a long table is long to send
                yield [rows, _describe_status(rows, running=True), _describe_rows(rows), gr.skip()]
                shown = time.monotonic()
        yield [rows, _describe_status(rows, running=False), _describe_rows(rows), _describe_gallery(gallery)]


def _describe_rows(rows: list[Row]) -> str:
    """The table as HTML; its heads are buttons that table.js sorts by."""
    head = "".join(f'<th scope="col"><button type="button">{name}</button></th>' for name in COLUMNS)
    body = ""
    for row in rows:
        unusual = "" if row.unusual is None else ("yes" if row.unusual else "no")
        probability = "" if row.probability_of_stroke is None else f"{row.probability_of_stroke:.4f}"
        cells = (row.file, row.slice or "", row.label, probability, unusual, row.error)
        body += f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}</tr>"
    return (
        '<div class="page predictions" role="region" aria-label="Predictions" tabindex="0">'
        f"<table><caption>A column's head sorts by it.</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        "</table></div>"
    )


def _describe_status(rows: list[Row], *, running: bool) -> str:
    answered = [row for row in rows if row.label]
    strokes, errors = sum(row.label == "Stroke" for row in answered), sum(bool(row.error) for row in rows)
    unusual = sum(bool(row.unusual) for row in answered)
    words = f"{'So far' if running else 'Done'}: {len(answered):,} slices, {strokes:,} called Stroke"
    words += f", {unusual:,} unlike the training slices" if unusual else ""
    words += f", {errors:,} {'files' if errors > 1 else 'file'} not read" if errors else ""
    return f'<div class="page"><p role="status"><b>{words}.</b></p></div>'


def _describe_gallery(gallery: list[Seen]) -> str:
    if not gallery:
        return ""
    figures = ""
    for seen in sorted(gallery, key=lambda seen: (-seen.probability, seen.order)):
        data = base64.b64encode(encode_png(Image.fromarray(seen.picture))).decode()
        words = escape(seen.words)
        picture = f'<img alt="" src="data:image/png;base64,{data}">'  # its caption says it
        figures += f"<figure>{picture}<figcaption>{words}</figcaption></figure>"
    head = f"Highest probabilities of stroke first{f', the first {SHOWN}' if len(gallery) == SHOWN else ''}"
    return f'<div class="page"><h2>{head}</h2><div class="gallery">{figures}</div></div>'


def make_csv(rows: list[Row] | None) -> dict[str, str]:
    """The table as a CSV file, which the browser saves."""
    if not rows:
        raise gr.Error("There is no table yet; predict some files first.", print_exception=False)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(Row._fields)
    for row in rows:
        cells = ["" if cell is None else cell for cell in row]
        writer.writerow([f"'{cell}" if str(cell).startswith(FORMULA) else cell for cell in cells])
    return pack_file("predictions.csv", "text/csv", buffer.getvalue().encode())
