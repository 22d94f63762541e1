"""The tab that answers for one slice or one scan: inputs on the left, the reading room beside them."""

from collections.abc import Iterator
from typing import Any, TypeAlias

import gradio as gr
from demo_model import HAS_TORCH, METHODS, TARGETS, DemoModel, Method, Settings
from downloads import KINDS, SAVE_FILE, make_download
from gradio.blocks import Block
from guards import answer_plainly, say_plainly
from render import render
from result import Result, make_result
from room import build_room, pack_slice, pack_study
from study import GONE, MODALITY_CHOICES, ModalityChoice, Reading, Study, make_key, read_study
from uploads import KEPT_SECONDS, UploadSessions, build_upload

from stroke_hub.inference.results import Target

__all__ = ["ExplainTab"]

Changes: TypeAlias = dict[Block, Any]

FORMATS = (
    "PNG, JPEG, TIFF, WebP, BMP, DICOM or NIfTI, up to 100 MB. A scan is a volume, a zip file or several files."
)
PRIVACY = (
    f"Files are deleted within {KEPT_SECONDS // 60} minutes of leaving. Nothing is logged. Of a DICOM file, "
    "nothing of the patient is kept or shown."
)
PICK = """element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-caption]");
  if (button) trigger("click", {caption: button.dataset.caption});
});"""
# the slice that is seen is known to the browser alone: looking at another one needs no request
SEEN = """(...given) => {
  given[1] = Number(document.querySelector(".room-host").dataset.index || 0) + 1;
  return given;
}"""
METHOD_NAMES = {
    "relevance": "Grad-CAM and gradient x attention (default)",
    "attention": "Attention rollout (the same for both classes)",
}
ASKED = 16  # slices that a browser may ask for at once


