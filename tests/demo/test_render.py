"""Names and reports come from anywhere: the pages show their markup as text."""

import base64
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from stroke_hub import ResNetViT, Slice, explain
from stroke_hub.runs.report import read_report
from tests.fakes.demo_server import ROOT
from tests.hostile import RAMP

MARKUP = '<img src="x" onerror="alert(1)">'


def spoil(value: Any) -> Any:
    """Put markup behind every string of a report."""
    if isinstance(value, dict):
        return {key: spoil(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [spoil(inner) for inner in value]
    return value + MARKUP if isinstance(value, str) else value


def check_escaped(page: str) -> None:
    assert MARKUP not in page
    assert page.count("onerror") == page.count("&lt;img src=&#34;x&#34; onerror") > 0


def test_a_report_cannot_add_markup_to_the_model_tab(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")
    from model_tab import render_model

    about = {"model": MARKUP, "commit": MARKUP, "image_size": 128, "backend": MARKUP, "threshold": 0.5}
    model = Mock(report=spoil(read_report(run_dir)))
    model.describe.return_value = about | {"versions": {"python": MARKUP}}
    check_escaped(render_model(model))


def test_a_file_name_cannot_add_markup_to_a_result(trained: ResNetViT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")
    from demo_model import DemoModel, Settings
    from downloads import make_page
    from result import make_result
    from study import Study

    model = Mock(spec=DemoModel, report=None, threshold=0.5)
    model.describe.return_value = {
        "model": MARKUP,
        "commit": None,
        "weights_sha256": None,
        "trained_on": MARKUP,
        "threshold": 0.5,
        "versions": {},
    }
    study = Study(MARKUP, "0" * 64, [Slice(RAMP)])
    result = make_result(model, study, 1, Settings(), explain(trained, study.slices[0]))
    check_escaped(base64.b64decode(make_page(result)["data"]).decode())
