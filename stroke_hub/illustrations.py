"""The figures of an evaluation: curves from report.json, and some slices with their maps."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stroke_hub.errors import DatasetError, UnreadableImage
from stroke_hub.explanation import Explanation, explain
from stroke_hub.faithfulness import CONTROLS, MEASURES, judge
from stroke_hub.figures import (
    draw_confusion,
    draw_curves,
    draw_histograms,
    draw_net_benefit,
    draw_precision_recall,
    draw_reliability,
    draw_roc,
    save_figure,
)
from stroke_hub.files import write_text
from stroke_hub.forest import draw_forest
from stroke_hub.model import ResNetViT
from stroke_hub.panels import draw_components, draw_explanations, draw_faithfulness
from stroke_hub.pixels import fit_square, load_slices
from stroke_hub.progress import track
from stroke_hub.summary import BASELINES, say_interval
from stroke_hub.train import find_best_epoch

__all__ = ["choose_samples", "draw_report", "explain_samples", "judge_maps"]

SHOWN_ERRORS = 8


def draw_report(
    report: dict[str, Any], label: NDArray[np.int64], probability: NDArray[np.float64], folder: Path
) -> None:
    """Draw every statistic of a report into PNG and SVG files.

    Parameters
    ----------
    label, probability : (N,), of the test slices, for the histograms.
    """
    pictures: dict[str, Callable[[], Figure]] = {
        name: lambda draw=draw: draw(report)  # type: ignore[misc]
        for name, draw in {
            "confusion_matrix": _draw_confusion,
            "roc_curve": _draw_roc,
            "precision_recall_curve": _draw_precision_recall,
            "reliability": _draw_reliability,
            "net_benefit": _draw_net_benefit,
            "forest_subgroups": _draw_subgroups,
            "forest_baselines": _draw_baselines,
        }.items()
    }
    overall, note = report["test"]["overall"], report["data"]["note"]
    pictures["probability_histograms"] = lambda: draw_histograms(
        label, probability, threshold=overall["threshold"], note=note
    )
    if report["history"] is not None:
        history = pd.DataFrame(report["history"])
        best = find_best_epoch(history)
        pictures["training_curves"] = lambda: draw_curves(history, best_epoch=best, note=note)
    _save_figures(folder, pictures)


def _draw_confusion(report: dict[str, Any]) -> Figure:
    return draw_confusion(report["test"]["overall"]["confusion"], note=report["data"]["note"])


def _draw_roc(report: dict[str, Any]) -> Figure:
    measured = report["test"]["overall"]["operating_points"]
    points = {}
    for name, point in measured.items():
        specificity, sensitivity = point["specificity"]["value"], point["sensitivity"]["value"]
        if specificity is not None and sensitivity is not None:
            points[name] = (1 - specificity, sensitivity)
    return draw_roc(report["curves"], _say_parts(report, "auroc"), points=points, note=report["data"]["note"])


def _draw_precision_recall(report: dict[str, Any]) -> Figure:
    overall = report["test"]["overall"]
    return draw_precision_recall(
        report["curves"],
        _say_parts(report, "average_precision"),
        prevalence=overall["n_stroke"] / overall["n"],
        note=report["data"]["note"],
    )


def _say_parts(report: dict[str, Any], metric: str) -> dict[str, str | None]:
    """By part, a figure with its interval for a legend; None where it is undefined."""
    intervals = {part: figures["intervals"][metric] for part, figures in report["test"].items()}
    return {part: None if i["value"] is None else say_interval(i) for part, i in intervals.items()}


def _draw_reliability(report: dict[str, Any]) -> Figure:
    calibration = report["test"]["overall"]["calibration"]
    labels = (
        f"as trained: ECE {calibration['before']['ece']:.3f}",
        f"calibrated: ECE {calibration['after']['ece']:.3f}",
    )
    return draw_reliability(
        calibration["before"]["bins"], calibration["after"]["bins"], labels=labels, note=report["data"]["note"]
    )


def _draw_net_benefit(report: dict[str, Any]) -> Figure:
    overall = report["test"]["overall"]
    prevalence = overall["n_stroke"] / overall["n"]
    return draw_net_benefit(**overall["net_benefit"], prevalence=prevalence, note=report["data"]["note"])


def _draw_subgroups(report: dict[str, Any]) -> Figure:
    overall = report["test"]["overall"]
    rows = [{"label": "all slices", "bold": True} | _read_row(overall, overall["intervals"]["auroc"])]
    rows += [
        {"heading": row["column"], "label": row["value"]} | _read_row(row, row["auroc"])
        for row in report["subgroups"]
    ]
    return draw_forest(
        rows,
        reference=overall["auroc"],
        reference_label="all slices",
        title="AUROC by subgroup",
        note=report["data"]["note"],
    )


def _draw_baselines(report: dict[str, Any]) -> Figure:
    overall = report["test"]["overall"]
    rows = [{"label": "the model", "bold": True} | _read_row(overall, overall["intervals"]["auroc"])]
    for row in report["baselines"]:
        interval = row["auroc"] or {"value": None, "undefined": "no training slices of both classes"}
        rows.append({"label": BASELINES[row["name"]]} | _read_row(overall, interval))
    control = report["random_labels"]
    if control and control["mean"] is not None:
        interval = {"value": control["mean"], "low": control["low"], "high": control["high"]}
        rows.append({"label": f"shuffled labels, {control['shuffles']} x"} | _read_row(overall, interval))
    return draw_forest(
        rows,
        reference=0.5,
        reference_label="chance",
        title="The model beside simple rules and controls",
        note=report["data"]["note"],
    )


def _read_row(counts: dict[str, Any], interval: dict[str, Any]) -> dict[str, Any]:
    row = {name: interval.get(name) for name in ("value", "low", "high")} | {"reason": interval.get("undefined")}
    return row | {name: counts[name] for name in ("n", "n_stroke", "groups")}


def _save_figures(folder: Path, pictures: dict[str, Callable[[], Figure]]) -> None:
    for name, draw in track(pictures.items(), "drawing figures", total=len(pictures)):
        save_figure(draw(), folder / name)


def choose_samples(results: pd.DataFrame, *, count: int = 8) -> pd.DataFrame:
    """Rows of the results table to show: each modality and class, evenly along the probability.

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
    report: dict[str, Any],
    root: Path,
    folder: Path,
) -> None:
    """Draw chosen slices with their maps (explanations, component_summary), and the most confident errors (errors).

    Parameters
    ----------
    table, results : the test slices and their results table, in one order.
    """
    note = report["data"]["note"]
    chosen = choose_samples(results)["image_path"].tolist()
    explanations, titles, masks = _explain(model, table, chosen, results, root)
    pictures: dict[str, Callable[[], Figure]] = {
        "explanations": lambda: draw_explanations(explanations, titles, masks=masks, note=note),
        "component_summary": lambda: draw_components(explanations, titles, note=note),
    }
    wrong = [error["path"] for error in report["errors"][:SHOWN_ERRORS]]
    if wrong:
        shown, names, outlines = _explain(model, table, wrong, results, root)
        pictures["errors"] = lambda: draw_explanations(shown, names, masks=outlines, note=note)
    _save_figures(folder, pictures)


