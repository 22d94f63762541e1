"""The demo: upload a slice or a scan, get a probability of stroke and why. Runs here and as a Hugging Face Space.

python space/app.py
STROKE_HUB_MODEL=owner/name STROKE_HUB_REVISION=v1.0 python space/app.py

STROKE_HUB_MODEL is a Hub repository, a run folder, or "sample", the model that comes with the package;
STROKE_HUB_REVISION is a commit, tag or branch. Without them the demo reads model.json beside this file, which
scripts/push_space.py writes for a Space, or takes "sample". STROKE_HUB_EXAMPLES is a dataset folder; the examples
are those of its test slices whose probability is the median of their kind (default: examples/ beside this file, or
the sample model's own). The page answers at once; the model loads in the background.
"""

import contextlib
import os
import signal
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported; nobody else learns of uploads

from demo_model import DemoModel, choose_examples, choose_model
from uploads import KEPT_SECONDS, UploadSessions, open_upload_folder

open_upload_folder()  # its name is read when Gradio is imported

NAME, REVISION = choose_model()
MODEL = DemoModel(NAME, REVISION, choose_examples(NAME))
if MODEL.is_exported:  # it loads while Gradio is imported; PyTorch would delay the page
    MODEL.start()

import gradio as gr  # noqa: E402
from api import add_endpoints  # noqa: E402
from examples_panel import render_examples  # noqa: E402
from explain_tab import ExplainTab  # noqa: E402
from gradio.blocks import Block  # noqa: E402
from guards import AddressGuard, refuse_addresses, refuse_plainly  # noqa: E402
from model_tab import render_model  # noqa: E402
from render import render  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.routing import Mount  # noqa: E402
from starlette.staticfiles import StaticFiles  # noqa: E402
from study import Study  # noqa: E402
from worklist_tab import WorklistTab  # noqa: E402

__all__ = ["build_app", "launch_from_environment"]

HERE = Path(__file__).parent
TITLE = "Stroke or normal?"
INTRO = (
    "Open a slice or a scan of a brain, CT or MR. You get a probability of stroke and see the regions behind it."
)
MAX_FILE_SIZE, MAX_QUEUE, SESSIONS = "100mb", 64, 64

# System fonts only: a font from elsewhere would tell others about the visitor.
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


def build_app(model: DemoModel) -> gr.Blocks:
    """Build the page; it updates by itself when the model is loaded, or says why it could not be."""
    sessions = UploadSessions()
    app = gr.Blocks(title=TITLE, fill_width=True, delete_cache=(60, KEPT_SECONDS), analytics_enabled=False)
    with app:
        gr.HTML(f'<div class="page head"><h1>{TITLE}</h1><p>{INTRO}</p></div>')
        state = gr.HTML(render_state(None), elem_classes="state")
        with gr.Tabs() as tabs:
            with gr.Tab("Explain", id="explain"):
                explain_tab = ExplainTab(model, sessions)
            with gr.Tab("Worklist"):
                WorklistTab(model, sessions, explain_tab, tabs)
            with gr.Tab("Model"):
                model_tab = gr.HTML('<div class="page"><p class="hint">The model is loading.</p></div>')
        add_endpoints(model, sessions)
        clock = gr.Timer(1, active=False)

        def show_model(study: Study | None) -> dict[Block, Any]:
            model.start()
            if not model.ready:
                return {state: render_state(model), clock: gr.Timer(active=not model.failed)}
            # the page opens with an answer to look at, unless somebody was faster
            opened = explain_tab.show_first() if study is None else {}
            return opened | {
                state: render_state(model),
                explain_tab.examples: render_examples(model),
                model_tab: render_model(model),
                clock: gr.Timer(active=False),
            }

        def end_visit(request: gr.Request) -> None:
            sessions.end(request.session_hash)
            app.state_holder.delete_state(str(request.session_hash))  # Gradio would keep it for an hour
            app.state_holder.session_data.pop(str(request.session_hash), None)

        seen = [state, explain_tab.examples, model_tab, clock, *explain_tab.seen]
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
        gr.on([app.load, clock.tick], show_model, explain_tab.study, seen, **quiet)
        app.unload(end_visit)
    refuse_addresses(app)
    refuse_plainly(app)
    return app


def render_state(model: DemoModel | None) -> str:
    """Render what a visitor must know first as HTML: what the model is for, and whether it is loaded."""
    return render(
        "state.html",
        simulated=model is not None and "simulated" in model.note,
        unreported=model is not None and model.ready and model.report is None,
        error=model.error if model and model.failed else "",
        loading=not (model and model.ready),
    )


def launch_from_environment(**options: Any) -> str:
    """Launch the demo with the model that `choose_model` found, and return its address.

    It returns when the demo is stopped, or at once with the option `prevent_thread_lock`.
    """
    limits: dict[str, Any] = {
        "max_file_size": MAX_FILE_SIZE,
        "state_session_capacity": SESSIONS,
        "run_history": False,
    }
    viewer = Mount("/viewer", StaticFiles(directory=HERE / "static" / "viewer"))
    limits["app_kwargs"] = {"middleware": [Middleware(AddressGuard)], "routes": [viewer]}
    looks = {
        "theme": THEME,
        "css_paths": [HERE / "static" / "style.css", HERE / "static" / "viewer" / "reading_room.css"],
        "footer_links": ["api"],
        "ssr_mode": False,
        "share": False,
    }
    held = options.pop("prevent_thread_lock", False)
    app = build_app(MODEL).queue(max_size=MAX_QUEUE)
    stopped = threading.Event()
    if not held:  # a Space and a container are stopped by SIGTERM, maybe while they start
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    tools = find_spec("mcp") is not None
    url: str = app.launch(prevent_thread_lock=True, mcp_server=tools, **limits, **looks, **options)[1]
    MODEL.start()  # after the page answers: the imports of the model would make it wait
    if not held:
        with contextlib.suppress(KeyboardInterrupt):
            stopped.wait()
        app.close(verbose=False)  # which deletes the uploads
    return url


if __name__ == "__main__":
    launch_from_environment()
