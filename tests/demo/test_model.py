"""Which model and which examples the demo shows."""

import json
from pathlib import Path

import pytest

from stroke_hub.models.sample import EXAMPLES, SAMPLE
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
    assert {"CT, clear hit", "CT, normal", "MR, clear hit", "MR, normal"} <= set(model.examples)
    assert model.describe()["model"] == SAMPLE
    assert "simulated" in model.note
