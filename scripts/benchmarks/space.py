"""The demo: an upload over one bare forward, and a cold start over importing what it cannot do without."""

import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.machine import count_flops, has_onnx, measure_onnx_rate, measure_torch_rate
from benchmarks.timing import DEVICE, Clock, Row, describe_ratios, time_in_turns
from PIL import Image

from stroke_hub import PRESETS, ResNetViT
from stroke_hub.deploy.export import export
from stroke_hub.inference.relevance import compute_relevance
from stroke_hub.progress import track

SPACE = Path(__file__).parent.parent.parent / "space"
SIDE = 512  # px of the upload, as scanners make them
ROUNDS = 31
STARTS = 5
IMPORTS = """
import gradio, timm, torch
from safetensors.torch import load_file
load_file(r"{weights}")
"""


def save_model(folder: Path) -> Path:
    """The full preset with random weights."""
    torch.manual_seed(0)
    ResNetViT(**PRESETS["full"]).save_pretrained(folder)
    return folder


def draw_upload() -> bytes:
    """A PNG of a bright ellipse with noise: as large, and as hard to pack, as a slice."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    noise = np.random.default_rng(0).normal(0, 8, (SIDE, SIDE))
    buffer = io.BytesIO()
    head = np.where((x / 0.7) ** 2 + (y / 0.85) ** 2 < 1, 110 + noise, 0)
    Image.fromarray(head.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def measure_upload(folder: Path) -> list[Row]:
    """From the file on the disk to the bytes that the browser gets, in turns with a forward; CPU and wall time."""
    sys.path.insert(0, str(SPACE))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr
    import orjson
    from demo_model import DemoModel
    from explain_tab import ExplainTab
    from uploads import UploadSessions

    file = folder / "upload.png"
    file.write_bytes(draw_upload())
    demo_model = DemoModel(str(folder))
    with gr.Blocks():
        tab = ExplainTab(demo_model, UploadSessions())
    model = ResNetViT.from_pretrained(folder, device=DEVICE)
    x = torch.rand(1, 3, model.image_size, model.image_size).to(DEVICE)

    def answer() -> bytes:
        *_, changes = tab.open_upload([str(file)], "auto", "brain", "Stroke", "relevance", 1)
        return orjson.dumps([changes[tab.text], changes[tab.viewer]])

    @torch.inference_mode()
    def run_forward() -> object:
        return model(x)

    rows, name = [], f"upload_to_maps_{demo_model.predictor.backend}"
    for kind, clock in (("cpu", time.process_time), ("wall", time.perf_counter)):
        pairs = time_in_turns(answer, run_forward, rounds=ROUNDS, clock=clock)
        further: dict[str, Any] = {"forward_ms": 1000 * float(np.median([bare for _, bare in pairs]))}
        further["sent_kib"] = len(answer()) / 1024
        if DEVICE == "cpu":
            further["floor"] = find_floor(folder, x, clock) / further["forward_ms"] * 1000
        rows.append(describe_ratios(f"{name}_over_forward_{kind}", pairs, "<= 1.50", **further))
    return rows


def find_floor(folder: Path, x: torch.Tensor, clock: Clock) -> float:
    """An explanation's operations in seconds, by the runtime that multiplies faster: a page may use either."""
    model, threads = ResNetViT.from_pretrained(folder), torch.get_num_threads()
    rates = [measure_torch_rate(threads, clock), *([measure_onnx_rate(threads, clock)] if has_onnx() else [])]
    return count_flops(lambda: compute_relevance(model, x)) / max(rates)


def start_demo(folder: Path) -> tuple[float, float]:
    """Seconds from the start of a process until its page answers, and until it has answered a first upload."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"GRADIO_SERVER_PORT": str(port), "STROKE_HUB_MODEL": str(folder), "HF_HUB_OFFLINE": "1"}
    url = f"http://127.0.0.1:{port}/"
    start = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, str(SPACE / "app.py")],
        env=os.environ | own,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                urllib.request.urlopen(url).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError("the demo does not start") from None
                time.sleep(0.02)
        page = time.perf_counter() - start
        boundary = "slice"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="slice.png"\r\n\r\n'
        body = head.encode() + draw_upload() + f"\r\n--{boundary}--\r\n".encode()
        path = post(f"{url}gradio_api/upload", body, f"multipart/form-data; boundary={boundary}")[0]
        data = [{"path": path, "orig_name": "slice.png", "meta": {"_type": "gradio.FileData"}}, "brain", "auto"]
        event = post(f"{url}gradio_api/call/predict", json.dumps({"data": data}).encode(), "application/json")
        answer = urllib.request.urlopen(f"{url}gradio_api/call/predict/{event['event_id']}").read()  # noqa: S310
        if b"event: complete" not in answer:
            raise RuntimeError(f"the demo does not answer: {answer.decode()[:200]}")
        return page, time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


def post(url: str, body: bytes, kind: str) -> Any:
    """The JSON that comes back."""
    ask = urllib.request.Request(url, body, {"Content-Type": kind})  # noqa: S310  loopback
    return json.loads(urllib.request.urlopen(ask).read())  # noqa: S310


def measure_start(folder: Path, name: str, bar: str) -> list[Row]:
    """A process until it answers, in turns with one that imports gradio, torch and timm and reads the weights."""
    code = IMPORTS.format(weights=folder / "model.safetensors")
    pages, models = [], []
    for number in track(range(STARTS + 1), "starting"):
        page, model = start_demo(folder)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
        bare = time.perf_counter() - start
        if number:  # the first of each reads the files from the disk
            pages.append((page, bare))
            models.append((model, bare))
    further = {"imports_seconds": float(np.median([bare for _, bare in pages]))}
    return [
        describe_ratios(f"page_{name}_over_imports", pages, bar, **further),
        describe_ratios(f"first_answer_{name}_over_imports", models, bar),
    ]


def benchmark_space() -> list[Row]:
    """Measure the demo with the full preset and random weights, by PyTorch and exported. About 5 minutes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_model(Path(scratch))
        rows = [*measure_upload(folder), *measure_start(folder, "torch", "<= 1.30")]
        export(folder, precisions=["fp32"])
        return [*rows, *measure_upload(folder), *measure_start(folder, "onnx", "<= 0.70")]
