"""The page as a visitor meets it: nothing leaves the browser, it works without a network, and no file harms it."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from stroke_hub.models.sample import EXAMPLES
from tests.hostile import list_hostile
from tests.web.cases import list_scans
from tests.web.conftest import Engine, load_server

READY, DRAWN = "html[data-state=ready]", "#room[data-maps=complete]"
PICTURE = EXAMPLES / "strokeBT" / "p485_s01_simulated.png"
SECRETS = ("SENTINEL", "These are notes", "Error:")


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context
    context.close()


def visit(context: BrowserContext, site: str) -> Page:
    page = context.new_page()
    page.goto(site)
    page.wait_for_selector(READY, timeout=60_000)
    return page


def choose(page: Page, files: list[Path], modality: str = "") -> None:
    page.select_option("#modality", modality)
    page.set_input_files("#files", [str(file) for file in files])
    page.wait_for_selector(DRAWN, timeout=60_000)
    page.wait_for_selector(READY)


def test_no_request_follows_and_the_network_may_go(context: BrowserContext, site: str, tmp_path: Path) -> None:
    errors: list[str] = []
    requests: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    page = visit(context, site)
    expect(page.locator("#offline")).to_contain_text("works without a network", timeout=60_000)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    loaded = [it for it in requests if it.startswith("http")]
    assert {urlsplit(it).netloc for it in loaded} == {urlsplit(site).netloc}
    requests.clear()
    choose(page, [PICTURE], "BT")
    expect(page.locator(".room-verdict h2")).to_have_text("Stroke")
    series = next(list_scans())
    for name, content in series.files.items():
        (tmp_path / name).write_bytes(content)
    choose(page, [tmp_path / name for name in series.files])
    expect(page.locator(".room-verdict h2")).to_contain_text("of 9 slices above the threshold")
    assert [it for it in requests if not it.startswith("blob:")] == []
    context.set_offline(True)
    page.reload()
    page.wait_for_selector(READY, timeout=60_000)
    choose(page, [PICTURE], "BT")
    expect(page.locator(".room-verdict h2")).to_have_text("Stroke")
    assert errors == []


def test_the_browser_refuses_every_other_connection(browser: Browser, site: str, dist: Path) -> None:
    """Of the page and of its worker, which would stand under no policy if it were not started from a blob."""
    asked: list[str] = []
    context = browser.new_context(service_workers="block")  # which would refuse it, too
    with load_server().make_server(dist) as other:
        other.RequestHandlerClass = _listen(asked)
        threading.Thread(target=other.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{other.server_port}/"
        page = visit(context, site)
        post = "fetch(url, {method: 'POST', body: 'pixels', mode: 'no-cors'})"
        send = f"url => {post}.then(() => 'sent', () => 'refused')"
        show = (
            "url => new Promise(done => Object.assign(new Image(), "
            "{onload: () => done('sent'), onerror: () => done('refused'), src: url}))"
        )
        (worker,) = (one for one in page.workers if one.url.startswith("blob:"))
        for place in (page, worker):
            assert place.evaluate(send, site) == "sent"  # so this is how something is sent
            assert place.evaluate(send, url) == "refused"
        assert page.evaluate(show, f"{url}x.png") == "refused"
        assert asked == []
        context.request.get(url)
        assert asked == ["/"]  # so this is how it would be noticed
        other.shutdown()
    context.close()


def _listen(asked: list[str]) -> Callable[..., object]:
    from http.server import BaseHTTPRequestHandler

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_POST = do_OPTIONS = do_GET  # noqa: N815  http.server names them so

        def log_message(self, *_: object) -> None:
            pass

    return Listener


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_hostile_files_get_a_sentence(engine: Engine, tmp_path: Path, step: int) -> None:
    engine.open([PICTURE], "BT")
    wanted = engine.answer(0)["probability"]
    for number, one in enumerate(list_hostile()[::step]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / one.name.replace("/", "_")).write_bytes(one.content)
        opened = engine.open(list(folder.iterdir()))
        found = opened if "error" in opened else engine.answer(0)
        raw = json.dumps([opened, found.get("error"), found.get("remarks")])
        assert "error" not in found or "alert(" not in raw  # an answer names its file, made safe
        assert not any(words in raw for words in SECRETS), raw[:500]
        if "error" in found:
            words = found["error"]
            assert words.endswith("."), (one.name, words)
            assert len(words) < 400, (one.name, words)
            assert "\n" not in words, (one.name, words)
            assert "<" not in words, (one.name, words)
            assert "Something went wrong" not in words, one.name
        else:
            assert one.slices or one.name == "four_volumes.nii", one.name
            assert 0 <= found["probability"] <= 1
    engine.open([PICTURE], "BT")
    assert engine.answer(0)["probability"] == wanted


@pytest.mark.parametrize(
    ("width", "dark"),
    [
        (390, True),
        *(pytest.param(*others, marks=pytest.mark.slow) for others in ((390, False), (1280, True), (1280, False))),
    ],
)
def test_axe_has_nothing_against_the_page(
    browser: Browser, site: str, axe: Callable[[Page], list[str]], width: int, dark: bool
) -> None:
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = visit(context, site)
    assert axe(page) == []
    choose(page, [PICTURE], "BT")
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.set_input_files("#files", [str(Path(__file__))])
    expect(page.locator("#status.error")).to_contain_text("is not a PNG")
    assert axe(page) == []
    context.close()


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("delete globalThis.WebAssembly", "has no WebAssembly, or it is switched off"),
        ("WebAssembly.validate = () => false", "has no WebAssembly SIMD"),
        ("delete globalThis.DecompressionStream", "is too old for the page"),
    ],
)
def test_a_browser_that_cannot_is_told_so(context: BrowserContext, site: str, missing: str, words: str) -> None:
    context.add_init_script(missing)
    page = context.new_page()
    page.goto(site)
    expect(page.locator("#status.error")).to_contain_text(words)
    expect(page.locator("#files")).to_be_disabled()


def test_without_scripts_a_sentence_stands_there(browser: Browser, site: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site)
    expect(page.locator("#status")).to_have_text("This page needs JavaScript, and a browser of 2023 or newer.")
    context.close()


def test_little_memory_is_told(context: BrowserContext, site: str) -> None:
    context.add_init_script("Object.defineProperty(Navigator.prototype, 'deviceMemory', {get: () => 1})")
    page = context.new_page()
    page.goto(site)
    expect(page.locator("#warning")).to_have_text(
        "This device has little memory; single slices work, a large scan may not open."
    )


def test_the_licences_of_all_parts_are_there(dist: Path) -> None:
    text = (dist / "THIRD_PARTY.md").read_text(encoding="utf-8")
    for name in ("onnxruntime-web", "dicom-parser", "fast-png", "fflate", "codec-charls", "codec-openjpeg"):
        assert f"{name} " in text
    assert text.count("Licence: ") == text.count("\n## ")
    assert "undefined" not in text
