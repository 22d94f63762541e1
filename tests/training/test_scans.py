"""The rule for scans is chosen on the validation slices, scan by scan in the order of their numbers, and stored."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from stroke_hub import Predictor, ResNetViT, TrainConfig
from stroke_hub.deploy.export import export
from stroke_hub.inference.onnx_model import ExportedModel
from stroke_hub.metrics.highest_mean import HighestMean
from stroke_hub.metrics.scan_rule import fit_highest_mean
from stroke_hub.training import fit as train_module
from stroke_hub.training.scans import fit_scan_rule


def make_table(*, patients: int = 24, slices: int = 12) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Slices of patients in any order, their log-odds and labels; every second patient has four stroke slices."""
    random = np.random.default_rng(0)
    rows = [(patient, number) for patient in range(patients) for number in range(slices)]
    rows = [rows[index] for index in random.permutation(len(rows))]
    label = np.array([int(patient % 2 and 4 <= number < 8) for patient, number in rows])
    table = pd.DataFrame(
        {
            "path": [f"p{patient:03d}_s{number}.png" for patient, number in rows],
            "group": [f"p{patient:03d}" for patient, _ in rows],
            "modality": "BT",
        }
    )
    return table, random.normal(size=len(rows)) + 1.5 * label, label


def test_scans_are_judged_in_the_order_of_their_slices() -> None:
    table, z, label = make_table()
    found = fit_scan_rule(table, z, label, method="platt", operating_point="youden")
    number = table["path"].str.extract(r"_s(\d+)")[0].astype(int)
    ordered = table.assign(z=z, label=label, number=number).sort_values(["group", "number"])
    groups = [part for _, part in ordered.groupby("group")]
    expected = fit_highest_mean(
        [part["z"].to_numpy() for part in groups], np.array([part["label"].max() for part in groups])
    )
    assert found == expected
    assert found is not None
    assert found.scans == (12, 12)


def test_patients_of_one_slice_and_mixed_modalities_are_no_scans() -> None:
    table, z, label = make_table()
    alone = table.assign(group=table["path"])
    assert fit_scan_rule(alone, z, label, method="platt", operating_point="youden") is None
    number = table["path"].str.extract(r"_s(\d+)")[0].astype(int)
    both = table.assign(modality=np.where(number % 2, "BT", "MR"))
    found = fit_scan_rule(both, z, label, method="platt", operating_point="youden")
    assert found is not None
    assert sum(found.scans) == 48


def test_too_few_scans_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    table, z, label = make_table(patients=18)
    assert fit_scan_rule(table, z, label, method="platt", operating_point="youden") is None
    assert "9 of 18 validation scans have a stroke; a rule for scans takes 10" in capsys.readouterr().err
    assert fit_scan_rule(table.assign(group=table["path"]), z, label, method="none", operating_point="half") is None
    assert capsys.readouterr().err == ""


def test_end_of_a_training_stores_the_rule(untrained: ResNetViT, tmp_path: Path) -> None:
    table, z, label = make_table()
    half = torch.tensor(z).float() * float(untrained.temperature) / 2
    history = pd.DataFrame([{"epoch": 1, "train_loss": 1.0, "val_loss": 1.0, "val_auroc": 0.9}])
    train_module._finish(
        TrainConfig(preset="tiny").resolve(masks=False, modalities=["BT"]),
        untrained,
        history,
        torch.stack([-half, half], dim=1),
        table,
        torch.tensor(label),
        tmp_path,
    )
    loaded = ResNetViT.from_pretrained(tmp_path)
    rule = loaded.get_scan_rule()
    told = json.loads((tmp_path / "scan_rule.json").read_text())
    assert isinstance(rule, HighestMean)
    assert {name: told[name] for name in rule.__dict__} == rule.__dict__
    # what the model itself says of the slices, as it now calibrates them
    logits = (torch.stack([-half, half], dim=1) @ torch.eye(2)).double()
    shift = json.loads((tmp_path / "calibration.json").read_text())["shift"]
    log_odds = (logits[:, 1] - logits[:, 0] + shift).numpy() / float(loaded.temperature)
    number = table["path"].str.extract(r"_s(\d+)")[0].astype(int)
    frame = table.assign(z=log_odds, label=label, number=number).sort_values("number")
    answers = frame.groupby("group").apply(lambda part: rule.judge(part["z"].to_numpy()).log_odds)
    called = expit(answers.to_numpy()) >= rule.threshold
    stroke = frame.groupby("group")["label"].max().to_numpy() == 1
    assert called[stroke].mean() + (~called)[~stroke].mean() > 1.5


@pytest.mark.slow
def test_export_has_the_rule(untrained: ResNetViT, tmp_path: Path) -> None:
    rule = HighestMean(5, 3, 0.5, -1.5, 0.25)
    untrained.store_scan_rule(rule)
    untrained.save_pretrained(tmp_path)
    export(tmp_path, precisions=("fp32",))
    assert ExportedModel.from_pretrained(tmp_path).scan_rule == rule
    assert Predictor.from_pretrained(tmp_path, backend="onnx").scan_rule == rule
