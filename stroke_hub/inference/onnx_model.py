"""A model exported to ONNX: find, check and read its files, and run it by onnxruntime, without importing torch.

In the folder `onnx/` of a run or a Hub repository lie the graphs (`export` writes them) and export.json, which
holds their SHA-256. A graph is data: whatever would load further files or code is refused.
"""

import json
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import ModelFormatError, RunError
from stroke_hub.files import hash_file
from stroke_hub.inference.inputs import Taken
from stroke_hub.inference.results import (
    Explanation,
    Prediction,
    Target,
    frame_slices,
    make_explanations,
    make_prediction,
    to_squares,
)
from stroke_hub.io.rendering import Rendering
from stroke_hub.io.sight import Framing
from stroke_hub.io.windowing import Modality, Window
from stroke_hub.metrics.highest_mean import HighestMean
from stroke_hub.models.download import download
from stroke_hub.models.presets import CLASSES, find_baseline, name_baselines
from stroke_hub.models.sample import locate_model
from stroke_hub.models.weights import WEIGHTS_FILE, is_stored_halved
from stroke_hub.progress import track
from stroke_hub.runs.report import REPORT_FILE, find_report

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = [
    "EXPLAINED",
    "EXPORT_FILE",
    "EXPORT_VERSION",
    "FILES",
    "FOLDER",
    "KEY",
    "PREDICTED",
    "ExportedModel",
    "Precision",
    "check_export",
    "count_cores",
    "read_export",
]

Precision = Literal["fp32", "int8"]

FOLDER = "onnx"
EXPORT_FILE = "export.json"
FILES: dict[Precision, str] = {"fp32": "model.onnx", "int8": "model_int8.onnx"}
EXPORT_VERSION = 4
EXPORT_LIMIT = 100_000  # bytes; ours are of some hundred
AGAIN = "export it again with `stroke-hub export`, or use the backend torch"
PREDICTS_ONLY = "This export predicts only, as its model has no closed form; explain with the backend torch."
KEY = "stroke_hub"  # of the graph's metadata
# the outputs: how far a slice is from the training slices, and fields of relevance.Relevance
PREDICTED = ("logits", "distance")
EXPLAINED = (
    *PREDICTED,
    "log_odds",
    "cnn_map",
    "vit_map",
    "cnn_evidence",
    "vit_evidence",
    "contributions",
    "norms",
)


@dataclass(frozen=True)
class ExportSettings:
    """Hold what a graph's metadata says: the model's `Sight`, its calibration, and which weights it has."""

    format_version: int
    weights_sha256: str
    image_size: int
    resize: Literal["pad", "stretch"]
    rendering: Rendering
    window: Window
    framing: Framing
    modalities: list[Modality]
    temperature: float
    threshold: float
    distance_limit: float | None
    baselines: list[str]
    explains: bool
    scan_rule: dict[str, Any] | None = None  # exports before it lack it

    def __post_init__(self) -> None:
        numbers = (self.temperature, self.threshold)
        if not (
            self.format_version == EXPORT_VERSION
            and isinstance(self.weights_sha256, str)
            and type(self.image_size) is int
            and 32 <= self.image_size <= 1024
            and self.resize in ("pad", "stretch")
            and self.rendering in get_args(Rendering)
            and self.window in get_args(Window)
            and self.framing in get_args(Framing)
            and isinstance(self.modalities, list)
            and all(modality in get_args(Modality) for modality in self.modalities)
            and all(type(number) is float and np.isfinite(number) for number in numbers)
            and self.temperature > 0
            and type(self.distance_limit) in (float, type(None))
            and self.baselines in _list_baselines(self.modalities)
            and type(self.explains) is bool
        ):
            raise ValueError("a setting is not one that export writes")
        if self.scan_rule is not None:
            HighestMean(**self.scan_rule)  # refuses what is none


def _list_baselines(modalities: Sequence[str]) -> list[list[str]]:
    return [list(name_baselines(modalities, has_normal=has_normal)) for has_normal in (False, True)]


