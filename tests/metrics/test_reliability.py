"""Calibration figures agree with references and bins with patients; a decision curve's intervals hold its value."""

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from stroke_hub.metrics.classification import expected_calibration_error, net_benefit
from stroke_hub.metrics.intervals import bound_share, resample_groups
from stroke_hub.metrics.reliability import (
    DECISION_THRESHOLDS,
    measure_recalibration,
    reliability,
    simulate_noise_floor,
    trace_decisions,
)
from tests.metrics.test_classification import CASES, Case, cases

Slices = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]


def simulate(slope: float, intercept: float, *, patients: int = 100, slices: int = 3, seed: int = 0) -> Slices:
    """Labels drawn with log-odds intercept + slope z, probabilities that state z, and patients."""
    generator = np.random.default_rng(seed)
    z = generator.normal(-0.5, 1.5, patients * slices)
    label = (generator.random(len(z)) < expit(intercept + slope * z)).astype(np.int64)
    return label, expit(z), np.arange(len(z)) // slices


def test_bins_add_up_and_carry_intervals_over_patients() -> None:
    for label, score in CASES:
        group = np.arange(len(label)) % 7
        bins = reliability(label, score, group)
        assert sum(row["n"] for row in bins) == len(label)
        share = sum(row["n"] * abs(row["mean_probability"] - row["stroke_share"]) for row in bins) / len(label)
        assert share == pytest.approx(expected_calibration_error(label, score), abs=1e-12)
        for row in bins:
            inside = (score >= row["low"]) & ((score < row["high"]) | (row["high"] == 1))
            whole = np.bincount(group[inside], minlength=7)
            expected = bound_share(np.bincount(group[inside], label[inside], 7), whole)
            assert row["stroke_share"] == pytest.approx(label[inside].mean(), abs=1e-12)
            assert (row["share_low"], row["share_high"]) == (expected["low"], expected["high"])
            assert row["groups"] == (whole > 0).sum()
            if row["groups"] < 2:
                assert row["share_low"] is None
            if row["share_low"] is not None:
                assert 0 <= row["share_low"] <= row["stroke_share"] <= row["share_high"] <= 1


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, 0.7), (2.0, -1.0)])
def test_slope_and_intercept_are_the_references(slope: float, intercept: float) -> None:
    label, probability, group = simulate(slope, intercept)
    found = measure_recalibration(label, probability, group, replicates=300)
    z = logit(probability)
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z[:, None], label)
    assert found["slope"]["value"] == pytest.approx(fit.coef_[0, 0], abs=1e-4)
    best = minimize_scalar(lambda a: np.sum(np.logaddexp(0, a + z) - label * (a + z)), tol=1e-12)
    assert found["intercept"]["value"] == pytest.approx(best.x, abs=1e-6)
    assert found["ece"]["value"] == pytest.approx(expected_calibration_error(label, probability), abs=1e-12)
    for interval in found.values():
        assert interval["low"] < interval["value"] < interval["high"]
    right = found["slope"]["low"] <= 1 <= found["slope"]["high"]
    assert right == (slope == 1)


def test_resampled_figures_are_those_of_the_resampled_slices() -> None:
    label, probability, group = simulate(0.8, 0.2, patients=30)
    counts = np.concatenate(list(resample_groups(30, 60, seed=0)))[:, group].astype(int)
    rows = []
    for count in counts:
        times = np.repeat(np.arange(len(label)), count)
        alone = measure_recalibration(label[times], probability[times], np.arange(len(times)), replicates=2)
        rows.append([alone[name]["value"] for name in ("ece", "slope", "intercept")])
    from stroke_hub.metrics import reliability as module  # the same draws through the weights

    z = logit(probability)
    slopes = module._fit_recalibration(z, label, counts.astype(float), fixed=False)[1]
    intercepts = module._fit_recalibration(z, label, counts.astype(float), fixed=True)[0]
    np.testing.assert_allclose(np.array(rows)[:, 1:], np.stack([slopes, intercepts], axis=1), atol=1e-7)


