#!/usr/bin/env python
"""Rehearse the build of a Space: push it to a Hub on this machine, install its requirements, start it, ask it.

    python scripts/rehearse_space.py

The model is the sample model with its export. Prints packages, MB on disk without pip, and seconds.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Annotated

import tyro

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from stroke_hub.deploy.space import push_space  # noqa: E402
from stroke_hub.models.sample import EXAMPLE, SAMPLE_FOLDER  # noqa: E402
from stroke_hub.progress import say  # noqa: E402
from tests.fakes.hub_client import start_client  # noqa: E402
from tests.fakes.hub_server import Hub, serve_hub  # noqa: E402

MODEL, SPACE = "owner/sample", "owner/space"
PORT = 7917
TOOLS = ("pip", "setuptools", "pkg_resources", "_distutils_hack")


def write_space(hub: Hub, folder: Path) -> None:
    """Push the Space of the sample model to the Hub, and check it out into a folder."""
    files = {
        path.relative_to(SAMPLE_FOLDER).as_posix(): path for path in SAMPLE_FOLDER.rglob("*") if path.is_file()
    }
    hub.add(MODEL, {name: path.read_bytes() for name, path in files.items() if not name.startswith("examples/")})
    with start_client(hub, folder / "home") as client:
        client.call(push_space, SPACE, MODEL)
    for name, content in hub.files(SPACE, repo_type="space").items():
        file = folder / "space" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def install(folder: Path, interpreter: str) -> Path:
    """Install the Space's requirements into an empty environment; gives its interpreter."""
    subprocess.run([interpreter, "-m", "venv", folder / "env"], check=True)  # noqa: S603
    python = folder / "env" / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "-r", folder / "space" / "requirements.txt"]
    begun = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True)  # noqa: S603
    packages = [one["name"] for one in json.loads(listed.stdout) if one["name"] not in TOOLS]
    (site,) = (folder / "env" / "lib").glob("*/site-packages")
    files = (
        path for path in site.rglob("*") if path.is_file() and not path.relative_to(site).parts[0].startswith(TOOLS)
    )
    size = sum(path.stat().st_size for path in files) / 1e6
    say(f"{len(packages)} packages, {size:.0f} MB, installed in {time.monotonic() - begun:.0f} s")
    return python


def ask(url: str, file: Path) -> dict[str, object]:
    """Ask the running Space about a picture, as a program does."""
    head = '--x\r\nContent-Disposition: form-data; name="files"; filename="slice.png"\r\n\r\n'
    body = head.encode() + file.read_bytes() + b"\r\n--x--\r\n"
    path = post(f"{url}gradio_api/upload", body, "multipart/form-data; boundary=x")[0]
    data = {"file": {"path": path, "meta": {"_type": "gradio.FileData"}}}
    event = post(f"{url}gradio_api/call/v2/explain", json.dumps(data).encode(), "application/json")
    with urllib.request.urlopen(f"{url}gradio_api/call/explain/{event['event_id']}") as answer:  # noqa: S310
        text = answer.read().decode()
    if "event: complete" not in text:
        sys.exit(f"error: the Space does not answer: {text[:300]}")
    found: dict[str, object] = json.loads(text.strip().split("\n\n")[-1].split("\n", 1)[1].removeprefix("data: "))[
        0
    ]
    return found


def post(url: str, body: bytes, kind: str) -> dict[str, str] | list[str]:
    """The JSON that comes back."""
    request = urllib.request.Request(url, body, {"Content-Type": kind})  # noqa: S310  loopback
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.loads(answer.read())  # type: ignore[no-any-return]


def start(python: Path, hub: Hub, folder: Path) -> None:
    """Start the Space, and time it until its page and its first answer are there."""
    url = f"http://127.0.0.1:{PORT}/"
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("STROKE_HUB_", "PYTHON"))
    }
    own = {"GRADIO_SERVER_PORT": str(PORT), "GRADIO_TEMP_DIR": str(folder / "uploads")}
    environment = inherited | hub.environment(folder / "visitor", token=None) | own
    begun = time.monotonic()
    place = folder / "space"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([python, "app.py"], cwd=place, env=environment, stdout=log, stderr=log)  # noqa: S603
        try:
            while True:
                try:
                    urllib.request.urlopen(url).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        sys.exit(f"error: the Space does not start: {(folder / 'log').read_text()}")
                    time.sleep(0.02)
            page = time.monotonic() - begun
            found = ask(url, EXAMPLE)
            say(f"page after {page:.1f} s, first answer after {time.monotonic() - begun:.1f} s: {found['label']}")
        finally:
            process.terminate()
            process.wait()


def main(
    *,
    rounds: Annotated[int, tyro.conf.arg(help="starts that are timed")] = 3,
    interpreter: Annotated[str, tyro.conf.arg(help="of the Space, which has Python 3.12")] = sys.executable,
) -> None:
    """Rehearse it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with serve_hub(folder / "hub") as hub:
            write_space(hub, folder)
            python = install(folder, interpreter)
            for _ in range(rounds):
                start(python, hub, folder)


if __name__ == "__main__":
    tyro.cli(main)
