"""export(): write a model as ONNX files that predict and explain without PyTorch, and measure what that changes.

There is one implementation of the explanation: what is exported is `relevance.compute_relevance` itself.
"""

import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stroke_hub.data.records import Records
from stroke_hub.errors import RunError
from stroke_hub.extras import name_extras
from stroke_hub.files import hash_file, write_text
from stroke_hub.inference.onnx_model import (
    EXPLAINED,
    EXPORT_FILE,
    EXPORT_VERSION,
    FILES,
    FOLDER,
    KEY,
    PREDICTED,
    ExportedModel,
    Precision,
)
from stroke_hub.inference.ood import measure_texture
from stroke_hub.inference.predict import to_float_pixels
from stroke_hub.inference.relevance import compute_relevance, has_closed_form
from stroke_hub.inference.results import make_prediction
from stroke_hub.metrics.classification import auroc
from stroke_hub.models.resnet_vit import ResNetViT, copy_for_evaluation, hash_weights
from stroke_hub.models.weights import WEIGHTS_FILE, is_stored_halved
from stroke_hub.progress import say, track

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["export"]

OPSET = 20
NOISE_SLICES = 16
NOISE = "squares of noise, not slices"
ALLOWED = 1e-3  # of a probability, fp32 against PyTorch: rounding gives 1e-6, a graph that is wrong more
GRIDS = ("cnn_map", "vit_map", "cnn_evidence", "vit_evidence")


class _Graph(nn.Module):
    """Compute the outputs of the graph, explanation and distance, of uint8 squares and signs."""

    def __init__(self, model: ResNetViT, *, explains: bool) -> None:
        super().__init__()
        self.model, self.explains = model, explains
        self.limit = float(model.feature_distance_limit)
        self.eval()

    def forward(self, pixels: Tensor, sign: Tensor | None = None, rows: Tensor | None = None) -> tuple[Tensor, ...]:
        x = to_float_pixels(pixels, pixels.device)
        if self.explains:
            relevance = compute_relevance(self.model, x, sign, rows=rows)
            found, features = relevance._asdict(), relevance.features
        else:
            features = self.model.features(x)
            found = {"logits": self.model.head(features)}
        away = features - self.model.feature_mean  # as predict.compute_distance
        if self.model.feature_scale is not None:
            away = away / self.model.feature_scale
        if self.model.feature_whitening is not None:
            away = away @ self.model.feature_whitening.T
        found["distance"] = away.square().mean(1).sqrt()
        mean, scale, whitening = self.model.texture_mean, self.model.texture_scale, self.model.texture_whitening
        if mean is not None and scale is not None and whitening is not None and self.limit < np.inf:
            beside = (measure_texture(x[:, 0]) - mean) / scale @ whitening.T
            found["distance"] = torch.maximum(found["distance"], self.limit * beside.square().mean(1).sqrt())
        return tuple(found[name] for name in _list_outputs(self.explains))


def _list_outputs(explains: bool) -> tuple[str, ...]:
    return EXPLAINED if explains else PREDICTED


