"""The answer for a scan: headline, probability along it, slices to choose, remarks."""

from __future__ import annotations  # naming a type must not import torch before the page answers

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from charts import draw_profile
from render import render

from stroke_hub.errors import pluralise

if TYPE_CHECKING:
    from stroke_hub.inference.scan_answer import ScanPrediction
    from stroke_hub.scan.scan import Scan

__all__ = ["build_scan_panel", "list_answer", "render_answer", "render_progress"]

STATIC = Path(__file__).parent / "static"
MODALITIES = {"BT": "CT", "MR": "MR"}
RANKED = 8  # slices to choose from; the chart has all


def build_scan_panel() -> gr.HTML:
    """Build the component; it tells a click with the number of the slice that was chosen."""
    return gr.HTML("", js_on_load=(STATIC / "scan.js").read_text(encoding="utf-8"), apply_default_css=False)


def render_progress(scan: Scan, done: int) -> str:
    """Render how many slices were predicted as HTML."""
    return render("scanning.html", name=scan.source, done=done, slices=len(scan))


def render_answer(scan: Scan, answer: ScanPrediction, threshold: float, page: int) -> str:
    """Render the answer for a scan as HTML.

    Parameters
    ----------
    threshold : of a slice. page : the number of the slice that is shown, from 1.
    """
    probability = answer.slices.probability
    upwards = not np.array_equal(scan.positions, np.arange(len(scan)))  # places in mm, no mere numbers
    parts = [f"Upload: {scan.source}", pluralise(len(scan), "slice")]
    parts += [MODALITIES[scan.modality]] if scan.modality else []
    return render(
        "scan.html",
        answer=answer,
        origin=", ".join(parts),
        judged=" ".join(told for told in answer.remarks if answer.rule in told),
        remarks=[told for told in answer.remarks if answer.rule not in told],
        above=answer.slices.label.count("Stroke"),
        probability=probability.tolist(),
        threshold=threshold,
        ranked=[index + 1 for index in answer.ranked[:RANKED]],
        shares=[_round_share(float(probability[index])) for index in answer.ranked[:RANKED]],
        page=page,
        profile=draw_profile(probability, threshold, page, upwards=upwards),
    )


def _round_share(share: float) -> str:
    """A probability in whole per cent; none is ever 0 or 100."""
    if 0.005 <= share < 0.995:
        return f"{share:.0%}"
    return "< 1%" if share < 0.5 else "> 99%"


def list_answer(answer: ScanPrediction) -> dict[str, Any]:
    """List the answer for a scan as numbers; slices are counted from 1, as the page counts them."""
    return {
        "label": answer.label,
        "probability_of_stroke": answer.probability,
        "threshold": answer.threshold,
        "log_odds": answer.log_odds,
        "rule": answer.rule,
        "slices_called_stroke": answer.slices.label.count("Stroke"),
        "ranked": [index + 1 for index in answer.ranked],
        "probability_of_stroke_by_slice": answer.slices.probability.tolist(),
        "remarks": list(answer.remarks),
    }