def test_what_has_no_slope_says_why() -> None:
    group = np.arange(40)
    apart = measure_recalibration(np.repeat([0, 1], 20), np.repeat([0.2, 0.7], 20), group, replicates=50)
    assert apart["slope"]["value"] is None
    assert "parts the classes" in apart["slope"]["undefined"]
    constant = measure_recalibration(np.tile([0, 1], 20), np.full(40, 0.3), group, replicates=50)
    assert constant["slope"]["value"] is None
    assert constant["intercept"]["value"] == pytest.approx(logit(0.5) - logit(0.3))
    one = np.repeat([0, 1, 0], [30, 8, 2])  # only the last patient keeps a threshold from parting the classes
    score, whose = np.repeat([0.2, 0.7, 0.8], [30, 8, 2]), np.repeat(np.arange(20), 2)
    found = measure_recalibration(one, score + 1e-3 * np.arange(40) / 40, whose, replicates=50)["slope"]
    assert found["value"] is not None
    assert found["low"] is None
    assert "without one of the groups" in found["undefined"]
    alone = measure_recalibration(np.ones(4, int), np.linspace(0.3, 0.9, 4), group[:4], replicates=50)
    assert alone["slope"]["value"] is alone["intercept"]["value"] is None
    assert alone["ece"]["value"] is not None
    nothing = measure_recalibration(np.empty(0, int), np.empty(0), np.empty(0), replicates=50)
    assert all(figures["value"] is None and "undefined" in figures for figures in nothing.values())


@settings(max_examples=30, deadline=None)
@given(cases())
def test_any_labels_and_probabilities_are_measured(case: Case) -> None:
    label, score = case
    for figures in measure_recalibration(label, score, np.arange(len(label)) // 2, replicates=20).values():
        assert (figures["low"] is None) == ("undefined" in figures)
        if figures["low"] is not None:
            assert figures["low"] <= figures["high"]


def test_the_noise_floor_is_what_calibrated_models_show() -> None:
    _, probability, _ = simulate(1, 0, patients=200, slices=1)
    floor = simulate_noise_floor(probability)
    generator = np.random.default_rng(7)
    drawn = [
        expected_calibration_error((generator.random(200) < probability).astype(int), probability)
        for _ in range(500)
    ]
    assert floor["mean"] == pytest.approx(np.mean(drawn), rel=0.05)
    assert 0.02 < np.mean(np.array(drawn) > floor["high"]) < 0.09
    assert simulate_noise_floor(np.array([0.0, 1.0]))["high"] == 0
    wrong = simulate(1, 2, patients=200, slices=1)
    assert expected_calibration_error(*wrong[:2]) > floor["high"]
    assert simulate_noise_floor(np.empty(0)) == {"mean": None, "high": None, "draws": 0}


def test_decisions_are_net_benefit_with_intervals() -> None:
    label, probability, group = simulate(1, 0, patients=60)
    curve = trace_decisions(label, probability, group, replicates=300)
    plain = net_benefit(label, probability, DECISION_THRESHOLDS)
    for name, values in plain.items():
        assert curve[name] == values
    best = np.maximum(plain["treat_all"], 0)
    np.testing.assert_allclose(curve["gain"], np.array(plain["model"]) - best, atol=1e-12)
    assert (np.array(curve["low"]) < curve["model"]).all()
    assert (np.array(curve["high"]) > curve["model"]).all()
    assert curve["gain_low"][15] > 0  # at 0.20 a calibrated model is worth something
    same = trace_decisions(label, np.full(len(label), 0.9), group, replicates=100)
    assert max(same["gain"]) <= 1e-12  # a model that always acts gains nothing
    assert set(map(len, trace_decisions(label[:0], probability[:0], group[:0]).values())) == {0}
