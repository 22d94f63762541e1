"""The metrics agree with their definitions, written out, and with torchmetrics; what is undefined is None."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision, BinaryCalibrationError

from stroke_hub.metrics.classification import (
    auroc,
    average_precision,
    brier,
    choose_threshold,
    confusion,
    expected_calibration_error,
    log_loss,
    measure,
    net_benefit,
    trace_curves,
)

Case = tuple[NDArray[np.int64], NDArray[np.float64]]


def make_case(seed: int) -> Case:
    """A random case: few or many slices, with or without ties, sometimes one class, slice or score."""
    generator = np.random.default_rng(seed)
    size = int(generator.choice([1, 2, 3, 10, 60, 300]))
    label = (generator.random(size) < generator.choice([0, 0.1, 0.5, 0.9, 1], p=[0.05, 0.2, 0.5, 0.2, 0.05])) * 1
    levels = generator.choice([1, 4, 20, 10**6])  # one level is a constant
    return label.astype(np.int64), generator.integers(0, levels, size) / levels


CASES = [make_case(seed) for seed in range(200)]
BOTH = [(label, score) for label, score in CASES if 0 < label.sum() < len(label)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Both classes, 2 to 40 slices, scores from a coarse grid so that ties are common."""
    label = draw(st.lists(st.integers(0, 1), min_size=2, max_size=40).filter(lambda of: 0 < sum(of) < len(of)))
    score = draw(st.lists(st.integers(0, 12), min_size=len(label), max_size=len(label)))
    return np.array(label), np.array(score) / 12


def test_cases_cover_the_corners() -> None:
    assert 100 < len(BOTH) < len(CASES)
    assert any(len(label) == 1 for label, _ in CASES)
    assert any(len(set(score)) == 1 and len(score) > 3 for _, score in BOTH)


def test_areas_are_those_of_their_definitions() -> None:
    for label, score in BOTH:
        stroke, normal = score[label == 1][:, None], score[label == 0]
        pairs = np.mean((stroke > normal) + (stroke == normal) / 2)  # Mann and Whitney (1947)
        assert auroc(label, score) == pytest.approx(pairs, abs=1e-12)
        total, before = 0.0, 0.0
        for threshold in np.unique(score)[::-1]:
            called = score >= threshold
            recall = label[called].sum() / label.sum()
            total, before = total + label[called].mean() * (recall - before), recall
        assert average_precision(label, score) == pytest.approx(total, abs=1e-12)


def test_curves_are_the_rates_at_every_threshold() -> None:
    for label, score in BOTH:
        rates, found = [(0.0, 0.0)], []
        for threshold in np.unique(score)[::-1]:
            called = score >= threshold
            rates.append((float(called[label == 0].mean()), float(called[label == 1].mean())))
            found.append((float(label[called].mean()), rates[-1][1]))
        curves = trace_curves(label, score)
        points = np.array([curves["fpr"], curves["tpr"]]).T
        assert points[0].tolist() == [0, 0]
        assert points[-1].tolist() == [1, 1]
        distance = np.abs(points[:, None] - np.array(rates)).max(2).min(1)
        assert distance == pytest.approx(0, abs=1e-12)  # each is a point of the curve ...
        area = np.trapezoid(*np.array(rates).T[::-1])
        assert np.trapezoid(*points.T[::-1]) == pytest.approx(area, abs=1e-12)  # ... and the others lie on lines
        theirs = list(zip(curves["precision"], curves["recall"], strict=True))
        np.testing.assert_allclose(theirs, [*found[::-1], (1.0, 0.0)], rtol=0, atol=1e-12)


