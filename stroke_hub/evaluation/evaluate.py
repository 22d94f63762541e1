"""Measure a model on labelled slices: report.json, report.html, the CSVs and the figures."""

import copy
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from torch import Tensor

from stroke_hub._version import __version__
from stroke_hub.data.loader import decode_squares
from stroke_hub.data.records import LeftOut, Records, hash_slices
from stroke_hub.errors import DatasetError
from stroke_hub.evaluation.baselines import score_baselines
from stroke_hub.evaluation.faithfulness import judge_maps
from stroke_hub.evaluation.localisation import measure_localisation
from stroke_hub.evaluation.patients import (
    compare_by_scan,
    count_participants,
    list_patients,
    measure_patients,
)
from stroke_hub.evaluation.report_json import (
    describe_control,
    list_errors,
    measure_baselines,
    measure_parts,
    measure_subgroups,
    trace_parts,
)
from stroke_hub.evaluation.samples import explain_samples
from stroke_hub.files import write_text
from stroke_hub.inference.predict import predict
from stroke_hub.inference.results import Prediction
from stroke_hub.metrics.calibration import choose_operating_points
from stroke_hub.metrics.patients import RULES, make_own_rule
from stroke_hub.models.presets import CLASSES
from stroke_hub.models.resnet_vit import ResNetViT, hash_weights
from stroke_hub.models.weights import halve_weights
from stroke_hub.report.figures import draw_report
from stroke_hub.report.html import write_page
from stroke_hub.report.patients import say_headline
from stroke_hub.report.sentences import describe, warn
from stroke_hub.runs.report import REPORT_FILE, SCHEMA_VERSION, Part, Report
from stroke_hub.runs.run_folder import (
    AUDIT_FILE,
    CALIBRATION_FILE,
    LEFT_OUT_FILE,
    PATIENTS_FILE,
    RESULTS_FILE,
    SPLIT_FILE,
    SUMMARY_FILE,
    TRAIN_CONFIG_FILE,
    find_best_epoch,
    read_split,
)

__all__ = ["evaluate", "evaluate_run"]

ROUNDING = 1e-6  # of a probability
COMPUTING = ("torch", "timm", "numpy", "scipy", "scikit-learn", "albumentations")  # packages that figures hang on


def evaluate(
    model: ResNetViT,
    table: pd.DataFrame,
    root: str | Path,
    out: str | Path,
    *,
    about: Mapping[str, Any] | None = None,
    history: pd.DataFrame | None = None,
    own: Report | None = None,
    left_out: Sequence[LeftOut] | None = None,
    faithfulness: bool = False,
    batch_size: int = 32,
) -> Report:
    """Measure a model on the slices of a table, explain some, and write what came out.

    Parameters
    ----------
    table : path (relative to `root`), label (1 Stroke, 0 Normal), modality, group; one row a slice. Where it has a
        column split, "test" rows are measured, "val" rows give the operating points and what the temperature
        did, and "train" rows (with "val") are what the baselines are fitted on; without it every row is "test".
    out : folder for all that docs/read-the-report.md lists.
    about : put into the report: "data" (name, note, sha256), "model" (source, revision), "training", "audit" and
        "calibration" (docs/report-schema.md).
    history : an epoch a row, as in history.csv, for the curves.
    own : the model's own report: it says what the model was trained on and, where the table has no "val" rows, how
        its calibration and its operating points came about.
    left_out : what was found and is not in the table, for the flow of participants; None where nobody knows.
    faithfulness : judge the maps of the stroke slices too (about 2 CPU-seconds a slice).
    batch_size : how many slices go through the model at once.

    Returns
    -------
    The report. report.json is written last: where it stands, the evaluation is whole.

    Raises
    ------
    DatasetError : a slice cannot be read, or there is none.
    """
    root, out = Path(root), Path(out)
    table = table.reset_index(drop=True)
    if "split" not in table:
        table = table.assign(split="test")
    test = table[table["split"] == "test"].reset_index(drop=True)
    if test.empty:
        raise DatasetError(f"{root}: has no slices here to evaluate on.")
    squares = decode_squares(model, root, test)
    prediction = predict(model, squares, batch_size=batch_size)
    found = _start_report(model, dict(about or {}), own, history)
    found["data"]["measured_sha256"] = hash_slices(test, root)
    found["data"]["participants"] = count_participants(table, left_out)
    found |= _read_validation(model, table, root, found["calibration"], own, batch_size)
    found["model"]["operating_point"] = _name_point(model, found["operating_points"])
    found |= _measure(model, test, prediction, found)
    found |= _measure_honesty(model, table, test, prediction, root)
    found["half"] = _measure_half(model, squares, prediction, batch_size)
    found["novelty"] = _measure_novelty(model, prediction)
    found["localisation"] = measure_localisation(model, test, squares, root, batch_size=batch_size)
    report = Report.from_json(json.dumps(found | {"words": [], "warnings": []}, allow_nan=False))
    report = replace(report, headline=say_headline(report), words=describe(report), warnings=warn(report))
    out.mkdir(parents=True, exist_ok=True)
    results = _tabulate(test, prediction)
    write_text(out / RESULTS_FILE, results.to_csv(index=False))
    write_text(out / PATIENTS_FILE, pd.DataFrame(report.patients).to_csv(index=False))
    write_text(out / SUMMARY_FILE, _summarise(report.test["overall"]).to_csv(index=False))
    write_text(out / SPLIT_FILE, table.to_csv(index=False))
    draw_report(report, test["label"].to_numpy(np.int64), prediction.probability, out / "figures")
    farthest = np.argsort(-prediction.distance, kind="stable")
    unusual = test["path"].iloc[farthest[prediction.unusual[farthest]]].tolist()
    explain_samples(model, test, results, report, root, out / "figures", unusual=unusual)
    if faithfulness:
        judge_maps(model, test, root, out, note=report.data.note)
    write_page(report, out / "figures", out / "report.html")
    write_text(out / REPORT_FILE, report.to_json())
    return report