def _explain(
    model: ResNetViT, table: pd.DataFrame, paths: list[str], results: pd.DataFrame, root: Path
) -> tuple[list[Explanation], list[str], list[NDArray[np.bool_] | None]]:
    """Explanations of slices, the words beside them, and their lesion masks where there are some."""
    rows = results.set_index("image_path").loc[paths]
    titles = [
        f"{row.image_type}\ntruth {row.true_class}\nP(Stroke) {row.stroke_probability:.3f}"
        for row in rows.itertuples()
    ]
    masks = [_fit_mask(model, _find_mask(table, root, path)) for path in paths]
    return explain(model, [load_slices(root / path)[0] for path in paths]), titles, masks


def judge_maps(model: ResNetViT, table: pd.DataFrame, root: str | Path, out: str | Path, *, note: str = "") -> None:
    """Measure whether the maps of a table's stroke slices are true: faithfulness.json and figures/faithfulness.

    Raises
    ------
    DatasetError : a slice cannot be read, or there is no stroke slice.
    """
    root, out = Path(root), Path(out)
    strokes = table[table["label"] == 1]
    if strokes.empty:
        raise DatasetError(f"{root}: has no stroke slices here, and maps for Stroke are judged on those.")
    slices = [load_slices(root / path)[0] for path in strokes["path"]]
    masks = [_find_mask(strokes, root, path) for path in strokes["path"]]
    result = judge(model, slices, masks=masks, groups=strokes["group"].tolist())
    figure = draw_faithfulness(result, measures=MEASURES, controls=CONTROLS, note=note)
    save_figure(figure, out / "figures" / "faithfulness")
    write_text(out / "faithfulness.json", json.dumps({"note": note} | result, indent=2, allow_nan=False) + "\n")


def _find_mask(table: pd.DataFrame, root: Path, path: str) -> NDArray[np.bool_] | None:
    """The lesion mask (H, W) of a slice, where the dataset has one."""
    if "mask" not in table:
        return None
    mask = table.loc[table["path"] == path, "mask"].iloc[0]
    if not isinstance(mask, str) or not mask:
        return None
    try:
        return load_slices(root / mask)[0].pixels > 127
    except UnreadableImage as error:
        raise DatasetError(f"{(root / mask).parent}/{error} It is the lesion mask of {path}.") from error


def _fit_mask(model: ResNetViT, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    """A mask (H, W) as the model's square (S, S)."""
    if mask is None:
        return None
    return fit_square(mask.astype(np.uint8) * np.uint8(255), model.image_size, resize=model.resize) > 127
