"""The tab for many files: scans and slices in a list that sorts and filters; a row opens beside its maps."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import csv
import io
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from batch import Row
from demo_model import DemoModel, Method, Settings
from downloads import SAVE_FILE, pack_file
from explain_tab import ExplainTab
from gradio.blocks import Block
from guards import answer_plainly, say_plainly
from render import render
from study import GONE, MODALITY_CHOICES, ModalityChoice, Reading
from uploads import KEPT_SECONDS, UploadSessions, build_upload
from worklist import STATES, Entry, Progress, predict_entries, rank_entries, unpack_member

from stroke_hub.errors import pluralise
from stroke_hub.inference.results import Target

__all__ = ["Listed", "WorklistTab"]

STATIC = Path(__file__).parent / "static"
UPDATE_SECONDS = 1.0
PICTURED = 200  # rows with a picture: those of all would be a page of many megabytes
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute such a cell
HINT = "Upload scans and slices: files, zip files of folders, or volumes."


class Listed(NamedTuple):
    """What the list shows, and how its files were read."""

    entries: tuple[Entry, ...] = ()
    reading: Reading = Reading()


class WorklistTab:
    """Components and handlers of the tab; a row opens in `explain_tab`, whose tab of `tabs` is "explain"."""

    def __init__(self, model: DemoModel, sessions: UploadSessions, explain_tab: ExplainTab, tabs: gr.Tabs) -> None:
        self.model, self.sessions, self.explain_tab, self.tabs = model, sessions, explain_tab, tabs
        self.listed = gr.State(Listed(), time_to_live=KEPT_SECONDS)
        with gr.Row(equal_height=True):
            self.files = build_upload(label="Files, zip files or volumes", file_count="multiple", height=150)
            with gr.Column(min_width=280):
                self.modality = gr.Radio(list(MODALITY_CHOICES), value="auto", label="Modality of all files")
                with gr.Row():
                    self.run = gr.Button("Predict all", variant="primary", interactive=False)
                    self.stop = gr.Button("Stop", interactive=False)
                    self.save = gr.Button("Download CSV", interactive=False)
        self.status = gr.HTML(f'<div class="page"><p class="legend" role="status">{HINT}</p></div>')
        self.table = gr.HTML(
            "", js_on_load=(STATIC / "worklist.js").read_text(encoding="utf-8"), apply_default_css=False
        )
        self.file = gr.JSON(visible=False)
        self._connect()

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        buttons: list[Block] = [self.run, self.stop, self.save]
        running = self.run.click(
            self.predict_all,
            [self.files, self.modality],
            [self.listed, self.status, self.table, *buttons],
            concurrency_id="batch",
            concurrency_limit=1,
            **quiet,
        )
        self.files.change(
            lambda paths: gr.update(interactive=bool(paths)), self.files, self.run, queue=False, **quiet
        )
        self.stop.click(
            self.rest, [self.listed, self.files], [self.status, self.table, *buttons], cancels=[running], **quiet
        )
        made = self.save.click(answer_plainly(make_csv), self.listed, self.file, **quiet)
        made.success(None, self.file, None, js=SAVE_FILE, **quiet)
        room = self.explain_tab
        opened = self.table.click(
            answer_plainly(self.open_row),
            [self.listed, room.target, room.method, room.depth],
            [self.tabs, *room.seen],
            concurrency_id="slice",
            concurrency_limit=2,
            **quiet,
        )
        opened.success(lambda: None, None, room.upload, queue=False, **quiet)  # it holds another file

    # --- handlers: they return the components that change ---------------------------------------------------

    def predict_all(
        self, paths: list[str] | None, modality: ModalityChoice, request: gr.Request | None = None
    ) -> Iterator[dict[Block, Any]]:
        """Predict all that the files hold; the list grows meanwhile, and what went wrong stays on the page."""
        off, on = gr.update(interactive=False), gr.update(interactive=True)
        self.sessions.add(request, *(paths or []))
        listed = Listed(reading=Reading(modality))
        entries: list[Entry] = []
        words = _tell("Reading the files.")
        yield {
            self.listed: listed,
            self.status: words,
            self.table: "",
            self.run: off,
            self.stop: on,
            self.save: off,
        }
        shown = time.monotonic()
        try:
            if not paths:
                raise gr.Error("There are no files; upload some first.", print_exception=False)
            for step in predict_entries(self.model, paths, listed.reading):
                if isinstance(step, Entry):
                    entries.append(step)
                if time.monotonic() - shown < UPDATE_SECONDS:  # sending a long list takes a while
                    continue
                shown = time.monotonic()
                if isinstance(step, Progress):
                    told = f"{step.name}: {step.done:,} of {step.slices:,} slices predicted"
                    yield {self.status: _tell(told, done=step.done, slices=step.slices)}
                else:
                    listed = listed._replace(entries=tuple(entries))
                    words = _tell(f"So far: {_count(entries)}")
                    yield {self.listed: listed, self.status: words, self.table: self._render(entries, running=True)}
        except Exception as error:  # a toast would be gone before it is read
            words = _tell(say_plainly(error), role="alert")
        else:
            words = _tell(f"Done: {_count(entries)}")
        listed = listed._replace(entries=tuple(entries))
        rest = {self.run: on, self.stop: off, self.save: on if entries else off}
        yield rest | {self.listed: listed, self.status: words, self.table: self._render(entries)}

    def rest(self, listed: Listed | None, paths: list[str] | None) -> dict[Block, Any]:
        """Show what was predicted before somebody stopped."""
        entries = listed.entries if listed else ()
        return {
            self.status: _tell(f"Stopped: {_count(entries)}"),
            self.table: self._render(entries),
            self.run: gr.update(interactive=bool(paths)),
            self.stop: gr.update(interactive=False),
            self.save: gr.update(interactive=bool(entries)),
        }

    def open_row(
        self,
        listed: Listed | None,
        target: Target,
        method: Method,
        depth: int,
        event: gr.EventData,
        request: gr.Request | None = None,
    ) -> Iterator[dict[Block, Any]]:
        """Open the scan or slice of a row in the other tab."""
        number = int(event.row)
        if not listed or not 0 <= number < len(listed.entries):
            raise gr.Error(GONE, print_exception=False)
        entry = listed.entries[number]
        paths = list(entry.paths)
        if entry.member and Path(paths[0]).is_file():
            paths = [unpack_member(paths[0], entry.member)]
            self.sessions.add(request, *paths)
            self.files.temp_files.update(paths)  # Gradio deletes them with the uploads
        room = self.explain_tab
        shown = {self.tabs: gr.Tabs(selected="explain")}
        settings = Settings(target, method, int(depth))
        for changes in room.open_listed(paths, entry.uid or None, listed.reading, settings):
            yield changes | shown | {room.modality: gr.update(visible=False)}  # it was chosen for the whole list
            shown = {}

    def _render(self, entries: Sequence[Entry], *, running: bool = False) -> str:
        """Render the list as HTML; filters come when it is whole, or each new row would reset them."""
        if not entries:
            return ""
        groups: dict[str, list[tuple[int, Entry]]] = {"answered": [], "unknown": [], "errors": []}
        for number in rank_entries(entries):
            state = entries[number].state
            group = {"unknown": "unknown", "error": "errors"}.get(state, "answered")
            groups[group].append((number, entries[number]))
        counts = Counter(entry.state for entry in entries)
        pictured = [number for number, _ in [*groups["answered"], *groups["unknown"]]]
        return render(
            "worklist.html",
            **groups,
            filters=[]
            if running
            else [("", "All", len(entries)), *((state, words, counts[state]) for state, words in STATES.items())],
            pictured=set(pictured[:PICTURED]),
            unpictured=len(pictured) > PICTURED,
            threshold=self.model.threshold,
            tell=tell_share,
        )


def tell_share(share: float) -> str:
    """Tell a probability in whole per cent, as the reading room does; none is ever 0 or 100."""
    if 0.005 <= share < 0.995:
        return f"{share:.0%}".replace("%", " %")
    return "< 1 %" if share < 0.5 else "> 99 %"


def _tell(words: str, *, role: str = "status", done: int | None = None, slices: int | None = None) -> str:
    return render("message.html", words=words, role=role, done=done, slices=slices)


def _count(entries: Sequence[Entry]) -> str:
    """Count the entries by what they say, in one sentence."""
    counts = Counter(entry.state for entry in entries)
    scans = sum(entry.size > 1 for entry in entries)
    whole = [pluralise(scans, "scan")] if scans else []
    single = sum(entry.size == 1 for entry in entries)
    whole += [pluralise(single, "single slice")] if single or not scans else []
    parts = [f"{counts['stroke']:,} Stroke", f"{counts['normal']:,} Normal"]
    parts += [f"{counts['unknown']:,} without an answer"] if counts["unknown"] else []
    errors = f". {pluralise(counts['error'], 'file')} with an error" if counts["error"] else ""
    return f"{' and '.join(whole)}: {', '.join(parts)}{errors}."


def make_csv(listed: Listed | None) -> dict[str, str]:
    """Make a CSV file with a row for each slice, which the browser saves."""
    if not listed or not listed.entries:
        raise gr.Error("There is no table yet; predict some files first.", print_exception=False)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["scan", *Row._fields])
    for entry in listed.entries:
        for row in entry.rows:
            cells = ["" if cell is None else cell for cell in (entry.name, *row)]
            writer.writerow([f"'{cell}" if str(cell).startswith(FORMULA) else cell for cell in cells])
    return pack_file("worklist.csv", "text/csv", buffer.getvalue().encode())
