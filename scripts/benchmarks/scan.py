"""A whole scan over its slices one by one; and the demo, from the upload to the answer, over the library alone."""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from benchmarks.timing import Row, describe_ratios, time_in_turns

from stroke_hub import Predictor, load_scan, load_slices, predict
from stroke_hub.models.sample import SAMPLE

SPACE = Path(__file__).parent.parent.parent / "space"
SLICES, SIDE = 40, 512  # as scanners make them
ROUNDS = 15


def write_volume(folder: Path) -> Path:
    """A head of ellipses with noise in Hounsfield units, as hard to read as a scan."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    generator = np.random.default_rng(0)
    voxels = np.full((SIDE, SIDE, SLICES), -1000, np.int16)
    for number, width in enumerate(np.cos(np.linspace(-1.1, 1.1, SLICES))):
        radius = (x / (0.7 * width)) ** 2 + (y / (0.85 * width)) ** 2
        voxels[radius < 1, number] = 900
        inside = radius < 0.85
        voxels[inside, number] = generator.normal(32, 8, int(inside.sum()))
    file = folder / "head.nii"
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-0.45, -0.45, 5, 1])), file)
    return file


def measure_scan(file: Path, predictor: Predictor) -> list[Row]:
    """Load and judge a scan, in turns with loading its slices and predicting them, in CPU time."""
    pairs = time_in_turns(
        lambda: predict(predictor, load_scan(file)),
        lambda: predict(predictor, load_slices(file)),
        rounds=ROUNDS,
        clock=time.process_time,
    )
    slices_ms = 1000 * float(np.median([slices for _, slices in pairs]))
    return [describe_ratios("scan_over_slices_cpu", pairs, "<= 1.10", slices=SLICES, slices_ms=slices_ms)]


def measure_demo(file: Path, predictor: Predictor) -> list[Row]:
    """From the uploaded file to the bytes that a browser gets, in turns with `predict` of the scan, in CPU time."""
    sys.path.insert(0, str(SPACE))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr
    import orjson
    from demo_model import DemoModel
    from explain_tab import ExplainTab
    from uploads import UploadSessions

    demo_model = DemoModel(SAMPLE)
    with gr.Blocks():
        tab = ExplainTab(demo_model, UploadSessions())

    def upload(*, maps: bool) -> int:
        sent = 0
        for changes in tab.open_upload([str(file)], "auto", "auto", "Stroke", "relevance", 1):
            shown = [changes[part] for part in (tab.scan, tab.text, tab.viewer) if part in changes]
            sent += len(orjson.dumps(shown, default=str))
            if (
                tab.study not in changes
                and tab.cancel in changes
                and not changes[tab.cancel]["visible"]
                and not maps
            ):
                break  # the answer is there, its highest slice not yet explained
        return sent

    rows = []
    for name, maps, bar in (("answer", False, "<= 1.50"), ("maps", True, "none")):
        pairs = time_in_turns(
            lambda maps=maps: upload(maps=maps),  # type: ignore[misc]
            lambda: predict(predictor, load_scan(file)),
            rounds=ROUNDS,
            clock=time.process_time,
        )
        further: dict[str, Any] = {"predict_ms": 1000 * float(np.median([bare for _, bare in pairs]))}
        further["sent_kib"] = upload(maps=maps) / 1024
        rows.append(describe_ratios(f"demo_upload_to_{name}_over_predict_cpu", pairs, bar, **further))
    return rows


def benchmark_scan() -> list[Row]:
    """Measure a scan of 40 slices of 512 x 512 with the sample model, by the library and in the demo. A minute."""
    predictor = Predictor.from_pretrained(SAMPLE)
    with tempfile.TemporaryDirectory() as scratch:
        file = write_volume(Path(scratch))
        return [*measure_scan(file, predictor), *measure_demo(file, predictor)]
