"""By patient and by scan: the same as other libraries say, and as by slice where a patient has one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import beta, bootstrap
from sklearn.metrics import recall_score, roc_auc_score

from stroke_hub.metrics.classification import confusion
from stroke_hub.metrics.highest_mean import HighestMean
from stroke_hub.metrics.intervals import bootstrap_intervals, bootstrap_ratio, bootstrap_rivals, paired_bootstrap
from stroke_hub.metrics.patients import (
    RULES,
    ScanRule,
    compare_calls,
    compare_scans,
    count_patients,
    estimate_exactly,
    make_own_rule,
    measure_calls,
    measure_rules,
    measure_within,
    predict_patients,
    score_scans,
)

Case = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Labels, probabilities and patients of up to 40 slices."""
    seed, n = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 40))
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 2, n)
    group = np.array([f"p{k}" for k in generator.integers(0, draw(st.integers(1, 12)), n)])
    return label, generator.integers(1, 20, n) / 20, group  # some are tied


def make_uneven(seed: int = 0) -> Case:
    """Twelve patients of 1 to 9 slices, of whom four have slices of both classes."""
    generator = np.random.default_rng(seed)
    group = np.repeat([f"p{k:02d}" for k in range(12)], 1 + np.arange(12) % 9)
    number = np.array([int(name[1:]) for name in group])
    label = np.where(number < 4, generator.integers(0, 2, len(group)), number % 2)
    label[[group.tolist().index(f"p{k:02d}") for k in range(1, 4)]] = 0
    label[[len(group) - 1 - group.tolist()[::-1].index(f"p{k:02d}") for k in range(1, 4)]] = 1
    return label, generator.random(len(group)) * 0.8 + 0.1 * label, group


@given(cases())
def test_counts_are_those_of_each_patient_alone(case: Case) -> None:
    label, probability, group = case
    found = count_patients(label, probability, group, group, threshold=0.5)
    assert found.name.tolist() == sorted(set(group.tolist()))
    for i, name in enumerate(found.name):
        mine = group == name
        own = confusion(label[mine], probability[mine], threshold=0.5)
        assert (found.found[i], found.false_calls[i]) == (own["tp"], own["fp"])
        assert (found.slices[i], found.strokes[i], found.scans[i]) == (mine.sum(), label[mine].sum(), 1)
        assert found.highest[i] == np.flatnonzero(mine & (probability == probability[mine].max()))[0]
        assert found.called[i] == (probability[mine].max() >= 0.5)
        assert found.mixed[i] == (len(set(label[mine])) == 2)
    assert (found.missed == (found.strokes > 0) & (found.found == 0)).all()


def test_rules_are_scikit_learns_auroc_of_maximum_and_mean() -> None:
    label, probability, group = make_uneven()
    names = sorted(set(group.tolist()))
    truth = [label[group == name].max() for name in names]
    judged = {
        "maximum": [probability[group == name].max() for name in names],
        "highest3": [np.sort(probability[group == name])[-3:].mean() for name in names],
    }
    rows = measure_rules(label, logit(probability), group, group, RULES)
    assert [row["name"] for row in rows] == list(judged)
    for row in rows:
        assert row["auroc"]["value"] == pytest.approx(roc_auc_score(truth, judged[row["name"]]), abs=1e-12)
        assert row["auroc"]["low"] < row["auroc"]["value"] <= row["auroc"]["high"]


def test_a_further_rule_is_one_more_entry_and_sees_slices_in_order() -> None:
    label, probability, group = make_uneven()
    seen: list[int] = []

    def judge(z: np.ndarray) -> float:
        seen.append(len(z))
        return float(expit(z[0]))  # of the first slice alone

    rows = measure_rules(label, logit(probability), group, group, (*RULES, ScanRule("first", "its first", judge)))
    assert [row["name"] for row in rows] == ["maximum", "highest3", "first"]
    _, first, sizes = np.unique(group, return_index=True, return_counts=True)
    assert seen == sizes.tolist()
    truth = [label[group == name].max() for name in np.unique(group)]
    assert rows[-1]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, probability[first]), abs=1e-12)


