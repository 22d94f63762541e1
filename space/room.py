"""The reading room: what the browser is sent of a study, and of each slice with its maps, and the component for it.

The browser draws all of it (static/viewer/). It asks for slices that it lacks, a few at a time, the highest first;
what was sent once needs no request any more.
"""

from __future__ import annotations  # naming a type must not import torch before the page answers

import base64
import json
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from result import BRANCHES, Result, find_point, name_origin, say_baseline, say_threshold

from stroke_hub.inference import colormaps
from stroke_hub.inference.scan_answer import NO_HEAD
from stroke_hub.io.slices import find_display
from stroke_hub.scan.series import CHOOSE

if TYPE_CHECKING:
    from demo_model import DemoModel
    from study import Study

    from stroke_hub import Explanation, Slice

__all__ = ["LARGEST", "MOST", "build_room", "pack_slice", "pack_study"]

STATIC = Path(__file__).parent / "static"
LARGEST = 1024  # px: the longer side of what is sent; a slice of 16 million pixels would take minutes
MOST = 64  # slices of a scan whose maps come by themselves; those of others come when somebody goes to them
LEVELS = 127  # of a map on each side of zero: a picture shows no more
LATERAL = ("axial", "coronal")  # planes that show the patient's right on the left; a sagittal one has no sides
SAID = (NO_HEAD, "Unlike the training slices:")
WORDS = {CHOOSE: "The Worklist lists every series, to open any of them."}  # the page has no place for a name


def build_room(downloads: dict[str, str]) -> gr.HTML:
    """Build the component; its value is a message of `pack_study` or `pack_slice`, or None for an empty room.

    It triggers "select" with the slices that it lacks, and "click" with a kind of download; both name the study.

    Parameters
    ----------
    downloads : words on the button of each kind.
    """
    given = {
        "colours": json.loads(colormaps.FILE.read_text(encoding="utf-8"))["RdBu_r"],
        "downloads": downloads,
    }
    return gr.HTML(
        html_template='<div class="room-host"></div>',
        js_on_load=f"const GIVEN = {json.dumps(given)};\n{(STATIC / 'room.js').read_text(encoding='utf-8')}",
        apply_default_css=False,
    )


def pack_study(model: DemoModel, study: Study, page: int, result: Result | None = None) -> dict[str, Any]:
    """Pack what is known of a study before the maps of its slices.

    Parameters
    ----------
    page : the slice that it opens on, from 1.
    result : of that slice; None of a scan, whose headline does not wait for maps.
    """
    answer = study.answer
    if answer:
        slices = answer.slices
        told = [
            {"probability": float(p), "label": label, "unusual": bool(unusual)}
            for p, label, unusual in zip(slices.probability, slices.label, slices.unusual, strict=True)
        ]
    elif result:
        e = result.explanation
        told = [{"probability": result.stroke_probability, "label": e.label, "unusual": bool(e.unusual)}]
    else:
        raise ValueError("a slice is told by its result.")
    point = find_point(model, study.slices[page - 1].modality)
    threshold, details = say_threshold(model.threshold, point)
    # the headline says which slices get no answer
    remarks = [words for words in answer.remarks if not words.startswith(SAID)] if answer else []
    judged = " ".join(words for words in remarks if answer and answer.rule in words)
    return {
        "kind": "study",
        "id": study.key,
        "title": name_origin(study, page),
        "slices": told,
        "scan": {"label": answer.label, "probability": answer.probability, "judged": judged} if answer else None,
        "threshold": model.threshold,
        "first": page - 1,
        "truth": study.truth,
        "point": threshold,
        "details": details,
        "remarks": [WORDS.get(words, words) for words in remarks if words not in judged],
        "upwards": study.scan is not None and not np.array_equal(study.scan.positions, np.arange(len(study.scan))),
        "most": MOST,
        "downloads": _list_downloads(study),
        "given": [pack_slice(model, study, result)] if result else [],
    }


def _list_downloads(study: Study) -> list[str]:
    kinds = ["png", "html", "json"]
    if study.scan is not None:
        kinds += ["nifti"] if study.scan.affine is not None else []
        is_dicom = bool(study.scan.files) and bool(study.scan.files[0][1])
        kinds += ["dicom"] if is_dicom and find_spec("highdicom") else []
    return kinds


def pack_slice(model: DemoModel, study: Study, result: Result) -> dict[str, Any]:
    """Pack one slice and its maps for the browser: as measured, at its own size or at `LARGEST`."""
    e, one = result.explanation, study.slices[result.page - 1]
    values, low, high, unit = _find_values(model, one, e)
    height, width = values.shape
    factor = min(1.0, LARGEST / max(height, width))
    shrunk = [f"The slice has {width} x {height} pixels and is shown smaller."] if factor < 1 else []
    values = _shrink(values, factor)
    sign = 1 if e.target == "Stroke" else -1
    evidence = {say_baseline(e.baseline): "baseline", **{name: key for key, name in BRANCHES.items()}}
    return {
        "kind": "slice",
        "study": study.key,
        "index": result.page - 1,
        "height": values.shape[0],
        "width": values.shape[1],
        "values": _encode(values),
        "type": values.dtype.name,
        "unit": unit,
        "window": {"low": low, "high": high},
        "left": "R" if one.plane in LATERAL else None,
        "spacing": one.spacing / factor if one.spacing else None,
        "maps": {layer: _pack_map(e, layer, factor) for layer in (*BRANCHES, "fused")},
        "sign": sign,
        "outline": None if study.outline is None else _encode(_shrink(study.outline, factor)),
        "evidence": [{"name": name, "value": sign * e.contributions[key]} for name, key in evidence.items()],
        "remarks": [*shrunk, *result.notices_of_picture],
    }


def _find_values(model: DemoModel, one: Slice, e: Explanation) -> tuple[NDArray[Any], float, float, str]:
    """Find what is drawn of a slice, black, white and the unit; a model of old renderings shows its own picture."""
    sight = model.predictor
    if sight.rendering == "legacy":
        return e.picture, 0.0, 255.0, ""
    values, low, high, unit, _ = find_display(one, modality=e.framed.modality, default=sight.window)
    if values.dtype == np.float32 and unit == "HU" and float(np.abs(values).max()) < 32_000:
        values = np.rint(values).astype(np.int16)  # HU are measured to some units; half the bytes
    return values, low, high, unit


def _pack_map(e: Explanation, layer: Any, factor: float) -> dict[str, Any]:
    values = _shrink(e.framed.lift(e.get_shown(layer)), factor)
    strongest = float(np.abs(values).max())
    levels = np.rint(values / strongest * LEVELS) if strongest > 0 else np.zeros_like(values)
    silent = e.speaks_against(layer) or strongest == 0
    return {
        "data": "" if silent else _encode(levels.astype(np.int8)),
        "strongest": LEVELS,
        "silent": silent,
        "outside": e.measure_outside(layer),
    }


def _shrink(values: NDArray[Any], factor: float) -> NDArray[Any]:
    if factor >= 1:
        return values
    height, width = (max(1, round(side * factor)) for side in values.shape)
    image = Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    small = np.asarray(image)
    return (np.rint(small) if values.dtype.kind in "iu" else small).astype(values.dtype)


def _encode(values: NDArray[Any]) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 1)).decode()
