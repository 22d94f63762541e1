from ._version import __version__
from .data.records import Records, read_records
from .data.simulated import write_sample
from .deploy.publish import publish
from .errors import (
    DatasetError,
    HubError,
    MissingExtra,
    ModelFormatError,
    RunError,
    StrokeHubError,
    UnreadableImage,
)
from .evaluation.evaluate import evaluate
from .inference.explain import explain
from .inference.predict import predict
from .inference.predictor import Predictor
from .inference.results import Explanation, Prediction
from .inference.scan_answer import ScanExplanation, ScanPrediction
from .io.slices import Slice, load_slices
from .io.sources import LoadedFile, load_files
from .models.presets import PRESETS
from .models.resnet_vit import ResNetViT
from .runs.report import find_report
from .runs.train_config import TrainConfig
from .scan.load_scan import load_scan
from .scan.scan import Scan
from .training.fit import fit

__all__ = [
    "PRESETS",
    "DatasetError",
    "Explanation",
    "HubError",
    "LoadedFile",
    "MissingExtra",
    "ModelFormatError",
    "Prediction",
    "Predictor",
    "Records",
    "ResNetViT",
    "RunError",
    "Scan",
    "ScanExplanation",
    "ScanPrediction",
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
    "load_scan",
    "load_slices",
    "predict",
    "publish",
    "read_records",
    "write_sample",
]
