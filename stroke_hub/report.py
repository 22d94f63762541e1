"""Predictions on the test slices become report.json, the two CSVs and the figures of a run folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

import stroke_hub
from stroke_hub.errors import DatasetError, UnreadableImage
from stroke_hub.explanation import explain
from stroke_hub.faithfulness import CONTROLS, MEASURES, judge
from stroke_hub.figures import (
    draw_confusion,
    draw_curves,
    draw_histograms,
    draw_precision_recall,
    draw_roc,
    save_figure,
)
from stroke_hub.files import write_text
from stroke_hub.inference import predict
from stroke_hub.intervals import bootstrap_intervals
from stroke_hub.loader import decode_squares
from stroke_hub.metrics import measure, trace_curves
from stroke_hub.model import CLASSES, ResNetViT
from stroke_hub.panels import draw_components, draw_explanations, draw_faithfulness
from stroke_hub.pixels import fit_square, load_slices
from stroke_hub.progress import track
from stroke_hub.records import Records
from stroke_hub.train import TRAIN_CONFIG_FILE, find_best_epoch, read_split

__all__ = ["REPORT_FILE", "choose_samples", "evaluate", "evaluate_run", "explain_samples", "judge_maps"]

REPORT_FILE = "report.json"
RESULTS_FILE = "stroke_classification_results.csv"
SUMMARY_FILE = "summary_statistics.csv"
SCHEMA_VERSION = 1


def evaluate(
    model: ResNetViT,
    table: pd.DataFrame,
    root: str | Path,
    out: str | Path,
    *,
    about: dict[str, Any] | None = None,
    history: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Measure a model on the slices of a table and write what came out.

    Parameters
    ----------
    table : path (relative to `root`), label (1 Stroke, 0 Normal), modality, group; one row a slice.
    out : folder for report.json, stroke_classification_results.csv, summary_statistics.csv and figures/.
    about : put into the report as it is: "data" (name, note, sha256), "training".
    history : an epoch a row, as in history.csv, for the curves.

    Returns
    -------
    The report. report.json is written last: where it stands, the evaluation is whole.

    Raises
    ------
    DatasetError : a slice cannot be read, or there is none.
    """
    if table.empty:
        raise DatasetError(f"{root}: has no slices here to evaluate on.")
    out = Path(out)
    table = table.reset_index(drop=True)
    prediction = predict(model, decode_squares(model, Path(root), table["path"]))
    label = table["label"].to_numpy().astype(np.int64)
    threshold = float(model.threshold)
    rows = {"overall": np.ones(len(table), bool)}
    rows |= {name: (table["modality"] == name).to_numpy(bool) for name in ("BT", "MR")}
    groups = table["group"].to_numpy(str)
    figures_of = {
        part: _measure(label[chosen], prediction.probability[chosen], groups[chosen], threshold)
        for part, chosen in rows.items()
    }
    about = dict(about or {})
    report = {
        "schema_version": SCHEMA_VERSION,
        "stroke_hub": stroke_hub.__version__,
        **about,
        "test": figures_of | {"unit": "slice"},
    }
    results = _tabulate(table, prediction.probability, prediction.label)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / RESULTS_FILE, results.to_csv(index=False))
    write_text(out / SUMMARY_FILE, _summarise(figures_of["overall"]).to_csv(index=False))
    note = str(about.get("data", {}).get("note", ""))
    _draw(out / "figures", figures_of, label, prediction.probability, rows, history, note)
    write_text(out / REPORT_FILE, json.dumps(report, indent=2, allow_nan=False) + "\n")
    return report


def evaluate_run(run_dir: str | Path, records: Records, *, name: str = "", note: str = "") -> dict[str, Any]:
    """Measure a trained run on the test slices of its own split, and draw its curves.

    Parameters
    ----------
    name, note : what the dataset is called, and words that every figure carries.

    Raises
    ------
    DatasetError : a slice cannot be read.
    """
    run_dir = Path(run_dir)
    split = read_split(run_dir)
    history = pd.read_csv(run_dir / "history.csv")
    training = json.loads((run_dir / TRAIN_CONFIG_FILE).read_text())
    counts = split.groupby(["split", "label"]).size()
    about = {
        "data": {
            "name": name,
            "note": note,
            "sha256": training.pop("data_sha256"),
            "notes": list(records.notes),
            "slices": {
                part: {"normal": int(counts.get((part, 0), 0)), "stroke": int(counts.get((part, 1), 0))}
                for part in ("train", "val", "test")
            },
            "groups": {part: int(members["group"].nunique()) for part, members in split.groupby("split")},
        },
        "training": training
        | {"best_epoch": find_best_epoch(history), "best_val_auroc": float(history["val_auroc"].max())},
    }
    table = split[split["split"] == "test"]
    model = ResNetViT.from_pretrained(run_dir)
    return evaluate(model, table, records.root, run_dir, about=about, history=history)


