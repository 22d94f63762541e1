"""Measure what docs/benchmarks.md claims: a table, and one JSON document as the last line.

    python scripts/benchmark.py all        # everything but coverage, recipe and scans: --out FOLDER keeps the table
    python scripts/benchmark.py coverage   # how often intervals hold the truth, on simulated patients
    python scripts/benchmark.py explain    # the price of an explanation, against forwards and grad-cam
    python scripts/benchmark.py load       # a saved model, against building one and loading into it
    python scripts/benchmark.py machine    # the machine's own rates, of which the floors are made
    python scripts/benchmark.py runtime    # the ONNX export, against eager PyTorch
    python scripts/benchmark.py report     # intervals by 10,000 resamples, against scikit-learn one at a time
    python scripts/benchmark.py scale      # an archive of slices, against a plain loop, and on Ray
    python scripts/benchmark.py scan       # a whole scan, against its slices; and in the demo, against the library
    python scripts/benchmark.py scans      # the probe in cross-validation over patients; rules by scan
    python scripts/benchmark.py space      # the demo: an upload, against a bare forward; a cold start
    python scripts/benchmark.py train      # training, against a plain notebook of the same model
    python scripts/benchmark.py volumes    # the slices of volumes, against plain nibabel
    python scripts/benchmark.py web        # a slice in the browser, against Python
    python scripts/benchmark.py recipe     # training recipes and their ingredients, against each other

Two things compared always run in turns in one process, and the middle of their ratios counts. The floor beside a
row is the value that it would have if it took no longer than its operations, or its bytes, take at the machine's
own rate. The document holds every value under its row's name, the rows with all that is known of them, and the
machine.
"""

import json
import sys

import tyro
from benchmarks.all import benchmark_all, describe_row, make_document
from benchmarks.coverage import benchmark_coverage
from benchmarks.explain import benchmark_explain
from benchmarks.load import benchmark_load
from benchmarks.machine import benchmark_machine, describe_machine
from benchmarks.recipe import benchmark_recipe
from benchmarks.report import benchmark_report
from benchmarks.runtime import benchmark_runtime
from benchmarks.scale import benchmark_scale
from benchmarks.scan import benchmark_scan
from benchmarks.scans import benchmark_scans
from benchmarks.space import benchmark_space
from benchmarks.train import benchmark_train
from benchmarks.volumes import benchmark_volumes
from benchmarks.web import benchmark_web

from stroke_hub.errors import StrokeHubError
from stroke_hub.progress import say

BENCHMARKS = {
    "all": benchmark_all,
    "coverage": benchmark_coverage,
    "explain": benchmark_explain,
    "load": benchmark_load,
    "machine": benchmark_machine,
    "recipe": benchmark_recipe,
    "report": benchmark_report,
    "runtime": benchmark_runtime,
    "scale": benchmark_scale,
    "scan": benchmark_scan,
    "scans": benchmark_scans,
    "space": benchmark_space,
    "train": benchmark_train,
    "volumes": benchmark_volumes,
    "web": benchmark_web,
}


def main() -> None:
    """Run the benchmark that the command line names."""
    machine = describe_machine()
    try:
        rows = tyro.extras.subcommand_cli_from_dict(BENCHMARKS, description=__doc__)
    except StrokeHubError as error:
        sys.exit(f"error: {error}")
    for row in rows:
        claim, measured, bar, met, floor = describe_row(row)
        claim = f"{row['benchmark']}: {claim}" if "benchmark" in row else claim
        verdict = " ".join(word for word in (bar, met.strip("*")) if word)
        say(f"{claim:<48}{measured:<28}{verdict:<14}{floor and f'floor {floor}'}".rstrip())
    print(json.dumps(make_document(sys.argv[1], machine, rows)))


if __name__ == "__main__":
    main()
