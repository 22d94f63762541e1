"""The price of an archive: scripts/predict.py's engine against a plain loop over the files, and Ray beside both."""

import importlib.util
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from benchmarks.machine import count_flops, measure_torch_rate
from benchmarks.timing import Row, describe_ratios, time_in_turns
from PIL import Image

from stroke_hub import PRESETS, Predictor, ResNetViT, load_slices
from stroke_hub.batch.pipeline import PredictSettings, load_model, predict_archive, predict_chunks
from stroke_hub.deploy.export import export
from stroke_hub.inference.onnx_model import count_cores
from stroke_hub.inference.predict import to_float_pixels, to_pixels

SIDE = 512  # pixels of a CT slice
SETTINGS = PredictSettings()


def write_slices(folder: Path, count: int) -> list[Path]:
    """Smooth pictures with grain, about as many bytes as slices of a head have."""
    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        coarse = Image.fromarray(generator.integers(0, 200, (16, 16), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        paths.append(folder / f"{index:05d}.png")
        Image.fromarray(smooth + generator.integers(0, 4, (SIDE, SIDE), dtype=np.uint8)).save(paths[-1])
    return paths


def predict_plainly(model: ResNetViT, paths: list[Path]) -> list[float]:
    """What one writes first: a file after another, decoded and through the model, on torch's own threads."""
    answers = []
    with torch.inference_mode():
        for path in paths:
            logits = model(to_float_pixels(to_pixels(model, load_slices(path)), "cpu"))
            answers.append(float(logits[0, 1] - logits[0, 0]))
    return answers


def benchmark_scale(
    preset: Literal["compact", "tiny", "full"] = "compact", slices: int = 256, rounds: int = 5, ray: bool = True
) -> list[Row]:
    """How many times as long a plain loop takes as the archive's engine; wall time, since both use all cores.

    Args:
        preset: of the model, with random weights.
        slices: files of 512 x 512 pixels, PNG.
        rounds: in turns.
        ray: measure what a local Ray cluster costs too, where it is installed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = ResNetViT(**PRESETS[preset]).eval()
        model.save_pretrained(folder / "model")
        (folder / "slices").mkdir()
        paths = write_slices(folder / "slices", slices)

        def predict_here(with_model: ResNetViT | Predictor = model) -> None:
            predict_archive(
                lambda chunks: predict_chunks(with_model, chunks, SETTINGS),
                [folder / "slices"],
                folder / "predictions.csv",
                SETTINGS,
                about={},
            )

        pairs = time_in_turns(
            lambda: predict_plainly(model, paths), predict_here, rounds=rounds, clock=time.perf_counter
        )
        plain, seconds = (float(np.median(spent)) for spent in zip(*pairs, strict=True))
        x = torch.zeros(1, 3, model.image_size, model.image_size)
        with torch.inference_mode():
            flops = count_flops(lambda: model(x))
        # decoding for nothing, every core ours and as fast as in a large matrix product: by CPU time, which other
        # programs do not lengthen
        floor = slices * flops / (count_cores() * measure_torch_rate(1, time.process_time))
        rows = [
            describe_ratios(
                "predict", pairs, ">= 1.8" if preset == "compact" else "none", preset=preset, floor=plain / floor
            ),
            {
                "row": "predict_slices_per_second",
                "value": slices / seconds,
                "bar": "none",
                "floor": slices / floor,
            },
        ]
        if ray and importlib.util.find_spec("ray"):
            rows.append(_measure_ray(folder, seconds))
        if importlib.util.find_spec("onnx"):
            export(folder / "model")
            for precision in ("fp32", "int8"):
                faster = load_model(str(folder / "model"), None, backend="onnx", precision=precision)
                pairs = time_in_turns(
                    lambda: predict_plainly(model, paths),
                    partial(predict_here, faster),
                    rounds=rounds,
                    clock=time.perf_counter,
                )
                rows.append(
                    describe_ratios(
                        f"predict_onnx_{precision}",
                        pairs,
                        ">= 1.8" if preset == "compact" else "none",
                        preset=preset,
                    )
                )
    return rows


def _measure_ray(folder: Path, seconds: float) -> Row:
    from stroke_hub.batch.ray_engine import predict_on_cluster

    start = time.perf_counter()
    predict_archive(
        lambda chunks: predict_on_cluster(
            partial(load_model, str(folder / "model"), None), chunks, settings=SETTINGS
        ),
        [folder / "slices"],
        folder / "ray.csv",
        SETTINGS,
        about={},
    )
    spent = time.perf_counter() - start
    same = (folder / "ray.csv").read_bytes() == (folder / "predictions.csv").read_bytes()
    return {"row": "ray_further_seconds", "value": spent - seconds, "bar": "none", "same_rows": same}
