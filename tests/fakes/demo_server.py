"""Start the demo as a process, visit it in a browser that must stay on this machine, and call it by plain HTTP."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
LOOPBACK = ("127.0.0.1", "localhost")
# put before everything else on the path: importing timm, without which there is no model, waits for a file
GATE = """
import builtins, os, time
plain, gate = builtins.__import__, os.environ["DEMO_GATE"]
def wait(name, *rest, **options):
    while name == "timm" and not os.path.exists(gate):
        time.sleep(0.05)
    return plain(name, *rest, **options)
builtins.__import__ = wait
"""


@contextmanager
def serve(folder: Path, script: Path = ROOT / "space" / "app.py", **environment: str) -> Iterator[str]:
    """Start the demo as a process in `folder` and yield its address as soon as the page answers.

    The model may still load then. Uploads lie in `folder`/uploads, the log in `folder`/log, the number of the
    process in `folder`/pid.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    own = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads"), "HF_HUB_OFFLINE": "1"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STROKE_HUB_")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, script],
            env=inherited | own | environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        (folder / "pid").write_text(str(process.pid))
        try:
            await_answer(url, process, folder / "log")
            yield url
        finally:
            process.terminate()
            process.wait(timeout=20)


def await_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url).close()  # noqa: S310  loopback
            return
        except OSError:
            time.sleep(0.25)
    raise AssertionError(f"the demo does not answer: {log.read_text()}")


def write_gate(folder: Path) -> dict[str, str]:
    """Make an environment for `serve` in which no model loads before `folder`/gate exists."""
    (folder / "held").mkdir()
    (folder / "held" / "sitecustomize.py").write_text(GATE)
    path = os.pathsep.join(filter(None, (str(folder / "held"), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "DEMO_GATE": str(folder / "gate")}


@contextmanager
def visit(browser: Browser, url: str, *, width: int = 1280, dark: bool = False) -> Iterator[Page]:
    """Open a page; every request must stay on this machine, and the console free of errors."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
    )
    requests: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    yield page
    context.close()
    away = [it for it in requests if it.startswith("http") and urlsplit(it).hostname not in LOOPBACK]
    assert requests
    assert away == []
    assert errors == []


class Visitor:
    """A client that speaks plain HTTP; threads may share one."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        answer = self.http.post("upload", files={"files": (name, content)}).raise_for_status()
        return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}

    def ask(self, endpoint: str, **body: object) -> tuple[str, Any, str]:
        """Call an endpoint; return its last event, the data of that event, and the whole answer as text."""
        event = self.http.post(f"call/v2/{endpoint}", json=body).raise_for_status().json()["event_id"]
        raw = self.http.get(f"call/{endpoint}/{event}").text
        kind, data = raw.strip().split("\n\n")[-1].split("\n", 1)
        return kind.removeprefix("event: "), json.loads(data.removeprefix("data: ")), raw
