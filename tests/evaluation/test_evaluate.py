"""Every number of the CSVs, the report and the metrics' references agree."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import brier_score_loss, confusion_matrix, log_loss, roc_curve
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

from stroke_hub import Records, ResNetViT, evaluate, predict
from stroke_hub.evaluation.report_json import measure_subgroups
from stroke_hub.evaluation.samples import choose_samples
from stroke_hub.metrics.calibration import choose_operating_points
from stroke_hub.metrics.classification import measure
from stroke_hub.report.sentences import describe, warn
from stroke_hub.runs.report import Report, read_report
from stroke_hub.runs.run_folder import read_split
from tests.conftest import load_rows

COLUMNS = [
    "image_path", "filename", "true_label", "predicted_label", "stroke_probability", "correct_prediction",
    "confidence", "image_type", "true_class", "predicted_class",
]  # fmt: skip
ROWS = [
    "Total Images", "Overall Accuracy", "AUROC", "Average Precision",
    "True Positives", "True Negatives", "False Positives", "False Negatives",
]  # fmt: skip


@pytest.fixture
def results(run_dir: Path) -> pd.DataFrame:
    return pd.read_csv(run_dir / "stroke_classification_results.csv")


@pytest.fixture
def report(run_dir: Path) -> dict:
    return json.loads((run_dir / "report.json").read_text())


def typed(report: dict) -> Report:
    return Report.from_json(json.dumps(report))


def test_csvs_have_the_seeds_columns_and_rows(run_dir: Path, results: pd.DataFrame, sample: Records) -> None:
    assert list(results.columns) == COLUMNS
    assert sorted(results["image_path"]) == sorted(sample.part("test")["path"])
    summary = pd.read_csv(run_dir / "summary_statistics.csv")
    assert list(summary.columns) == ["metric", "value"]
    assert summary["metric"].tolist() == ROWS


def test_csvs_and_report_agree(run_dir: Path, results: pd.DataFrame, report: dict) -> None:
    summary = pd.read_csv(run_dir / "summary_statistics.csv").set_index("metric")["value"]
    overall = report["test"]["overall"]
    names = ["n", "accuracy", "auroc", "average_precision"]
    assert summary.iloc[:4].tolist() == [overall[name] for name in names]
    assert summary.iloc[4:].tolist() == [overall["confusion"][name] for name in ("tp", "tn", "fp", "fn")]
    assert results["correct_prediction"].mean() == pytest.approx(overall["accuracy"], abs=1e-12)
    right = (results["true_label"] == results["predicted_label"]) == results["correct_prediction"]
    assert right.all()
    assert (results["predicted_label"] == (results["stroke_probability"] >= overall["threshold"])).all()
    for part in ("BT", "MR"):
        rows = results[results["image_type"] == part]
        assert report["test"][part]["n"] == len(rows)
        score, label = (
            torch.tensor(rows["stroke_probability"].to_numpy()),
            torch.tensor(rows["true_label"].to_numpy()),
        )
        assert report["test"][part]["auroc"] == pytest.approx(float(BinaryAUROC()(score, label)), abs=1e-6)
        precision = float(BinaryAveragePrecision()(score, label))
        assert report["test"][part]["average_precision"] == pytest.approx(precision, abs=1e-6)


def test_report_says_what_was_measured_on_what(report: dict, sample: Records) -> None:
    assert report["data"]["note"] == "simulated slices, not patients"
    assert len(report["data"]["sha256"]) == 64
    assert sum(report["data"]["slices"]["test"].values()) == len(sample.part("test"))
    assert report["training"]["epochs"] == 2
    overall = report["test"]["overall"]
    assert overall["groups"] == sample.part("test")["group"].nunique()
    for name in ("accuracy", "auroc", "average_precision"):
        interval = overall["intervals"][name]
        assert interval["value"] == pytest.approx(overall[name], abs=1e-12)
        assert interval["low"] <= interval["value"] <= interval["high"]


def test_operating_points_come_from_validation_and_are_measured_on_test(
    report: dict, run_dir: Path, sample: Records, trained: ResNetViT, results: pd.DataFrame
) -> None:
    split = read_split(run_dir)
    val = split[split["split"] == "val"]
    slices = load_rows(sample.root, val)
    points = choose_operating_points(val["label"].to_numpy(), predict(trained, slices).probability)
    label, score = results["true_label"], results["stroke_probability"]
    assert set(report["operating_points"]) == set(points)
    for name, point in report["operating_points"].items():
        assert point["threshold"] == pytest.approx(points[name]["threshold"], abs=1e-6)
        if point["threshold"] is None:
            assert point["undefined"]
            continue
        measured = report["test"]["overall"]["operating_points"][name]
        (tn, fp), (fn, tp) = confusion_matrix(label, score >= point["threshold"])
        assert measured["sensitivity"]["value"] == pytest.approx(tp / (tp + fn), abs=1e-12)
        assert measured["specificity"]["value"] == pytest.approx(tn / (tn + fp), abs=1e-12)
    assert report["model"]["operating_point"] == "half"
    assert report["model"]["threshold"] == 0.5


def test_calibration_before_and_after(report: dict, results: pd.DataFrame, trained: ResNetViT) -> None:
    label, score = results["true_label"], results["stroke_probability"]
    found = report["test"]["overall"]["calibration"]
    temperature = float(trained.temperature)
    assert temperature == report["calibration"]["temperature"] != 1
    log_odds = np.log(score / (1 - score)) * temperature - report["calibration"]["shift"]
    assert report["calibration"]["shift"] != 0
    for name, probability in (("after", score), ("before", 1 / (1 + np.exp(-log_odds)))):
        assert found[name]["log_loss"] == pytest.approx(log_loss(label, probability), abs=1e-9)
        assert found[name]["brier"]["score"] == pytest.approx(brier_score_loss(label, probability), abs=1e-9)
        assert sum(row["n"] for row in found[name]["bins"]) == len(label)


def test_curves_subgroups_and_errors_are_those_of_the_csv(report: dict, results: pd.DataFrame) -> None:
    label, score = results["true_label"], results["stroke_probability"]
    fpr, tpr, _ = roc_curve(label, score)
    assert report["curves"]["overall"]["fpr"] == pytest.approx(fpr, abs=1e-12)
    assert report["curves"]["overall"]["tpr"] == pytest.approx(tpr, abs=1e-12)
    by_modality = {row["value"]: row for row in report["subgroups"] if row["column"] == "modality"}
    for part in ("BT", "MR"):
        assert by_modality[part]["auroc"]["value"] == report["test"][part]["auroc"]
    assert {"sequence", "lesion", "slices of the group"} <= {row["column"] for row in report["subgroups"]}
    for column in {row["column"] for row in report["subgroups"]}:
        assert sum(row["n"] for row in report["subgroups"] if row["column"] == column) == len(results)
    wrong = results[~results["correct_prediction"]]
    assert {error["path"] for error in report["errors"]} == set(wrong["image_path"])
    confidence = [error["confidence"] for error in report["errors"]]
    assert confidence == sorted(confidence, reverse=True)


def test_baselines_stand_beside_the_model(report: dict) -> None:
    names = [row["name"] for row in report["baselines"]]
    simple = ["majority", "modality", "trivial_place", "trivial_logistic", "trivial_boosted"]
    assert names == [*simple, "cnn_alone", "vit_alone", "probe"]
    own = report["test"]["overall"]["auroc"]
    for row in report["baselines"]:
        gap = row["difference"]["auroc"]["value"]
        assert gap == pytest.approx(own - row["auroc"]["value"], abs=1e-12)
    assert report["random_labels"]["shuffles"] == 20


def test_every_figure_is_there_as_png_and_svg(run_dir: Path, report: dict) -> None:
    names = {
        "training_curves", "confusion_matrix", "roc_curve", "precision_recall_curve", "probability_histograms",
        "explanations", "component_summary", "reliability", "net_benefit", "forest_subgroups", "forest_baselines",
    }  # fmt: skip
    names |= {"errors"} if report["errors"] else set()
    files = {path.name for path in (run_dir / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    for name in names:
        with Image.open(run_dir / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 300


@pytest.mark.slow
def test_evaluating_again_gives_the_same_bytes(trained: ResNetViT, sample: Records, tmp_path: Path) -> None:
    for name in "ab":
        evaluate(trained, sample.part("test"), sample.root, tmp_path / name)
    for file in ("report.json", "report.html", "stroke_classification_results.csv", "figures/roc_curve.svg"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.slow
def test_other_batches_give_the_same_numbers(
    trained: ResNetViT, sample: Records, report: dict[str, Any], tmp_path: Path
) -> None:
    evaluate(trained, sample.part("test"), sample.root, tmp_path, batch_size=5)  # the run took batches of 32
    a, b = (dict(_flatten(found)) for found in (report, json.loads((tmp_path / "report.json").read_text())))
    parts = ("test.", "subgroups", "errors", "curves", "net_benefit")
    shared = [key for key in b if key.startswith(parts) and "calibration.before" not in key]  # only a run knows it
    assert len(shared) > 300
    for key in shared:
        assert a[key] == (pytest.approx(b[key], abs=1e-6) if isinstance(b[key], float) else b[key]), key


def _flatten(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _flatten(part, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _flatten(part, f"{key}[{index}]")
    else:
        yield key, value


def test_one_modality_and_one_class_leave_gaps_not_zeros(
    trained: ResNetViT, sample: Records, tmp_path: Path
) -> None:
    table = sample.part("test")
    table = table[(table["modality"] == "MR") & (table["label"] == 0)]
    report = evaluate(trained, table, sample.root, tmp_path)
    assert report == read_report(tmp_path)
    assert report.test["BT"].n == 0
    assert report.test["overall"].auroc is None
    assert "one class" in str(report.test["overall"].undefined)
    assert report.calibration is None
    assert any("no CT slices" in sentence for sentence in report.words)
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["test"]["overall"]["auroc"] is None  # undefined, and said to be
    assert "auroc" not in written["test"]["BT"]  # not even that: there is nothing to measure


def test_measure_by_hand() -> None:
    label = np.array([0, 0, 1, 1, 1])
    found = measure(label, np.array([0.1, 0.6, 0.4, 0.8, 0.9]), threshold=0.5)
    assert found["confusion"] == {"tp": 2, "tn": 1, "fp": 1, "fn": 1}
    assert found["accuracy"] == 0.6
    assert found["auroc"] == pytest.approx(5 / 6)
    assert found["classes"]["Stroke"]["precision"] == pytest.approx(2 / 3)
    assert measure(np.array([0, 0]), np.array([0.1, 0.2]), threshold=0.5)["classes"]["Stroke"]["precision"] is None


def test_samples_shown_are_spread_evenly(results: pd.DataFrame) -> None:
    chosen = choose_samples(results)
    assert len(chosen) == 8
    assert set(zip(chosen["image_type"], chosen["true_class"], strict=True)) == {
        (modality, name) for modality in ("BT", "MR") for name in ("Normal", "Stroke")
    }


def test_a_perfect_score_is_suspected(report: dict) -> None:
    assert not any("leak" in sentence for sentence in warn(typed(report)))
    report["test"]["overall"]["accuracy"] = 0.99
    assert any("leak" in sentence for sentence in warn(typed(report)))
    report["test"]["overall"]["groups"] = report["test"]["overall"]["n"]
    assert any("intervals are too narrow" in sentence for sentence in warn(typed(report)))


def test_words_say_how_well_a_rate_is_known(report: dict) -> None:
    overall = report["test"]["overall"]
    overall["n_stroke"] = 119
    overall["intervals"]["sensitivity"] |= {"value": 0.9, "low": 0.85, "high": 0.95, "groups": 60}
    words = " ".join(describe(typed(report)))
    assert "Of 100 slices of class Stroke, 90 are found (sensitivity 0.900 [0.850, 0.950])" in words
    assert "with 119 slices of class Stroke of 60 patients that is known to about ±5 points" in words


def test_what_speaks_against_a_report_is_a_warning(report: dict) -> None:
    leak = "3 training slices stand in test too."
    findings = [
        {"level": "error", "sentence": leak, "counts": {}},
        {"level": "note", "sentence": "fine", "counts": {}},
    ]
    parts = ("dataset", "counts", "calibration", "duplicates", "leaks")
    report["audit"] = {"version": 1, **{key: {} for key in parts}, "findings": findings}
    report["trained_on"] = {"name": "here", "note": "", "sha256": report["data"]["sha256"]}
    report["data"]["split"] = "train"
    report["calibration"]["temperature"] = 20.0
    report["test"]["overall"]["calibration"]["after"]["log_loss"] = 9.0
    report["test"]["overall"]["confusion"] = {"tp": 0, "fp": 0, "tn": 18, "fn": 4}
    warnings = warn(typed(report))
    assert leak in warnings
    assert "fine" not in warnings
    for word in (
        "very slices",
        "next to nothing",
        "9.000 after",
        "No slice is called Stroke",
        "come from 2 patients",
    ):
        assert any(word in sentence for sentence in warnings), word


def test_what_the_package_writes_into_a_split_is_no_subgroup(results: pd.DataFrame) -> None:
    table = pd.DataFrame(
        {
            "path": results["image_path"],
            "label": results["true_label"],
            "modality": results["image_type"],
            "group": results["image_path"],
            "shuffled_label": results["true_label"],
            "fold": -1,
            "scanner": "A",
        }
    )
    rows = measure_subgroups(table, results["stroke_probability"].to_numpy(), threshold=0.5)
    assert {row["column"] for row in rows} == {"modality", "slices of the group", "scanner"}
