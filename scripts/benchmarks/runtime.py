"""What answers without PyTorch cost: time, bytes, differences and the start, over a bare eager forward."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarks.explain import build, explain_with_grad_cam
from benchmarks.machine import count_flops_apart, measure_onnx_rate, measure_torch_rate
from benchmarks.timing import Clock, Row, describe_ratios
from safetensors.torch import load_file, save_file

from stroke_hub import Predictor, ResNetViT, explain
from stroke_hub.deploy.export import export
from stroke_hub.inference.onnx_model import FILES, FOLDER
from stroke_hub.inference.predict import to_float_pixels
from stroke_hub.inference.relevance import compute_relevance
from stroke_hub.models.weights import WEIGHTS_FILE, halve_weights
from stroke_hub.progress import say, track

PRESET = "full"
ANSWER = """
import time; start = time.perf_counter(), time.process_time()
import numpy as np
from stroke_hub import Predictor, Slice
predictor = Predictor.from_pretrained({folder!r}, backend={backend!r}, precision={precision!r}, device="cpu")
predictor.explain(Slice(np.zeros((512, 512), np.uint8)))
print(time.perf_counter() - start[0], time.process_time() - start[1])
"""
IMPORT = """
import sys, time; before = set(sys.modules); start = time.perf_counter(); import stroke_hub
seconds = time.perf_counter() - start
heavy = {"torch", "timm", "gradio", "matplotlib", "sklearn"} & set(sys.modules)
print(seconds, len(heavy))
"""


def time_in_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[dict[str, float]]]:
    """CPU and wall seconds of each call in every round, after two unmeasured ones."""
    for call in calls.values():
        call(), call()
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for _ in track(range(rounds), "timing"):
        for name, call in calls.items():
            start = time.process_time(), time.perf_counter()
            call()
            seconds[name].append({"cpu": time.process_time() - start[0], "wall": time.perf_counter() - start[1]})
    return seconds


def compare(
    name: str, seconds: dict[str, list[dict[str, float]]], pair: tuple[str, str], bar: str, clock: str = "cpu"
) -> Row:
    """How many times as long the first of a pair takes as the second, round by round."""
    first, second = ([turn[clock] for turn in seconds[call]] for call in pair)
    milliseconds = {"ms": 1000 * statistics.median(first), "eager_ms": 1000 * statistics.median(second)}
    return describe_ratios(name, list(zip(first, second, strict=True)), bar, **milliseconds)


def read_largest_difference(model: ResNetViT, predictor: Predictor, squares: torch.Tensor) -> tuple[float, float]:
    """Of the maps and of the contributions, against PyTorch."""
    maps, parts = [0.0], [0.0]
    for ours, theirs in zip(explain(model, squares), predictor.explain(squares), strict=True):
        for name in ("cnn_map", "vit_map", "cnn_evidence", "vit_evidence", "fused_map"):
            maps.append(float(np.abs(getattr(ours, name) - getattr(theirs, name)).max()))
        parts += [abs(ours.contributions[key] - theirs.contributions[key]) for key in ours.contributions]
    return max(maps), max(parts)


def run_apart(code: str) -> list[float]:
    """The numbers that a fresh interpreter prints: medians of three, after one that fills the caches."""
    runs = []
    for _ in range(4):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  ours
        runs.append([float(word) for word in done.stdout.split()])
    return [statistics.median(numbers) for numbers in zip(*runs[1:], strict=True)]


def benchmark_runtime(rounds: int = 21, threads: int = 2, starts: bool = True) -> list[Row]:
    """Measure the exported model, full preset, random weights, one slice, over a bare eager forward.

    Args:
        rounds: how often each is timed.
        threads: of PyTorch and of onnxruntime alike.
        starts: whether cold starts in fresh interpreters are timed too.
    """
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, square = build(PRESET)
        model = model.cpu()
        model.save_pretrained(folder)
        export(folder)
        fp32, int8 = (
            Predictor.from_pretrained(folder, backend="onnx", precision=precision, threads=threads)
            for precision in ("fp32", "int8")
        )
        rows = _time_answers(model, square, fp32, int8, rounds, threads)
        rows += _compare_answers(model, fp32, int8)
        rows += _weigh_files(folder)
        rows += _time_starts(name) if starts else []
        return rows


def _time_answers(
    model: ResNetViT, square: torch.Tensor, fp32: Predictor, int8: Predictor, rounds: int, threads: int
) -> list[Row]:
    x = to_float_pixels(square, "cpu")

    @torch.inference_mode()
    def run_forward() -> torch.Tensor:
        return model(x)

    calls: dict[str, Callable[[], object]] = {
        "forward": run_forward,
        "predict_fp32": lambda: fp32.predict(square),
        "predict_int8": lambda: int8.predict(square),
        "explain_fp32": lambda: fp32.explain(square),
        "explain_int8": lambda: int8.explain(square),
    }
    seconds = time_in_turns(calls, rounds)
    bars = {"predict_fp32": 1 / 1.2, "predict_int8": 1 / 1.8, "explain_fp32": 0.80}
    rows = []
    for clock, suffix, tick in (("cpu", "", time.process_time), ("wall", "_wall", time.perf_counter)):
        eager = statistics.median(turn[clock] for turn in seconds["forward"])
        floors = find_floors(model, x, threads, tick)
        for call in list(calls)[1:]:
            bar = f"<= {bars[call]:.2f}" if call in bars and clock == "cpu" else "none"
            row = compare(f"{call}{suffix}", seconds, (call, "forward"), bar, clock)
            rows.append(row | {"floor": floors[call[-4:]] / eager})
    usual = {"usual": lambda: explain_with_grad_cam(model, x), "explain_int8": calls["explain_int8"]}
    seconds = time_in_turns(usual, max(3, rounds // 4))
    rows.append(compare("grad_cam_and_rollout_over_explain_int8", seconds, ("usual", "explain_int8"), ">= 12"))
    rate = measure_torch_rate(1, time.process_time)
    rows.append({"row": "eager_gflops_a_second_one_thread", "value": rate / 1e9, "bar": "none"})
    return rows


def find_floors(model: ResNetViT, x: torch.Tensor, threads: int, clock: Clock) -> dict[str, float]:
    """Seconds of the operations of the exported graph, which answers and explains, at onnxruntime's own rates."""
    convolutions, products = count_flops_apart(lambda: compute_relevance(model, x))
    fp32, int8 = (measure_onnx_rate(threads, clock, precision) for precision in ("fp32", "int8"))
    # convolutions stay in float32: onnxruntime has no fast ones of integers
    return {"fp32": (convolutions + products) / fp32, "int8": convolutions / fp32 + products / int8}


