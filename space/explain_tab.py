"""The tab that answers for one slice or one scan: upload, answer, maps, evidence, downloads."""

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeAlias

import gradio as gr
import numpy as np
from demo_model import HAS_TORCH, METHODS, TARGETS, DemoModel, Method, Settings
from downloads import SAVE_FILE, link_png, make_download
from gradio.blocks import Block
from guards import answer_plainly
from PIL import Image
from render import render
from result import Result, find_point, make_result, render_result
from scan_panel import build_scan_panel, render_answer, render_progress
from study import GONE, MODALITY_CHOICES, WINDOW_CHOICES, ModalityChoice, Reading, Study, WindowChoice, read_study
from uploads import KEPT_SECONDS, UploadSessions, build_upload
from viewer import build_payload, build_viewer

from stroke_hub.inference.results import Target

__all__ = ["ExplainTab"]

Changes: TypeAlias = dict[Block, Any]

HINT = '<div class="page"><p class="hint">Upload a slice or a scan, or pick an example.</p></div>'
FORMATS = "PNG, JPEG, TIFF, WebP, BMP, DICOM or NIfTI, up to 100 MB. A scan: several files, a zip file or a volume."
PRIVACY = (
    "Of a DICOM file the picture and how it was taken are read; nothing of the patient is kept or shown. Files and "
    "results are deleted soon "
    f"after you leave the page, after {KEPT_SECONDS // 60} minutes at the latest. Nothing about them is logged."
)
PICK = """element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-caption]");
  if (button) trigger("click", {caption: button.dataset.caption});
});"""
METHOD_NAMES = {
    "relevance": "relevance (Grad-CAM and gradient x attention, the default)",
    "attention": "attention (rollout, the same for both classes)",
}
DEPTHS = "1: gradient x attention. More: the relevance of Chefer et al. (2021), another definition."