def evaluate_run(
    run_dir: str | Path, records: Records, *, name: str = "", note: str = "", options: Sequence[str] = ()
) -> Report:
    """Measure a trained run on the test slices of its own split, and draw its curves.

    Parameters
    ----------
    name, note : what the dataset is called, and words that every figure carries.
    options : of the training program, that made `records` of the dataset: the report's command repeats them.

    Raises
    ------
    DatasetError : a slice cannot be read.
    """
    run_dir = Path(run_dir)
    split = read_split(run_dir)
    history = pd.read_csv(run_dir / "history.csv")
    training = json.loads((run_dir / TRAIN_CONFIG_FILE).read_text())
    counts = split.groupby(["split", "label"]).size()
    parts = ("train", "val", "test")
    about = {
        "data": {
            "name": name,
            "note": note,
            "sha256": training.pop("data_sha256"),
            "notes": list(records.notes),
            "options": list(options),
            "split": "test",
            "slices": {
                part: {"normal": int(counts.get((part, 0), 0)), "stroke": int(counts.get((part, 1), 0))}
                for part in parts
            },
            "groups": {part: int(members["group"].nunique()) for part, members in split.groupby("split")},
        },
        "training": training
        | {"best_epoch": find_best_epoch(history), "best_val_auroc": float(history["val_auroc"].max())},
    }
    for key, name in (("calibration", CALIBRATION_FILE), ("audit", AUDIT_FILE)):
        about[key] = json.loads((run_dir / name).read_text()) if (run_dir / name).is_file() else None
    model = ResNetViT.from_pretrained(run_dir)
    left_out = _read_left_out(run_dir)
    return evaluate(model, split, records.root, run_dir, about=about, history=history, left_out=left_out)


def _read_left_out(run_dir: Path) -> list[LeftOut] | None:
    """Read what training left out; None in a run folder of an earlier version."""
    if not (run_dir / LEFT_OUT_FILE).is_file():
        return None
    return [LeftOut(**count) for count in json.loads((run_dir / LEFT_OUT_FILE).read_text())]


def _start_report(
    model: ResNetViT, about: dict[str, Any], own: Report | None, history: pd.DataFrame | None
) -> dict[str, Any]:
    described = {
        "weights_sha256": hash_weights(model),
        "cnn": model.cnn.pretrained_cfg["architecture"],
        "vit": model.vit.pretrained_cfg["architecture"],
        "image_size": model.image_size,
        "resize": model.resize,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "temperature": float(model.temperature),
        "threshold": float(model.threshold),
    }
    nothing: dict[str, Any] = {"name": "", "note": "", "sha256": None, "split": "test", "notes": []}
    return {
        "schema_version": SCHEMA_VERSION,
        "stroke_hub": __version__,
        "data": nothing | about.get("data", {}),
        "model": {"source": None, "revision": None} | about.get("model", {}) | described,
        "training": about.get("training"),
        "history": None if history is None else json.loads(history.to_json(orient="records", double_precision=15)),
        "trained_on": {key: getattr(own.data, key) for key in ("name", "note", "sha256")} if own else None,
        "audit": about.get("audit"),
        "calibration": asdict(own.calibration) if own and own.calibration else about.get("calibration"),
        "unit": "slice",
        "software": {"python": platform.python_version()} | {name: version(name) for name in COMPUTING},
    }