class ExplainTab:
    """Components and handlers of the tab; `examples` is filled once the model is loaded.

    `seen` lists the components that `open_upload`, `open_example` and `open_listed` change.
    """

    def __init__(self, model: DemoModel, sessions: UploadSessions) -> None:
        self.model, self.sessions = model, sessions
        self.study = gr.State(time_to_live=KEPT_SECONDS)
        self.given: gr.State = gr.State([], time_to_live=KEPT_SECONDS)  # paths of the upload before
        with gr.Row(elem_classes="reading"):
            with gr.Column(scale=1, min_width=230, elem_classes="inputs"):
                self._build_inputs()
            with gr.Column(scale=5, min_width=320):
                self.message = gr.HTML("", elem_classes="message")
                self.cancel = gr.Button("Cancel", size="sm", visible=False)
                self.room = build_room(KINDS)
        self.file = gr.JSON(visible=False)
        self.seen: list[Block] = [self.study, self.message, self.cancel, self.room, self.modality]
        self._connect()

    def _build_inputs(self) -> None:
        self.upload = build_upload(label="Brain slice or scan", file_count="multiple", height=150)
        gr.HTML(f'<div class="page"><p class="legend">{FORMATS}</p></div>')
        self.modality = gr.Radio(list(MODALITY_CHOICES), value="auto", label="Modality", visible=False)
        self.examples = gr.HTML("", js_on_load=PICK, apply_default_css=False)
        with gr.Accordion("Settings", open=False):
            self.target = gr.Radio(list(TARGETS), value="Stroke", label="Class to explain")
            names = [(METHOD_NAMES.get(name, name), name) for name in METHODS]
            self.method = gr.Dropdown(names, value="relevance", label="Method of the branch maps")
            self.depth = gr.Slider(
                1,
                4,
                1,
                step=1,
                label="Transformer blocks in the ViT map",
                info="1 is the default.",
                visible=HAS_TORCH,
            )
        self.page = gr.Number(1, visible=False)
        gr.HTML(f'<div class="page"><p class="legend">{PRIVACY}</p></div>')

    def _connect(self) -> None:
        settings = [self.target, self.method, self.depth]
        slow: dict[str, Any] = {"api_visibility": "private", "outputs": self.seen, "show_progress_on": self.message}
        slow |= {"concurrency_id": "slice", "concurrency_limit": 2}
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        opened = [self.upload, self.modality, *settings]
        taken = [self.upload, self.given, self.modality]
        opening = [
            self.upload.upload(self.take_upload, [self.upload, self.given], taken, queue=False, **quiet).success(
                self.open_upload, opened, **slow
            ),
            self.modality.input(self.open_upload, opened, **slow),
        ]
        example = self.examples.click(answer_plainly(self.open_example), settings, **slow)
        for component in (self.target, self.method, self.depth):
            component.input(
                answer_plainly(self.explain_again),
                [self.study, self.page, *settings],
                js=SEEN,
                trigger_mode="always_last",
                **slow,
            )
        asked = slow | {"outputs": self.room, "show_progress": "hidden"}  # the room says how many maps are here
        self.room.select(
            answer_plainly(self.give_slices), [self.study, *settings], trigger_mode="multiple", **asked
        )
        self.upload.clear(lambda: [], None, self.given, queue=False, **quiet)
        self.upload.clear(self.forget, None, self.seen, queue=False, cancels=opening, **quiet)
        stopped = self.cancel.click(
            self.stop, None, [*self.seen, self.upload], queue=False, cancels=opening, **quiet
        )
        # what was on its way when the work was cancelled may have come after
        stopped.then(self.forget, None, self.seen, queue=False, **quiet)
        example.success(lambda: None, None, self.upload, queue=False, **quiet)
        made = self.room.click(answer_plainly(self.download), [self.study, *settings], self.file, **quiet)
        made.success(None, self.file, None, js=SAVE_FILE, **quiet)

    # --- handlers: they return the components that change ---------------------------------------------------

    def take_upload(self, paths: list[str] | None, given: list[str]) -> tuple[Any, list[str], str]:
        """Let new files take the place of those before, which Gradio would keep beside them."""
        paths = paths or []
        added = (
            paths[len(given) :] if paths[: len(given)] == given else [path for path in paths if path not in given]
        )
        chosen = added or paths
        # what was said of the files before is not said of these
        return (chosen if chosen != paths else gr.skip()), chosen, "auto"

    def open_upload(
        self,
        paths: list[str] | None,
        modality: ModalityChoice,
        target: Target,
        method: Method,
        depth: int,
        request: gr.Request | None = None,
    ) -> Iterator[Changes]:
        """Read files and show their slice, or answer for their scan and show its highest slice."""
        self.sessions.add(request, *(paths or []))
        yield from self.open_listed(paths, None, Reading(modality), Settings(target, method, int(depth)))

    def open_listed(
        self, paths: list[str] | None, series: str | None, reading: Reading, settings: Settings
    ) -> Iterator[Changes]:
        """Show files that are on this machine; what cannot be read is said on the page and stays there."""
        try:
            yield {self.study: None, self.message: _tell("Reading the file."), self.room: None}
            study = read_study(paths, reading, series=series)
            if study.scan is not None:
                parts = []
                yield {self.cancel: gr.update(visible=True), self.message: _tell_progress(study, 0)}
                for part in self.model.predict_parts(study.slices):
                    parts.append(part)
                    yield {self.message: _tell_progress(study, sum(len(one.label) for one in parts))}
                study = study._replace(answer=self.model.judge(study.scan, parts))
            yield self._show(study, study.highest, settings)
        except Exception as error:  # a toast would be gone before it is read
            yield self._empty() | {
                self.message: _tell(say_plainly(error), role="alert"),
                self.modality: gr.update(visible=bool(paths)),
            }

    def open_example(self, target: Target, method: Method, depth: int, event: gr.EventData) -> Changes:
        """Show an example."""
        caption = str(event.caption)
        if caption not in self.model.examples:
            raise gr.Error("There is no such example.", print_exception=False)
        return self.show_example(caption, Settings(target, method, int(depth)))

    def show_example(self, caption: str, settings: Settings, *, asked: bool = True) -> Changes:
        """Show an example, because somebody asked for it or because the page opens with it."""
        example = self.model.examples[caption]
        study = Study(
            name=example.source,
            sha256="",
            slices=[example.slice],
            example=caption,
            truth=example.truth,
            outline=example.outline,
            key=make_key(),
        )
        return self._show(study, 1, settings, asked=asked)

    def show_first(self) -> Changes:
        """Show the first example, with which the page opens; nothing where there is none."""
        captions = list(self.model.examples)
        return self.show_example(captions[0], Settings(), asked=False) if captions else {}

    def explain_again(self, study: Study | None, page: int, target: Target, method: Method, depth: int) -> Changes:
        """Explain the open study in another way."""
        if study is None:
            return {self.study: None}
        page = min(max(int(page), 1), len(study.slices))
        return self._show(study._replace(key=make_key()), page, Settings(target, method, int(depth)), asked=False)

    def give_slices(
        self, study: Study | None, target: Target, method: Method, depth: int, event: gr.EventData
    ) -> dict[str, Any] | Any:
        """Give slices of the open study that the browser asks for, with their maps."""
        if study is None or event.study != study.key:  # another study was opened meanwhile
            return gr.skip()
        wanted = [int(i) for i in event.slices[:ASKED] if 0 <= int(i) < len(study.slices)]
        settings = Settings(target, method, int(depth))
        given = [pack_slice(self.model, study, self._explain(study, index + 1, settings)) for index in wanted]
        return {"kind": "slices", "study": study.key, "given": given}

    def download(
        self, study: Study | None, target: Target, method: Method, depth: int, event: gr.EventData
    ) -> dict[str, str]:
        """Make the file that the browser asks for."""
        if study is None or event.study != study.key:
            raise gr.Error(GONE, print_exception=False)
        page = min(max(int(event.slice), 0), len(study.slices) - 1) + 1
        result = self._explain(study, page, Settings(target, method, int(depth)))
        return make_download(self.model, result, str(event.kind))

    def _explain(self, study: Study, page: int, settings: Settings) -> Result:
        if study.example:
            explanation = self.model.explain_example(study.example, settings)
        else:
            explanation = self.model.explain(study.slices[page - 1], settings)
        return make_result(self.model, study, page, settings, explanation)

    def _show(self, study: Study, page: int, settings: Settings, *, asked: bool = True) -> Changes:
        # the headline of a scan does not wait for maps; the browser asks for them
        result = None if study.answer else self._explain(study, page, settings)
        return {
            self.study: study,
            self.message: "",
            self.cancel: gr.update(visible=False),
            self.room: pack_study(self.model, study, page, result) | {"asked": asked},
            self.modality: gr.update(visible=not study.example),
        }

    def _empty(self) -> Changes:
        return {self.study: None, self.message: "", self.cancel: gr.update(visible=False), self.room: None}

    def forget(self) -> Changes:
        """Show the page as it was before the first file."""
        return self._empty() | {self.modality: gr.update(visible=False, value="auto")}

    def stop(self) -> Changes:
        """Show the page so after a scan was cancelled, and let its files go."""
        return self.forget() | {self.upload: None}


def _tell(words: str, *, role: str = "status") -> str:
    return render("message.html", words=words, role=role, done=None, slices=None)


def _tell_progress(study: Study, done: int) -> str:
    words = f"{study.name}: {done:,} of {len(study.slices):,} slices predicted"
    return render("message.html", words=words, role="status", done=done, slices=len(study.slices))
