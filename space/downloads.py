"""What a visitor can download of one result: a PNG panel, a JSON file, a page that prints on A4.

Each is made on request and sent straight to the browser; the server keeps no file of it.
"""

from __future__ import annotations  # naming a type must not import torch before the page answers

import base64
import io
import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import get_args

from demo_model import DemoModel
from PIL import Image, ImageDraw, ImageFont, ImageOps
from render import render
from result import Result, list_facts

import stroke_hub
from stroke_hub.errors import StrokeHubError, UnreadableImage
from stroke_hub.inference.scan_answer import ScanLayer

__all__ = ["KINDS", "SAVE_FILE", "draw_layer", "encode_png", "link_png", "make_download", "pack_file"]

KINDS = {
    "png": "Picture (PNG)",
    "html": "Report (HTML)",
    "json": "Numbers (JSON)",
    "nifti": "Maps of the scan (NIfTI)",
    "dicom": "Results for a viewer (DICOM)",
}
CELL = 16  # px: side of the square that the scale of the fused map refers to; one pixel holds next to nothing
PANELS = {"original": "Original", "cnn": "ResNet (CNN)", "vit": "ViT", "fused": "Fused, signed"}
SIDE, GAP, TOP, FOOT = 448, 16, 120, 117  # px, of the PNG panel
INK, QUIET = "#0f172a", "#475569"
RESEARCH = "Research use only, not a medical device."

# the browser makes the file: the server stores nothing, and there is no link to pass on
SAVE_FILE = """(file) => {
  if (!file) return;
  const bytes = Uint8Array.from(atob(file.data), (sign) => sign.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], {type: file.type}));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}"""


def pack_file(name: str, kind: str, content: bytes) -> dict[str, str]:
    """Pack a file as `SAVE_FILE` takes it."""
    return {"name": name, "type": kind, "data": base64.b64encode(content).decode()}


def encode_png(image: Image.Image) -> bytes:
    """Encode a picture as PNG, fast rather than small."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def link_png(image: Image.Image) -> str:
    """Encode a picture as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}"


def draw_layer(explanation: stroke_hub.Explanation, layer: str) -> Image.Image:
    """Draw one picture of the panel, the whole slice in its own proportions."""
    if layer == "original":
        return Image.fromarray(explanation.picture).convert("RGB")
    return explanation.overlay(layer)  # type: ignore[arg-type]


def list_provenance(result: Result) -> dict[str, str]:
    """List what is needed to reproduce the result."""
    model, settings, study = result.model, result.settings, result.study
    versions = ", ".join(f"{name} {number}" for name, number in model["versions"].items() if number)
    made_of = f"example {study.example}" if study.example else f"SHA-256 {study.sha256}"
    return {
        "Input": f"{made_of}, slice {result.page} of {len(study.slices)}",
        "Model": f"{model['model']}, commit {model['commit'] or 'none (a local folder)'}",
        "Weights": f"SHA-256 {model['weights_sha256']}" if model["weights_sha256"] else "not recorded",
        "Trained on": model["trained_on"] or "not recorded",
        "Threshold": f"{model['threshold']:.4f}",
        "Explained": f"class {result.explanation.target}, {result.explanation.method}, depth {settings.depth}",
        "Versions": versions,
        "Made": result.made,
    }


def name_file(result: Result, *, scan: bool = False) -> str:
    """Name a download by its source and slice, without anything that a file system might refuse."""
    source = result.study.example or result.study.name
    stem = re.sub(r"(\.nii)?(\.[A-Za-z0-9]{1,5})?$", "", source)
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:60] or "slice"
    number = "" if scan or len(result.study.slices) == 1 else f"_slice-{result.page}"
    return f"{plain}{number}_explanation"


def make_json(result: Result) -> dict[str, str]:
    """Make a JSON file of all numbers."""
    text = json.dumps(list_facts(result), indent=2, ensure_ascii=False)
    return pack_file(f"{name_file(result)}.json", "application/json", text.encode())