def _measure(
    label: NDArray[np.int64], probability: NDArray[np.float64], groups: NDArray[np.str_], threshold: float
) -> dict[str, Any]:
    """The figures of one part, and 95 % intervals over its groups (patients)."""
    return measure(label, probability, threshold=threshold) | {
        "groups": len(set(groups.tolist())),
        "intervals": bootstrap_intervals(label, probability, groups, threshold=threshold),
    }


def _say(figures: dict[str, Any], name: str) -> str | None:
    """A figure with its interval, for a legend; None where it is undefined."""
    if figures.get(name) is None:
        return None
    interval = figures["intervals"][name]
    reach = "" if interval["low"] is None else f" [{interval['low']:.3f}, {interval['high']:.3f}]"
    return f"{figures[name]:.3f}{reach}"


def _tabulate(table: pd.DataFrame, probability: NDArray[np.float64], predicted: list[str]) -> pd.DataFrame:
    """The seed's results table, a row a slice."""
    true = [CLASSES[label] for label in table["label"]]
    return pd.DataFrame(
        {
            "image_path": table["path"],
            "filename": [Path(path).name for path in table["path"]],
            "true_label": table["label"],
            "predicted_label": [CLASSES.index(name) for name in predicted],
            "stroke_probability": probability,
            "correct_prediction": [a == b for a, b in zip(true, predicted, strict=True)],
            "confidence": np.maximum(probability, 1 - probability),
            "image_type": table["modality"].where(table["modality"].notna(), "Unknown"),
            "true_class": true,
            "predicted_class": predicted,
        }
    )


def _summarise(overall: dict[str, Any]) -> pd.DataFrame:
    """The seed's summary table."""
    confusion = overall["confusion"]
    rows = {
        "Total Images": overall["n"],
        "Overall Accuracy": overall["accuracy"],
        "AUROC": overall["auroc"],
        "Average Precision": overall["average_precision"],
        "True Positives": confusion["tp"],
        "True Negatives": confusion["tn"],
        "False Positives": confusion["fp"],
        "False Negatives": confusion["fn"],
    }
    return pd.DataFrame({"metric": list(rows), "value": pd.Series(list(rows.values()), dtype=object)})


def _draw(
    folder: Path,
    figures_of: dict[str, dict[str, Any]],
    label: NDArray[np.int64],
    probability: NDArray[np.float64],
    rows: dict[str, NDArray[np.bool_]],
    history: pd.DataFrame | None,
    note: str,
) -> None:
    overall = figures_of["overall"]
    curves = {part: trace_curves(label[mask], probability[mask]) for part, mask in rows.items()}
    auroc = {part: _say(figures, "auroc") for part, figures in figures_of.items()}
    precision = {part: _say(figures, "average_precision") for part, figures in figures_of.items()}
    prevalence, threshold = overall["n_stroke"] / overall["n"], overall["threshold"]
    pictures: dict[str, Callable[[], Figure]] = {
        "confusion_matrix": lambda: draw_confusion(overall["confusion"], note=note),
        "roc_curve": lambda: draw_roc(curves, auroc, note=note),
        "precision_recall_curve": lambda: draw_precision_recall(
            curves, precision, prevalence=prevalence, note=note
        ),
        "probability_histograms": lambda: draw_histograms(label, probability, threshold=threshold, note=note),
    }
    if history is not None:
        best = find_best_epoch(history)
        pictures["training_curves"] = lambda: draw_curves(history, best_epoch=best, note=note)
    _save_figures(folder, pictures)


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


def explain_samples(model: ResNetViT, table: pd.DataFrame, root: str | Path, out: str | Path) -> None:
    """Write figures/explanations and figures/component_summary for chosen rows of an evaluated folder."""
    root, out = Path(root), Path(out)
    chosen = choose_samples(pd.read_csv(out / RESULTS_FILE))
    report = json.loads((out / REPORT_FILE).read_text())
    note = report.get("data", {}).get("note", "")
    slices = [load_slices(root / path)[0] for path in chosen["image_path"]]
    explanations = explain(model, slices)
    titles = [
        f"{row.image_type}\ntruth {row.true_class}\nP(Stroke) {row.stroke_probability:.3f}"
        for row in chosen.itertuples()
    ]
    masks = [_fit_mask(model, _find_mask(table, root, path)) for path in chosen["image_path"]]
    pictures: dict[str, Callable[[], Figure]] = {
        "explanations": lambda: draw_explanations(explanations, titles, masks=masks, note=note),
        "component_summary": lambda: draw_components(explanations, titles, note=note),
    }
    _save_figures(out / "figures", pictures)


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
