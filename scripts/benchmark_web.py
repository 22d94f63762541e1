#!/usr/bin/env python
"""Measure how long the page of web/ takes, beside onnxruntime in Python on the same core.

python scripts/benchmark_web.py
python scripts/benchmark_web.py --repeats 30

It needs Chromium and a built page (`make web-build`). Browser and Python answer by turns, on one core and with one
thread each.
"""

import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import tyro
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "web")]

from serve import DIST, make_server  # noqa: E402

from stroke_hub.inference.predictor import Predictor  # noqa: E402
from stroke_hub.models.sample import EXAMPLES  # noqa: E402
from stroke_hub.progress import say, track  # noqa: E402
from stroke_hub.scan.load_scan import load_scan  # noqa: E402
from stroke_hub.scan.scan import Scan  # noqa: E402

FLAGS = ["--no-sandbox", "--disable-gpu"]
ENGINE = """async () => {
  const { Engine } = await import("./engine.js");
  const input = Object.assign(document.createElement("input"), { type: "file", id: "given" });
  document.body.append(input);
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
SLICES = """async (count) => {
  const times = [];
  for (let k = 0; k < count; k++) {
    const start = performance.now();
    await engine.answer(0);
    times.push(performance.now() - start);
  }
  return times;
}"""
WARM, TURN = 60, 5  # answers until the browser has compiled what it runs often; answers by turns


def main(repeats: int = 20) -> None:
    """Measure and print.

    Args:
        repeats: turns of five answers, in the browser and in Python; the medians count.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or not (DIST / "files.json").is_file():
        sys.exit("error: Chromium or web/dist is missing; install chromium and run `make web-build`.")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the browser inherits it
    predictor = Predictor.from_pretrained("sample", backend="onnx", threads=1)
    with make_server(DIST) as server, sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_context(service_workers="block").new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_selector("html[data-state=ready]", timeout=120_000)
        say(f"The model is loaded from this machine in {page.evaluate(ENGINE):.0f} ms.")
        files = {
            "PNG of 192 x 192": next(EXAMPLES.rglob("strokeMR/*.png")),
            "NIfTI of one slice of 512 x 512": _write_volume(Path(folder) / "slice.nii"),
        }
        for name, file in files.items():
            first, theirs, ours = _measure(page, predictor, file, repeats)
            say(
                f"{name}: first answer {first:.0f} ms after the file was chosen; a slice {theirs:.0f} ms in the "
                f"browser, {ours:.0f} ms in Python, {theirs / ours:.2f} times."
            )
        browser.close()
        server.shutdown()


def _measure(page: Page, predictor: Predictor, file: Path, repeats: int) -> tuple[float, float, float]:
    """Milliseconds to the first answer, and of a later one in the browser and in Python, by turns."""
    page.set_input_files("#given", str(file))
    first = page.evaluate(FIRST)
    page.evaluate(SLICES, WARM)
    scan = load_scan(file)
    _explain(predictor, scan)
    theirs, ours = [], []
    for _ in track(range(repeats), "measuring"):
        theirs += page.evaluate(SLICES, TURN)
        ours += [_explain(predictor, scan) for _ in range(TURN)]
    return first, statistics.median(theirs), statistics.median(ours)


def _explain(predictor: Predictor, scan: Scan) -> float:
    """Milliseconds of one answer, decoded anew, with its maps laid over the slice, as the page gives it."""
    start = time.perf_counter()
    explained = predictor.explain(scan.slices[0])
    for layer in ("cnn", "vit", "fused"):
        explained.framed.lift(explained.get_shown(layer))
    return 1000 * (time.perf_counter() - start)


def _write_volume(path: Path) -> Path:
    """A head of bone and brain in HU, drawn at 512 x 512."""
    import nibabel

    y, x = np.mgrid[:512, :512] - 255.5
    radius = np.hypot(x / 0.78, y / 0.95)
    voxels = np.full((512, 512), -1000.0)
    voxels[radius < 225] = 1200
    voxels[radius < 205] = 35
    voxels += np.random.default_rng(0).normal(0, 4, voxels.shape)
    nibabel.save(nibabel.Nifti1Image(np.rint(voxels).astype(np.int16)[..., None], np.diag([0.45, 0.45, 5, 1])), path)
    return path


if __name__ == "__main__":
    tyro.cli(main)