def test_counts_and_classes_are_those_of_their_definitions() -> None:
    for label, score in CASES:
        called, counts = score >= 0.5, confusion(label, score, threshold=0.5)
        calls = list(zip(label.tolist(), called.tolist(), strict=True))
        cells = {"tp": (1, True), "fp": (0, True), "fn": (1, False), "tn": (0, False)}
        assert counts == {name: calls.count(cell) for name, cell in cells.items()}
        found = measure(label, score, threshold=0.5)
        for name, hits, false, missed in (("Stroke", "tp", "fp", "fn"), ("Normal", "tn", "fn", "fp")):
            right, wrong, left = counts[hits], counts[false], counts[missed]
            parts = {
                "precision": (right, right + wrong),
                "recall": (right, right + left),
                "f1-score": (2 * right, 2 * right + wrong + left),
            }
            expected = {key: part / whole if whole else None for key, (part, whole) in parts.items()}
            assert found["classes"][name] == pytest.approx(expected | {"support": right + left}, abs=1e-12)
        assert found["accuracy"] == pytest.approx(np.mean(label == called), abs=1e-12)
        assert brier(label, score)["score"] == pytest.approx(reference.brier_score_loss(label, score), abs=1e-12)
        json.dumps(found | trace_curves(label, score), allow_nan=False)  # plain numbers


def test_areas_and_calibration_match_torchmetrics() -> None:
    for label, score in BOTH:
        scores, labels = torch.tensor(score), torch.tensor(label)
        assert auroc(label, score) == pytest.approx(float(BinaryAUROC()(scores, labels)), abs=1e-6)
        expected = float(BinaryAveragePrecision()(scores, labels))
        assert average_precision(label, score) == pytest.approx(expected, abs=1e-6)
    # scores on a bin's edge belong to the upper bin here and to the lower there, so none is on an edge
    generator = np.random.default_rng(0)
    for size in (1, 30, 500):
        label, score = generator.integers(0, 2, size), (generator.integers(0, 1000, size) + 0.5) / 1000
        expected = float(BinaryCalibrationError(n_bins=15)(torch.tensor(score), torch.tensor(label)))
        assert expected_calibration_error(label, score, bins=15) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_is_undefined(value: int) -> None:
    label, score = np.full(3, value), np.array([0.1, 0.7, 0.9])
    assert auroc(label, score) is average_precision(label, score) is None
    assert trace_curves(label, score) == {"fpr": [], "tpr": [], "precision": [], "recall": []}
    found = measure(label, score, threshold=0.5)
    assert found["auroc"] is found["average_precision"] is None
    assert "one class" in found["undefined"]
    assert found["classes"]["Normal" if value else "Stroke"]["recall"] is None
    assert all(choose_threshold(label, score, rule=rule) is None for rule in ("youden", "sensitivity95"))


def test_no_images_are_undefined() -> None:
    nothing = np.empty(0, np.int64), np.empty(0)
    found = measure(*nothing, threshold=0.5)
    assert found == {
        "n": 0, "n_stroke": 0, "threshold": 0.5, "accuracy": None, "undefined": "no images",
    }  # fmt: skip
    assert set(brier(*nothing).values()) == {None}
    assert expected_calibration_error(*nothing) is None


@settings(deadline=None)  # the first call imports scikit-learn
@given(cases())
def test_auroc_knows_only_the_order(case: Case) -> None:
    label, score = case
    assert auroc(label, np.exp(3 * score) - 7) == auroc(label, score)


@settings(deadline=None)  # the first call imports scikit-learn
@given(cases())
def test_auroc_of_the_complement(case: Case) -> None:
    label, score = case
    assert auroc(1 - label, 1 - score) == pytest.approx(auroc(label, score), abs=1e-12)
    assert auroc(label, -score) == pytest.approx(1 - (auroc(label, score) or 0), abs=1e-12)


@settings(deadline=None)  # the first call imports scikit-learn
@given(cases())
def test_every_slice_twice_changes_no_figure(case: Case) -> None:
    once = measure(*case, threshold=0.5)
    twice = measure(*(np.tile(of, 2) for of in case), threshold=0.5)
    for name in ("accuracy", "auroc", "average_precision"):
        assert twice[name] == pytest.approx(once[name], abs=1e-12)
    assert brier(*(np.tile(of, 2) for of in case)) == pytest.approx(brier(*case), abs=1e-12)


