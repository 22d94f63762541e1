"""Two runs side by side: differences of what each measured alone, on the slices that both hold."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stroke_hub.errors import RunError
from stroke_hub.evaluation.comparison import compare, compare_reports, write_comparison
from stroke_hub.runs.report import Report


def typed(report: dict[str, Any]) -> Report:
    return Report.from_json(json.dumps(report))


@pytest.fixture
def worse(run_dir: Path, tmp_path: Path) -> Path:
    """The run once more, with its probabilities turned over and a slice missing."""
    run = tmp_path / "worse"
    run.mkdir()
    for name in ("report.json", "split.csv", "stroke_classification_results.csv"):
        shutil.copy(run_dir / name, run / name)
    results = pd.read_csv(run / "stroke_classification_results.csv")
    results["stroke_probability"] = 1 - results["stroke_probability"]
    results.iloc[1:].to_csv(run / "stroke_classification_results.csv", index=False)
    return run


def test_a_run_equals_itself(run_dir: Path) -> None:
    result = compare(run_dir, run_dir)
    report = json.loads((run_dir / "report.json").read_text())
    assert result["n"] == report["test"]["overall"]["n"]
    for name, cell in result["metrics"].items():
        assert cell["a"] == cell["b"] == report["test"]["overall"]["intervals"][name]
        assert cell["difference"]["value"] in (0, None)


def test_the_opposite_of_a_run_differs_by_twice_its_distance_from_chance(run_dir: Path, worse: Path) -> None:
    result = compare(run_dir, worse)
    assert result["n"] == len(pd.read_csv(run_dir / "stroke_classification_results.csv")) - 1
    auroc = result["metrics"]["auroc"]
    assert auroc["b"]["value"] == pytest.approx(1 - auroc["a"]["value"], abs=1e-12)
    assert auroc["difference"]["value"] == pytest.approx(2 * auroc["a"]["value"] - 1, abs=1e-12)


def test_it_is_written_as_json_and_figure(run_dir: Path, worse: Path, tmp_path: Path) -> None:
    result = compare(run_dir, worse)
    write_comparison(result, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == result
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000


def test_what_cannot_be_compared_is_refused(run_dir: Path, worse: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not an evaluated run"):
        compare(run_dir, tmp_path)
    table = pd.read_csv(worse / "stroke_classification_results.csv")
    table.assign(true_label=1 - table["true_label"]).to_csv(
        worse / "stroke_classification_results.csv", index=False
    )
    with pytest.raises(RunError, match="other labels"):
        compare(run_dir, worse)
    table.assign(image_path="elsewhere.png").to_csv(worse / "stroke_classification_results.csv", index=False)
    with pytest.raises(RunError, match="no slice in common"):
        compare(run_dir, worse)


def test_a_report_agrees_with_itself_and_not_with_other_figures_of_the_same_slices(run_dir: Path) -> None:
    own, new = (json.loads((run_dir / "report.json").read_text()) for _ in range(2))
    assert compare_reports(typed(own), typed(new))[1]
    new["test"]["overall"]["intervals"]["accuracy"]["value"] -= 0.02  # well inside its interval
    lines, agree = compare_reports(typed(own), typed(new))
    assert not agree
    assert sum("DIFFERS" in line for line in lines) == 1
    new["data"]["sha256"] = "1" * 64  # the training put copies into one group, or left leaks out
    assert not compare_reports(typed(own), typed(new))[1]
    new["data"]["measured_sha256"] = "2" * 64
    assert compare_reports(typed(own), typed(new))[1]
    del own["data"]["measured_sha256"]
    assert compare_reports(typed(own), typed(new))[1]
    new["test"]["overall"]["intervals"]["accuracy"]["value"] = (
        own["test"]["overall"]["intervals"]["accuracy"]["low"] - 0.1
    )
    assert not compare_reports(typed(own), typed(new))[1]
