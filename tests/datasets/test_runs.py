"""Claims of train, evaluate and audit on datasets of scans: they run end to end, and say what they ran on."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from stroke_hub import TrainConfig, fit
from stroke_hub.datasets.open_dataset import open_dataset
from stroke_hub.datasets.slice_rules import SliceRules
from stroke_hub.runs.report import read_report
from tests.conftest import Done
from tests.datasets import make

TINY = ("--preset", "tiny", "--epochs", 1, "--batch-size", 16)


def test_an_audit_looks_into_volumes(tmp_path: Path, run: Callable[..., Done]) -> None:
    done = run(
        "audit", "--data-dir", make.write_nnunet(tmp_path / "data"), "--out", tmp_path / "audit", "--every", 2
    )
    assert done.status == 0
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert found["dataset"]["slices"] == 16


def test_a_model_learns_from_volumes_and_their_masks(tmp_path: Path) -> None:
    records = open_dataset(make.write_nnunet(tmp_path / "simulated"), SliceRules(every=2))
    run = fit(
        TrainConfig(preset="tiny", epochs=1, batch_size=16, recipe="scratch", lesions="masks"),
        records,
        tmp_path / "run",
    )
    split = pd.read_csv(run / "split.csv", keep_default_na=False)
    assert set(split["slice"]) == {2, 4}
    assert split.loc[split["label"] == 1, "mask"].str.startswith("labelsT").all()
    assert {row["reason"] for row in json.loads((run / "left_out.json").read_text())} == {
        "slices between every n-th",
        "slices below or above the head",
    }


@pytest.mark.slow
def test_a_report_says_what_it_ran_on(tmp_path: Path, run: Callable[..., Done]) -> None:
    folder = make.write_nnunet(tmp_path / "simulated")
    done = run("train", "--data-dir", folder, "--run-dir", tmp_path / "run", *TINY, "--every", 2)
    assert done.status == 0, done.err
    report = read_report(tmp_path / "run")
    assert report.data.name == "simulated"
    said = " ".join(report.data.notes)
    assert "Dataset: Simulated, licence CC0; read as nnU-Net." in said
    assert "at least 10 mm²" in said
    assert report.data.options == ["--every", "2"]
    options = ("--model", tmp_path / "run", "--data-dir", folder, "--every", 2)
    done = run("evaluate", *options, "--split", "all", "--faithfulness", "--out", tmp_path / "all")
    assert done.status == 0, done.err
    assert read_report(tmp_path / "all").test["overall"].n == 16 > report.test["overall"].n
    assert (tmp_path / "all" / "faithfulness.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["slice", "scan"])
def test_a_training_on_scans_with_masks_reports_localisation(
    tmp_path: Path, run: Callable[..., Done], unit: str
) -> None:
    simulate = importlib.import_module("scripts.simulate_scans").write_scans
    simulate(["--out", str(tmp_path / "data"), "--scans", "12", "--slices", "5", "--size", "64"])
    options = ("--data-dir", tmp_path / "data", "--run-dir", tmp_path / "run", *TINY, "--label-by", unit)
    done = run("train", *options)
    assert done.status == 0, done.err
    report = read_report(tmp_path / "run")
    found = report.localisation
    assert found is not None
    assert 0 < found.n <= found.n_stroke == report.test["overall"].n_stroke
    assert (found.n < found.n_stroke) == (unit == "scan")  # there some Stroke slices show no lesion
    assert "strongest pixel in or just beside the lesion" in done.out + done.err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Do the maps show where the lesion is?" in page
    assert "Best map that knows no model" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "write",
    [
        make.write_isles22,
        make.write_isles24,
        make.write_rsna,
        make.write_ct_ich,
        make.write_ct_ich_pictures,
        make.write_cq500,
        make.write_csv,
    ],
)
def test_every_layout_trains_and_is_measured(
    tmp_path: Path, run: Callable[..., Done], write: Callable[[Path], Path]
) -> None:
    done = run("train", "--data-dir", write(tmp_path / "data"), "--run-dir", tmp_path / "run", *TINY)
    assert done.status == 0, done.err
    report = read_report(tmp_path / "run")
    assert 0 < report.test["overall"].n_stroke < report.test["overall"].n
