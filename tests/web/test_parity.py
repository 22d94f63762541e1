"""The page's answers are Python's: rendering to the grey level, probability, maps and evidence to 1e-4."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stroke_hub.inference.predictor import Predictor
from stroke_hub.inference.results import Explanation
from stroke_hub.io.windowing import stretch
from stroke_hub.scan.load_scan import load_scan
from tests.web.cases import Case, list_scans, list_slices
from tests.web.conftest import Engine

BAR = 1e-4


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.from_pretrained("sample", backend="onnx", threads=1)


def write(case: Case, folder: Path) -> list[Path]:
    folder.mkdir()
    for name, content in case.files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in case.files]


def compare(found: dict[str, Any], expected: Explanation) -> dict[str, float]:
    """The largest differences of one slice."""
    assert "error" not in found, found
    assert (found["height"], found["width"]) == expected.picture.shape
    half = found["window"]["width"] / 2
    shown = stretch(found["values"], found["window"]["center"] - half, found["window"]["center"] + half)
    grey = shown.reshape(expected.picture.shape).astype(int) - expected.picture
    square = found["square"].reshape(expected.pixels.shape).astype(int) - expected.pixels
    differences = {"grey": float(np.abs(grey).max()), "square": float(np.abs(square).max())}
    for layer in ("cnn", "vit", "fused"):
        lifted = expected.framed.lift(expected.get_shown(layer))
        differences[layer] = float(np.abs(found["maps"][layer].reshape(lifted.shape) - lifted).max())
    differences["probability"] = abs(found["probability"] - expected.probability)
    differences["log_odds"] = abs(found["log_odds"] - expected.log_odds)
    for name, value in expected.contributions.items():
        differences[f"contribution of {name}"] = abs(found["contributions"][name] - value)
    differences["distance"] = abs(found["distance"] - expected.distance) / max(1.0, expected.distance)
    differences["outside"] = abs(found["outside"] - expected.measure_outside("fused"))
    assert found["label"] == expected.label
    assert found["baseline"] == expected.baseline
    assert found["unusual"] == expected.unusual
    assert found["remarks"] == list(expected.remarks)
    return differences


def check(name: str, differences: dict[str, float]) -> None:
    levels = {name: differences.pop(name) for name in ("grey", "square")}
    assert max(levels.values()) <= 1, (name, levels)
    assert max(differences.values()) <= BAR, (name, differences)


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_slices(engine: Engine, predictor: Predictor, tmp_path: Path, step: int) -> None:
    cases = list(list_slices())[::step]
    assert step > 1 or len(cases) >= 40
    for number, case in enumerate(cases):
        files = write(case, tmp_path / str(number))
        scan = load_scan(files, modality=case.modality)
        opened = engine.open(files, case.modality)
        assert "error" not in opened, (case.name, opened)
        assert (opened["slices"], opened["modality"]) == (len(scan), scan.modality), case.name
        assert opened["remarks"] == list(scan.remarks), case.name
        for index in case.indices:
            check(case.name, compare(engine.answer(index), predictor.explain(scan.slices[index])))


def test_scans(engine: Engine, predictor: Predictor, tmp_path: Path) -> None:
    cases = list(list_scans())
    assert len(cases) == 3
    for number, case in enumerate(cases):
        files = write(case, tmp_path / str(number))
        scan = load_scan(files, modality=case.modality)
        opened = engine.open(files, case.modality)
        assert "error" not in opened, (case.name, opened)
        expected, found = predictor.predict(scan), engine.scan()
        if opened["positions"] is not None:
            np.testing.assert_allclose(opened["positions"], scan.positions, atol=1e-3)
        assert [found[name] for name in ("label", "rule", "ranked")] == [
            expected.label,
            expected.rule,
            expected.ranked,
        ], case.name
        assert found["remarks"] == list(expected.remarks), case.name
        assert found["threshold"] == pytest.approx(expected.threshold, abs=1e-6)
        np.testing.assert_allclose(found["slices"], expected.slices.probability, atol=BAR)
        np.testing.assert_allclose(found["weights"], expected.weights, atol=1e-12)
        assert found["probability"] == pytest.approx(expected.probability, abs=BAR)
        assert found["log_odds"] == pytest.approx(expected.log_odds, abs=BAR)
        for index in case.indices:
            check(case.name, compare(engine.answer(index), predictor.explain(scan.slices[index])))
