"""Predictor: a model that PyTorch runs or, without importing it, onnxruntime from exported files."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from stroke_hub.errors import HubError, ModelFormatError, RunError
from stroke_hub.extras import name_extras
from stroke_hub.inference.inputs import Given, One, Taken, find_squares, is_one, to_slices
from stroke_hub.inference.onnx_model import ExportedModel, Precision, read_export
from stroke_hub.inference.results import Explanation, Method, Prediction, Target, find_method, find_target
from stroke_hub.inference.scan_answer import ScanExplanation, ScanPrediction, explain_scan, predict_scan
from stroke_hub.models.download import check_name
from stroke_hub.models.sample import locate_model
from stroke_hub.scan.scan import Scan

if TYPE_CHECKING:
    from torch import Tensor

    from stroke_hub.models.resnet_vit import ResNetViT

__all__ = ["Backend", "Predictor"]

Backend = Literal["torch", "onnx"]


class Predictor:
    """Predict and explain with a loaded model, whatever computes it; threads may share one.

    Attributes
    ----------
    model : the `ResNetViT` or `ExportedModel` behind it.
    backend : "torch" or "onnx".
    precision : "fp32" or "int8".
    image_size, resize, rendering, window, framing, modalities : what the model sees of a slice, as of `Sight`.
    threshold : probability from which a slice is called Stroke.
    temperature : divides the difference of the logits.
    distance_limit : distance from the training slices beyond which a slice is unusual; infinite where unknown.
    scan_rule : how a scan is judged by its slices; None where the model does not say.
    commit : of the Hub repository that it was loaded from, otherwise None.
    """

    def __init__(
        self,
        model: "ResNetViT | ExportedModel",
        *,
        backend: Backend | Literal["auto"] = "auto",
        precision: Precision = "fp32",
    ) -> None:
        """Take a loaded model; `from_pretrained` loads one.

        Raises
        ------
        RunError : the model is not of that backend or precision.
        """
        self.model = model
        self.backend: Backend = "onnx" if isinstance(model, ExportedModel) else "torch"
        self.precision: Precision = model.precision if isinstance(model, ExportedModel) else "fp32"
        if backend not in ("auto", self.backend) or precision != self.precision:
            raise RunError(
                f"The model is loaded for {self.backend} in {self.precision}, not for {backend} in {precision}; "
                "load one with Predictor.from_pretrained."
            )
        self.image_size, self.resize, self.framing = model.image_size, model.resize, model.framing
        self.rendering, self.window, self.modalities = model.rendering, model.window, model.modalities
        self.temperature, self.threshold = float(model.temperature), float(model.threshold)
        limit = model.distance_limit if isinstance(model, ExportedModel) else model.feature_distance_limit
        self.distance_limit = float(limit)
        self.scan_rule = model.scan_rule if isinstance(model, ExportedModel) else model.get_scan_rule()
        self.commit = model.commit

    def __repr__(self) -> str:
        return f"Predictor({self.model!r}, backend={self.backend!r}, precision={self.precision!r})"

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        backend: Backend | Literal["auto"] = "auto",
        precision: Precision = "fp32",
        threads: int | None = None,
        device: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> "Predictor":
        """Load a model from the Hub, from a run folder or from the package.

        Parameters
        ----------
        name : ``"owner/name"``, a run folder, or ``"sample"``, the model that comes with the package; a local
            folder of that name is ``"./sample"``.
        revision : commit, tag or branch on the Hub.
        backend : "torch", "onnx" (its `onnx/`, without importing torch), or "auto", the faster one here: torch
            where it finds a CUDA device, otherwise onnx where the files are there.
        precision : "int8" is of the ONNX backend: a third of the bytes, about half the time, and rounded.
        threads : of the ONNX backend, by default as many as cores are available; torch has its own setting.
        device : of the torch backend, by default the CUDA device where there is one; another than "cpu" asks for
            that backend.
        token, cache_dir, local_files_only : as in `huggingface_hub.hf_hub_download`.

        Raises
        ------
        ModelFormatError : the files do not describe one of our models exactly, or the export is of other weights.
        HubError : the repository cannot be reached or read.
        RunError : backend, precision and device do not go together.
        MissingExtra : the model has no export, or another backend is asked for, and PyTorch is not installed.
        ValueError : there is no such backend, precision or device.
        """
        if backend not in ("auto", "torch", "onnx") or precision not in ("fp32", "int8"):
            raise ValueError(f"there is no backend {backend!r} with precision {precision!r}.")
        if backend == "torch" and precision != "fp32":
            raise RunError("The backend torch computes in fp32 only; int8 is of the backend onnx.")
        if device not in (None, "cpu"):
            if backend == "onnx" or precision == "int8":
                raise RunError("The backend onnx computes on the CPU only; leave device out, or use torch.")
            backend = "torch"
        located = locate_model(name)
        if not Path(located).is_dir():
            check_name(located, revision)  # a wrong path need not wait for torch
        options: dict[str, Any] = {"token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        if backend == "onnx" or (backend == "auto" and _prefers_export(name, revision, precision, options)):
            exported = ExportedModel.from_pretrained(
                name, precision=precision, revision=revision, threads=threads, **options
            )
            return cls(exported, precision=precision)
        with name_extras(f"{name}: the backend torch"):
            from stroke_hub.models.resnet_vit import ResNetViT

        if device is None:
            device = "cuda" if _has_cuda() else "cpu"
        return cls(ResNetViT.from_pretrained(name, revision=revision, device=device, **options))

    @overload
    def predict(self, slices: Scan, *, batch_size: int = ..., contributions: bool = ...) -> ScanPrediction: ...
    @overload
    def predict(self, slices: Given, *, batch_size: int = ..., contributions: bool = ...) -> Prediction: ...
    def predict(
        self, slices: Given | Scan, *, batch_size: int = 32, contributions: bool = False
    ) -> Prediction | ScanPrediction:
        """Predict as `predict.predict` does."""
        _check_batch_size(batch_size)
        if isinstance(slices, Scan):
            return predict_scan(self, slices, batch_size=batch_size, contributions=contributions)
        taken = self._take(slices)
        if isinstance(self.model, ExportedModel):
            return self.model.predict(taken, batch_size=batch_size, contributions=contributions)
        from stroke_hub.inference.predict import predict_with_torch

        return predict_with_torch(self.model, taken, batch_size=batch_size, contributions=contributions)

    def hash_weights(self) -> str:
        """Give the SHA-256 of the weights: that of model.safetensors as it was trained, whatever computes."""
        if isinstance(self.model, ExportedModel):
            return self.model.weights_sha256
        from stroke_hub.models.resnet_vit import hash_weights

        return hash_weights(self.model)

    @overload
    def explain(self, slices: Scan, *, batch_size: int = ...) -> ScanExplanation: ...
    @overload
    def explain(
        self,
        slices: One,
        *,
        target: Target = ...,
        depth: int = ...,
        method: Method = ...,
        batch_size: int = ...,
    ) -> Explanation: ...
    @overload
    def explain(
        self,
        slices: "Sequence[One] | Tensor",
        *,
        target: Target = ...,
        depth: int = ...,
        method: Method = ...,
        batch_size: int = ...,
    ) -> list[Explanation]: ...
    @overload
    def explain(
        self,
        slices: Given,
        *,
        target: Target = ...,
        depth: int = ...,
        method: Method = ...,
        batch_size: int = ...,
    ) -> Explanation | list[Explanation]: ...
    def explain(
        self,
        slices: Given | Scan,
        *,
        target: Target = "Stroke",
        depth: int = 1,
        method: Method = "relevance",
        batch_size: int = 16,
    ) -> Explanation | list[Explanation] | ScanExplanation:
        """Explain as `explain.explain` does; the ONNX backend knows the closed form alone.

        Raises
        ------
        RunError : the ONNX backend is asked for another method or depth, or its export predicts only.
        """
        _check_batch_size(batch_size)
        target, method = find_target(target), find_method(method)
        if isinstance(slices, Scan):
            if (target, depth, method) != ("Stroke", 1, "relevance"):
                raise ValueError(
                    "A scan is explained for Stroke with depth=1 and method='relevance' only; explain its "
                    "slices for others."
                )
            return explain_scan(self, slices, batch_size=batch_size)
        taken = self._take(slices)
        if isinstance(self.model, ExportedModel):
            if depth != 1 or method != "relevance":
                raise RunError(
                    "The ONNX backend explains with depth=1 and method='relevance' only; "
                    "load the model with backend='torch' for others."
                )
            explained = self.model.explain(taken, target=target, batch_size=batch_size)
        else:
            from stroke_hub.inference.explain import explain_with_torch

            explained = explain_with_torch(
                self.model, taken, target=target, depth=depth, method=method, batch_size=batch_size
            )
        return explained[0] if len(explained) == 1 and is_one(slices) else explained

    def _take(self, given: Given) -> Taken:
        squares = find_squares(given, self.image_size)
        return to_slices(given) if squares is None else squares


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, but must be at least 1.")


def _as_predictor(model: "ResNetViT | ExportedModel | Predictor") -> Predictor:
    """Give a predictor of any model that `predict` and `explain` accept.

    Raises
    ------
    TypeError : it is something else.
    """
    if isinstance(model, Predictor):
        return model
    if not isinstance(model, ExportedModel):
        from stroke_hub.models.resnet_vit import ResNetViT

        if not isinstance(model, ResNetViT):
            advice = "load one with Predictor.from_pretrained"
            if isinstance(getattr(model, "module", None), ResNetViT):  # torch's DataParallel and the like
                advice = "pass its module"
            raise TypeError(
                f"model is a {type(model).__name__}, but must be a ResNetViT, an ExportedModel or a Predictor, and "
                f"comes before the slices; {advice}."
            )
    return Predictor(model, precision=model.precision if isinstance(model, ExportedModel) else "fp32")


def _prefers_export(name: str | Path, revision: str | None, precision: Precision, options: dict[str, Any]) -> bool:
    """Tell whether the export is there and the faster way on this machine."""
    if precision == "int8":
        return True
    if _has_cuda():
        return False
    try:
        record = read_export(name, revision, options)
    except (HubError, ModelFormatError):  # the model itself says what is wrong, or is cached without an export
        return False
    return record is not None and bool(record["explains"]) and precision in record["files"]


def _has_cuda() -> bool:
    """Tell whether torch would find a CUDA device; torch is imported only where there is a driver."""
    if "torch" not in sys.modules:
        driver = os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg") or shutil.which("nvidia-smi")
        if not driver or importlib.util.find_spec("torch") is None:
            return False
    import torch

    return torch.cuda.is_available()
