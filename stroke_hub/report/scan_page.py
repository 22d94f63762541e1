"""The answer for a scan as files: numbers for programs, evidence for viewers, a picture and a page for people."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from PIL import Image

from stroke_hub.files import write_text
from stroke_hub.inference.results import CONTRIBUTIONS, Explanation, Layer
from stroke_hub.inference.scan_answer import NO_GRID, ScanExplanation
from stroke_hub.report.templating import make_environment
from stroke_hub.scan.scan import Scan

__all__ = ["EVIDENCE_FILE", "SCAN_FILE", "describe_scan", "write_scan"]

SCAN_FILE, EVIDENCE_FILE, DISPLAY_FILE = "scan.json", "evidence.nii.gz", "display.nii.gz"
PANEL = 320  # pixels of the longer side of a picture in the page


def write_scan(
    scan: Scan,
    explained: ScanExplanation,
    folder: Path,
    *,
    model: Mapping[str, Any],
    asked: Mapping[str, str | None],
) -> None:
    """Write the answer for a scan into a folder that is there and empty.

    Writes slices.csv (a row a slice), evidence.nii.gz and display.nii.gz where the scan is a regular grid,
    contact-sheet.png, report.html (one file that fetches and runs nothing) and scan.json.

    Parameters
    ----------
    model, asked : as `describe_scan` takes them.
    """
    write_text(folder / "slices.csv", list_slices(scan, explained).to_csv(index=False))
    if scan.affine is not None:
        explained.save(folder / EVIDENCE_FILE)
        explained.save(folder / DISPLAY_FILE, layer="display")
    explained.contact_sheet().save(folder / "contact-sheet.png")
    told = describe_scan(scan, explained, model=model, asked=asked)
    write_text(folder / "report.html", _lay_out(scan, explained, told))
    write_text(folder / SCAN_FILE, json.dumps(told, indent=2) + "\n")


def describe_scan(
    scan: Scan, explained: ScanExplanation, *, model: Mapping[str, Any], asked: Mapping[str, str | None]
) -> dict[str, Any]:
    """Describe the answer for a scan in plain numbers and sentences, as scan.json has it.

    Slices are counted from 0, from foot to head. `contributions`, `shift` and `log_odds` are log-odds of Stroke.
    The first two add up to the last, and `evidence_sum` and `evidence_outside` to what CNN and ViT contribute.

    Parameters
    ----------
    model : what is said of the model: "name", "commit", "weights_sha256".
    asked : the options by which the scan was read, such as "series"; None where the file decided.
    """
    answer = explained.prediction
    return {
        "source": scan.source,
        "modality": scan.modality,
        "label": answer.label,
        "probability": answer.probability,
        "log_odds": answer.log_odds,
        "rule": answer.rule,
        "threshold": answer.threshold,
        "slices": len(scan),
        "slices_called_stroke": answer.slices.label.count("Stroke"),
        "ranked": answer.ranked,
        "contributions": dict(zip(CONTRIBUTIONS, explained.contributions.sum(axis=0).tolist(), strict=True)),
        "shift": explained.shift,
        "baseline": explained.baseline,
        "evidence": EVIDENCE_FILE if scan.affine is not None else None,
        "display": DISPLAY_FILE if scan.affine is not None else None,
        "evidence_sum": float(explained.evidence.sum(dtype=np.float64)),
        "evidence_outside": explained.outside,
        "remarks": [*answer.remarks, *([] if scan.affine is not None else [NO_GRID])],
        "asked": dict(asked),
        "model": dict(model),
    }


def list_slices(scan: Scan, explained: ScanExplanation) -> pd.DataFrame:
    """List the slices from foot to head: index (from 0), position in mm, file, answer and shares of the scan's."""
    slices = explained.prediction.slices
    table = explained.to_frame()
    table.insert(0, "index", np.arange(len(scan)))
    table.insert(1, "position_mm", scan.positions)
    table.insert(2, "file", [file for file, _ in scan.files] or [scan.source] * len(scan))
    table.insert(3, "instance_uid", [uid for _, uid in scan.files] or [""] * len(scan))
    table.insert(4, "label", slices.label)
    return table.assign(unusual=slices.unusual, remarks=[" ".join(remarks) for remarks in slices.remarks])


def _lay_out(scan: Scan, explained: ScanExplanation, told: dict[str, Any]) -> str:
    answer = explained.prediction
    shown = answer.counted
    rows = []
    for index in shown:
        one = explained.explain_slice(index)
        rows.append(
            {
                "number": index + 1,
                "probability": one.probability,
                "weight": float(answer.weights[index]),
                "contributions": explained.contributions[index].tolist(),
                "picture": _embed(_join_panels(one)),
                "remarks": one.remarks,
            }
        )
    bars = list(zip(answer.slices.probability.tolist(), (answer.weights > 0).tolist(), strict=True))
    page = make_environment().get_template("scan.html")
    return page.render(told=told, rows=rows, bars=bars, highest=shown[0] + 1)


def _join_panels(one: Explanation) -> Image.Image:
    """The slice and its three maps, side by side."""
    panels = [Image.fromarray(one.picture).convert("RGB"), *(one.overlay(layer) for layer in get_args(Layer))]
    scale = PANEL / max(panels[0].size)
    size = (max(1, round(panels[0].width * scale)), max(1, round(panels[0].height * scale)))
    row = Image.new("RGB", (size[0] * len(panels), size[1]))
    for place, panel in enumerate(panels):
        row.paste(panel.resize(size, Image.Resampling.BILINEAR), (place * size[0], 0))
    return row


def _embed(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
