"""What a visitor takes along of one result: a PNG panel, a JSON file, a page that prints on A4.

They are made when asked for and go straight to the browser; no file of them lies on the server.
"""

from __future__ import annotations  # naming a type must not import torch before the page answers

import base64
import io
import json
from html import escape
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from result import Result, describe_evidence, describe_point, list_facts
from viewer import CELL

import stroke_hub

__all__ = ["SAVE_FILE", "draw_layer", "encode_png", "make_download", "pack_file"]

PANELS = {"original": "Original", "cnn": "ResNet (CNN)", "vit": "ViT", "fused": "Fused, signed"}
SIDE, GAP, TOP, FOOT = 448, 16, 120, 96  # px, of the PNG panel
INK, QUIET = "#0f172a", "#475569"
RESEARCH = "Research use only, not a medical device."

# the browser makes a file of what it got: nothing is stored and no link can be passed on
SAVE_FILE = """(file) => {
  if (!file) return;
  const bytes = Uint8Array.from(atob(file.data), (sign) => sign.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], {type: file.type}));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}"""

PAGE_CSS = """
@page { size: A4; margin: 12mm 14mm; }
:root { --stroke: #b93a0e; --normal: #0f766e; --rule: #cbd5e1; }
* { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
body { max-width: 182mm; margin: 0 auto; padding: 0; color: #0f172a; font: 10pt/1.35 system-ui, sans-serif; }
h1 { margin: 0; font-size: 17pt; } h2 { margin: 4mm 0 1mm; font-size: 11.5pt; } p { margin: 1mm 0; }
.notice { padding: 1.5mm 3mm; border-left: 1.2mm solid #ea580c; background: #fff3e6; }
.verdict { font-size: 20pt; font-weight: 650; color: var(--says); } .legend { color: #475569; font-size: 9pt; }
.maps { display: grid; grid-template-columns: repeat(4, 1fr); gap: 3mm; margin: 3mm 0; }
figure { margin: 0; } figcaption { font-size: 9pt; } img { width: 100%; background: #000; image-rendering: auto; }
table { width: 100%; border-collapse: collapse; font-size: 9.5pt; } caption { text-align: left; font-weight: 600; }
th { text-align: left; font-weight: 400; white-space: nowrap; }
td, th { padding: .6mm 2mm .6mm 0; vertical-align: top; }
td { overflow-wrap: anywhere; } .number { text-align: right; font-variant-numeric: tabular-nums; }
.bar { width: 45%; } .bar div { position: relative; height: 3mm; }
.bar i, .bar u { position: absolute; height: 100%; }
.bar u { border-left: .3mm solid #475569; } .evidence tr:last-child > * { border-top: .3mm solid var(--rule); }
.settings { columns: 2; } section { break-inside: avoid; }
@media (max-width: 600px) { body { padding: 4mm; } .maps { grid-template-columns: 1fr 1fr; } }
"""


def pack_file(name: str, kind: str, content: bytes) -> dict[str, str]:
    """A file as `SAVE_FILE` takes it."""
    return {"name": name, "type": kind, "data": base64.b64encode(content).decode()}


def encode_png(image: Image.Image) -> bytes:
    """A picture as a PNG file; quickly rather than small."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def draw_layer(explanation: stroke_hub.Explanation, layer: str) -> Image.Image:
    """One picture of the panel, as large as the model saw it."""
    if layer == "original":
        return Image.fromarray(explanation.pixels).convert("RGB")
    return explanation.overlay(layer)  # type: ignore[arg-type]


def list_provenance(result: Result) -> dict[str, str]:
    """What has to be known to get the same again."""
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


def make_json(result: Result) -> dict[str, str]:
    """All numbers."""
    text = json.dumps(list_facts(result), indent=2, ensure_ascii=False)
    return pack_file("explanation.json", "application/json", text.encode())


def make_panel(result: Result) -> dict[str, str]:
    """Original and maps in a row, the answer above, where it came from below."""
    e = result.explanation
    width = 4 * SIDE + 5 * GAP
    panel = Image.new("RGB", (width, TOP + SIDE + FOOT), "white")
    draw = ImageDraw.Draw(panel)
    answer = f"{e.label}: probability of stroke {result.probability_of_stroke:.1%} (threshold {_percent(result)})"
    draw.text((GAP, 14), answer, INK, ImageFont.load_default(30))
    parts = {"average slice": "baseline", "ResNet": "cnn", "ViT": "vit"}
    sums = " ".join(f"{name} {e.contributions[key]:+.2f}," for name, key in parts.items())
    draw.text((GAP, 54), f"Log-odds of {e.target}: {sums} sum {e.log_odds:+.2f}", QUIET, ImageFont.load_default(20))
    for i, (layer, title) in enumerate(PANELS.items()):
        x = GAP + i * (SIDE + GAP)
        empty = layer != "original" and not (e.get_map(layer) > 0).any()  # type: ignore[arg-type]
        words = f"{title}: no positive evidence" if empty else title
        draw.text((x, 92), words, INK, ImageFont.load_default(20))
        panel.paste(draw_layer(e, layer).resize((SIDE, SIDE)), (x, TOP))
    facts = list_provenance(result)
    warning = "Unlike the training slices: the answer means little. " if e.unusual else ""
    lines = [warning + _say_scale(result), *(f"{key}: {facts[key]}" for key in ("Input", "Model"))]
    lines.append(f"{RESEARCH} Trained on: {facts['Trained on']}. {facts['Made']}")
    for i, line in enumerate(lines):
        draw.text((GAP, TOP + SIDE + 8 + 21 * i), line, QUIET, ImageFont.load_default(16))
    return pack_file("explanation.png", "image/png", encode_png(panel))


def make_page(result: Result) -> dict[str, str]:
    """One HTML page that fetches nothing."""
    e = result.explanation
    pictures = "".join(
        f'<figure><figcaption>{title}</figcaption><img alt="{title}" src="{_link(draw_layer(e, layer))}"></figure>'
        for layer, title in PANELS.items()
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>'
        for key, value in list_provenance(result).items()
    )
    said = "".join(f'<p class="notice">{escape(notice)}</p>' for notice in result.notices)
    page = f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Explanation of a brain slice</title>
<style>{PAGE_CSS}</style></head><body style="--says: var(--{e.label.lower()})">
<h1>Explanation of a brain slice</h1><p class="notice"><b>{RESEARCH}</b></p>
<section><h2>Answer</h2><p class="verdict">{e.label}</p>
<p>Probability of stroke: <b>{result.probability_of_stroke:.1%}</b>. {escape(result.origin)}.</p>
{describe_point(result).replace("The mark is the threshold: from", "From")}{said}</section>
<section><h2>Where</h2><div class="maps">{pictures}</div>
<p class="legend">{escape(_say_scale(result))}</p></section>
<section><h2>How much</h2>{describe_evidence(result)}</section>
<section><h2>How to get the same again</h2><table>{rows}</table></section></body></html>"""
    return pack_file("explanation.html", "text/html", page.encode())


def _percent(result: Result) -> str:
    return f"{result.model['threshold']:.1%}"


def _say_scale(result: Result) -> str:
    e = result.explanation
    strongest = float(abs(e.fused_map).max()) * CELL**2
    return (
        f"Fused: red for {e.target}, blue against it, at most {strongest:.2g} log-odds per {CELL} x {CELL} pixels; "
        "each map is scaled by its own strongest value."
    )


def _link(image: Image.Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}"


def make_download(result: Result, kind: str) -> dict[str, Any]:
    """The file that `kind` ("png", "json", "html") names."""
    return {"png": make_panel, "json": make_json, "html": make_page}[kind](result)
