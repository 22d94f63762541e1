"""Claims of inference.results: answers show themselves in a line, a table and a picture, and hold no markup."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stroke_hub import Explanation, Prediction, Records, ResNetViT, explain, predict
from stroke_hub.batch.pipeline import PredictSettings


@pytest.fixture(scope="module")
def paths(sample: Records) -> list[Path]:
    return [sample.root / path for path in sample.part("test")["path"][:4]]


@pytest.fixture(scope="module")
def prediction(trained: ResNetViT, paths: list[Path]) -> Prediction:
    return predict(trained, paths, contributions=True)


@pytest.fixture(scope="module")
def explanation(trained: ResNetViT, paths: list[Path]) -> Explanation:
    found = explain(trained, paths[0])
    assert isinstance(found, Explanation)
    return found


def test_answers_are_shown_in_a_line(prediction: Prediction, explanation: Explanation) -> None:
    strokes, odd = prediction.label.count("Stroke"), int(prediction.unusual.sum())
    assert repr(prediction) == f"Prediction(4 slices, {strokes} Stroke, {4 - strokes} Normal, {odd} unusual)"
    words = repr(explanation)
    assert words.startswith(f"Explanation(Stroke {explanation.probability:.3f}, cnn ")
    assert f"{explanation.contributions['baseline']:+.2f}" in words
    assert len(words) < 120
    assert "\n" not in words


def test_a_prediction_becomes_a_table(trained: ResNetViT, paths: list[Path], prediction: Prediction) -> None:
    table = prediction.to_frame()
    assert list(table.columns) == [*PredictSettings().answers, "distance", "remarks"]
    np.testing.assert_array_equal(table["stroke_probability"], prediction.probability)
    np.testing.assert_array_equal(table["contribution_baseline"], prediction.contributions[:, 2])  # type: ignore[index]
    assert list(table["remarks"]) == [" ".join(remarks) for remarks in prediction.remarks]
    assert all(table["remarks"])
    plain = predict(trained, paths).to_frame()
    assert list(plain.columns) == ["label", "stroke_probability", "unusual", "distance", "remarks"]
    assert len(predict(trained, []).to_frame()) == 0


def test_a_notebook_shows_a_table_without_markup_of_others(prediction: Prediction) -> None:
    shown = replace(prediction, remarks=[("<script>alert(1)</script>",)] * 4)._repr_html_()
    assert shown.startswith("<table")
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert f"{prediction.probability[3]:.3f}" in shown
    many = Prediction(*(np.zeros(5000),), ["Normal"] * 5000, np.zeros((5000, 2), np.float32), np.zeros(5000),
        np.zeros(5000, bool), [()] * 5000)  # fmt: skip
    assert len(many._repr_html_()) < 10_000


def test_a_notebook_shows_the_overlays(explanation: Explanation) -> None:
    picture = Image.open(io.BytesIO(explanation._repr_png_()))
    height, width = explanation.picture.shape
    assert (picture.format, picture.size) == ("PNG", (3 * width, height))
    for place, layer in enumerate(("cnn", "vit", "fused")):
        part = picture.crop((place * width, 0, (place + 1) * width, height))
        assert part == explanation.overlay(layer)  # type: ignore[arg-type]