def export(
    run: str | Path,
    *,
    precisions: Sequence[Precision] = ("fp32", "int8"),
    records: Records | None = None,
    split: str = "test",
    name: str = "",
) -> dict[str, Any]:
    """Write the ONNX files of a run's model into its folder `onnx/`, taking the place of an earlier export.

    A model whose transformer has no closed form of the explanation is exported for prediction only.

    Parameters
    ----------
    run : a run folder, or any folder that `ResNetViT.save_pretrained` wrote.
    precisions : "fp32", and "int8": matrix products of the transformer in 8-bit integers, one scale a column and 7
        bits of a weight, so that no sum overflows on processors without VNNI; convolutions stay float32, as integer
        ones make the whole take 2.6 times as long in onnxruntime, and their weights are stored as float16.
    records : slices to measure on how far the exports are from the model; without them noise is taken.
    split : which part of them.
    name : what the record calls them.

    Returns
    -------
    What onnx/export.json holds: `weights_sha256`; `explains`; `files`, SHA-256 by precision; `bytes` by precision;
    and `measured`: `on` what, how many slices `n`, and by precision, against PyTorch, the largest change of a
    `probability` and of a `contribution` in log-odds, the change of a `map` (of the worst kind of map in the median
    slice, the cell that changes most, as a share of the map's largest value), and that of the `auroc`, where both
    classes are there.

    Raises
    ------
    RunError : the model cannot be exported.
    MissingExtra : onnx or onnxscript is not installed.
    """
    run = Path(run)
    with name_extras("The export", "export"):
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    if (run / WEIGHTS_FILE).is_file() and is_stored_halved(run / WEIGHTS_FILE):
        raise RunError(f"{run}: holds weights rounded to float16; export the run that they were published from.")
    model = ResNetViT.from_pretrained(run)
    explains = has_closed_form(model.vit)
    if not explains:
        say(f"{run}: its explanation has no closed form; the export predicts only.")
    pixels, labels, on = _choose_squares(model, records, split, name)
    partial = run / f".{FOLDER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        graph = _trace(model, explains, str(run))
        _save(graph, partial / FILES["fp32"])
        if "int8" in precisions:
            say("quantising to int8")
            _quantise(partial / FILES["fp32"], partial / FILES["int8"])
        if "fp32" not in precisions:
            (partial / FILES["fp32"]).unlink()
        record = {
            "format_version": EXPORT_VERSION,
            "weights_sha256": hash_weights(model),
            "explains": explains,
            "files": {precision: hash_file(partial / FILES[precision]) for precision in precisions},
            "bytes": {precision: (partial / FILES[precision]).stat().st_size for precision in precisions},
        }
        exports = {p: ExportedModel(partial / FILES[p], p, name=str(run)) for p in precisions}
        measured = _measure(model, exports, pixels, labels)
        if "fp32" in measured and not measured["fp32"]["probability"] <= ALLOWED:
            raise RunError(
                f"{run}: its ONNX graph changes a probability by {measured['fp32']['probability']:.2g}, so nothing "
                "was written; use the model with PyTorch."
            )
        record["measured"] = {"on": on, "n": len(pixels)} | measured
        write_text(partial / EXPORT_FILE, json.dumps(record, indent=1) + "\n")
        shutil.rmtree(run / FOLDER, ignore_errors=True)
        os.replace(partial, run / FOLDER)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _choose_squares(
    model: ResNetViT, records: Records | None, split: str, name: str
) -> tuple[Tensor, NDArray[np.int64] | None, str]:
    """Choose uint8 squares to measure on, their labels, and what they are in words."""
    if records is None:
        shape = (NOISE_SLICES, model.image_size, model.image_size)
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return torch.from_numpy(noise), None, NOISE
    from stroke_hub.data.loader import decode_squares

    table = records.part(split)
    pixels = decode_squares(model, records.root, table)
    return pixels, table["label"].to_numpy(), f"{split} slices of {name or 'a dataset'}"


def _trace(model: ResNetViT, explains: bool, name: str) -> "ModelProto":
    """Trace the graph of fp32, with metadata of its model and without any of the machine that made it."""
    private = copy_for_evaluation(model)
    # two of them: a batch of one would be taken for a constant
    pixels = torch.zeros((2, model.image_size, model.image_size), dtype=torch.uint8)
    batch = torch.export.Dim("batch")
    inputs: dict[str, Tensor] = {"pixels": pixels}
    if explains:
        inputs |= {"sign": torch.ones(2), "rows": torch.zeros(2, dtype=torch.int64)}
    say("exporting to ONNX")
    try:
        with _quietly():
            program = torch.onnx.export(
                _Graph(private, explains=explains),
                kwargs=inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(_list_outputs(explains)),
                dynamic_shapes={key: {0: batch} for key in inputs},
                verbose=False,
            )
    except Exception as error:  # whatever a timm model holds that ONNX does not
        reason = " ".join(str(error).split())[:120]
        raise RunError(
            f"{name}: cannot be exported to ONNX ({type(error).__name__}: {reason}); use it with PyTorch."
        ) from error
    assert program is not None  # noqa: S101  it is None for the old exporter only
    graph = program.model_proto
    for node in graph.graph.node:  # stack traces, with the paths of this machine
        del node.metadata_props[:]
    limit = float(model.feature_distance_limit)
    settings = {
        "format_version": EXPORT_VERSION,
        "weights_sha256": hash_weights(model),
        "image_size": model.image_size,
        "resize": model.resize,
        "rendering": model.rendering,
        "window": model.window,
        "framing": model.framing,
        "modalities": list(model.modalities),
        "temperature": float(model.temperature),
        "threshold": float(model.threshold),
        "distance_limit": limit if np.isfinite(limit) else None,
        "baselines": list(model.baselines),
        "explains": explains,
        "scan_rule": None if (rule := model.get_scan_rule()) is None else asdict(rule),
    }
    del graph.metadata_props[:]
    graph.metadata_props.add(key=KEY, value=json.dumps(settings))
    return graph


