"""The tab for many files or a zip: a table that sorts, a CSV file, the most suspicious slices as pictures."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import base64
import csv
import io
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from batch import SHOWN, Row, Thumbnail, predict_files
from demo_model import DemoModel
from downloads import SAVE_FILE, encode_png, pack_file
from gradio.blocks import Block
from guards import answer_plainly
from PIL import Image
from uploads import KEPT_SECONDS, UploadSessions, build_upload

from stroke_hub.io.windowing import WINDOWS, Window

__all__ = ["BatchTab"]

STATIC = Path(__file__).parent / "static"
UPDATE_SECONDS = 1.0
COLUMNS = ("File", "Slice", "Answer", "Probability of stroke", "Unusual", "Error")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


class BatchTab:
    """Components and handlers of the tab."""

    def __init__(self, model: DemoModel, sessions: UploadSessions) -> None:
        self.model, self.sessions = model, sessions
        self.rows = gr.State([], time_to_live=KEPT_SECONDS)
        with gr.Row(equal_height=True):
            self.files = build_upload(label="Many files, or a zip of a series", file_count="multiple", height=170)
            with gr.Column(min_width=280):
                self.window = gr.Radio(list(WINDOWS), value="brain", label="CT window (DICOM and NIfTI)")
                with gr.Row():
                    self.run = gr.Button("Predict all", variant="primary")
                    self.stop = gr.Button("Stop")
        self.status = gr.HTML('<div class="page"><p class="legend" role="status">Nothing predicted yet.</p></div>')
        self.table = gr.HTML(js_on_load=(STATIC / "table.js").read_text(encoding="utf-8"), apply_default_css=False)
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
        self, paths: list[str] | None, window: Window, request: gr.Request | None = None
    ) -> Iterator[dict[Block, Any]]:
        """Predict all files; the table grows meanwhile, the gallery comes at the end."""
        if not paths:
            raise gr.Error("There are no files; upload some first.", print_exception=False)
        self.sessions.add(request, *paths)
        rows: list[Row] = []
        gallery: list[Thumbnail] = []
        shown = 0.0
        for more in predict_files(self.model, paths, window, gallery):
            rows += more
            if more and time.monotonic() - shown > UPDATE_SECONDS:  # a long table is long to send
                yield {
                    self.rows: rows,
                    self.status: _describe_status(rows, running=True),
                    self.table: _describe_rows(rows),
                }
                shown = time.monotonic()
        yield {
            self.rows: rows,
            self.status: _describe_status(rows, running=False),
            self.table: _describe_rows(rows),
            self.gallery: _describe_gallery(gallery),
        }


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


def _describe_gallery(gallery: list[Thumbnail]) -> str:
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
