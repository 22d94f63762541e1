"""The demo: a slice in, a probability and the evidence behind it out. Runs locally and as a Hugging Face Space.

python space/app.py
STROKE_HUB_MODEL=owner/name STROKE_HUB_REVISION=v1.0 python space/app.py

STROKE_HUB_MODEL is a Hub repository or a run folder, STROKE_HUB_REVISION a commit, tag or branch; without them a
model.json beside this file says both, as scripts/push_space.py writes it for a Space, or else runs/quickstart is
taken. STROKE_HUB_EXAMPLES is a dataset folder whose test slices are offered as examples (default: examples/ beside
this file, or data/sample).
"""

import json
import os
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported: uploads are nobody else's business

import gradio as gr

from stroke_hub import (
    Explanation,
    ResNetViT,
    Slice,
    StrokeHubError,
    explain,
    find_report,
    load_slices,
    read_records,
)

HERE = Path(__file__).parent
NO_MODEL = "There is no model to show: name one in STROKE_HUB_MODEL, or run `make quickstart` first."
SUFFIXES = [".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"]
KEPT_SECONDS = 900  # uploads and pictures: long enough to look at
MAPS = {"ResNet (CNN)": "cnn", "ViT": "vit", "Fused": "fused"}
TITLE = "Stroke or normal?"
HEADING = f'<div class="page"><h1>{TITLE}</h1></div>'
HINT = '<div class="page"><p class="hint">Upload a slice, or pick an example.</p></div>'
INTRO = "One slice of a brain CT (BT) or MR gives a probability of stroke, and the regions behind it."
RESEARCH = "<b>Research use only, not a medical device.</b>"
SIMULATED = "<b>Trained on simulated slices:</b> its answers mean nothing for patients."
LEGEND = (
    "ResNet and ViT: the brighter, the more a region matters to that branch. Fused: red speaks for stroke, blue "
    "against it. Colours are scaled within each map: compare places between maps, not strengths."
)
PRIVACY = f"Uploads are deleted after {KEPT_SECONDS // 60} minutes and serve nothing else."

# System fonts only: what the browser fetches elsewhere tells others about the visitor.
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
THEME = gr.themes.Default(primary_hue="teal", neutral_hue="slate", **FONTS)
CSS = """
:root { --stroke: #b93a0e; --normal: #0f766e; --rule: #cbd5e1; --quiet: #475569; --warn: #fff3e6; }
.dark { --stroke: #fb923c; --normal: #5eead4; --rule: #475569; --quiet: #cbd5e1; --warn: #2b1d14; }
.gradio-container { width: 100%; max-width: 1240px !important; margin: 0 auto !important; }
.page h1 { font-size: 1.75rem; font-weight: 650; margin: 0 0 .2rem; }
.page p { color: var(--quiet); margin: 0; overflow-wrap: anywhere; }
.page .notice { margin-top: .9rem; padding: .6rem .9rem; border-left: 4px solid #ea580c; border-radius: 4px;
  background: var(--warn); color: var(--body-text-color); }
.page .hint { padding: 8rem 1rem; text-align: center; border: 1px dashed var(--rule); border-radius: 8px; }
.page .legend { font-size: .875rem; } .thumbnail button { cursor: pointer; }
.picture .image-container { margin-top: 28px; overflow: visible; } .picture .icon-button-wrapper { top: -28px; }
.picture .image-container > button, .picture .image-frame, .picture img { width: 100% !important; }
.picture img { height: auto !important; object-fit: contain !important; }
.result { display: flex; flex-wrap: wrap; align-items: start; gap: 1rem 2.5rem; } .result > * { flex: 1 1 290px; }
.page .verdict { font-size: 2rem; font-weight: 650; line-height: 1.25; color: var(--says); }
.meter { position: relative; height: 12px; margin: .6rem 0; border-radius: 6px; background: var(--rule); }
.meter div { height: 100%; border-radius: 6px; background: var(--says); }
.meter i { position: absolute; top: -4px; width: 2px; height: 20px; background: var(--body-text-color); }
.evidence { border: 0 !important; border-collapse: collapse; font-variant-numeric: tabular-nums; }
.evidence tr, .evidence tr > * { padding: .3rem 0 !important; border: 0 !important; font-weight: 400; }
.evidence th, .evidence caption { text-align: left; } .evidence caption { font-weight: 600; }
.evidence tr:last-child > * { border-top: 1px solid var(--rule) !important; font-weight: 600; }
.evidence .bar { width: 40%; } .evidence .bar i { position: absolute; top: 0; height: 100%; }
.evidence .bar div { position: relative; height: 12px; margin-left: 50%; border-left: 1px solid var(--quiet); }
"""


class Shown(NamedTuple):
    """What the page needs to draw a result again without another forward."""

    explanation: Explanation
    facts: dict[str, Any]
    origin: str


