"""Which model and which examples the demo shows, and what the page says of them."""

import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from stroke_hub import Predictor, Records, Slice
from stroke_hub.models.sample import EXAMPLES, SAMPLE
from stroke_hub.runs.report import read_report
from tests.conftest import load_rows
from tests.fakes.demo_server import ROOT


@pytest.fixture(autouse=True)
def _space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")
    for name in ("MODEL", "REVISION", "EXAMPLES"):
        monkeypatch.delenv(f"STROKE_HUB_{name}", raising=False)


def test_environment_then_space_then_sample(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import demo_model

    monkeypatch.setattr(demo_model, "HERE", tmp_path)
    assert demo_model.choose_model() == (SAMPLE, None)
    assert demo_model.choose_examples(SAMPLE) == EXAMPLES
    assert demo_model.choose_examples("owner/name") is None  # another model's slices would say nothing of it
    (tmp_path / "model.json").write_text(json.dumps({"model": "owner/name", "revision": "abc"}))
    (tmp_path / "examples").mkdir()
    assert demo_model.choose_model() == ("owner/name", "abc")
    assert demo_model.choose_examples("owner/name") == tmp_path / "examples"
    for name in ("MODEL", "EXAMPLES"):
        monkeypatch.setenv(f"STROKE_HUB_{name}", name)
    assert demo_model.choose_model() == ("MODEL", None)
    assert demo_model.choose_examples("MODEL") == Path("EXAMPLES")


def test_the_sample_model_is_ready_with_its_examples() -> None:
    from demo_model import DemoModel

    model = DemoModel(SAMPLE, None, EXAMPLES)
    assert model.predictor.commit is None
    assert model.is_exported
    assert list(model.examples) == ["BT, normal", "BT, stroke", "MR, normal", "MR, stroke"]
    assert model.describe()["model"] == SAMPLE
    assert "simulated" in model.note


def test_examples_are_the_median_of_their_kind(run_dir: Path, sample: Records) -> None:
    from demo_model import find_examples

    predictor, table = Predictor.from_pretrained(run_dir), sample.part("test")
    examples = find_examples(sample.root, predictor)
    assert len(examples) == 4
    for (modality, label), rows in table.groupby(["modality", "label"]):
        example = examples[f"{modality}, {'stroke' if label else 'normal'}"]
        ranked = np.sort(predictor.predict(load_rows(sample.root, rows)).probability)
        assert predictor.predict(example).probability[0] == pytest.approx(ranked[len(ranked) // 2], abs=1e-6)


def test_of_many_slices_some_are_asked_evenly(sample: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    import demo_model

    asked: list[list[str]] = []

    def predict(slices: list[Slice], *, batch_size: int) -> Mock:
        asked.append([Path(one.source).name for one in slices])
        return Mock(probability=np.zeros(len(slices)))

    monkeypatch.setattr(demo_model, "ASKED", 2)
    demo_model.find_examples(sample.root, Mock(predict=predict))
    cells = [rows["path"].tolist() for _, rows in sample.part("test").groupby(["modality", "label"])]
    assert max(map(len, cells)) > 4
    wanted = [[cell[len(cell) // 4], cell[3 * len(cell) // 4]] if len(cell) > 2 else cell for cell in cells]
    assert asked == [[Path(path).name for path in cell] for cell in wanted]


def test_the_page_says_how_examples_were_chosen_and_how_often_the_model_is_right(run_dir: Path) -> None:
    from explain_tab import ExplainTab

    report = read_report(run_dir)
    part = report.test["overall"]
    example = Slice(np.zeros((8, 8), np.uint8), source="p001_s01_simulated.png")
    model = Mock(report=report, threshold=report.model.threshold, note=report.data.note)
    model.examples = {"MR, stroke": example}
    words = " ".join(ExplainTab.render_examples(Mock(model=model)).split())
    assert "Or pick a simulated example" in words
    assert "test slice of median probability of stroke" in words
    assert f"On {part.n} test slices of {part.groups} patients or groups" in words
    found = f"{100 * part.intervals['sensitivity'].value:.0f}%"
    assert f"this model found <b>{found}</b> of the slices of class Stroke" in words
    model.report = None
    words = ExplainTab.render_examples(Mock(model=model))
    assert "median" in words
    assert "sensitivity" not in words
    model.examples = {}
    assert ExplainTab.render_examples(Mock(model=model)) == ""
