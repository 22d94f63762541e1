"""Measure what the README claims: a table, and one JSON document as the last line.

    python scripts/benchmark.py explain    # the price of an explanation, against forwards and grad-cam
    python scripts/benchmark.py load       # a saved model, against building one and loading into it
    python scripts/benchmark.py runtime    # the ONNX export, against eager PyTorch
    python scripts/benchmark.py report     # intervals by 10,000 resamples, against scikit-learn one at a time
    python scripts/benchmark.py scale      # an archive of slices, against a plain loop, and on Ray
    python scripts/benchmark.py space      # the demo: an upload, against a bare forward; a cold start
    python scripts/benchmark.py train      # training, against a plain notebook of the same model
    python scripts/benchmark.py recipe     # training recipes and their ingredients, against each other

Two things compared always run in turns in one process, and the middle of their ratios counts.
"""

import json
import os
import platform
import sys

import torch
import tyro
from benchmarks.explain import benchmark_explain
from benchmarks.load import benchmark_load
from benchmarks.recipe import benchmark_recipe
from benchmarks.report import benchmark_report
from benchmarks.runtime import benchmark_runtime
from benchmarks.scale import benchmark_scale
from benchmarks.space import benchmark_space
from benchmarks.timing import DEVICE
from benchmarks.train import benchmark_train

from stroke_hub.errors import StrokeHubError
from stroke_hub.progress import say

BENCHMARKS = {
    "explain": benchmark_explain,
    "load": benchmark_load,
    "recipe": benchmark_recipe,
    "report": benchmark_report,
    "runtime": benchmark_runtime,
    "scale": benchmark_scale,
    "space": benchmark_space,
    "train": benchmark_train,
}


def main() -> None:
    """Run the benchmark that the command line names."""
    machine = {
        "device": torch.cuda.get_device_name() if DEVICE == "cuda" else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2),
    }
    try:
        rows = tyro.extras.subcommand_cli_from_dict(BENCHMARKS, description=__doc__)
    except StrokeHubError as error:
        sys.exit(f"error: {error}")
    for row in rows:
        spread = f"[{row['low']:.2f}, {row['high']:.2f}]" if "low" in row else ""
        say(f"{row['row']:<36}{row['value']:>10.4f}  {spread:<18}bar {row['bar']}")
    print(json.dumps({"benchmark": sys.argv[1], "machine": machine, "rows": rows}))


if __name__ == "__main__":
    main()