def find_examples(folder: Path) -> dict[str, Slice]:
    """One test slice of each modality and class: the middle one by path, so that nobody chose it."""
    records = read_records(folder)
    examples = {}
    for (modality, label), rows in records.part("test").groupby(["modality", "label"]):
        path = records.root / rows["path"].iloc[len(rows) // 2]
        examples[f"{modality}, {'stroke' if label else 'normal'}"] = load_slices(path, modality=modality)[0]
    return examples


def read_note(model: str, commit: str | None) -> str:
    """What the report of a run folder or of a Hub model's commit says of its data, "" where it says nothing."""
    report = find_report(model, commit)
    return str(report["data"]["note"]) if report else ""


def format_note(sentence: str, kind: str = "legend") -> str:
    """A paragraph of the page as HTML."""
    return f'<div class="page"><p class="{kind}">{sentence}</p></div>'


def describe(shown: Shown) -> str:
    """Verdict, evidence and remarks as HTML."""
    label, p, threshold = (shown.facts[key] for key in ("label", "probability_of_stroke", "threshold"))
    remarks = "".join(f"{remark[0].upper() + remark[1:]}. " for remark in shown.facts["remarks"])
    return f"""<div class="page result" style="--says: var(--{label.lower()})"><div>
<p>{escape(shown.origin)}</p><p class="verdict">{label}</p><div>Probability of stroke: <b>{p:.1%}</b></div>
<div class="meter" role="meter" aria-label="Probability of stroke" aria-valuemin="0" aria-valuemax="1"
 aria-valuenow="{p:.3f}"><div style="width: {p:.1%}"></div><i style="left: {threshold:.1%}"></i></div>
<p class="legend">The mark is the threshold: from {threshold:.1%} on, a slice is called Stroke.</p>
{f'<p class="notice">{remarks}</p>' if remarks else ""}</div>
<table class="evidence"><caption>Evidence for stroke, in log-odds</caption>
{describe_evidence(shown)}</table></div>"""


def describe_evidence(shown: Shown) -> str:
    """Table rows of what each branch contributed."""
    parts = shown.facts["contributions"]
    values = {"Average training slice": parts["baseline"], "ResNet (CNN)": parts["cnn"], "ViT": parts["vit"]}
    values["Sum"] = shown.facts["log_odds"]
    largest = max(map(abs, values.values())) or 1.0
    rows = ""
    for name, value in values.items():
        side, colour = ("left: 0", "stroke") if value > 0 else ("right: 100%", "normal")
        style = f"{side}; width: {abs(value) / largest:.1%}; background: var(--{colour})"
        rows += f'<tr><th scope="row">{name}</th><td class="number">{value:+.2f}</td>'
        rows += f'<td class="bar"><div><i style="{style}"></i></div></td></tr>'
    return rows


def draw(shown: Shown | None, opacity: float, layer: str) -> list[Any]:
    """The page of a result: text, results, four pictures, the comparison, the choice of the slice."""
    if shown is None:
        return [HINT, gr.update(visible=False), *[None] * 5, gr.update(visible=False, value=1)]
    original = shown.explanation.overlay(opacity=0)
    maps = {name: shown.explanation.overlay(name, opacity=opacity) for name in MAPS.values()}
    pages = shown.facts["slices"]
    choice = gr.update(visible=pages > 1, maximum=max(pages, 2), value=shown.facts["slice"])
    return [describe(shown), gr.update(visible=True), original, *maps.values(), (original, maps[layer]), choice]


def build_app(model: str | None = None, revision: str | None = None, examples: Path | None = None) -> gr.Blocks:
    """The page for a model (see `ResNetViT.from_pretrained`), or one that says in a sentence why there is none."""
    try:
        if model is None:
            raise StrokeHubError(NO_MODEL)
        loaded = ResNetViT.from_pretrained(model, revision=revision)
        return build_page(loaded, find_examples(examples) if examples else {}, note=read_note(model, loaded.commit))
    except StrokeHubError as error:
        with gr.Blocks(title=TITLE) as app:
            gr.HTML(HEADING + format_note(escape(str(error)), "notice"))
        return app


def build_page(model: ResNetViT, examples: dict[str, Slice], *, note: str) -> gr.Blocks:
    """The page itself; `note` is what the model's report says of its data."""

    def explain_slice(chosen: Slice, origin: str, page: int = 1, pages: int = 1) -> tuple[dict[str, Any], Shown]:
        e = explain(model, chosen)
        facts = {"label": e.label, "probability_of_stroke": e.probability, "threshold": float(model.threshold)}
        facts |= {"log_odds": e.log_odds, "contributions": e.contributions, "remarks": e.remarks}
        facts |= {"method": e.method, "slice": page, "slices": pages}
        return facts, Shown(e, facts, origin)

    def explain_upload(path: str | None, page: int = 1) -> tuple[dict[str, Any], Shown]:
        """Explain one slice of an image file (in a TIFF of many: the one of this number, from 1), in numbers."""
        try:
            slices = load_slices(path or b"")
        except StrokeHubError as error:
            raise gr.Error(str(error), title="Not readable", duration=15, print_exception=False) from None
        page = min(max(int(page), 1), len(slices))
        which = f", slice {page} of {len(slices)}" if len(slices) > 1 else ""
        return explain_slice(slices[page - 1], f"Upload: {slices[0].source}{which}", page, len(slices))

    def explain_example(caption: str) -> tuple[None, dict[str, Any], Shown]:
        made = "simulated " if "simulated" in examples[caption].source else ""
        return None, *explain_slice(examples[caption], f"Example: {made}{caption} (its true class)")

    notice = f"{RESEARCH} {SIMULATED if 'simulated' in note else ''}"
    still: dict[str, Any] = {"format": "png", "interactive": False}
    with gr.Blocks(title=TITLE, delete_cache=(60, KEPT_SECONDS)) as app:
        gr.HTML(HEADING + format_note(INTRO, "intro") + format_note(notice, "notice"))
        shown = gr.State(time_to_live=KEPT_SECONDS)
        picks = []
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                upload = gr.File(label="Brain slice: PNG, JPEG, TIFF, WebP, BMP", file_types=SUFFIXES, height=170)
                page = gr.Slider(1, 2, 1, step=1, label="Slice of this file", visible=False)
                if examples:
                    a = (
                        "a simulated"
                        if all("simulated" in example.source for example in examples.values())
                        else "an"
                    )
                    gr.HTML(format_note(f"Or pick {a} example, by its true class:"))
                with gr.Row():
                    for caption, example in examples.items():
                        with gr.Column(min_width=120):
                            look = {"alt_text": f"Example: {caption}", "show_label": False, "buttons": []}
                            picture = gr.Image(example.pixels, elem_classes="thumbnail", **look, **still)
                            pick = [picture.select, gr.Button(caption, size="sm").click]
                            picks.append((pick, partial(explain_example, caption)))
                gr.HTML(format_note(PRIVACY))
            with gr.Column(scale=3, min_width=300):
                text = gr.HTML(HINT)
                with gr.Column(visible=False) as results:
                    with gr.Row():
                        look = {"buttons": ["fullscreen"], "min_width": 150, "elem_classes": "picture"}
                        named = {"Original": "The slice as the model saw it"} | {n: f"{n} heatmap" for n in MAPS}
                        pictures = [gr.Image(label=n, alt_text=alt, **look, **still) for n, alt in named.items()]
                    gr.HTML(format_note(LEGEND))
                    with gr.Row():
                        with gr.Column(min_width=280):
                            opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity of the maps")
                            layer = gr.Radio(list(MAPS.items()), value="cnn", label="Compare the original with")
                            with gr.Accordion("All numbers", open=False):
                                facts = gr.JSON(show_label=False)
                        with gr.Column(min_width=280):
                            compare = gr.ImageSlider(label="Original | map", **still)

        private: dict[str, Any] = {"api_visibility": "private", "show_progress_on": text}
        quiet = private | {"show_progress": "hidden"}
        seen = [text, results, *pictures, compare, page]
        drawing = quiet | {"fn": draw, "inputs": [shown, opacity, layer], "outputs": seen}
        forgetting = quiet | {"fn": lambda: (None, None), "outputs": [facts, shown]}
        explaining = {"fn": explain_upload, "inputs": [upload, page], "outputs": [facts, shown]}
        explained = [
            upload.upload(**explaining, api_name="explain", show_progress_on=text),
            page.input(**explaining, **private, trigger_mode="always_last"),
            *(gr.on(pick, answer, None, [upload, facts, shown], **private) for pick, answer in picks),
        ]
        for event in explained:
            event.success(**drawing)
            event.failure(**forgetting).then(**drawing)  # no old result beside a new file
        upload.clear(**forgetting).then(**drawing)
        opacity.change(**drawing, trigger_mode="always_last")
        layer.change(**drawing)
    return app


def choose_model() -> tuple[str | None, str | None]:
    """Model and revision that the environment names, or model.json, or the quickstart's run where there is one."""
    pinned, quickstart = HERE / "model.json", Path("runs/quickstart")
    if model := os.environ.get("STROKE_HUB_MODEL"):
        return model, os.environ.get("STROKE_HUB_REVISION") or None
    if pinned.is_file():
        chosen = json.loads(pinned.read_text(encoding="utf-8"))
        return chosen["model"], chosen["revision"]
    return str(quickstart) if quickstart.is_dir() else None, None


def launch_from_environment(**options: Any) -> str:
    """Launch what the environment or a model.json names, or else the quickstart's model; gives the address."""
    named = os.environ.get("STROKE_HUB_EXAMPLES")
    folders = [Path(named)] if named else [HERE / "examples", Path("data/sample")]
    app = build_app(*choose_model(), next((folder for folder in folders if folder.is_dir() or named), None))
    limits = {"max_file_size": "25mb", "state_session_capacity": 100, "run_history": False, "ssr_mode": False}
    return app.queue(max_size=32).launch(theme=THEME, css=CSS, footer_links=["api"], **limits, **options)[1]


if __name__ == "__main__":
    launch_from_environment()