class ExplainTab:
    """Components and handlers of the tab; `examples` is filled once the model is loaded."""

    def __init__(self, model: DemoModel, sessions: UploadSessions) -> None:
        self.model, self.sessions = model, sessions
        self.study, self.shown = gr.State(time_to_live=KEPT_SECONDS), gr.State(time_to_live=KEPT_SECONDS)
        with gr.Row():
            with gr.Column(scale=1, min_width=290):
                self._build_inputs()
            with gr.Column(scale=3, min_width=300):
                self._build_results()
        self._connect()

    def _build_inputs(self) -> None:
        self.upload = build_upload(label="Brain slice or scan", file_count="multiple", height=170)
        gr.HTML(f'<div class="page"><p class="legend">{FORMATS}</p></div>')
        self.modality = gr.Radio(list(MODALITY_CHOICES), value="auto", label="Modality", visible=False)
        self.window = gr.Radio(list(WINDOW_CHOICES), value="auto", label="CT window shown", visible=False)
        self.page = gr.Slider(1, 2, 1, step=1, label="Slice of this scan", visible=False)
        self.examples = gr.HTML("", js_on_load=PICK, apply_default_css=False)
        with gr.Accordion("Settings", open=False):
            self.target = gr.Radio(list(TARGETS), value="Stroke", label="Class to explain")
            names = [(METHOD_NAMES.get(name, f"{name} (grad-cam package)"), name) for name in METHODS]
            self.method = gr.Dropdown(names, value="relevance", label="Method for the ResNet and ViT maps")
            depth = "Transformer blocks used for the ViT map"
            self.depth = gr.Slider(1, 4, 1, step=1, label=depth, info=DEPTHS, visible=HAS_TORCH)
        gr.HTML(f'<div class="page"><p class="legend">{PRIVACY}</p></div>')

    def _build_results(self) -> None:
        self.scan = build_scan_panel()
        self.cancel = gr.Button("Cancel", size="sm", visible=False)
        self.text = gr.HTML(HINT)
        with gr.Column(visible=False) as self.results:
            self.viewer = build_viewer()
            with gr.Row(elem_classes="downloads"):
                kinds = {
                    "png": "Download picture (PNG)",
                    "html": "Download report (HTML)",
                    "json": "Download numbers (JSON)",
                }
                self.downloads = {kind: gr.Button(name, size="sm") for kind, name in kinds.items()}
        self.file = gr.JSON(visible=False)

    def _connect(self) -> None:
        settings = [self.target, self.method, self.depth]
        seen = [self.study, self.shown, self.scan, self.cancel, self.text, self.results, self.viewer, self.page]
        seen += [self.window, self.modality]
        slow: dict[str, Any] = {"api_visibility": "private", "show_progress_on": self.text, "outputs": seen}
        slow |= {"concurrency_id": "slice", "concurrency_limit": 2}
        chosen = [self.study, self.page, *settings]
        opened = [self.upload, self.modality, self.window, *settings]
        opening = [
            self.upload.upload(answer_plainly(self.open_upload), opened, **slow),
            self.modality.input(answer_plainly(self.open_upload), opened, **slow),
            self.window.input(answer_plainly(self.open_upload), opened, **slow),
        ]
        example = self.examples.click(answer_plainly(self.open_example), settings, **slow)
        self.scan.click(answer_plainly(self.choose_slice), [self.study, *settings], **slow)
        for component in (self.page, self.target, self.method, self.depth):
            component.input(answer_plainly(self.explain_page), chosen, trigger_mode="always_last", **slow)
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        for event in opening:  # no old result stays beside a new file
            event.failure(self.forget, None, seen, queue=False, **quiet)
        self.upload.clear(self.forget, None, seen, queue=False, cancels=opening, **quiet)
        self.cancel.click(self.stop, None, [*seen, self.upload], queue=False, cancels=opening, **quiet)
        example.success(lambda: None, None, self.upload, queue=False, **quiet)
        for kind, button in self.downloads.items():
            made = button.click(answer_plainly(partial(_download, kind=kind)), self.shown, self.file, **quiet)
            made.success(None, self.file, None, js=SAVE_FILE, **quiet)

    # --- handlers: they return the components that change ---------------------------------------------------

    def open_upload(
        self,
        paths: list[str] | None,
        modality: ModalityChoice,
        window: WindowChoice,
        target: Target,
        method: Method,
        depth: int,
        request: gr.Request | None = None,
    ) -> Iterator[Changes]:
        """Read files and explain their slice, or answer for their scan and explain its highest slice."""
        self.sessions.add(request, *(paths or []))
        study = read_study(paths, Reading(modality, window))
        settings = Settings(target, method, int(depth))
        if study.scan is None:
            yield self._explain(study, 1, settings)
            return
        hidden = gr.update(visible=False)
        waiting = {self.cancel: gr.update(visible=True), self.text: "", self.results: hidden, self.page: hidden}
        yield waiting | {self.scan: render_progress(study.scan, 0)}
        parts = []
        for part in self.model.predict_parts(study.slices):
            parts.append(part)
            yield {self.scan: render_progress(study.scan, sum(len(one.label) for one in parts))}
        study = study._replace(answer=self.model.judge(study.scan, parts))
        page = study.highest
        yield {self.scan: self._render_scan(study, page), self.cancel: hidden}
        yield self._explain(study, page, settings)

    def open_example(self, target: Target, method: Method, depth: int, event: gr.EventData) -> Changes:
        """Explain an example."""
        caption = str(event.caption)
        if caption not in self.model.examples:
            raise gr.Error("There is no such example.", print_exception=False)
        example = self.model.examples[caption]
        study = Study(name=example.source, sha256="", slices=[example], example=caption)
        return self._explain(study, 1, Settings(target, method, int(depth)))

    def explain_page(self, study: Study | None, page: int, target: Target, method: Method, depth: int) -> Changes:
        """Explain one slice of the open file."""
        if study is None:
            return {self.study: None}
        page = min(max(int(page), 1), len(study.slices))
        return self._explain(study, page, Settings(target, method, int(depth)))

    def choose_slice(
        self, study: Study | None, target: Target, method: Method, depth: int, event: gr.EventData
    ) -> Changes:
        """Explain the slice of the open scan that was clicked on."""
        if study is None:
            raise gr.Error(GONE, print_exception=False)
        return self.explain_page(study, event.slice, target, method, depth)

    def _explain(self, study: Study, page: int, settings: Settings) -> Changes:
        if study.example:
            explanation = self.model.explain_example(study.example, settings)
        else:
            explanation = self.model.explain(study.slices[page - 1], settings)
        result = make_result(self.model, study, page, settings, explanation)
        pages = len(study.slices)
        return {
            self.study: study,
            self.shown: result,
            self.scan: self._render_scan(study, page),
            self.cancel: gr.update(visible=False),
            self.text: render_result(result),
            self.results: gr.update(visible=True),
            self.viewer: build_payload(result),
            self.page: gr.update(visible=pages > 1, maximum=max(pages, 2), value=page),
            self.modality: gr.update(visible=not study.example),
            self.window: gr.update(visible=study.windowed),
        }

    def _render_scan(self, study: Study, page: int) -> str:
        if study.scan is None or study.answer is None:
            return ""
        return render_answer(study.scan, study.answer, self.model.threshold, page)

    def forget(self) -> Changes:
        """Show the page as it was before the first file."""
        hidden = gr.update(visible=False)
        return {
            self.study: None,
            self.shown: None,
            self.scan: "",
            self.cancel: hidden,
            self.text: HINT,
            self.results: hidden,
            self.viewer: None,
            self.page: gr.update(visible=False, value=1),
            self.modality: gr.update(visible=False, value="auto"),
            self.window: gr.update(visible=False, value="auto"),
        }

    def stop(self) -> Changes:
        """Show the page so after a scan was cancelled, and let its files go."""
        return self.forget() | {self.upload: None}

    def render_examples(self) -> str:
        """Render the examples to click on and how often the model is right as HTML; nothing without examples."""
        examples = self.model.examples
        if not examples:
            return ""
        pictures = {caption: _draw_thumbnail(example.pixels) for caption, example in examples.items()}
        simulated = all("simulated" in example.source for example in examples.values())
        point = find_point(self.model, None)
        return render("examples.html", examples=pictures, simulated=simulated, point=point)


def _draw_thumbnail(pixels: np.ndarray[Any, Any]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((160, 160))
    return link_png(picture)


def _download(result: Result | None, *, kind: str) -> dict[str, Any]:
    if result is None:
        raise gr.Error(GONE, print_exception=False)
    return make_download(result, kind)