def test_scans_of_one_patient_are_judged_apart_and_resampled_together() -> None:
    label = np.array([0, 0, 1, 1, 0, 1])
    probability = np.array([0.1, 0.2, 0.9, 0.3, 0.4, 0.8])
    group, scan = np.array(list("aaaabb")), np.array(["a1", "a1", "a2", "a2", "b1", "b2"])
    found = score_scans(label, logit(probability), group, scan, RULES[0])
    assert found.label.tolist() == [0, 1, 0, 1]
    assert found.probability == pytest.approx([0.2, 0.9, 0.4, 0.8])
    assert found.group.tolist() == ["a", "a", "b", "b"]
    assert count_patients(label, probability, group, scan, threshold=0.5).scans.tolist() == [2, 2]
    (row, _) = measure_rules(label, logit(probability), group, scan, RULES)
    assert (row["auroc"]["value"], row["auroc"]["groups"]) == (1, 2)


@given(st.integers(0, 60), st.integers(0, 60))
def test_exact_intervals_are_the_beta_quantiles_of_clopper_and_pearson(hits: int, misses: int) -> None:
    n = hits + misses
    found = estimate_exactly(hits, n, lacking="nobody")
    if not n:
        assert (found["value"], found["low"], found["undefined"]) == (None, None, "nobody")
        return
    low = beta.ppf(0.025, hits, misses + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, misses) if misses else 1.0
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-9)
    assert (found["value"], found["groups"]) == (hits / n, n)


@settings(max_examples=20)
@given(cases())
def test_with_one_slice_a_patient_figures_by_patient_are_those_by_slice(case: Case) -> None:
    label, probability, _ = case
    group = np.array([f"p{k:02d}" for k in range(len(label))])
    counts = count_patients(label, probability, group, group, threshold=0.5)
    calls = measure_calls(counts)
    options = {"threshold": 0.5, "replicates": 50}
    slices = bootstrap_intervals(label, probability, group, prevalences=(0.05, 0.5), **options)
    for name in ("sensitivity", "specificity"):
        assert calls[name]["value"] == slices[name]["value"]
    at = predict_patients(counts, (0.05, 0.5))
    for p, values in slices["at_prevalence"].items():
        for name in ("ppv", "npv"):
            assert at[p][name]["value"] == pytest.approx(values[name]["value"], abs=1e-12)
    for rule in RULES:
        scored = score_scans(label, logit(probability), group, group, rule)
        assert scored.probability == pytest.approx(probability, abs=1e-12)
        assert (scored.label == label).all()
    assert measure_within(label, probability, group) is None
    share = counts.found[counts.positive] / counts.strokes[counts.positive]
    mean = bootstrap_ratio(share, np.ones(len(share)), proportion=True, replicates=50)
    assert mean["value"] == slices["sensitivity"]["value"]


def test_any_slice_finds_more_patients_than_their_own_slices() -> None:
    label, probability, group = make_uneven()
    counts = count_patients(label, probability, group, group, threshold=0.5)
    names = np.unique(group)
    truth = [label[group == name].max() for name in names]
    called = [probability[group == name].max() >= 0.5 for name in names]
    calls = measure_calls(counts)
    assert calls["sensitivity"]["value"] == pytest.approx(recall_score(truth, called))
    assert calls["specificity"]["value"] == pytest.approx(recall_score(truth, called, pos_label=0))
    assert calls["sensitivity"]["value"] >= 1 - counts.missed.sum() / counts.positive.sum()


