"""A page to look through: every slice of a folder with its maps, worst errors first."""

import html
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stroke_hub.data.loader import decode_squares
from stroke_hub.files import write_text
from stroke_hub.inference.explain import explain
from stroke_hub.inference.results import Explanation, Layer
from stroke_hub.models.presets import CLASSES
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.progress import track

__all__ = ["write_gallery"]

LAYERS: tuple[Layer, ...] = ("cnn", "vit", "fused")
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Explanations</title><style>
:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }}
body {{ margin: 2rem auto; max-width: 72rem; padding: 0 1rem }}
main {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr)); gap: 1rem }}
@media (min-width: 66rem) {{ main {{ grid-template-columns: 1fr 1fr }} }}
figure {{ margin: 0; padding: .8rem; border: 1px solid #8886; border-radius: .5rem }}
figure.wrong {{ border: 2px solid #d55e00 }}
img {{ width: 100%; image-rendering: auto; border-radius: .2rem }}
figcaption {{ font-size: .9rem }} code {{ font-size: .8rem; overflow-wrap: anywhere }}
</style></head><body>
<h1>Explanations</h1>
<p>{intro}</p>
<p><strong>Research use only, not a medical device.</strong> {note}</p>
<p>From left to right: slice, CNN (Grad-CAM), ViT (relevance), fused (red speaks for {target}, blue
against). Each map is scaled by itself; the log-odds below it say how much it stands for.</p>
<main>
{cards}
</main></body></html>
"""
CARD = """<figure{wrong}><img loading="lazy" src="{picture}" width="{width}" height="{height}"
alt="Slice and its three maps; truth {truth}, probability of Stroke {probability:.3f}">
<figcaption><strong>{verdict}</strong>: truth {truth}, predicted {label}, P(Stroke) {probability:.3f}<br>
CNN {cnn:+.2f}, ViT {vit:+.2f}, baseline {baseline:+.2f} log-odds for {target}{remarks}<br><code>{path}</code>
</figcaption></figure>"""


def write_gallery(
    model: ResNetViT,
    table: pd.DataFrame,
    root: str | Path,
    out: str | Path,
    *,
    note: str = "",
    batch_size: int = 32,
) -> Path:
    """Explain every slice of a table into a new folder, for Stroke.

    Writes maps/*.npz (float32 cnn_map, vit_map, cnn_evidence, vit_evidence, (S, S) each), pictures/*.png,
    explanations.csv (a row a slice: path, truth, label, probability, contributions in log-odds, picture, maps)
    and, last, index.html.

    Parameters
    ----------
    table : path (relative to `root`) and label (1 Stroke, 0 Normal).
    note : words that the page carries, for example what the data stand for.

    Returns
    -------
    The page's path.

    Raises
    ------
    DatasetError : a slice cannot be read.
    """
    out = Path(out)
    table = table.reset_index(drop=True)
    squares = decode_squares(model, Path(root), table["path"])
    for folder in ("maps", "pictures"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for start in track(range(0, len(table), batch_size), "explaining"):
        part = slice(start, start + batch_size)
        for (i, record), e in zip(table.iloc[part].iterrows(), explain(model, squares[part]), strict=True):
            rows.append(_write_slice(out, f"{i:05d}", str(record["path"]), CLASSES[int(record["label"])], e))
    results = pd.DataFrame(rows)
    results["error"] = (results["probability"] - (results["truth"] == "Stroke")).abs()
    results = results.sort_values(["error", "path"], ascending=[False, True], ignore_index=True)
    write_text(out / "explanations.csv", results.to_csv(index=False))
    write_text(out / "index.html", _lay_out(results, note))
    return out / "index.html"


def _write_slice(out: Path, name: str, path: str, truth: str, e: Explanation) -> dict[str, object]:
    panels = [Image.fromarray(e.pixels).convert("RGB"), *(e.overlay(layer) for layer in LAYERS)]
    strip = Image.fromarray(np.hstack([np.asarray(panel) for panel in panels]))
    strip.save(out / "pictures" / f"{name}.png")
    np.savez_compressed(
        out / "maps" / f"{name}.npz",
        cnn_map=e.cnn_map,
        vit_map=e.vit_map,
        cnn_evidence=e.cnn_evidence,
        vit_evidence=e.vit_evidence,
    )
    return {
        "path": path,
        "truth": truth,
        "label": e.label,
        "probability": e.probability,
        **e.contributions,
        "remarks": "; ".join(e.remarks),
        "picture": f"pictures/{name}.png",
        "maps": f"maps/{name}.npz",
        "width": strip.width,
        "height": strip.height,
    }


def _lay_out(results: pd.DataFrame, note: str) -> str:
    wrong = int((results["truth"] != results["label"]).sum())
    cards = [_draw_card({str(key): value for key, value in row.items()}) for _, row in results.iterrows()]
    intro = f"{len(results)} slices, {wrong} of them misclassified; worst errors first."
    return PAGE.format(intro=intro, note=html.escape(note), target="Stroke", cards="\n".join(cards))


def _draw_card(row: dict[str, object]) -> str:
    right = row["truth"] == row["label"]
    remarks = f"; {html.escape(str(row['remarks']))}" if row["remarks"] else ""
    shown = row | {"path": html.escape(str(row["path"])), "remarks": remarks, "target": "Stroke"}
    return CARD.format(wrong="" if right else ' class="wrong"', verdict="right" if right else "wrong", **shown)
