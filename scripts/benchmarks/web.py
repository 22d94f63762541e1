"""The page that runs the model in the browser: a slice, against onnxruntime in Python on the same core."""

import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from benchmarks.timing import Row, describe_ratios
from playwright.sync_api import Page, sync_playwright

from stroke_hub.errors import RunError
from stroke_hub.inference.predictor import Predictor
from stroke_hub.models.sample import EXAMPLE
from stroke_hub.progress import track
from stroke_hub.scan.load_scan import load_scan
from stroke_hub.scan.scan import Scan

sys.path.append(str(Path(__file__).parents[2] / "web"))

from serve import DIST, make_server

FLAGS = ["--no-sandbox", "--disable-gpu"]
LOAD = """async () => {
  const { Engine } = await import("./engine.js");
  document.body.append(Object.assign(document.createElement("input"), { type: "file", id: "given" }));
  globalThis.engine = new Engine({ threads: 1 });
  const start = performance.now();
  await engine.load();
  return performance.now() - start;
}"""
FIRST = """async () => {
  const start = performance.now();
  await engine.open(document.querySelector("#given").files);
  await engine.answer(0);
  return performance.now() - start;
}"""
SLICES = "async (count) => { for (let k = 0; k < count; k++) await engine.answer(0); }"
WARM, TURN = 100, 25  # answers until the browser has compiled what it runs often; answers by turns


def benchmark_web(*, rounds: int = 12) -> list[Row]:
    """How many times as long a slice takes in Chromium, on one core with one thread; seconds to the first answer.

    What is compared is CPU time: of all processes of the browser together, and of this one.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or not (DIST / "files.json").is_file():
        raise RunError("Chromium or web/dist is missing; install chromium, and run `make web-build`.")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the browser inherits it
    predictor = Predictor.from_pretrained("sample", backend="onnx", threads=1)
    rows: list[Row] = []
    with make_server(DIST) as server, sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_context(service_workers="block").new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_selector("html[data-state=ready]", timeout=120_000)
        rows.append({"row": "load_seconds", "value": page.evaluate(LOAD) / 1000, "bar": "none"})
        files = {"192": EXAMPLE, "512": _write_volume(Path(folder) / "slice.nii")}
        for size, file in files.items():
            rows += _measure(page, predictor, file, size, rounds)
        browser.close()
        server.shutdown()
    return rows


def _measure(page: Page, predictor: Predictor, file: Path, size: str, rounds: int) -> list[Row]:
    page.set_input_files("#given", str(file))
    first = page.evaluate(FIRST) / 1000
    page.evaluate(SLICES, WARM)
    scan = load_scan(file)
    _explain(predictor, scan)
    pairs = []
    for _ in track(range(rounds), "timing"):
        before = _count_cpu_seconds()
        page.evaluate(SLICES, TURN)
        between, start = _count_cpu_seconds(), time.process_time()
        for _ in range(TURN):
            _explain(predictor, scan)
        pairs.append(((between - before) / TURN, (time.process_time() - start) / TURN))
    seconds = zip(("browser", "python"), zip(*pairs, strict=True), strict=True)
    return [
        {"row": f"first_answer_{size}_seconds", "value": first, "bar": "none"},
        *(
            {"row": f"{where}_{size}_seconds", "value": statistics.median(all_), "bar": "none"}
            for where, all_ in seconds
        ),
        describe_ratios(f"browser_over_python_{size}", pairs, "<= 3"),
    ]


def _explain(predictor: Predictor, scan: Scan) -> None:
    """Give one answer, decoded anew, with its maps laid over the slice, as the page does."""
    explained = predictor.explain(scan.slices[0])
    for layer in ("cnn", "vit", "fused"):
        explained.framed.lift(explained.get_shown(layer))


def _count_cpu_seconds() -> float:
    """CPU time so far of all processes that this one has started, the browser's too (Linux)."""
    parents, ticks = {}, {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        parents[int(entry.parent.name)] = int(fields[1])
        ticks[int(entry.parent.name)] = int(fields[11]) + int(fields[12])
    ours, found = {os.getpid()}, 0
    while len(ours) > found:
        found = len(ours)
        ours |= {process for process, parent in parents.items() if parent in ours}
    return sum(ticks[process] for process in ours - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def _write_volume(path: Path) -> Path:
    """A head of bone and brain in HU, drawn at 512 x 512."""
    import nibabel

    y, x = np.mgrid[:512, :512] - 255.5
    radius = np.hypot(x / 0.78, y / 0.95)
    voxels = np.full((512, 512), -1000.0)
    voxels[radius < 225] = 1200
    voxels[radius < 205] = 35
    voxels += np.random.default_rng(0).normal(0, 4, voxels.shape)
    nibabel.save(
        nibabel.Nifti1Image(np.rint(voxels).astype(np.int16)[..., None], np.diag([0.45, 0.45, 5, 1])), path
    )
    return path
