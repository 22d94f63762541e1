"""Several trainings: the spread of their figures is that of their reports, and stands where a reader looks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stroke_hub import Records
from stroke_hub.errors import RunError
from stroke_hub.evaluation.trainings import measure_trainings, record_trainings
from stroke_hub.report.card import render_card
from stroke_hub.report.sentences import describe, warn
from stroke_hub.runs.command import build_command
from stroke_hub.runs.report import Report, read_report
from tests.report.test_html import typed, whole_report


def make_report(seed: int, auroc: float | None) -> Report:
    report = whole_report()
    report["training"]["seed"] = seed
    report["data"]["measured_sha256"] = "0" * 64
    for part in report["test"].values():
        part["intervals"]["auroc"]["value"] = auroc
    return typed(report)


def test_mean_lowest_and_highest_are_those_of_the_seeds() -> None:
    found = measure_trainings([make_report(seed, auroc) for seed, auroc in ((4, 0.9), (5, None), (6, 0.8))])
    spread = found.test["MR"]["auroc"]
    assert found.seeds == [4, 5, 6]
    assert (spread.values, spread.lowest, spread.highest) == ([0.9, None, 0.8], 0.8, 0.9)
    assert spread.mean == pytest.approx(0.85)
    nothing = measure_trainings([make_report(0, None), make_report(1, None)]).test["overall"]["auroc"]
    assert (nothing.mean, nothing.lowest, nothing.highest) == (None, None, None)


def test_trainings_of_other_slices_are_no_repetition() -> None:
    other = whole_report()
    other["data"]["measured_sha256"] = "1" * 64
    with pytest.raises(RunError, match="not measured on the same test slices"):
        measure_trainings([make_report(0, 0.9), typed(other)])


def test_a_seed_outside_the_interval_is_a_warning(tmp_path: Path) -> None:
    near, far = ([make_report(0, 0.98), make_report(1, auroc)] for auroc in (0.97, 0.7))
    for reports, warned in ((near, False), (far, True)):
        report = replace(reports[0], trainings=measure_trainings(reports))
        assert any("outside the interval" in sentence for sentence in warn(report)) is warned
        assert "Trained 2 times, with the seeds 0 and 1" in " ".join(describe(report))
        assert "--seeds 2" in " ".join(build_command(report))
        assert "Between trainings" in render_card(report, repo_id="owner/name", run=tmp_path)
        assert Report.from_json(report.to_json()) == report


def test_the_first_run_records_the_spread_in_its_report_and_page(run_dir: Path, tmp_path: Path) -> None:
    runs = [tmp_path / f"seed-{seed}" for seed in (0, 1)]
    for seed, run in enumerate(runs):
        run.mkdir()
        (run / "figures").symlink_to(run_dir / "figures")
        report = json.loads((run_dir / "report.json").read_text())
        report["training"]["seed"] = seed
        report["test"]["overall"]["intervals"]["auroc"]["value"] -= seed / 10
        (run / "report.json").write_text(json.dumps(report))
    before = read_report(run_dir).test["overall"].intervals["auroc"].value
    assert before is not None
    found = record_trainings(runs)
    assert found.trainings is not None
    assert found.trainings.test["overall"]["auroc"].values == [before, before - 0.1]
    assert read_report(runs[0]) == found
    page = (runs[0] / "report.html").read_text()
    assert f"{before - 0.1:.3f}" in page
    assert f"{before - 0.05:.3f}" in page
    (runs[0] / "report.html").unlink()
    assert record_trainings(runs) == found
    assert not (runs[0] / "report.html").exists()  # nothing had changed
    assert not (runs[1] / "report.html").exists()


@pytest.mark.slow
def test_seeds_train_one_after_another_and_the_first_reports_the_spread(
    sample: Records, tmp_path: Path, run: Callable[..., Any]
) -> None:
    words = ["--data-dir", sample.root, "--preset", "tiny", "--epochs", 1, "--image-size", 64, "--limit", 40,
             "--seed", 3, "--seeds", 2, "--run-dir", tmp_path / "run"]  # fmt: skip
    done = run("train", *words)
    assert done.status == 0, done.err
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["seed-3", "seed-4"]
    first, second = (read_report(tmp_path / "run" / f"seed-{seed}") for seed in (3, 4))
    assert first.trainings is not None
    assert second.trainings is None
    assert first.model.weights_sha256 != second.model.weights_sha256
    assert first.trainings.weights_sha256 == [first.model.weights_sha256, second.model.weights_sha256]
    for metric, spread in first.trainings.test["overall"].items():
        values = [report.test["overall"].intervals[metric].value for report in (first, second)]
        assert spread.values == values
        known = [value for value in values if value is not None]
        if known:
            assert spread.mean == pytest.approx(np.mean(known))
            assert (spread.lowest, spread.highest) == (min(known), max(known))
    page = (tmp_path / "run" / "seed-3" / "report.html").read_text()
    assert "Between trainings" in page
    assert "Trained 2 times, with the seeds 3 and 4" in page
    assert "trained once" in (tmp_path / "run" / "seed-4" / "report.html").read_text()
    before = [path.read_bytes() for path in sorted((tmp_path / "run").rglob("report.*"))]
    again = run("train", *words)
    assert again.status == 0, again.err
    assert again.err.count("finished already") == again.err.count("evaluated already") == 2
    assert [path.read_bytes() for path in sorted((tmp_path / "run").rglob("report.*"))] == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["--seeds", 1], "--seeds is 1, but must be at least 2"), (["--seeds", 3, "--folds", 2], "without --folds")],
)
def test_what_no_number_of_trainings_can_be_is_refused(
    words: list[object], sentence: str, sample: Records, run: Callable[..., Any]
) -> None:
    done = run("train", "--data-dir", sample.root, *words)
    assert (done.status, sentence in done.err) == (1, True), done.err
