"""What validation logits decide: a temperature that is the best one, thresholds that keep their promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.calibration import _sigmoid_calibration

from stroke_hub import ResNetViT, explain, predict
from stroke_hub.metrics.calibration import OPERATING_POINTS, choose_operating_points, fit_calibration
from stroke_hub.training.fit import calibrate

rng = np.random.default_rng(0)


@pytest.mark.parametrize(("true", "shift"), [(0.4, 0.0), (1.0, -2.0), (2.5, 1.0), (8.0, 3.0)])
def test_a_known_line_is_found(true: float, shift: float) -> None:
    log_odds = rng.normal(0, 2, 200_000)
    label = (rng.random(len(log_odds)) < expit(log_odds)).astype(int)
    temperature, found = fit_calibration(log_odds * true - shift, label)
    assert temperature == pytest.approx(true, rel=0.02)
    assert found == pytest.approx(shift, abs=0.05 * true)


def test_it_is_scikit_learns_platt_scaling() -> None:
    label = rng.integers(0, 2, 300)
    log_odds = rng.normal(label * 2 - 1, 3)
    slope, intercept = _sigmoid_calibration(log_odds, label)  # of sigmoid(-(slope x + intercept))
    temperature, shift = fit_calibration(log_odds, label)
    assert temperature == pytest.approx(-1 / slope, rel=1e-4)
    assert shift == pytest.approx(intercept / slope, rel=1e-4)


def test_the_temperature_alone_is_the_best_one() -> None:
    label = rng.integers(0, 2, 60)
    log_odds = rng.normal(label * 2 - 1, 3)
    strokes = int(label.sum())
    target = torch.tensor(np.where(label == 1, (strokes + 1) / (strokes + 2), 1 / (62 - strokes)))

    def loss(temperature: float) -> float:
        scaled = torch.tensor(log_odds / temperature)
        return float(torch.nn.functional.binary_cross_entropy_with_logits(scaled, target))

    best, shift = fit_calibration(log_odds, label, method="temperature")
    assert shift == 0
    assert all(loss(best) <= loss(other) + 1e-12 for other in np.geomspace(0.06, 19, 400))
    assert fit_calibration(log_odds, label, method="none") == (1, 0)


def test_a_validation_split_without_an_error_does_not_give_certainty() -> None:
    label = np.repeat([0, 1], 20)
    log_odds = np.where(label == 1, 3.0, -3.0)
    temperature, shift = fit_calibration(log_odds, label)
    assert expit((3 + shift) / temperature) == pytest.approx(21 / 22, abs=1e-4)  # Platt's target for 20 of a class


def test_one_class_gives_none() -> None:
    assert fit_calibration(np.array([1.0, 2.0]), np.array([1, 1])) is None
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


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, width=32)), min_size=2, max_size=80))
def test_points_never_cross_and_say_what_they_gave(cases: list[tuple[int, float]]) -> None:
    label, probability = np.array([a for a, _ in cases]), np.array([b for _, b in cases])
    points = choose_operating_points(label, probability)
    if 0 < label.sum() < len(label):
        threshold = points["sensitivity95"]["threshold"]
        high = points["specificity95"]["threshold"]
        if high is not None:
            assert threshold <= high  # the point for sensitivity never finds fewer strokes
            assert np.mean(probability[label == 0] < high) >= 0.95
            meets = "both 95 %" in points["specificity95"]["words"]
            assert meets == ("both 95 %" in points["sensitivity95"]["words"])
            assert threshold == high or not meets
        for point in points.values():
            if point["threshold"] is not None:
                called = probability >= point["threshold"]
                assert point["val_sensitivity"] == pytest.approx(called[label == 1].mean())
                assert point["val_specificity"] == pytest.approx(1 - called[label == 0].mean())


def test_points_that_would_cross_share_the_best_threshold_between_them() -> None:
    # from 0.3 to 0.6 both rules are met; at 0.4 no slice is wrong
    label, probability = np.repeat([1, 0], 40), np.append(np.full(39, 0.6), 0.4)
    probability = np.concatenate([probability, np.full(38, 0.1), [0.3, 0.35]])
    points = choose_operating_points(label, probability)
    for rule in ("sensitivity95", "specificity95"):
        assert points[rule]["threshold"] == pytest.approx(0.4, abs=1e-6)
        assert (points[rule]["val_sensitivity"], points[rule]["val_specificity"]) == (1, 1)
        assert "both 95 %" in points[rule]["words"]
    assert "both" not in points["youden"]["words"]


def test_calibrate_is_what_predict_then_says(untrained: ResNetViT) -> None:
    squares = torch.from_numpy(rng.integers(0, 256, (40, 128, 128), dtype=np.uint8))
    untrained.temperature.fill_(1)
    logits = predict(untrained, squares).logits
    log_odds = np.diff(logits.astype(float))[:, 0]
    label = (rng.random(40) < expit(20 * (log_odds - log_odds.mean()) - 1)).astype(int)
    temperature, shift = fit_calibration(log_odds, label)
    found = calibrate(untrained, logits, label, operating_point="youden")
    assert found == pytest.approx({"temperature": temperature, "shift": shift}, rel=1e-6)
    probability = predict(untrained, squares).probability
    assert probability == pytest.approx(expit((log_odds + shift) / temperature), abs=1e-6)
    assert probability.mean() == pytest.approx(label.mean(), abs=0.05)
    points = choose_operating_points(label, probability)
    assert float(untrained.threshold) == pytest.approx(points["youden"]["threshold"], abs=1e-6)
    assert explain(untrained, squares[:1])[0].probability == pytest.approx(probability[0], abs=1e-6)


def test_one_class_leaves_the_model_as_it_is(untrained: ResNetViT) -> None:
    before = {name: value.clone() for name, value in untrained.state_dict().items()}
    calibrate(untrained, np.zeros((3, 2), np.float32), np.ones(3, int))
    assert all(torch.equal(value, before[name]) for name, value in untrained.state_dict().items())
