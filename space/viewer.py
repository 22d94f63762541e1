"""The viewer: a slice beside its three heatmaps, which the browser colours and overlays."""

import base64
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from result import Result, describe_place

from stroke_hub.inference import colormaps

__all__ = ["CELL", "build_payload", "build_viewer"]

STATIC = Path(__file__).parent / "static"
CELL = 16  # px: side of the square that the scale of the fused map refers to; one pixel holds next to nothing
LAYERS = {"cnn": "ResNet (CNN)", "vit": "ViT", "fused": "Fused"}
LARGEST = 768  # px: the longer side of what is sent; a slice of 16 million pixels would take minutes
ZERO = 128  # of the signed map's bytes


def build_viewer() -> gr.HTML:
    """Build the component; its value is what `build_payload` returns."""

    def read(name: str) -> str:
        return (STATIC / name).read_text(encoding="utf-8")

    return gr.HTML(
        html_template=read("viewer.html"),
        js_on_load=f"const TABLES = {colormaps.FILE.read_text(encoding='utf-8')};\n{read('viewer.js')}",
        apply_default_css=False,
        elem_classes="viewer",
    )


def build_payload(result: Result) -> dict[str, Any]:
    """Pack the slice and its maps as bytes, each scaled to its own maximum, with words for each."""
    e = result.explanation
    original, maps = _shrink(Image.fromarray(e.picture)), {}
    for layer in LAYERS:
        seen = e.get_shown(layer)  # type: ignore[arg-type]
        values = np.asarray(_shrink(Image.fromarray(e.framed.lift(seen))))
        strength = float(np.abs(values).max())
        empty = not (seen > 0).any()
        maps[layer] = {
            "data": _encode(values, strength, signed=layer == "fused"),
            "alt": _describe(layer, values, e.target, empty=empty),
            "remark": f"no positive evidence for {e.target}" if empty else "",
        }
    per_cell = float(np.abs(e.fused_map).max()) * CELL**2
    return {
        "width": original.width,
        "height": original.height,
        "original": base64.b64encode(original.tobytes()).decode(),
        "maps": maps,
        "target": e.target,
        "study": result.study.example or result.study.sha256,
        "scale": [f"{-per_cell:+.2g}", "0", f"{per_cell:+.2g}"],
        "cell": f"log-odds per {CELL} × {CELL} pixels",
        "carried": f"{e.contributions['cnn'] + e.contributions['vit']:+.2f} log-odds in total",
    }


def _shrink(image: Image.Image) -> Image.Image:
    """Shrink a picture whose longer side is above `LARGEST`, in its own proportions."""
    factor = LARGEST / max(image.size)
    if factor >= 1:
        return image
    return image.resize([max(1, round(side * factor)) for side in image.size], Image.Resampling.BILINEAR)


def _encode(values: NDArray[np.float32], strength: float, *, signed: bool) -> str:
    scaled = values / strength if strength > 0 else np.zeros_like(values)
    levels = scaled * 127 + ZERO if signed else scaled * 255
    return base64.b64encode(np.rint(levels).astype(np.uint8).tobytes()).decode()


def _describe(layer: str, values: NDArray[np.float32], target: str, *, empty: bool) -> str:
    name = f"{LAYERS[layer]} heatmap"
    if empty:
        return f"{name}: no positive evidence for {target}"
    if layer == "fused":
        speaks = "for" if values.flat[int(np.abs(values).argmax())] > 0 else "against"
        return f"{name}: strongest {describe_place(values)}, {speaks} {target}"
    return f"{name}: strongest {describe_place(values)}"
