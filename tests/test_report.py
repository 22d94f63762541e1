"""Every number of the CSVs, the report and the metrics' references agree."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

from stroke_hub import Records, ResNetViT, evaluate
from stroke_hub.metrics import measure
from stroke_hub.report import choose_samples

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


def test_every_figure_is_there_as_png_and_svg(run_dir: Path) -> None:
    names = {
        "training_curves", "confusion_matrix", "roc_curve", "precision_recall_curve", "probability_histograms",
        "explanations", "component_summary",
    }  # fmt: skip
    files = {path.name for path in (run_dir / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    for name in names:
        with Image.open(run_dir / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 300


def test_evaluating_twice_gives_the_same_report(trained: ResNetViT, sample: Records, tmp_path: Path) -> None:
    for name in "ab":
        evaluate(trained, sample.part("test"), sample.root, tmp_path / name)
    for file in ("report.json", "stroke_classification_results.csv", "figures/roc_curve.svg"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_one_modality_and_one_class_leave_gaps_not_zeros(
    trained: ResNetViT, sample: Records, tmp_path: Path
) -> None:
    table = sample.part("test")
    table = table[(table["modality"] == "MR") & (table["label"] == 0)]
    report = evaluate(trained, table, sample.root, tmp_path)
    assert report["test"]["BT"]["n"] == 0
    assert report["test"]["overall"]["auroc"] is None
    assert "one class" in report["test"]["overall"]["undefined"]


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
