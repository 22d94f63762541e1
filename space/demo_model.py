"""The model that the demo shows: loaded in the background, and asked here and nowhere else."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import json
import os
import platform
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast, get_args

from examples import Choice, Example, find_examples

import stroke_hub
from stroke_hub.inference.results import Target
from stroke_hub.models.sample import EXAMPLES, SAMPLE, locate_model
from stroke_hub.progress import hush

if TYPE_CHECKING:
    from stroke_hub import Predictor
    from stroke_hub.inference.scan_answer import ScanExplanation, ScanPrediction
    from stroke_hub.runs.report import Report
    from stroke_hub.scan.scan import Scan

__all__ = [
    "BATCH",
    "HAS_TORCH",
    "HELD_PIXELS",
    "METHODS",
    "TARGETS",
    "DemoModel",
    "Method",
    "Settings",
    "choose_examples",
    "choose_model",
]

HERE = Path(__file__).parent
# the package's methods but Score-CAM: one forward per channel would keep a shared machine busy for minutes
Method = Literal["relevance", "attention", "gradcam++", "layercam", "eigencam", "eigengradcam"]
# an export knows the closed form alone; the others need PyTorch or the grad-cam package
NEEDS = {"relevance": "onnxruntime", "attention": "torch"}
METHODS = tuple(name for name in get_args(Method) if find_spec(NEEDS.get(name, "pytorch_grad_cam")))
HAS_TORCH = find_spec("torch") is not None
TARGETS: tuple[Target, ...] = get_args(Target)
BATCH = 16  # slices that go through the model at once
HELD_PIXELS = 32_000_000  # of slices that are decoded at a time
RETRY_SECONDS = 30.0  # after which a model that could not be loaded is tried again
CACHED = 64  # explanations of examples: every example with every method, for one class
BACKENDS = {"torch": "PyTorch", "onnx": "ONNX Runtime"}
LIBRARIES = ("torch", "onnxruntime", "timm", "gradio", "numpy", "pillow")


class Settings(NamedTuple):
    """How a slice is explained, as `stroke_hub.explain` takes it."""

    target: Target = "Stroke"
    method: Method = "relevance"
    depth: int = 1


def choose_model() -> tuple[str, str | None]:
    """Find the model and its revision: the environment first, then model.json, then the package's sample model."""
    pinned = HERE / "model.json"
    if model := os.environ.get("STROKE_HUB_MODEL"):
        return model, os.environ.get("STROKE_HUB_REVISION") or None
    if pinned.is_file():
        chosen = json.loads(pinned.read_text(encoding="utf-8"))
        return chosen["model"], chosen["revision"]
    return SAMPLE, None


def choose_examples(model: str) -> Path | None:
    """Find the folder of the examples: STROKE_HUB_EXAMPLES, examples/ beside this file, or the sample model's."""
    if named := os.environ.get("STROKE_HUB_EXAMPLES"):
        return Path(named)
    if (HERE / "examples").is_dir():
        return HERE / "examples"
    return EXAMPLES if model == SAMPLE else None


def load_predictor(name: str, revision: str | None, *, backend: Literal["auto", "torch"] = "auto") -> Predictor:
    """Load the model with the fastest backend here: CUDA, else its ONNX export, else PyTorch."""
    from stroke_hub import Predictor

    return Predictor.from_pretrained(name, revision=revision, backend=backend)


