"""The engine: one model, loaded behind the page, and the only places that make it, predict and explain."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import json
import os
import platform
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import stroke_hub

if TYPE_CHECKING:
    from stroke_hub import Predictor
    from stroke_hub.runs.report import Report

__all__ = ["METHODS", "TARGETS", "Engine", "Settings", "choose_examples", "choose_model"]

HERE = Path(__file__).parent
NO_MODEL = "There is no model to show: name one in STROKE_HUB_MODEL, or run `make quickstart` first."
# scorecam is left out: a forward a channel, minutes of a shared machine for one picture
METHODS = ("relevance", "attention", "gradcam++", "layercam", "eigencam", "eigengradcam")
TARGETS = ("Stroke", "Normal", "predicted")
BATCH = 16  # slices that go through the model at once
RETRY_SECONDS = 30.0  # after which a model that could not be loaded is tried again
CACHED = 64  # explanations of examples: every example with every method, for one class
BACKENDS = {"torch": "PyTorch", "onnx": "ONNX Runtime"}
LIBRARIES = ("torch", "onnxruntime", "timm", "gradio", "numpy", "pillow")


class Settings(NamedTuple):
    """How a slice is to be explained; as `stroke_hub.explain` takes it."""

    target: str = "Stroke"
    method: str = "relevance"
    depth: int = 1


def choose_model() -> tuple[str | None, str | None]:
    """Model and revision that the environment names, or model.json, or the quickstart's run where there is one."""
    pinned, quickstart = HERE / "model.json", Path("runs/quickstart")
    if model := os.environ.get("STROKE_HUB_MODEL"):
        return model, os.environ.get("STROKE_HUB_REVISION") or None
    if pinned.is_file():
        chosen = json.loads(pinned.read_text(encoding="utf-8"))
        return chosen["model"], chosen["revision"]
    return str(quickstart) if quickstart.is_dir() else None, None


def choose_examples() -> Path | None:
    """The dataset folder whose test slices are offered: STROKE_HUB_EXAMPLES, examples/ beside this, data/sample."""
    if named := os.environ.get("STROKE_HUB_EXAMPLES"):
        return Path(named)
    return next((folder for folder in (HERE / "examples", Path("data/sample")) if folder.is_dir()), None)


def load_model(name: str, revision: str | None, *, backend: Literal["auto", "torch"] = "auto") -> Predictor:
    """The model that the demo shows, by what is fastest here: CUDA, else its ONNX export, else PyTorch."""
    from stroke_hub import Predictor

    return Predictor.from_pretrained(name, revision=revision, backend=backend)