def _compare_answers(model: ResNetViT, fp32: Predictor, int8: Predictor) -> list[Row]:
    generator = torch.Generator().manual_seed(1)
    squares = torch.randint(0, 256, (4, *[model.image_size] * 2), dtype=torch.uint8, generator=generator)
    maps, contributions = read_largest_difference(model, fp32, squares)
    rounded = np.abs(int8.predict(squares).probability - fp32.predict(squares).probability).max()
    return [
        {"row": "largest_difference_of_maps_fp32", "value": maps, "bar": "<= 0.0001"},
        {"row": "largest_difference_of_contributions_fp32", "value": contributions, "bar": "<= 0.0001"},
        {"row": "largest_change_of_probability_int8", "value": float(rounded), "bar": "none"},
    ]


def _weigh_files(folder: Path) -> list[Row]:
    whole = (folder / WEIGHTS_FILE).stat().st_size
    save_file(halve_weights(load_file(folder / WEIGHTS_FILE)), folder / "half")
    sizes = {
        "bytes_fp16": ((folder / "half").stat().st_size, "<= 0.51"),
        "bytes_onnx_int8": ((folder / FOLDER / FILES["int8"]).stat().st_size, "<= 0.45"),
        "bytes_onnx_fp32": ((folder / FOLDER / FILES["fp32"]).stat().st_size, "none"),
    }
    return [{"row": row, "value": size / whole, "bar": bar, "bytes": size} for row, (size, bar) in sizes.items()]


def _time_starts(folder: str) -> list[Row]:
    say("starting fresh interpreters")
    seconds, heavy = run_apart(IMPORT)
    rows: list[Row] = [
        {"row": "import_seconds", "value": seconds, "bar": "none"},
        {"row": "import_heavy_modules", "value": heavy, "bar": "0"},
    ]
    for backend, precision in (("torch", "fp32"), ("onnx", "fp32"), ("onnx", "int8")):
        wall, cpu = run_apart(ANSWER.format(folder=folder, backend=backend, precision=precision))
        rows.append(
            {"row": f"first_answer_seconds_{backend}_{precision}", "value": wall, "bar": "none", "cpu": cpu}
        )
    return rows