def test_within_patients_only_pairs_of_one_patient_count() -> None:
    label, probability, group = make_uneven()
    found = measure_within(label, probability, group)
    mixed = [name for name in np.unique(group) if len(set(label[group == name])) == 2]
    rows = np.isin(group, mixed)
    assert len(mixed) == 3
    assert found is not None
    assert (found["slices"], found["stroke_slices"]) == (rows.sum(), label[rows].sum())
    assert found["pooled"]["value"] == pytest.approx(roc_auc_score(label[rows], probability[rows]), abs=1e-12)
    each = [roc_auc_score(label[group == name], probability[group == name]) for name in mixed]
    assert found["mean"]["value"] == pytest.approx(np.mean(each), abs=1e-12)
    # what differs between patients alone, as a scanner, moves the pooled figure and not the mean within
    shifted = expit(logit(probability) + np.array([3.0 * (name == mixed[-1]) for name in group]))
    moved = measure_within(label, shifted, group)
    assert moved is not None
    assert moved["mean"]["value"] == pytest.approx(found["mean"]["value"], abs=1e-12)
    assert moved["pooled"]["value"] != pytest.approx(found["pooled"]["value"], abs=1e-3)


def test_a_ratio_is_that_of_sums_and_its_interval_close_to_scipys() -> None:
    generator = np.random.default_rng(0)
    part, whole = generator.poisson(2, 200), generator.integers(1, 4, 200)
    found = bootstrap_ratio(part, whole, proportion=False)
    assert found["value"] == pytest.approx(part.sum() / whole.sum(), abs=1e-12)

    def ratio(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return a.sum(axis=axis) / b.sum(axis=axis)

    other = bootstrap((part, whole), ratio, paired=True, n_resamples=5000, rng=1).confidence_interval
    width = other.high - other.low
    assert (found["low"], found["high"]) == pytest.approx((other.low, other.high), abs=0.06 * width)


def test_a_ratio_without_spread_is_bounded_only_where_it_is_a_share() -> None:
    ones = np.ones(9)
    assert bootstrap_ratio(ones, ones, proportion=True)["low"] == pytest.approx(0.025 ** (1 / 9))
    assert bootstrap_ratio(0 * ones, ones, proportion=False)["low"] is None
    assert bootstrap_ratio(ones[:0], ones[:0], proportion=True)["value"] is None
    assert bootstrap_ratio(ones[:1], ones[:1], proportion=True)["low"] is None


def test_rivals_are_measured_as_each_is_alone() -> None:
    label, probability, group = make_uneven()
    other = np.random.default_rng(3).random(len(label))
    found = bootstrap_rivals(label, probability, {"other": (other, 0.3)}, group, threshold=0.5)["other"]
    assert found["own"] == bootstrap_intervals(label, other, group, threshold=0.3)
    pair = paired_bootstrap(label, probability, other, group, threshold_a=0.5, threshold_b=0.3)
    assert found["difference"] == pair
    scans = compare_scans(label, logit(probability), {"other": logit(other)}, group, group, RULES[0])["other"]
    own, rival = (measure_rules(label, logit(p), group, group, RULES[:1])[0]["auroc"] for p in (probability, other))
    assert scans["auroc"] == rival
    assert scans["difference"]["value"] == pytest.approx(own["value"] - rival["value"], abs=1e-12)
    calls = compare_calls(label, probability, other, group, threshold_a=0.5, threshold_b=0.3)
    for one in calls.values():
        assert one["difference"]["value"] == pytest.approx(one["a"]["value"] - one["b"]["value"], abs=1e-12)


def test_own_rule_is_how_the_model_answers() -> None:
    z = np.array([-1.0, 3.0, 0.5, 2.0])
    own = make_own_rule(HighestMean(2, 3, 0.5, -1.0))
    assert own.score(z) == pytest.approx(expit(0.5 * (np.mean([3.0, 0.5, 2.0]) + 1.25) / 2 - 1))
    assert "model's own" in own.words
    default = make_own_rule(None)
    assert default.score(z) == pytest.approx(expit(5.5 / 3))
    assert "default" in default.words
