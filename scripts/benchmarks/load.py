"""The price of loading: from_pretrained, which initialises nothing, against building one and loading into it."""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmarks.timing import Row, describe_ratios, time_in_turns
from safetensors.torch import load_file

from stroke_hub import PRESETS, ResNetViT


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
            seconds = {"seconds": float(np.median([ours for _, ours in pairs]))}
            rows.append(describe_ratios(f"construct_over_from_pretrained_{kind}", pairs, ">= 3", **seconds))
    return rows
