"""The slices that a report shows with their maps: chosen by rule, explained, drawn."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stroke_hub.data.contents import load_first
from stroke_hub.data.masks import find_mask
from stroke_hub.data.records import list_modalities
from stroke_hub.inference.explain import explain
from stroke_hub.inference.results import Explanation
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.report.formatting import name_value, show_number
from stroke_hub.report.heatmaps import draw_components, draw_explanations
from stroke_hub.report.plots import save_figures
from stroke_hub.runs.report import Report

__all__ = ["choose_samples", "explain_samples"]

SHOWN = 8


def choose_samples(results: pd.DataFrame, *, count: int = 8) -> pd.DataFrame:
    """Choose rows of the results table to show: each modality and class, evenly along the probability.

    Nobody's favourites: for k slices of a cell of n, those at ranks (i + 0.5) n / k.
    """
    cells = list(results.groupby(["image_type", "true_class"], sort=True))
    share = max(1, count // max(len(cells), 1))
    chosen = []
    for _, cell in cells:
        ordered = cell.sort_values(["stroke_probability", "image_path"])
        k = min(share, len(ordered))
        chosen.append(ordered.iloc[[int((i + 0.5) * len(ordered) / k) for i in range(k)]])
    return pd.concat(chosen)


def explain_samples(
    model: ResNetViT,
    table: pd.DataFrame,
    results: pd.DataFrame,
    report: Report,
    root: Path,
    folder: Path,
    *,
    unusual: Sequence[str] = (),
) -> None:
    """Draw chosen slices with their maps: explanations, component_summary, and the first of errors and unusual.

    Parameters
    ----------
    table, results : the test slices and their results table, in one order.
    unusual : the paths of slices that are unlike the training slices, the farthest first.
    """
    note = report.data.note
    chosen = choose_samples(results)["image_path"].tolist()
    explanations, titles, masks = _explain(model, table, chosen, results, root)
    pictures: dict[str, Callable[[], Figure]] = {
        "explanations": lambda: draw_explanations(explanations, titles, masks=masks, note=note),
        "component_summary": lambda: draw_components(explanations, titles, note=note),
    }
    listed = {"errors": [error.path for error in report.errors], "unusual": list(unusual)}
    for name, paths in listed.items():
        if paths:
            drawn = _explain(model, table, paths[:SHOWN], results, root)
            pictures[name] = lambda drawn=drawn: draw_explanations(drawn[0], drawn[1], masks=drawn[2], note=note)  # type: ignore[misc]
    save_figures(pictures, folder)


def _explain(
    model: ResNetViT, table: pd.DataFrame, paths: list[str], results: pd.DataFrame, root: Path
) -> tuple[list[Explanation], list[str], list[NDArray[np.bool_] | None]]:
    """Explain slices: their maps, the words beside them, and their lesion masks where there are some."""
    rows = results.set_index("image_path").loc[paths]
    columns = (rows[name] for name in ("image_type", "true_class", "stroke_probability"))
    titles = [
        f"{name_value('modality', modality)}\ntruth {truth}\nP(Stroke) {show_number(probability)}"
        for modality, truth, probability in zip(*columns, strict=True)
    ]
    shown = table.set_index("path", drop=False).loc[paths]
    slices = [
        load_first(root / path, modality=modality)[0]
        for path, modality in zip(paths, list_modalities(shown), strict=True)
    ]
    explanations = explain(model, slices)
    masks = [_match(e, find_mask(table, root, path)) for e, path in zip(explanations, paths, strict=True)]
    return explanations, titles, masks


def _match(e: Explanation, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """Bring a mask to the size of the picture that it is drawn on."""
    return None if mask is None else e.framed.match(mask.astype(np.uint8) * np.uint8(255)) > 127