class DemoModel:
    """Load a model in the background; a call that needs it earlier waits for it.

    Attributes
    ----------
    report : the report of exactly the loaded commit or run folder, or None.
    choice : the examples, and what to say of how they were chosen.
    error : one sentence why there is no model; "" while it loads and when it is loaded.
    """

    def __init__(self, name: str, revision: str | None = None, examples: Path | None = None) -> None:
        self.name, self.revision, self.folder = name, revision, examples
        self.report: Report | None = None
        self.choice = Choice({}, {}, is_own=True)
        self.error = ""
        self._predictor: Predictor | None = None
        self._other: Predictor | None = None  # PyTorch, for the methods that an export lacks
        self._done = threading.Event()
        self._loading = False
        self._ended = 0.0
        self._lock, self._other_lock = threading.Lock(), threading.Lock()  # the latter for seconds, while pages ask
        self._cache: OrderedDict[tuple[str, Settings], stroke_hub.Explanation] = OrderedDict()

    def start(self) -> None:
        """Start to load, unless that has begun; after a failure, try again 30 seconds later."""
        with self._lock:
            recent = self.failed and time.monotonic() - self._ended < RETRY_SECONDS
            if self._loading or self.ready or recent:
                return
            self._loading, self.error = True, ""
            self._done.clear()
        threading.Thread(target=self._load, name="model", daemon=True).start()

    @property
    def is_exported(self) -> bool:
        """Whether onnxruntime will probably run the model; the Hub is not asked."""
        place = Path(locate_model(self.name))
        return not place.is_dir() or (place / "onnx" / "export.json").is_file()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._done.is_set() and not self.error

    @property
    def failed(self) -> bool:
        """Whether the last attempt to load it failed."""
        return self._done.is_set() and bool(self.error)

    def _load(self) -> None:
        error = ""
        try:
            self._predictor = load_predictor(self.name, self.revision)
            self.report = stroke_hub.find_report(self.name, self._predictor.commit)
            if self.folder:
                self.choice = find_examples(self.folder, self._predictor)
        except stroke_hub.StrokeHubError as refusal:
            error = str(refusal)
        except Exception as broken:  # the page stays up and says so
            error = f"The model could not be loaded ({type(broken).__name__}); see the log of the server."
            print(f"model: {type(broken).__name__}: {broken}", flush=True)
        self.error, self._ended, self._loading = error, time.monotonic(), False
        self._done.set()

    @property
    def predictor(self) -> Predictor:
        """Wait for the model and return it.

        Raises
        ------
        StrokeHubError : it could not be loaded.
        """
        self.start()
        self._done.wait()
        if self.error:
            raise stroke_hub.StrokeHubError(self.error)
        return cast("Predictor", self._predictor)

    @property
    def examples(self) -> dict[str, Example]:
        """By caption, such as "CT, clear hit", a test slice of each modality and kind."""
        return self.choice.examples

    @property
    def threshold(self) -> float:
        """Probability at or above which a slice is called Stroke."""
        return self.predictor.threshold

    @property
    def distance_limit(self) -> float:
        """Distance from the training slices above which a slice is unusual; inf if the model stores none."""
        return self.predictor.distance_limit

    def predict(self, slices: Sequence[stroke_hub.Slice]) -> stroke_hub.Prediction:
        """Predict a visitor's slices, held in memory; no other place in the demo does."""
        return self.predictor.predict(slices, batch_size=BATCH)

    def predict_parts(self, slices: Sequence[stroke_hub.Slice]) -> Iterator[stroke_hub.Prediction]:
        """Predict slices that are decoded when they are asked for, a few at a time, and yield each part."""
        side = max(slices[0].pixels.shape)
        size = min(max(HELD_PIXELS // side**2, 1), BATCH)
        for start in range(0, len(slices), size):
            yield self.predict(slices[start : start + size])

    def judge(self, scan: Scan, parts: Sequence[stroke_hub.Prediction]) -> ScanPrediction:
        """Judge a scan by what `predict_parts` yielded of its slices."""
        from stroke_hub.inference.results import join_predictions
        from stroke_hub.inference.scan_answer import judge_scan

        return judge_scan(self.predictor, scan, join_predictions(parts))

    def describe_scan(self, scan: Scan, asked: Mapping[str, str | None]) -> dict[str, Any]:
        """Predict and explain a scan, and describe both as the command `scan` does; no other place does."""
        from stroke_hub.report.scan_page import describe_scan

        # there are no files
        told = describe_scan(scan, self.explain_scan(scan), model=self.identify(), asked=asked)
        return told | {"evidence": None, "display": None}

    def explain_scan(self, scan: Scan) -> ScanExplanation:
        """Explain a scan as a whole; no other place in the demo does."""
        with hush():
            return self.predictor.explain(scan, batch_size=BATCH)

    def identify(self) -> dict[str, Any]:
        """Say which model this is, as results that leave the demo name it."""
        about = self.describe()
        return {"name": about["model"], "commit": about["commit"], "weights_sha256": self._weights_sha256}

    @cached_property
    def _weights_sha256(self) -> str:
        return self.predictor.hash_weights()

    def explain(self, chosen: stroke_hub.Slice, settings: Settings) -> stroke_hub.Explanation:
        """Explain one slice; no other place in the demo does."""
        options: dict[str, Any] = settings._asdict()
        closed = settings.method == "relevance" and settings.depth == 1
        return (self.predictor if closed else self._load_other()).explain(chosen, **options)

    def _load_other(self) -> Predictor:
        """Load the same model with PyTorch when a method first needs it: an export has the closed form only."""
        predictor = self.predictor
        if predictor.backend == "torch":
            return predictor
        with self._other_lock:
            if self._other is None:
                self._other = load_predictor(self.name, predictor.commit or self.revision, backend="torch")
            return self._other

    def explain_example(self, caption: str, settings: Settings) -> stroke_hub.Explanation:
        """Explain an example; the result is computed at the first click and kept."""
        key = (caption, settings)
        if key not in self._cache:
            explanation = self.explain(self.examples[caption].slice, settings)
            with self._lock:
                self._cache[key] = explanation
                while len(self._cache) > CACHED:
                    self._cache.popitem(last=False)
            return explanation
        return self._cache[key]

    @property
    def note(self) -> str:
        """The report's note on the data; "" without a report."""
        return self.report.data.note if self.report else ""

    def describe(self) -> dict[str, Any]:
        """Describe the model as JSON: name, commit, weights, versions. It holds no path of this machine."""
        report, predictor = self.report, self.predictor
        limit = self.distance_limit
        return {
            "model": Path(self.name).name if Path(self.name).is_dir() else self.name,
            "commit": predictor.commit,
            "weights_sha256": report.model.weights_sha256 if report else None,
            "classes": ["Normal", "Stroke"],
            "threshold": self.threshold,
            "distance_limit": limit if limit < float("inf") else None,
            "image_size": predictor.image_size,
            "backend": f"{BACKENDS[predictor.backend]}, {predictor.precision}",
            "trained_on": self.note or None,
            "versions": {"python": platform.python_version(), "stroke_hub": stroke_hub.__version__}
            | {name: _find_version(name) for name in LIBRARIES},
            "research_use_only": True,
        }


@cache
def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
