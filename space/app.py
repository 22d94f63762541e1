"""The demo: a slice in, a probability and the evidence behind it out. Runs locally and as a Hugging Face Space.

python space/app.py
STROKE_HUB_MODEL=owner/name STROKE_HUB_REVISION=v1.0 python space/app.py

STROKE_HUB_MODEL is a Hub repository or a run folder, STROKE_HUB_REVISION a commit, tag or branch; without them a
model.json beside this file says both, as scripts/push_space.py writes it for a Space, or else runs/quickstart is
taken. STROKE_HUB_EXAMPLES is a dataset folder whose test slices are offered as examples (default: examples/ beside
this file, or data/sample). The page answers at once; the model loads behind it.
"""

import os
import re
import signal
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported: uploads are nobody else's business

from engine import Engine, choose_examples, choose_model

ENGINE = Engine(*choose_model(), choose_examples())
if ENGINE.is_exported:  # read while Gradio is imported, which takes longer; PyTorch would make the page wait
    ENGINE.start()

import gradio as gr  # noqa: E402
from api import add_endpoints  # noqa: E402
from batch_tab import BatchTab  # noqa: E402
from explain_tab import ExplainTab  # noqa: E402
from model_tab import describe_model  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.types import ASGIApp, Receive, Scope, Send  # noqa: E402
from uploads import KEPT_SECONDS, Visits, open_upload_folder, put_plainly  # noqa: E402

__all__ = ["build_app", "launch_from_environment"]

HERE = Path(__file__).parent
TITLE = "Stroke or normal?"
INTRO = "One slice of a brain CT (BT) or MR gives a probability of stroke, and the regions behind it."
RESEARCH = "<b>Research use only, not a medical device.</b>"
SIMULATED = "<b>Trained on simulated slices:</b> its answers mean nothing for patients."
UNKNOWN = "This model has no report: what it was trained on and how good it is, nobody can tell."
LOADING = '<p class="status" role="status">The model is loading; the page goes on by itself.</p>'
NO_ADDRESSES = "Addresses are not fetched; upload the file itself."
MAX_FILE_SIZE, MAX_QUEUE, SESSIONS = "100mb", 64, 64

# System fonts only: what the browser fetches elsewhere tells others about the visitor.
FONTS: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
THEME = gr.themes.Default(primary_hue="teal", neutral_hue="slate", **FONTS).set(
    button_primary_background_fill="*primary_700",  # white on the default's 500 is 2.5 : 1
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
    block_label_text_color="*neutral_600",
    block_title_text_color="*neutral_700",
    body_text_color_subdued="*neutral_600",
    block_label_text_color_dark="*neutral_200",
    body_text_color_subdued_dark="*neutral_300",
    color_accent="*primary_700",
    link_text_color="*primary_700",
    link_text_color_dark="*primary_300",
)


def build_app(engine: Engine) -> gr.Blocks:
    """The page; it goes live when the engine has its model, or says in a sentence why there is none."""
    visits = Visits()
    app = gr.Blocks(title=TITLE, delete_cache=(60, KEPT_SECONDS), analytics_enabled=False)
    with app:
        gr.HTML(f'<div class="page"><h1>{TITLE}</h1><p>{INTRO}</p></div>')
        state = gr.HTML(describe_state(None), elem_classes="state")
        with gr.Tabs():
            with gr.Tab("Explain"):
                explain_tab = ExplainTab(engine, visits)
            with gr.Tab("Batch"):
                BatchTab(engine, visits)
            with gr.Tab("Model"):
                model_tab = gr.HTML('<div class="page"><p class="hint">The model is loading.</p></div>')
        add_endpoints(engine, visits)
        clock = gr.Timer(1, active=False)

        def show_engine() -> list[Any]:
            engine.start()
            if not engine.ready:
                return [describe_state(engine), gr.skip(), gr.skip(), gr.Timer(active=not engine.failed)]
            return [
                describe_state(engine),
                explain_tab.list_examples(),
                describe_model(engine),
                gr.Timer(active=False),
            ]

        def end_visit(request: gr.Request) -> None:
            visits.end(request.session_hash)
            app.state_holder.delete_state(str(request.session_hash))  # Gradio would keep it for an hour
            app.state_holder.session_data.pop(str(request.session_hash), None)

        seen = [state, explain_tab.examples, model_tab, clock]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        gr.on([app.load, clock.tick], show_engine, None, seen, **quiet)
        app.unload(end_visit)
    refuse_addresses(app)
    refuse_plainly(app)
    return app


def describe_state(engine: Engine | None) -> str:
    """What must be known before anything else, as HTML: what the model is for, and whether it is there."""
    notice = f'<p class="notice">{RESEARCH}{f" {SIMULATED}" if engine and "simulated" in engine.note else ""}</p>'
    if engine and engine.ready and engine.report is None:
        notice += f'<p class="notice">{UNKNOWN}</p>'
    if engine and engine.failed:
        notice += f'<p class="notice" role="alert">{escape(engine.error)}</p>'
    elif not (engine and engine.ready):
        notice += LOADING
    return f'<div class="page">{notice}</div>'


def refuse_addresses(app: gr.Blocks) -> None:
    """Let no component fetch a web address that a client names in place of a file: the server asks nobody."""

    async def refuse(path: str, keep: Any) -> Any:
        if "://" in str(path):
            raise gr.Error(NO_ADDRESSES, print_exception=False)
        return await keep(path)

    for block in app.blocks.values():
        keep = block.async_move_resource_to_block_cache
        block.async_move_resource_to_block_cache = lambda path, keep=keep: refuse(path, keep)  # type: ignore[method-assign,misc]


def refuse_plainly(app: gr.Blocks) -> None:
    """Answer a value that a component cannot take in a sentence too: Gradio would log it, and where it is from."""
    keep = app.process_api

    async def process_api(*args: Any, **options: Any) -> dict[str, Any]:
        try:
            return await keep(*args, **options)
        except Exception as error:
            raise put_plainly(error) from None

    app.process_api = process_api  # type: ignore[method-assign]


class AddressGuard:
    """The same for Gradio's /file= and /proxy=: they would fetch any public address for whoever asks."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or leave it to Gradio."""
        asked = scope["type"] == "http" and re.search(r"/(file|proxy)=/*\w\w+:", scope["path"])
        await (PlainTextResponse(NO_ADDRESSES, 403) if asked else self.app)(scope, receive, send)


def launch_from_environment(**options: Any) -> str:
    """Launch what the environment or a model.json names, or else the quickstart's model; gives the address."""
    limits: dict[str, Any] = {
        "max_file_size": MAX_FILE_SIZE,
        "state_session_capacity": SESSIONS,
        "run_history": False,
    }
    limits["app_kwargs"] = {"middleware": [Middleware(AddressGuard)]}
    looks = {
        "theme": THEME,
        "css_paths": HERE / "style.css",
        "footer_links": ["api"],
        "ssr_mode": False,
        "share": False,
    }
    held = options.pop("prevent_thread_lock", False)
    open_upload_folder()
    app = build_app(ENGINE).queue(max_size=MAX_QUEUE)
    tools = find_spec("mcp") is not None
    url: str = app.launch(prevent_thread_lock=True, mcp_server=tools, **limits, **looks, **options)[1]
    ENGINE.start()  # after the page answers: the imports of the model would make it wait
    if not held:
        # a Space and a container are stopped so; as after Ctrl-C, the uploads then go
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        app.block_thread()
    return url


if __name__ == "__main__":
    launch_from_environment()
