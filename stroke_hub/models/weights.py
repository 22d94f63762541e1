"""The files of a saved model: read, checked, and refused where they are not exactly those of a ResNetViT."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from huggingface_hub import constants

from stroke_hub.errors import ModelFormatError
from stroke_hub.metrics.highest_mean import HighestMean

if TYPE_CHECKING:  # torch is imported where it is used: reports and exports are read without it
    import torch
    from torch import Tensor, nn

__all__ = [
    "CONFIG_FILE",
    "PREPROCESSOR",
    "PREPROCESSOR_FILE",
    "WEIGHTS_FILE",
    "check_weights",
    "halve_weights",
    "is_stored_halved",
    "read_config",
    "read_scan_rule",
    "read_weights",
]

CONFIG_FILE = constants.CONFIG_NAME
WEIGHTS_FILE = constants.SAFETENSORS_SINGLE_FILE
# by these Hugging Face transformers finds `stroke_hub.transformers`; what a model sees stands in config.json alone
PREPROCESSOR_FILE = "preprocessor_config.json"
PREPROCESSOR = {"image_processor_type": "StrokeHubImageProcessor"}
CONFIG_LIMIT = 100_000  # bytes; ours are of some hundred
# divided by, or above 0 by their nature
POSITIVE = {
    "temperature",
    "cnn_std",
    "vit_std",
    "feature_scale",
    "texture_scale",
    "feature_distance_limit",
}
HEADER_LIMIT = 100_000_000  # bytes, as safetensors has it
DTYPES = {"F32": "<f4", "F64": "<f8"}  # what safetensors calls them
HALVED_FROM = 4  # elements; below stand thresholds and the statistics of pixels
WHOLE = {"scan_rule"}  # holds a threshold, too


def read_config(path: Path, name: str) -> dict[str, Any]:
    """Read the constructor's arguments of the model `name` from its config.json."""
    if path.stat().st_size > CONFIG_LIMIT:
        raise ModelFormatError(
            f"{name}: config.json has more than {CONFIG_LIMIT:,} bytes, so it is not a ResNetViT's."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ModelFormatError(f"{name}: config.json is not JSON; download or save the model again.") from None
    if not isinstance(config, dict) or not {"format_version", "cnn", "vit", "image_size"} <= config.keys():
        raise ModelFormatError(
            f"{name}: config.json lacks format_version, cnn, vit or image_size, so it is not a ResNetViT's."
        )
    return config


def read_weights(path: Path, name: str, device: "str | torch.device") -> "dict[str, Tensor]":
    """Read the tensors of the model `name` from its safetensors file and nothing else."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path, device=str(device))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFormatError(
            f"{name}: {WEIGHTS_FILE} is damaged or not safetensors ({str(error)[:80]!a}); download it again."
        ) from None
    # published as float16, a model computes as float32 all the same
    return {key: value.float() if _is_halved(value, torch.float16) else value for key, value in weights.items()}


def halve_weights(weights: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Round weights to float16, half the bytes; scalars, statistics of pixels and the rule for scans stay float32.

    Raises
    ------
    ModelFormatError : a value is beyond what float16 holds.
    """
    import torch

    halved = {
        key: value.half() if key not in WHOLE and _is_halved(value, torch.float32) else value
        for key, value in weights.items()
    }
    for key, value in halved.items():
        if _is_halved(value, torch.float16) and not bool(value.isfinite().all()):
            raise ModelFormatError(f"{key} holds values beyond float16; publish the weights whole.")
    return halved


def _is_halved(value: "Tensor", dtype: "torch.dtype") -> bool:
    return value.dtype == dtype and value.numel() >= HALVED_FROM


def _is_finite(value: "Tensor") -> bool:
    """Tell whether all values are finite, by the extremes: a fifth of the time of looking at each."""
    return not value.is_floating_point() or all(bool(extreme.isfinite()) for extreme in value.aminmax())


def is_stored_halved(path: Path) -> bool:
    """Tell whether a safetensors file holds float16 tensors; only its header is read."""
    with open(path, "rb") as file:
        header = file.read(min(int.from_bytes(file.read(8), "little"), HEADER_LIMIT))
    return b'"F16"' in header


def read_scan_rule(path: Path) -> HighestMean | None:
    """Read how the model of a safetensors file judges scans; None where it stores no rule, or a damaged one.

    The format is read here: safetensors itself is of an extra, and `info` does without.
    """
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            stored = json.loads(file.read(min(size, HEADER_LIMIT)))["scan_rule"]
            start, end = stored["data_offsets"]
            file.seek(8 + size + start)
            numbers = np.frombuffer(file.read(min(end - start, HEADER_LIMIT)), DTYPES[stored["dtype"]])
        return HighestMean.from_numbers(numbers.tolist())
    except (OSError, ValueError, LookupError, TypeError):
        return None


def check_weights(model: "nn.Module", weights: "dict[str, Tensor]", name: str) -> None:
    """Refuse weights that are not exactly `model`'s: other keys, shapes, types, or impossible values."""
    expected = model.state_dict()
    for problem, keys in (
        ("lacks", expected.keys() - weights.keys()),
        ("has unknown", weights.keys() - expected.keys()),
    ):
        if keys:
            first = ", ".join(map(ascii, sorted(keys)[:3]))[:200]  # a stranger's words: no line ends, no escapes
            raise ModelFormatError(f"{name}: {WEIGHTS_FILE} {problem} {len(keys)} tensors ({first}).")
    for key, value in expected.items():
        found = weights[key]
        if found.shape != value.shape or found.dtype != value.dtype:
            raise ModelFormatError(
                f"{name}: {key} is {found.dtype} {tuple(found.shape)} in {WEIGHTS_FILE}, "
                f"but {value.dtype} {tuple(value.shape)} by config.json."
            )
        if key != "feature_distance_limit" and not _is_finite(found):
            raise ModelFormatError(f"{name}: {key} holds NaN or infinite values; the file is not usable.")
        if key in POSITIVE and not bool((found > 0).all()):
            raise ModelFormatError(f"{name}: {key} holds values that are not above 0; the file is not usable.")