@settings(deadline=None)  # the first call imports scikit-learn
@given(cases(), st.integers(1, 20))
def test_brier_is_the_sum_of_its_parts(case: Case, bins: int) -> None:
    part = brier(*case, bins=bins)
    assert None not in part.values()
    whole = part["reliability"] - part["resolution"] + part["uncertainty"]
    whole += part["within_bin_variance"] - part["within_bin_covariance"]
    assert part["score"] == pytest.approx(whole, abs=1e-12)


def test_brier_of_one_probability_a_bin_is_murphys() -> None:
    part = brier(np.array([0, 1, 1, 1]), np.array([0.25, 0.25, 0.95, 0.95]), bins=10)
    assert part["reliability"] == pytest.approx((0.25**2 + 0.05**2) / 2)
    assert part["resolution"] == pytest.approx(0.25**2)
    assert part["uncertainty"] == 0.1875
    assert part["within_bin_variance"] == pytest.approx(0, abs=1e-15)


@settings(deadline=None)  # the first call imports scikit-learn
@given(cases())
def test_thresholds_are_the_best_of_all(case: Case) -> None:
    label, score = case
    rates = {}
    for threshold in np.unique(score):
        counts = confusion(label, score, threshold=threshold)
        rates[threshold] = counts["tp"] / label.sum(), counts["tn"] / (1 - label).sum()
    chosen = choose_threshold(label, score, rule="youden")
    assert sum(rates[chosen]) == pytest.approx(max(map(sum, rates.values())), abs=1e-12)
    chosen = choose_threshold(label, score, rule="sensitivity95")
    assert chosen == max(at for at, (sensitivity, _) in rates.items() if sensitivity >= 0.95)
    reached = [at for at, (_, specificity) in rates.items() if specificity >= 0.95]
    assert choose_threshold(label, score, rule="specificity95") == (min(reached) if reached else None)


def test_wrong_input_is_named() -> None:
    label, score = np.array([0, 1]), np.array([0.2, 0.8])
    with pytest.raises(ValueError, match="both be"):
        auroc(label, score[:1])
    with pytest.raises(ValueError, match="finite"):
        auroc(label, np.array([0.2, np.nan]))
    with pytest.raises(ValueError, match="0 or 1"):
        auroc(label + 1, score)
    with pytest.raises(ValueError, match="bins"):
        brier(label, score + 1)
    with pytest.raises(ValueError, match="rule"):
        choose_threshold(label, score, rule="best")


def test_log_loss_matches_scikit_learn_and_is_none_where_infinite() -> None:
    for label, score in CASES:
        inside = 0.01 + 0.98 * score
        expected = reference.log_loss(label, inside, labels=[0, 1])
        assert log_loss(label, inside) == pytest.approx(expected, abs=1e-12)
    # scikit-learn's ends at 36
    assert log_loss(np.array([1]), np.array([1e-30])) == pytest.approx(30 * np.log(10), abs=1e-9)
    assert log_loss(np.array([1]), np.array([0.0])) is None
    assert log_loss(np.array([], int), np.array([])) is None


def test_net_benefit_by_hand_and_at_its_ends() -> None:
    # 10 slices, 4 strokes, of which 3 are called, with 2 false alarms: 3/10 - 2/10 * 0.25 / 0.75
    label = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    score = np.array([0.9, 0.8, 0.3, 0.1, 0.6, 0.4, 0.2, 0.1, 0.1, 0.0])
    curve = net_benefit(label, score, np.array([0.25]))
    assert curve["model"] == [pytest.approx(0.3 - 0.2 / 3)]
    assert curve["treat_all"] == [pytest.approx(0.4 - 0.6 / 3)]
    for label, score in CASES:
        low = net_benefit(label, score, np.array([1e-9]))
        assert low["treat_all"][0] == pytest.approx(label.mean(), abs=1e-6)
        nobody = net_benefit(label, score * 0, np.array([0.5]))
        assert nobody["model"] == [0]
    assert net_benefit(np.array([], int), np.array([]), np.array([0.5]))["model"] == []