class ExportedModel:
    """A model that onnxruntime runs: predictions, and explanations where its graph has them.

    Attributes
    ----------
    image_size, resize, rendering, window, framing, modalities : as of `ResNetViT`.
    temperature, threshold, baselines : the same.
    distance_limit : its `feature_distance_limit`.
    precision : "fp32" or "int8".
    explains : whether the graph has the explanation; otherwise it predicts only.
    scan_rule : how a scan is judged by its slices; None where the model does not say.
    weights_sha256 : of the weights that were exported.
    commit : of the Hub repository that it was loaded from.

    Any number of threads may share one.
    """

    def __init__(self, file: Path, precision: Precision, *, name: str, threads: int | None = None) -> None:
        """Read a graph.

        Parameters
        ----------
        file : the ONNX file.
        precision : what it is of.
        name : what messages call the model.
        threads : that compute one answer; by default as many as cores are available.

        Raises
        ------
        ModelFormatError : the file is not a graph of ours.
        """
        self._session = _start(file, name, threads or count_cores())
        settings = _read_settings(self._session, name, file.name)
        self.image_size, self.resize, self.framing = settings.image_size, settings.resize, settings.framing
        self.rendering, self.window, self.modalities = (
            settings.rendering,
            settings.window,
            tuple(settings.modalities),
        )
        self.temperature, self.threshold = settings.temperature, settings.threshold
        self.distance_limit = np.inf if settings.distance_limit is None else settings.distance_limit
        self.explains, self.weights_sha256 = settings.explains, settings.weights_sha256
        self.baselines = tuple(settings.baselines)
        self.scan_rule = None if settings.scan_rule is None else HighestMean(**settings.scan_rule)
        self.precision: Precision = precision
        self.commit: str | None = None

    def __repr__(self) -> str:
        return f"ExportedModel({self.image_size} x {self.image_size}, {self.precision}, explains={self.explains})"

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        precision: Precision = "fp32",
        revision: str | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> "ExportedModel":
        """Load the export in a run folder or a Hub repository, from one commit, or that of the package.

        Parameters
        ----------
        name : ``"owner/name"``, a run folder, or ``"sample"``, the model that comes with the package.
        precision : "fp32" or "int8".
        revision : commit, tag or branch on the Hub.
        threads : as of `ExportedModel`.
        options : of `huggingface_hub.hf_hub_download`.

        Raises
        ------
        ModelFormatError : there is no export, it is damaged, or it is of other weights than the model beside it.
        HubError : the repository cannot be reached or read.
        """
        model, commit = locate_model(name), None
        record = read_export(model, revision, options)
        if record is None:
            raise ModelFormatError(
                f"{model}: has no {FOLDER}/{EXPORT_FILE}; "
                "export it with `stroke-hub export`, or use the backend torch."
            )
        if precision not in record["files"]:
            raise ModelFormatError(f"{model}: was not exported as {precision}; {AGAIN}.")
        if Path(model).is_dir():
            file = Path(model) / FOLDER / FILES[precision]
            if not file.is_file():
                raise ModelFormatError(f"{model}: has no {FOLDER}/{file.name}; {AGAIN}.")
        else:
            commit = record["commit"]
            file = download(model, f"{FOLDER}/{FILES[precision]}", commit, options)
        if hash_file(file) != record["files"][precision]:
            raise ModelFormatError(
                f"{model}: {FOLDER}/{file.name} is not the file that {EXPORT_FILE} describes; {AGAIN}."
            )
        exported = cls(file, precision, name=model, threads=threads)
        _check_origin(exported.weights_sha256, model, commit)
        exported.commit = commit
        return exported

    def predict(
        self,
        slices: Taken,
        *,
        batch_size: int = 32,
        contributions: bool = False,
    ) -> Prediction:
        """Predict of slices or squares as `predict.predict` does.

        Raises
        ------
        RunError : the export has no contributions.
        """
        if contributions and not self.explains:
            raise RunError(PREDICTS_ONLY)
        squares, remarks, modalities = to_squares(self, slices)
        if not len(squares):
            return make_prediction(np.zeros((0, len(CLASSES)), np.float32), temperature=1.0, threshold=0.5)
        names = (*PREDICTED, "contributions") if contributions else PREDICTED
        rows = self._find_rows(modalities)
        starts = track(range(0, len(squares), batch_size), "predicting")
        parts_of = [slice(start, start + batch_size) for start in starts]
        found = [self.run(squares[part], 1.0, names, rows[part]) for part in parts_of]
        logits, distance, *parts = (np.concatenate([part[name] for part in found]) for name in names)
        return make_prediction(
            logits,
            temperature=self.temperature,
            threshold=self.threshold,
            distance=distance,
            limit=self.distance_limit,
            squares=squares,
            contributions=parts[0] if contributions else None,
            baseline=[self.baselines[row] for row in rows] if contributions else None,
            remarks=remarks,
        )

    def explain(self, slices: Taken, *, target: Target = "Stroke", batch_size: int = 16) -> list[Explanation]:
        """Explain slices or squares as `explain.explain` does, by the closed form.

        Raises
        ------
        RunError : the export has no explanation.
        """
        if not self.explains:
            raise RunError(PREDICTS_ONLY)
        sign = {"Stroke": 1.0, "Normal": -1.0, "predicted": 0.0}[target]
        explained: list[Explanation] = []
        framed = list(frame_slices(self, slices))
        for part in _split(framed, batch_size, "explaining"):
            rows = self._find_rows([one.modality for one in part])
            explained += make_explanations(
                self.run(np.stack([one.square for one in part]), sign, EXPLAINED, rows),
                part,
                temperature=self.temperature,
                threshold=self.threshold,
                limit=self.distance_limit,
                target=target,
                method="closed form",
                baselines=[self.baselines[row] for row in rows],
            )
        return explained

    def _find_rows(self, modalities: Sequence[str | None]) -> NDArray[np.int64]:
        """Find the number of the baseline of each slice."""
        count = len(self.baselines)
        return np.array([find_baseline(self.modalities, one, count=count) for one in modalities], np.int64)

    def run(
        self, squares: NDArray[np.uint8], sign: float, names: Sequence[str], rows: NDArray[np.int64] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Run the graph on squares uint8 (N, S, S) for outputs by name; sign, rows as of `compute_relevance`."""
        feed: dict[str, NDArray[Any]] = {"pixels": squares}
        if self.explains:
            feed["sign"] = np.full(len(squares), sign, np.float32)
            feed["rows"] = self._find_rows([None] * len(squares)) if rows is None else rows
        return dict(zip(names, self._session.run(list(names), feed), strict=True))


def count_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_export(
    name: str | Path, revision: str | None = None, options: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """Read export.json of a run folder, a Hub repository or "sample"; None where there is none.

    Returns
    -------
    weights_sha256, explains, measured (see `export.export`); files: SHA-256 by precision; bytes by precision;
    commit: on the Hub.

    Raises
    ------
    ModelFormatError : it is damaged, of another format, or was not written by `export`.
    HubError : the repository cannot be reached.
    """
    name, commit = locate_model(name), None
    if Path(name).is_dir():
        file = Path(name) / FOLDER / EXPORT_FILE
        if not file.is_file():
            return None
    else:
        try:
            file = download(name, f"{FOLDER}/{EXPORT_FILE}", revision, options or {})
        except ModelFormatError:
            return None
        commit = file.parent.parent.name  # the cache files every download under snapshots/<commit>/
    try:
        record = json.loads(file.read_text(encoding="utf-8")) if file.stat().st_size <= EXPORT_LIMIT else None
    except (ValueError, RecursionError):
        record = None
    version = record.get("format_version") if isinstance(record, dict) else None
    if type(version) is int and version != EXPORT_VERSION:
        raise ModelFormatError(
            f"{name}: {FOLDER}/{EXPORT_FILE} is of format {version}, not {EXPORT_VERSION}; {AGAIN}."
        )
    if not (
        isinstance(record, dict)
        and version == EXPORT_VERSION
        and isinstance(record.get("files"), dict)
        and all(key in FILES and isinstance(value, str) for key, value in record["files"].items())
        and record.keys() >= {"weights_sha256", "explains", "bytes", "measured"}
    ):
        raise ModelFormatError(f"{name}: {FOLDER}/{EXPORT_FILE} is damaged, or was not written by export; {AGAIN}.")
    return dict(record) | {"commit": commit}


def check_export(run: Path, weights_sha256: str) -> None:
    """Check that a run's export is whole and of these weights.

    Raises
    ------
    RunError : it is not, or there is none.
    """
    record = read_export(run)
    if record is None:
        raise RunError(f"{run}: has no {FOLDER} to publish; export it with `stroke-hub export`, or leave that out.")
    files = {precision: run / FOLDER / FILES[precision] for precision in record["files"]}
    whole = all(file.is_file() and hash_file(file) == record["files"][p] for p, file in files.items())
    if record["weights_sha256"] != weights_sha256 or not whole:
        raise RunError(
            f"{run}: its {FOLDER} is damaged or of other weights; export it again with `stroke-hub export`."
        )


def _start(file: Path, name: str, threads: int) -> "InferenceSession":
    import onnxruntime

    with open(file, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # the key under which ONNX keeps the path of weights in another file; ours have theirs inside
        if content.find(b"location") >= 0:
            raise ModelFormatError(f"{name}: {file.name} points to further files, so it is refused.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what goes wrong is raised as well
    # waiting threads sleep: spinning ones cost 1.4 times the CPU time, which others on the machine pay for
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes have no base of their own
        raise ModelFormatError(
            f"{name}: {file.name} is damaged or no ONNX ({str(error)[:80]!a}); {AGAIN}."
        ) from None


def _read_settings(session: "InferenceSession", name: str, file: str) -> ExportSettings:
    """Read the graph's metadata, and refuse the graph unless its inputs and outputs are those of an export."""
    try:
        settings = ExportSettings(**json.loads(session.get_modelmeta().custom_metadata_map[KEY]))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ModelFormatError(f"{name}: {file} has other metadata than this version's exports; {AGAIN}.") from None
    wanted = {"pixels": ["tensor(uint8)", settings.image_size, settings.image_size]}
    wanted |= {"sign": ["tensor(float)"], "rows": ["tensor(int64)"]} if settings.explains else {}
    inputs = {part.name: [part.type, *part.shape[1:]] for part in session.get_inputs() if part.shape}
    outputs = {part.name for part in session.get_outputs() if part.type == "tensor(float)"}
    if inputs != wanted or not outputs >= set(EXPLAINED if settings.explains else PREDICTED):
        raise ModelFormatError(f"{name}: {file} has other inputs or outputs than this version's exports; {AGAIN}.")
    return settings


def _check_origin(weights_sha256: str, name: str, commit: str | None) -> None:
    """Refuse an export of other weights than those of the folder or commit that it lies in.

    Of a folder the weights themselves tell; of a commit, and where they were rounded to float16, the report does,
    which `publish` takes for these weights only. So no weights are fetched for a graph that has them inside.
    """
    file = Path(name) / WEIGHTS_FILE
    if commit is None and file.is_file() and not is_stored_halved(file):
        found: str | None = hash_file(file)
        told = WEIGHTS_FILE
    else:
        report = find_report(name, commit)
        found, told = report.model.weights_sha256 if report else None, REPORT_FILE
    if found is None:
        raise ModelFormatError(
            f"{name}: has neither weights nor report to tell whose {FOLDER}/ is; use the backend torch."
        )
    if found != weights_sha256:
        raise ModelFormatError(f"{name}: {FOLDER}/ is of other weights than its {told}; {AGAIN}.")


def _split(values: Any, batch_size: int, words: str) -> Any:
    starts = range(0, len(values), batch_size)
    return (values[start : start + batch_size] for start in track(starts, words))
