"""The tab for many files or a zip: a table that sorts, a CSV file, the most suspicious slices as pictures."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import csv
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from batch import SHOWN, Row, Thumbnail, predict_files
from demo_model import DemoModel
from downloads import SAVE_FILE, link_png, pack_file
from gradio.blocks import Block
from guards import answer_plainly
from PIL import Image
from render import render
from study import MODALITY_CHOICES, WINDOW_CHOICES, ModalityChoice, Reading, WindowChoice
from uploads import KEPT_SECONDS, UploadSessions, build_upload

__all__ = ["BatchTab"]

STATIC = Path(__file__).parent / "static"
UPDATE_SECONDS = 1.0
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute such a cell


class BatchTab:
    """Components and handlers of the tab."""

    def __init__(self, model: DemoModel, sessions: UploadSessions) -> None:
        self.model, self.sessions = model, sessions
        self.rows = gr.State([], time_to_live=KEPT_SECONDS)
        with gr.Row(equal_height=True):
            self.files = build_upload(label="Several files, or a zip file", file_count="multiple", height=170)
            with gr.Column(min_width=280):
                self.modality = gr.Radio(list(MODALITY_CHOICES), value="auto", label="Modality")
                self.window = gr.Radio(list(WINDOW_CHOICES), value="auto", label="CT window shown")
                with gr.Row():
                    self.run = gr.Button("Predict all", variant="primary")
                    self.stop = gr.Button("Stop")
        self.status = gr.HTML('<div class="page"><p class="legend" role="status">No predictions yet.</p></div>')
        self.table = gr.HTML(js_on_load=(STATIC / "table.js").read_text(encoding="utf-8"), apply_default_css=False)
        self.save = gr.Button("Download table (CSV)", size="sm")
        self.gallery = gr.HTML()
        self.file = gr.JSON(visible=False)
        quiet: dict[str, Any] = {"api_visibility": "private"}
        seen = [self.rows, self.status, self.table, self.gallery]
        running = self.run.click(
            answer_plainly(self.predict_all),
            [self.files, self.modality, self.window],
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
        self,
        paths: list[str] | None,
        modality: ModalityChoice,
        window: WindowChoice,
        request: gr.Request | None = None,
    ) -> Iterator[dict[Block, Any]]:
        """Predict all files; the table grows meanwhile, the gallery comes at the end."""
        if not paths:
            raise gr.Error("There are no files to predict; upload some first.", print_exception=False)
        self.sessions.add(request, *paths)
        rows: list[Row] = []
        gallery: list[Thumbnail] = []
        shown = 0.0
        for more in predict_files(self.model, paths, Reading(modality, window), gallery):
            rows += more
            if more and time.monotonic() - shown > UPDATE_SECONDS:  # sending a long table takes a while
                yield {
                    self.rows: rows,
                    self.status: _render_progress(rows, running=True),
                    self.table: render("predictions.html", rows=rows),
                }
                shown = time.monotonic()
        yield {
            self.rows: rows,
            self.status: _render_progress(rows, running=False),
            self.table: render("predictions.html", rows=rows),
            self.gallery: _render_gallery(gallery),
        }


def _render_progress(rows: list[Row], *, running: bool) -> str:
    answered = [row for row in rows if row.label]
    return render(
        "progress.html",
        running=running,
        slices=len(answered),
        strokes=sum(row.label == "Stroke" for row in answered),
        unusual=sum(bool(row.unusual) for row in answered),
        errors=sum(bool(row.error) for row in rows),
    )


def _render_gallery(gallery: list[Thumbnail]) -> str:
    if not gallery:
        return ""
    shown = sorted(gallery, key=lambda it: (-it.probability, it.order))
    figures = [(it.words, link_png(Image.fromarray(it.picture))) for it in shown]
    return render("gallery.html", figures=figures, full=len(gallery) == SHOWN)


def make_csv(rows: list[Row] | None) -> dict[str, str]:
    """Make a CSV file of the table, which the browser saves."""
    if not rows:
        raise gr.Error("There is no table yet; predict some files first.", print_exception=False)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(Row._fields)
    for row in rows:
        cells = ["" if cell is None else cell for cell in row]
        writer.writerow([f"'{cell}" if str(cell).startswith(FORMULA) else cell for cell in cells])
    return pack_file("predictions.csv", "text/csv", buffer.getvalue().encode())
