"""Stroke or normal on brain CT ("BT") and MR slices, and why. Research software, not a medical device.

Public names load on first use: importing this package imports neither torch nor matplotlib nor gradio.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stroke_hub.answers import Explanation, Prediction
    from stroke_hub.archives import LoadedFile, load_files
    from stroke_hub.errors import (
        DatasetError,
        HubError,
        ModelFormatError,
        RunError,
        StrokeHubError,
        UnreadableImage,
    )
    from stroke_hub.explanation import explain
    from stroke_hub.hub import publish
    from stroke_hub.inference import predict
    from stroke_hub.model import PRESETS, ResNetViT
    from stroke_hub.pixels import Slice, load_slices
    from stroke_hub.records import Records, read_records
    from stroke_hub.report import evaluate
    from stroke_hub.runtime import Predictor
    from stroke_hub.sample import write_sample
    from stroke_hub.storage import find_report
    from stroke_hub.train import TrainConfig, fit

__version__ = "0.1.0"

_HOMES = {
    "answers": ("Explanation", "Prediction"),
    "archives": ("LoadedFile", "load_files"),
    "errors": (
        "DatasetError",
        "HubError",
        "ModelFormatError",
        "RunError",
        "StrokeHubError",
        "UnreadableImage",
    ),
    "explanation": ("explain",),
    "hub": ("publish",),
    "inference": ("predict",),
    "model": ("PRESETS", "ResNetViT"),
    "pixels": ("Slice", "load_slices"),
    "records": ("Records", "read_records"),
    "report": ("evaluate",),
    "runtime": ("Predictor",),
    "sample": ("write_sample",),
    "storage": ("find_report",),
    "train": ("TrainConfig", "fit"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "PRESETS",
    "DatasetError",
    "Explanation",
    "HubError",
    "LoadedFile",
    "ModelFormatError",
    "Prediction",
    "Predictor",
    "Records",
    "ResNetViT",
    "RunError",
    "Slice",
    "StrokeHubError",
    "TrainConfig",
    "UnreadableImage",
    "__version__",
    "evaluate",
    "explain",
    "find_report",
    "fit",
    "load_files",
    "load_slices",
    "predict",
    "publish",
    "read_records",
    "write_sample",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
