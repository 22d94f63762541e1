"""The rule for scans: exact weights, the ends, and a choice on validation scans that favours the simple."""

import numpy as np
import pytest
from scipy.special import expit

from stroke_hub.metrics.highest_mean import HighestMean
from stroke_hub.metrics.scan_rule import fit_highest_mean

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 30])
def test_log_odds_are_the_weighted_sum(width: int, count: int) -> None:
    rule = HighestMean(3, width, 0.5, 1.5)
    z = RANDOM.normal(size=count)
    judged = rule.judge(z)
    assert judged.log_odds == pytest.approx(0.5 * judged.weights @ z + 1.5, abs=1e-12)
    assert judged.weights.sum() == pytest.approx(1)
    assert (judged.weights >= 0).all()


def test_ends_are_averaged_with_the_one_neighbour_that_they_have() -> None:
    judged = HighestMean(1, 3).judge(np.array([4.0, 2.0, 0.0, 0.0]))
    assert judged.log_odds == 3  # of the first two; the second with both its neighbours has 2
    assert judged.weights.tolist() == [0.5, 0.5, 0, 0]
    assert HighestMean(1, 3).judge(np.array([0.0, 0.0, 2.0, 4.0])).weights.tolist() == [0, 0, 0.5, 0.5]


def test_few_slices_all_count() -> None:
    assert HighestMean(3).judge(np.array([1.0, 3.0])).weights.tolist() == [0.5, 0.5]


def test_equal_slices_give_the_lower_ones() -> None:
    assert HighestMean(2).judge(np.zeros(5)).weights.tolist() == [0.5, 0.5, 0, 0, 0]


def test_no_slices_are_refused() -> None:
    with pytest.raises(ValueError, match="no slices"):
        HighestMean().judge(np.zeros(0))


def make_scans(*, run: int, count: int = 40, slices: int = 20) -> tuple[list[np.ndarray], np.ndarray]:
    """Scans of noise; those with stroke have a run of slices that stand out."""
    random = np.random.default_rng(1)
    label = np.arange(count) % 2
    scans = [random.normal(size=slices) for _ in label]
    for one, stroke in zip(scans, label, strict=True):
        if stroke:
            start = random.integers(0, slices - run)
            one[start : start + run] += 1.2
    return scans, label


def test_choice_has_the_highest_auroc_and_calibrates() -> None:
    scans, label = make_scans(run=8)
    found = fit_highest_mean(scans, label)
    assert found is not None
    chosen = found.auroc[found.rule.highest, found.rule.width]
    assert chosen == max(found.auroc.values())
    assert found.rule.highest > 1  # a lesion of eight slices is seen in more than one
    assert found.scans == (20, 20)
    judged = np.array([found.rule.judge(one).log_odds for one in scans])
    # at the optimum of Platt's fit the mean probability is that of the shrunken targets
    assert expit(judged).mean() == pytest.approx(0.5, abs=1e-3)
    called = expit(judged) >= found.rule.threshold
    assert called[label == 1].mean() + (~called)[label == 0].mean() > 1.5


def test_equal_candidates_give_the_simplest() -> None:
    label = np.arange(20) % 2
    found = fit_highest_mean([np.full(5, 4.0 * one - 2) for one in label], label)
    assert found is not None
    assert set(found.auroc.values()) == {1.0}
    assert (found.rule.highest, found.rule.width) == (1, 1)


def test_scan_of_the_threshold_is_called_stroke() -> None:
    scans, label = make_scans(run=5)
    found = fit_highest_mean(scans, label, operating_point="sensitivity95")
    assert found is not None
    probability = expit([found.rule.judge(one).log_odds for one in scans])
    assert (probability[label == 1] >= found.rule.threshold).mean() >= 0.95


def test_few_scans_give_no_rule() -> None:
    scans, label = make_scans(run=5, count=18)
    assert fit_highest_mean(scans, label) is None