def _read_validation(
    model: ResNetViT,
    table: pd.DataFrame,
    root: Path,
    fitted: Mapping[str, Any] | None,
    own: Report | None,
    batch_size: int,
) -> dict[str, Any]:
    """Give what the validation slices decided: temperature, shift and operating points."""
    val = table[table["split"] == "val"]
    if val.empty and own:
        return {"operating_points": {name: asdict(point) for name, point in own.operating_points.items()}}
    if val.empty:
        return {"operating_points": choose_operating_points(np.zeros(0, np.int64), np.zeros(0))}
    prediction = predict(model, decode_squares(model, root, val), batch_size=batch_size)
    label = val["label"].to_numpy(np.int64)
    calibration = {"method": None, "temperature": float(model.temperature), "shift": 0.0} | dict(fitted or {})
    counts = {"n": len(val), "n_stroke": int(label.sum()), "groups": int(val["group"].nunique())}
    return {
        "calibration": calibration | {"fitted_on": "val", **counts},
        "operating_points": choose_operating_points(label, prediction.probability),
    }


def _name_point(model: ResNetViT, points: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Name the operating point that the model's own threshold is."""
    own = float(model.threshold)
    # the validation slices are predicted again, and rounded a little otherwise than at the end of training
    found = [name for name, point in points.items() if abs((point["threshold"] or np.inf) - own) <= ROUNDING]
    return found[0] if found else None


def _measure(
    model: ResNetViT, test: pd.DataFrame, prediction: Prediction, report: Mapping[str, Any]
) -> dict[str, Any]:
    probability, threshold, points = prediction.probability, float(model.threshold), report["operating_points"]
    log_odds = np.diff(prediction.logits.astype(np.float64), axis=1)[:, 0]
    uncalibrated = expit(log_odds - (report["calibration"] or {"shift": 0.0})["shift"])
    parts = measure_parts(test, probability, uncalibrated, threshold=threshold, points=points)
    calibrated = log_odds / float(model.temperature)
    rules = (*RULES, make_own_rule(model.get_scan_rule()))
    patients = measure_patients(test, probability, calibrated, threshold=threshold, points=points, rules=rules)
    return {
        "test": {name: part | {"patients": patients[name]} for name, part in parts.items()},
        "patients": list_patients(test, probability, threshold=threshold),
        "subgroups": measure_subgroups(test, probability, threshold=threshold),
        "errors": list_errors(test, probability, threshold=threshold),
        "curves": trace_parts(test, probability),
    }


def _measure_honesty(
    model: ResNetViT, table: pd.DataFrame, test: pd.DataFrame, prediction: Prediction, root: Path
) -> dict[str, Any]:
    """Measure what simple rules, each branch alone and shuffled labels reach on the same slices."""
    baselines = score_baselines(model, table, root)
    rows = measure_baselines(test, prediction.probability, baselines, threshold=float(model.threshold))
    by_scan = compare_by_scan(test, logit(prediction.probability), baselines)
    return {
        "baselines": [row | by_scan.get(row["name"], {}) for row in rows],
        "random_labels": describe_control(baselines),
    }


def _measure_half(model: ResNetViT, squares: Tensor, prediction: Prediction, batch_size: int) -> dict[str, Any]:
    """Measure what storing the weights as float16 changes."""
    halved = copy.deepcopy(model)
    weights = halve_weights(model.state_dict())
    halved.load_state_dict({key: value.float() for key, value in weights.items()})
    change = predict(halved, squares, batch_size=batch_size).probability - prediction.probability
    return {"max_probability_change": float(np.abs(change).max())}


def _measure_novelty(model: ResNetViT, prediction: Prediction) -> dict[str, Any] | None:
    """Count the slices that the model calls unlike those it was trained on; None where it has no limit."""
    if not np.isfinite(limit := float(model.feature_distance_limit)):
        return None
    count = int(prediction.unusual.sum())
    median = float(np.median(prediction.distance))
    return {"limit": limit, "median": median, "unusual": count, "share": count / len(prediction.unusual)}


def _tabulate(table: pd.DataFrame, prediction: Prediction) -> pd.DataFrame:
    """Make the results table, a row a slice."""
    true = [CLASSES[label] for label in table["label"]]
    probability, predicted = prediction.probability, prediction.label
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


def _summarise(overall: Part) -> pd.DataFrame:
    """Make the summary table: a row a figure of all test slices."""
    confusion = overall.confusion
    rows = {
        "Total Images": overall.n,
        "Overall Accuracy": overall.accuracy,
        "AUROC": overall.auroc,
        "Average Precision": overall.average_precision,
        "True Positives": confusion.tp,
        "True Negatives": confusion.tn,
        "False Positives": confusion.fp,
        "False Negatives": confusion.fn,
    }
    return pd.DataFrame({"metric": list(rows), "value": pd.Series(list(rows.values()), dtype=object)})