def make_panel(result: Result) -> dict[str, str]:
    """Draw the slice and its maps in a row, the answer above them, the origin below."""
    e = result.explanation
    width = 4 * SIDE + 5 * GAP
    panel = Image.new("RGB", (width, TOP + SIDE + FOOT), "white")
    draw = ImageDraw.Draw(panel)
    p, limit = result.stroke_probability, result.model["threshold"]
    answer = f"{e.label}: probability of stroke {p:.1%} (threshold {limit:.1%})"
    if e.unusual:
        answer = f"No answer: unlike the slices that the model knows. Its number all the same: {p:.1%}"
    draw.text((GAP, 14), answer, INK, ImageFont.load_default(30))
    sums = ", ".join(f"{bar.name} {bar.value:+.2f}" for bar in result.bars)
    draw.text((GAP, 54), f"Log-odds of Stroke: {sums}", QUIET, ImageFont.load_default(20))
    for i, (layer, title) in enumerate(PANELS.items()):
        x = GAP + i * (SIDE + GAP)
        silent = layer != "original" and e.speaks_against(layer)  # type: ignore[arg-type]
        words = f"{title}: speaks against {e.target}" if silent else title
        draw.text((x, 92), words, INK, ImageFont.load_default(20))
        panel.paste(ImageOps.pad(draw_layer(e, layer), (SIDE, SIDE)), (x, TOP))
    facts = list_provenance(result)
    warning = "Unlike the training slices: be careful with the answer. " if e.unusual else ""
    lines = [f"{result.place}. {result.scan_words}", warning + _say_scale(result)]
    lines += [f"{key}: {facts[key]}" for key in ("Input", "Model")]
    lines.append(f"{RESEARCH} Trained on: {facts['Trained on']}. {facts['Made']}")
    for i, line in enumerate(lines):
        draw.text((GAP, TOP + SIDE + 8 + 21 * i), line, QUIET, ImageFont.load_default(16))
    return pack_file(f"{name_file(result)}.png", "image/png", encode_png(panel))


def make_page(result: Result) -> dict[str, str]:
    """Make one HTML page that loads nothing and prints on A4."""
    page = render(
        "explanation.html",
        result=result,
        research=RESEARCH,
        pictures={title: link_png(draw_layer(result.explanation, layer)) for layer, title in PANELS.items()},
        scale=_say_scale(result),
        provenance=list_provenance(result),
    )
    return pack_file(f"{name_file(result)}.html", "text/html", page.encode())


def _say_scale(result: Result) -> str:
    e = result.explanation
    strongest = float(abs(e.fused_map).max()) * CELL**2
    return (
        f"Red speaks for Stroke, blue against it; fused: at most {strongest:.2g} log-odds per {CELL} x {CELL} "
        "pixels. Each map is scaled to its own maximum."
    )


def make_nifti(model: DemoModel, result: Result) -> dict[str, str]:
    """Make a zip file of the evidence and of the map as drawn, in the voxels and the affine of the scan."""
    if result.study.scan is None:
        raise StrokeHubError("NIfTI files are made of a scan; open all slices of the series together.")
    explained = model.explain_scan(result.study.scan)
    with tempfile.TemporaryDirectory() as folder:
        for layer in get_args(ScanLayer):
            explained.save(Path(folder, f"{layer}.nii.gz"), layer=layer)
        return _zip_folder(Path(folder), f"{name_file(result, scan=True)}_nifti.zip")


def make_dicom(model: DemoModel, result: Result) -> dict[str, str]:
    """Make a zip file of DICOM objects that hold no patient field: capture, report, map, key slices."""
    from stroke_hub.dicom.write_objects import Kind, prepare_sources, write_objects

    scan, kinds, left_out = result.study.scan, list(get_args(Kind)), ""
    if scan is None:
        raise StrokeHubError("DICOM objects are made of a scan; open all slices of the series together.")
    try:
        sources = prepare_sources(scan, kinds, patient=False)
    except UnreadableImage as refusal:  # a map needs to know where the slices lie; the others do not
        kinds.remove("pm")
        left_out = f"There is no parametric map. {refusal}\n"
        sources = prepare_sources(scan, kinds, patient=False)
    explained = model.explain_scan(scan)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        about = model.identify()
        write_objects(scan, explained, place, kinds=kinds, model=about, patient=False, sources=sources)
        if left_out:
            (place / "left-out.txt").write_text(left_out, encoding="utf-8")
        return _zip_folder(place, f"{name_file(result, scan=True)}_dicom.zip")


def _zip_folder(folder: Path, name: str) -> dict[str, str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return pack_file(name, "application/zip", buffer.getvalue())


def make_download(model: DemoModel, result: Result, kind: str) -> dict[str, str]:
    """Make the file that `kind` names, one of `KINDS`."""
    if kind == "nifti":
        return make_nifti(model, result)
    if kind == "dicom":
        return make_dicom(model, result)
    return {"png": make_panel, "json": make_json, "html": make_page}[kind](result)
