"""What validation logits decide: a temperature that is the best one, thresholds that keep their promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from stroke_hub import ResNetViT
from stroke_hub.calibration import OPERATING_POINTS, calibrate, choose_operating_points, fit_temperature

rng = np.random.default_rng(0)


@pytest.mark.parametrize("true", [0.4, 1.0, 2.5, 8.0])
def test_a_known_temperature_is_found(true: float) -> None:
    log_odds = rng.normal(0, 2, 200_000)
    label = (rng.random(len(log_odds)) < expit(log_odds)).astype(int)
    assert fit_temperature(log_odds * true, label) == pytest.approx(true, rel=0.02)


def test_no_other_temperature_has_a_lower_loss() -> None:
    label = rng.integers(0, 2, 60)
    log_odds = rng.normal(label * 2 - 1, 3)
    strokes = int(label.sum())
    target = torch.tensor(np.where(label == 1, (strokes + 1) / (strokes + 2), 1 / (62 - strokes)))

    def loss(temperature: float) -> float:
        scaled = torch.tensor(log_odds / temperature)
        return float(torch.nn.functional.binary_cross_entropy_with_logits(scaled, target))

    best = fit_temperature(log_odds, label)
    assert best is not None
    assert all(loss(best) <= loss(other) + 1e-12 for other in np.geomspace(0.06, 19, 400))


def test_a_validation_split_without_an_error_does_not_give_certainty() -> None:
    label = np.repeat([0, 1], 20)
    log_odds = np.where(label == 1, 3.0, -3.0)
    temperature = fit_temperature(log_odds, label)
    assert expit(3 / temperature) == pytest.approx(21 / 22, abs=1e-4)  # Platt's target for 20 of a class


def test_one_class_gives_none() -> None:
    assert fit_temperature(np.array([1.0, 2.0]), np.array([1, 1])) is None
    points = choose_operating_points(np.array([1, 1]), np.array([0.3, 0.4]))
    assert points["half"]["threshold"] == 0.5
    assert points["youden"]["threshold"] is None
    assert "one class" in points["youden"]["undefined"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=2, max_size=80))
def test_thresholds_keep_their_promise_as_float32(cases: list[tuple[int, float]]) -> None:
    label, probability = np.array([a for a, _ in cases]), np.array([b for _, b in cases])
    points = choose_operating_points(label, probability)
    assert list(points) == list(OPERATING_POINTS)
    if 0 < label.sum() < len(label):
        threshold = points["sensitivity95"]["threshold"]
        assert threshold == float(np.float32(threshold))
        assert np.mean(probability[label == 1] >= threshold) >= 0.95


def test_calibrate_writes_the_models_buffers(untrained: ResNetViT) -> None:
    label = np.repeat([0, 1], 50)
    log_odds = rng.normal(label * 4 - 2, 3)
    logits = np.stack([np.zeros(100), log_odds], axis=1).astype(np.float32)
    calibrate(untrained, logits, label, operating_point="youden")
    temperature = fit_temperature(np.diff(logits.astype(float))[:, 0], label)
    assert float(untrained.temperature) == pytest.approx(temperature, rel=1e-6)
    stored = float(untrained.threshold)
    points = choose_operating_points(
        label, expit(np.diff(logits.astype(float))[:, 0] / float(untrained.temperature))
    )
    assert stored == points["youden"]["threshold"] != 0.5
    kept = float(untrained.temperature)
    calibrate(untrained, logits[:50], label[:50])
    assert float(untrained.temperature) == kept