def find_examples(folder: Path) -> dict[str, stroke_hub.Slice]:
    """One test slice of each modality and class: the middle one by path, so that nobody chose it."""
    records = stroke_hub.read_records(folder)
    examples = {}
    for (modality, label), rows in records.part("test").groupby(["modality", "label"]):
        path = records.root / rows["path"].iloc[len(rows) // 2]
        caption = f"{modality}, {'stroke' if label else 'normal'}"
        examples[caption] = stroke_hub.load_slices(path, modality=cast(Any, modality))[0]
    return examples


class Engine:
    """A model that loads in the background; whoever needs it earlier waits for it.

    Attributes
    ----------
    report : the report of exactly the loaded commit or run folder; None where it has none.
    examples : by caption, one test slice of each modality and class.
    error : the sentence why there is no model; "" while it loads and once it is there.
    """

    def __init__(self, name: str | None, revision: str | None = None, examples: Path | None = None) -> None:
        self.name, self.revision, self.folder = name, revision, examples
        self.report: Report | None = None
        self.examples: dict[str, stroke_hub.Slice] = {}
        self.error = ""
        self._model: Predictor | None = None
        self._other: Predictor | None = None  # what an export cannot do is asked of PyTorch
        self._done = threading.Event()
        self._loading = False
        self._ended = 0.0
        self._lock, self._other_lock = threading.Lock(), threading.Lock()  # the latter for seconds, while pages ask
        self._cache: OrderedDict[tuple[str, Settings], stroke_hub.Explanation] = OrderedDict()

    def start(self) -> None:
        """Begin to load, where that has not begun; a failure is tried again after half a minute."""
        with self._lock:
            recent = self.failed and time.monotonic() - self._ended < RETRY_SECONDS
            if self._loading or self.ready or recent:
                return
            self._loading, self.error = True, ""
            self._done.clear()
        threading.Thread(target=self._load, name="engine", daemon=True).start()

    @property
    def is_exported(self) -> bool:
        """Whether onnxruntime will answer, as far as can be told without asking anybody."""
        if find_spec("onnxruntime") is None or self.name is None:
            return False
        return not Path(self.name).is_dir() or (Path(self.name) / "onnx" / "export.json").is_file()

    @property
    def ready(self) -> bool:
        """Whether the model is there."""
        return self._done.is_set() and not self.error

    @property
    def failed(self) -> bool:
        """Whether the last attempt to load it ended without one."""
        return self._done.is_set() and bool(self.error)

    def _load(self) -> None:
        error = ""
        try:
            if self.name is None:
                raise stroke_hub.StrokeHubError(NO_MODEL)
            self._model = load_model(self.name, self.revision)
            self.report = stroke_hub.find_report(self.name, self._model.commit)
            self.examples = find_examples(self.folder) if self.folder else {}
        except stroke_hub.StrokeHubError as refusal:
            error = str(refusal)
        except Exception as broken:  # a page that says so is more use than a dead process
            error = f"The model could not be loaded ({type(broken).__name__}); the log of the server may say more."
            print(f"engine: {type(broken).__name__}: {broken}", flush=True)
        self.error, self._ended, self._loading = error, time.monotonic(), False
        self._done.set()

    @property
    def model(self) -> Predictor:
        """The model, waited for.

        Raises
        ------
        StrokeHubError : there is none.
        """
        self.start()
        self._done.wait()
        if self.error:
            raise stroke_hub.StrokeHubError(self.error)
        return cast("Predictor", self._model)

    @property
    def threshold(self) -> float:
        """Probability from which a slice is called Stroke."""
        return self.model.threshold

    @property
    def distance_limit(self) -> float:
        """Distance from the training slices beyond which a slice is called unusual; inf where none is stored."""
        return self.model.distance_limit

    def predict(self, slices: Sequence[stroke_hub.Slice]) -> stroke_hub.Prediction:
        """Probabilities of slices; the one place that predicts."""
        return self.model.predict(slices, batch_size=BATCH)

    def explain(self, chosen: stroke_hub.Slice, settings: Settings) -> stroke_hub.Explanation:
        """The evidence behind one slice's answer; the one place that explains."""
        options: dict[str, Any] = settings._asdict()
        closed = settings.method == "relevance" and settings.depth == 1
        return (self.model if closed else self._load_other()).explain(chosen, **options)

    def _load_other(self) -> Predictor:
        """The same model by PyTorch, for the methods that an export has not; loaded when first asked for."""
        model = self.model
        if model.backend == "torch":
            return model
        with self._other_lock:
            if self._other is None:
                self._other = load_model(str(self.name), model.commit or self.revision, backend="torch")
            return self._other

    def explain_example(self, caption: str, settings: Settings) -> stroke_hub.Explanation:
        """The same of an example, computed at the first click and kept."""
        key = (caption, settings)
        if key not in self._cache:
            explanation = self.explain(self.examples[caption], settings)
            with self._lock:
                self._cache[key] = explanation
                while len(self._cache) > CACHED:
                    self._cache.popitem(last=False)
            return explanation
        return self._cache[key]

    @property
    def note(self) -> str:
        """What the report says of the data, "" where it says nothing."""
        return self.report.data.note if self.report else ""

    def describe(self) -> dict[str, Any]:
        """What was asked: model, commit, weights, versions. No path of this machine."""
        report, model = self.report, self.model
        limit = self.distance_limit
        return {
            "model": Path(str(self.name)).name if Path(str(self.name)).is_dir() else str(self.name),
            "commit": model.commit,
            "weights_sha256": report.model.weights_sha256 if report else None,
            "classes": ["Normal", "Stroke"],
            "threshold": self.threshold,
            "distance_limit": limit if limit < float("inf") else None,
            "image_size": model.image_size,
            "backend": f"{BACKENDS[model.backend]}, {model.precision}",
            "trained_on": self.note or None,
            "versions": {"python": platform.python_version(), "stroke_hub": stroke_hub.__version__}
            | {name: _find_version(name) for name in LIBRARIES},
            "research_use_only": True,
        }


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
