"""The built page of web/ behind a server on this machine, and its engine in a headless browser."""

import base64
import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
DIST = ROOT / "web" / "dist"
# arrays travel as base64: playwright's own way takes a second for each map
ENGINE = """async () => {
  const { Engine } = await import("./engine.js");
  const input = document.createElement("input");
  Object.assign(input, { type: "file", multiple: true, id: "given" });
  document.body.append(input);
  const pack = (one) => {
    if (!ArrayBuffer.isView(one)) return one;
    const bytes = new Uint8Array(one.buffer, one.byteOffset, one.byteLength);
    let text = "";
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    return { dtype: one.constructor.name, bytes: btoa(text) };
  };
  const flat = (one) => Object.fromEntries(Object.entries(one).map(([key, value]) =>
    [key, value && value.constructor === Object ? flat(value) : pack(value)]));
  globalThis.engine = new Engine();
  globalThis.told = async (asked) => {
    try { return flat(await asked); } catch (error) { return { error: error.message }; }
  };
  await engine.load();
}"""
TYPES = {
    "Uint8Array": np.uint8,
    "Int16Array": np.int16,
    "Float32Array": np.float32,
}


def unpack(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"dtype", "bytes"}:
            return np.frombuffer(base64.b64decode(value["bytes"]), TYPES[value["dtype"]])
        return {key: unpack(one) for key, one in value.items()}
    return value


class Engine:
    """The page's engine: it opens files and answers, as stroke_hub/web's page asks it to."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.evaluate(ENGINE)

    def open(self, files: Sequence[Path], modality: str | None = None) -> dict[str, Any]:
        self.page.set_input_files("#given", [str(file) for file in files])
        return self.ask(f"engine.open(document.querySelector('#given').files, {{modality: {modality!r}}})")

    def answer(self, index: int) -> dict[str, Any]:
        return self.ask(f"engine.answer({index})")

    def scan(self) -> dict[str, Any]:
        return self.ask("engine.scan()")

    def ask(self, words: str) -> dict[str, Any]:
        words = words.replace("None", "null")
        found: dict[str, Any] = unpack(self.page.evaluate(f"() => told({words})"))
        return found


def load_server() -> Any:
    spec = importlib.util.spec_from_file_location("serve", ROOT / "web" / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def dist() -> Path:
    if not (DIST / "index.html").is_file():
        if os.environ.get("REQUIRE_WEB") == "1":
            pytest.fail("REQUIRE_WEB is 1, but web/dist is not built.")
        pytest.skip("web/dist is not built; run `make web-build`.")
    return DIST


@pytest.fixture(scope="session")
def site(dist: Path) -> Iterator[str]:
    with load_server().make_server(dist) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def engine(browser: Browser, site: str) -> Iterator[Engine]:
    context = browser.new_context(service_workers="block")
    page = context.new_page()
    page.goto(site)
    yield Engine(page)
    context.close()
