"""The price of loading: from_pretrained, which initialises nothing, against building one and loading into it."""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.machine import measure_read_rate
from benchmarks.timing import Row, describe_ratios, time_in_turns
from safetensors.torch import load_file

from stroke_hub import PRESETS, ResNetViT
from stroke_hub.models.weights import WEIGHTS_FILE


def construct_then_load(folder: Path) -> ResNetViT:
    """The usual way: random weights first, then copies of the stored ones over them."""
    model = ResNetViT(**json.loads((folder / "config.json").read_text()))
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return model.eval()


def benchmark_load() -> list[Row]:
    """How many times as long building and then loading takes, full preset, random weights; CPU and wall time."""
    clocks = {"cpu": time.process_time, "wall": time.perf_counter}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ResNetViT(**PRESETS["full"]).save_pretrained(folder)
        rows = []
        for kind, clock in clocks.items():
            pairs = time_in_turns(
                lambda: construct_then_load(folder),
                lambda: ResNetViT.from_pretrained(folder),
                rounds=5,
                clock=clock,
            )
            usual, ours = (float(np.median(seconds)) for seconds in zip(*pairs, strict=True))
            # the weights have just been written: they are read from the page cache, never from a disk
            floor = (folder / WEIGHTS_FILE).stat().st_size / measure_read_rate(clock)
            name = f"construct_over_from_pretrained_{kind}"
            rows.append(describe_ratios(name, pairs, ">= 3", floor=usual / floor))
            rows.append({"row": f"from_pretrained_{kind}_seconds", "value": ours, "bar": "none", "floor": floor})
    return rows