@contextmanager
def _quietly() -> Iterator[None]:
    """Mute the warnings that exporter and quantiser give of their own code."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _save(graph: "ModelProto", file: Path) -> None:
    import onnx

    try:
        onnx.save(graph, file)
    except ValueError as error:  # protobuf's limit is 2 GiB
        raise RunError(f"{file.parent.parent}: is too large for one ONNX file; use it with PyTorch.") from error


def _quantise(source: Path, target: Path) -> None:
    """Quantise matrix products to int8, and store weights of convolutions as float16."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quietly(), tempfile.TemporaryDirectory() as workplace:
        quantised = Path(workplace) / target.name
        quantize_dynamic(
            source,
            quantised,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=_list_last(onnx.load(source)),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        graph = onnx.load(quantised)
    kernels = {node.input[1] for node in graph.graph.node if node.op_type == "Conv"}
    casts = []
    for tensor in graph.graph.initializer:
        if tensor.name in kernels and tensor.data_type == TensorProto.FLOAT:
            values, name = numpy_helper.to_array(tensor), tensor.name
            if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
                continue
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            # done once, when the file is read
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    _save(graph, target)


def _list_last(graph: "ModelProto") -> list[str]:
    """List the products between the features and the outputs, which stay float32.

    They are small and nothing averages their error out. With the head in integers the largest change of a
    probability of an earlier quickstart was 0.0080, without 0.0012. With the whitening in integers, distances
    change by up to 17 %, otherwise by 1 %.
    """
    producers = {output: node for node in graph.graph.node for output in node.output}
    names: set[str] = set()
    waiting = ["logits", "distance"]
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.name not in names and node.op_type != "Concat":  # of features, of a texture
            names |= {node.name, f"{node.name}_MatMul"}  # the quantiser renames a Gemm before it looks
            waiting += node.input
    return sorted(names)


def _measure(
    model: ResNetViT, exports: dict[Precision, ExportedModel], pixels: Tensor, labels: NDArray[np.int64] | None
) -> dict[str, Any]:
    """Measure by precision what changes against PyTorch."""
    found: dict[str, list[dict[str, NDArray[np.float32]]]] = {"torch": [], **{p: [] for p in exports}}
    explains = all(exported.explains for exported in exports.values())
    graph = _Graph(copy_for_evaluation(model), explains=explains)
    names = _list_outputs(explains)
    for batch in track(pixels.split(16), "comparing"):
        with torch.inference_mode():
            values = graph(batch, torch.ones(len(batch)) if explains else None)
        found["torch"].append({key: part.numpy() for key, part in zip(names, values, strict=False)})
        for precision, exported in exports.items():
            found[precision].append(exported.run(batch.numpy(), 1.0, names))
    whole = {
        key: {field: np.concatenate([part[field] for part in parts]) for field in names}
        for key, parts in found.items()
    }
    return {p: _compare(whole["torch"], whole[p], model, labels) for p in exports}


def _compare(
    ours: dict[str, NDArray[np.float32]],
    theirs: dict[str, NDArray[np.float32]],
    model: ResNetViT,
    labels: NDArray[np.int64] | None,
) -> dict[str, float | None]:
    before, after = (
        make_prediction(
            found["logits"], temperature=float(model.temperature), threshold=float(model.threshold)
        ).probability
        for found in (ours, theirs)
    )
    result = {
        "probability": float(np.abs(after - before).max(initial=0)),
        "contribution": None,
        "map": None,
        "auroc": None,
    }
    if "contributions" in ours:
        result["contribution"] = float(np.abs(theirs["contributions"] - ours["contributions"]).max(initial=0))
        result["map"] = max(_compare_maps(ours[name], theirs[name]) for name in GRIDS)
    if labels is not None:
        areas = auroc(labels, after), auroc(labels, before)
        if areas[0] is not None and areas[1] is not None:
            result["auroc"] = areas[0] - areas[1]
    return result


def _compare_maps(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Compute the largest change of a cell as a share of its map's largest value, in the median slice."""
    change, scale = (np.abs(grid).max((1, 2)) for grid in (theirs - ours, ours))
    return float(np.median(change[scale > 0] / scale[scale > 0])) if (scale > 0).any() else 0.0
