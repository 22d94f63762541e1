"""Vectorised resampling agrees with a plain loop, DeLong with its definition, and intervals hold the truth."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import binomtest
from scipy.stats import t as student

from stroke_hub.metrics.classification import brier, measure
from stroke_hub.metrics.intervals import (
    METRICS,
    bootstrap_intervals,
    bound_share,
    delong_interval,
    jackknife_figure,
    paired_bootstrap,
    resample_groups,
    weighted_metrics,
)
from tests.metrics.test_classification import BOTH, CASES, Case, cases

Slices = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]


def simulate(seed: int, *, patients: int, slices: int, auroc: float, shared: float) -> Slices:
    """Labels, probabilities and patients: binormal scores, `patients` a class with `slices` each.

    `shared` is the part of the scores' variance that slices of a patient have in common. The AUROC is `auroc`
    and at threshold 0.5 sensitivity is Phi(Phi^-1(auroc) / sqrt 2).
    """
    generator = np.random.default_rng(seed)
    label, group = np.repeat([1, 0], patients * slices), np.repeat(np.arange(2 * patients), slices)
    own, common = generator.normal(size=len(label)), generator.normal(size=2 * patients)
    shift = np.sqrt(2) * ndtri(auroc)
    score = shift * (label - 0.5) + np.sqrt(1 - shared) * own + np.sqrt(shared) * common[group]
    return label, expit(score), group


def flatten(label: NDArray[np.int64], probability: NDArray[np.float64]) -> dict[str, float | None]:
    """The metrics of intervals.py by metrics.py."""
    found = measure(label, probability, threshold=0.5)
    classes = found.get("classes", {"Stroke": {}, "Normal": {}})
    named = {
        "accuracy": found["accuracy"],
        "sensitivity": classes["Stroke"].get("recall"),
        "specificity": classes["Normal"].get("recall"),
        "ppv": classes["Stroke"].get("precision"),
        "npv": classes["Normal"].get("precision"),
        "f1": classes["Stroke"].get("f1-score"),
        "f1_normal": classes["Normal"].get("f1-score"),
        "auroc": found.get("auroc"),
        "average_precision": found.get("average_precision"),
        "brier": brier(label, probability)["score"],
    }
    return {name: np.nan if value is None else value for name, value in named.items()}


def test_weights_of_one_are_no_weights() -> None:
    for label, probability in CASES:
        found = weighted_metrics(label, probability, np.ones((1, len(label))), threshold=0.5)
        assert tuple(found) == METRICS
        expected = flatten(label, probability)
        assert {name: float(of[0]) for name, of in found.items()} == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(cases(), st.data())
@settings(max_examples=50)
def test_a_whole_weight_is_a_repeated_slice(case: Case, data: st.DataObject) -> None:
    label, probability = case
    size = len(label)
    weight = np.array(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size).filter(any)))
    found = weighted_metrics(label, probability, weight[None].astype(float), threshold=0.5)
    expected = flatten(np.repeat(label, weight), np.repeat(probability, weight))
    assert {name: float(of[0]) for name, of in found.items()} == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(cases(), st.floats(0.1, 10))
@settings(max_examples=50)
def test_the_scale_of_the_weights_does_not_matter(case: Case, scale: float) -> None:
    label, probability = case
    weight = np.random.default_rng(0).random((3, len(label)))
    one, other = (weighted_metrics(label, probability, of, threshold=0.5) for of in (weight, scale * weight))
    for name in METRICS:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-12)


def test_percentiles_match_a_plain_loop() -> None:
    label, probability, group = simulate(3, patients=6, slices=5, auroc=0.8, shared=0.5)
    names = group.astype(str)  # sorted otherwise than the numbers
    found = bootstrap_intervals(label, probability, names, threshold=0.5, replicates=200, method="percentile")
    counts = np.concatenate(list(resample_groups(12, 200, seed=0, step=7)))
    rows = []
    for count in counts:
        times = dict(zip(np.unique(names), count.astype(int), strict=True))
        chosen = [i for i, name in enumerate(names) for _ in range(times[name])]
        rows.append(flatten(label[chosen], probability[chosen]))
    for name in METRICS:
        values = np.array([row[name] for row in rows])
        low, high = np.nanquantile(values, [0.025, 0.975])
        assert (found[name]["low"], found[name]["high"]) == pytest.approx((low, high), abs=1e-12)
        assert found[name]["value"] == pytest.approx(flatten(label, probability)[name], abs=1e-12)
        assert found[name]["left_out"] == np.isnan(values).sum()


def test_resamples_are_the_same_whatever_the_step() -> None:
    whole = np.concatenate(list(resample_groups(9, 50, seed=4, step=50)))
    assert (whole == np.concatenate(list(resample_groups(9, 50, seed=4, step=8)))).all()
    assert (whole.sum(1) == 9).all()


def test_intervals_depend_on_the_seed_alone() -> None:
    slices = simulate(0, patients=20, slices=3, auroc=0.8, shared=0.3)
    one, same, other = (
        bootstrap_intervals(*slices, threshold=0.5, replicates=300, seed=seed, method="expanded-bca")
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one["auroc"]["low"] != other["auroc"]["low"]


@pytest.mark.parametrize("method", ["score", "percentile", "expanded", "bca", "expanded-bca"])
def test_intervals_lie_around_their_value(method: str) -> None:
    slices = simulate(0, patients=20, slices=3, auroc=0.8, shared=0.3)
    found = bootstrap_intervals(*slices, threshold=0.5, replicates=500, method=method)
    for figures in found.values():
        assert 0 <= figures["low"] < figures["value"] < figures["high"] <= 1
        assert figures["method"].startswith(method)


@pytest.mark.parametrize("method", ["score", "expanded-bca"])
def test_every_slice_twice_leaves_the_intervals(method: str) -> None:
    slices = simulate(0, patients=10, slices=3, auroc=0.8, shared=0.3)
    once, twice = (
        bootstrap_intervals(*(np.tile(of, times) for of in slices), threshold=0.5, replicates=300, method=method)
        for times in (1, 2)
    )
    for name in METRICS:
        assert twice[name]["low"] == pytest.approx(once[name]["low"], abs=1e-12)


@pytest.mark.parametrize("method", ["score", "expanded-bca"])
def test_rounding_moves_no_interval(method: str) -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(5), 4)  # of five groups, one resample in 26 is the dataset itself in another order
    label = rng.integers(0, 2, 20)
    for _ in range(20):
        probability = expit(rng.normal(label, 1.0))
        found = bootstrap_intervals(label, probability, group, threshold=0.5, replicates=1000, method=method)
        moved = bootstrap_intervals(
            label, probability * (1 + 1e-9), group, threshold=0.5, replicates=1000, method=method
        )
        for name in ("brier", "auroc", "average_precision"):
            for end in ("low", "high"):
                assert found[name][end] == pytest.approx(moved[name][end], abs=1e-6), name


def test_clusters_widen_the_interval() -> None:
    label, probability, group = simulate(1, patients=20, slices=10, auroc=0.8, shared=0.7)
    width = []
    for whose in (np.arange(len(label)), group):
        found = bootstrap_intervals(label, probability, whose, threshold=0.5, replicates=500)["auroc"]
        width.append(found["high"] - found["low"])
    assert width[1] > 1.5 * width[0]


def test_replicates_without_a_class_are_left_out_and_counted() -> None:
    label, probability = np.array([1, 1, 0, 0, 0, 0]), np.array([0.9, 0.3, 0.1, 0.2, 0.4, 0.6])
    found = bootstrap_intervals(
        label, probability, np.arange(6), threshold=0.5, replicates=500, method="expanded-bca"
    )
    assert found["accuracy"]["left_out"] == 0
    assert found["sensitivity"]["left_out"] > 20  # (4/6)^6 of 500 is 44
    assert found["auroc"]["left_out"] + found["auroc"]["replicates"] == 500
    assert found["auroc"]["groups"] == 2


def test_what_is_undefined_says_why() -> None:
    label, probability = np.ones(4, int), np.array([0.2, 0.6, 0.7, 0.9])
    found = bootstrap_intervals(label, probability, np.arange(4), threshold=0.5, replicates=100)
    assert found["auroc"]["value"] is found["auroc"]["low"] is None
    assert "class" in found["auroc"]["undefined"]
    assert found["sensitivity"]["low"] is not None
    found = bootstrap_intervals(label, probability, np.zeros(4), threshold=0.5, replicates=100)
    assert found["accuracy"]["value"] == 0.75
    assert found["accuracy"]["low"] is None
    assert "two groups" in found["accuracy"]["undefined"]
    found = bootstrap_intervals(np.empty(0, int), np.empty(0), np.empty(0), threshold=0.5, replicates=100)
    assert all(figures["value"] is None and "undefined" in figures for figures in found.values())


def test_a_perfect_model_is_not_certain() -> None:
    label, probability = np.repeat([0, 1], 20), np.repeat([0.1, 0.9], 20) + np.linspace(0, 0.05, 40)
    found = bootstrap_intervals(label, probability, np.arange(40) // 2, threshold=0.5, replicates=100)
    assert found["sensitivity"]["value"] == found["sensitivity"]["high"] == 1
    assert found["sensitivity"]["low"] == pytest.approx(0.6915, abs=1e-4)  # Clopper and Pearson: 10 of 10
    assert found["auroc"]["value"] == found["auroc"]["high"] == 1
    assert found["auroc"]["low"] == found["sensitivity"]["low"]  # 10 disjoint pairs of patients, all ranked right
    old = bootstrap_intervals(
        label, probability, np.arange(40) // 2, threshold=0.5, replicates=100, method="expanded-bca"
    )
    assert "resampling" in old["auroc"]["undefined"]


@pytest.mark.parametrize(("method", "reason"), [("score", "left out"), ("expanded-bca", "resampling")])
def test_groups_that_are_all_alike_give_no_interval(method: str, reason: str) -> None:
    label, probability = np.tile([0, 1, 1, 0], 5), np.tile([0.1, 0.9, 0.3, 0.7], 5)
    group = np.arange(20) // 4
    found = bootstrap_intervals(label, probability, group, threshold=0.5, replicates=100, method=method)
    for name in ("accuracy", "sensitivity", "auroc", "brier"):
        assert found[name]["value"] is not None
        assert found[name]["low"] is found[name]["high"] is None
        assert reason in found[name]["undefined"]


@given(cases(), st.integers(2, 6), st.sampled_from(["score", "expanded-bca"]))
@settings(max_examples=50)
def test_few_groups_never_turn_an_interval_over(case: Case, groups: int, method: str) -> None:
    label, probability = case
    whose = np.arange(len(label)) % groups
    found = bootstrap_intervals(label, probability, whose, threshold=0.5, replicates=60, method=method)
    for figures in found.values():
        assert (figures["low"] is None) == ("undefined" in figures)
        if figures["low"] is not None:
            assert 0 <= figures["low"] <= figures["high"] <= 1


def test_paired_differences_match_a_plain_loop() -> None:
    label, a, group = simulate(5, patients=8, slices=4, auroc=0.9, shared=0.5)
    b = np.clip(a + np.random.default_rng(0).normal(size=len(a)) / 3, 0, 1)
    options = {"replicates": 150, "seed": 2, "method": "percentile"}
    found = paired_bootstrap(label, a, b, group, threshold_a=0.5, threshold_b=0.5, **options)
    rows = []
    for count in np.concatenate(list(resample_groups(16, 150, seed=2))):
        times = count.astype(int)[group]
        first, second = (flatten(np.repeat(label, times), np.repeat(of, times)) for of in (a, b))
        rows.append([first[name] - second[name] for name in METRICS])
    bounds = np.nanquantile(rows, [0.025, 0.975], axis=0).T
    for name, expected in zip(METRICS, bounds, strict=True):
        assert (found[name]["low"], found[name]["high"]) == pytest.approx(tuple(expected), abs=1e-12)
    assert found["auroc"]["low"] > 0


def test_a_model_does_not_differ_from_itself() -> None:
    label, a, group = simulate(5, patients=8, slices=4, auroc=0.9, shared=0.5)
    found = paired_bootstrap(label, a, a, group, threshold_a=0.5, threshold_b=0.5, replicates=100)
    assert all(figures["value"] == 0 and figures["low"] is None for figures in found.values())


def test_delong_matches_its_definition() -> None:
    checked = 0
    for label, probability in BOTH:
        above = probability[label == 1][:, None] - probability[label == 0]
        wins = (above > 0) + (above == 0) / 2  # DeLong, DeLong and Clarke-Pearson (1988), equation 5
        found = delong_interval(label, probability)
        variance = 0.0
        if min(wins.shape) > 1 and wins.mean() not in (0, 1):
            variance = sum(wins.mean(axis).var(ddof=1) / wins.shape[1 - axis] for axis in (0, 1))
        if variance < 1e-24:
            assert found["low"] is found["high"] is None
            assert "undefined" in found
            continue
        step = 1.959963984540054 * np.sqrt(variance) / (wins.mean() * (1 - wins.mean()))
        expected = expit(logit(wins.mean()) + np.array([-step, step]))
        assert (found["low"], found["high"]) == pytest.approx(tuple(expected), abs=1e-12)
        checked += 1
    assert checked > 60


def test_delong_and_the_bootstrap_agree_without_clusters() -> None:
    label, probability, group = simulate(0, patients=200, slices=1, auroc=0.85, shared=0)
    found = bootstrap_intervals(label, probability, group, threshold=0.5, replicates=4000)["auroc"]
    check = delong_interval(label, probability)
    assert found["value"] == pytest.approx(check["value"], abs=1e-12)
    assert (found["low"], found["high"]) == pytest.approx((check["low"], check["high"]), abs=0.01)


def test_wrong_input_is_named() -> None:
    label, probability = np.array([0, 1]), np.array([0.2, 0.8])
    with pytest.raises(ValueError, match="must all be"):
        bootstrap_intervals(label, probability, [1], threshold=0.5)
    with pytest.raises(ValueError, match="finite"):
        bootstrap_intervals(label, probability * np.nan, [1, 2], threshold=0.5)
    with pytest.raises(ValueError, match="method"):
        bootstrap_intervals(label, probability, [1, 2], threshold=0.5, method="best")


def measure_coverage(method: str, *, draws: int = 1000, **truth: float) -> dict[str, float]:
    """How often in `draws` simulations the intervals hold the truth; those without an interval do not."""
    values = {"auroc": truth["auroc"], "sensitivity": ndtr(ndtri(truth["auroc"]) / np.sqrt(2))}
    held: Counter[str] = Counter()
    for seed in range(draws):
        slices = simulate(seed, **truth)
        found = bootstrap_intervals(*slices, threshold=0.5, replicates=600, seed=seed, method=method)
        found = {name: found[name] for name in values} | {"delong": delong_interval(*slices[:2])}
        for name, figures in found.items():
            value = values["auroc" if name == "delong" else name]
            held[name] += figures["low"] is not None and figures["low"] <= value <= figures["high"]
    return {name: held[name] / draws for name in (*values, "delong")}


@pytest.mark.slow
@pytest.mark.parametrize("auroc", [0.8, 0.95])
@pytest.mark.parametrize(("patients", "slices", "shared"), [(50, 1, 0.0), (50, 8, 0.5)])
def test_intervals_hold_the_truth_as_often_as_they_say(
    patients: int, slices: int, shared: float, auroc: float
) -> None:
    held = measure_coverage("expanded-bca", patients=patients, slices=slices, auroc=auroc, shared=shared)
    assert 0.93 <= held["auroc"] <= 0.97
    if shared:
        assert held["delong"] < 0.85  # it takes slices of a patient for independent
    else:
        assert 0.93 <= held["delong"] <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("auroc", "least"), [(0.8, 0.93), (0.95, 0.91)])
def test_intervals_of_twenty_patients_are_nearly_as_good(auroc: float, least: float) -> None:
    held = measure_coverage("expanded-bca", patients=10, slices=8, auroc=auroc, shared=0.5)
    assert least <= held["auroc"] <= 0.985


def test_predictive_values_by_hand() -> None:
    # of 10 strokes 9 found, of 10 normals 1 called; among 1,000 with 10 strokes: 9 right of 108, 891 right of 892
    label, score = np.repeat([1, 0], 10), np.array([0.9] * 9 + [0.1] + [0.9] + [0.1] * 9)
    found = bootstrap_intervals(label, score, np.arange(20), threshold=0.5, replicates=2, prevalences=(0.01,))
    at = found["at_prevalence"]["0.01"]
    assert (at["ppv"]["value"], at["npv"]["value"]) == pytest.approx((9 / 108, 891 / 892))
    never = bootstrap_intervals(label, score * 0, np.arange(20), threshold=0.5, replicates=2, prevalences=(0.5,))
    assert never["at_prevalence"]["0.5"]["ppv"]["value"] is None


@given(cases())
def test_predictive_values_at_the_samples_prevalence_are_its_own(case: Case) -> None:
    label, score = case
    share = float(label.mean())
    found = bootstrap_intervals(
        label, score, np.arange(len(label)), threshold=0.5, replicates=2, prevalences=(share,)
    )
    for name in ("ppv", "npv"):
        at, own = found["at_prevalence"][str(share)][name]["value"], found[name]["value"]
        if at is not None and own is not None:
            assert at == pytest.approx(own, abs=1e-12)


def test_predictive_values_have_intervals_by_bayes_in_every_resample() -> None:
    generator = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 4)
    label = (group % 4 == 0).astype(np.int64)
    score = generator.random(160) * 0.7 + label * 0.25
    options = {"threshold": 0.5, "prevalences": (0.05, 0.5), "method": "percentile"}
    found = bootstrap_intervals(label, score, group, **options)["at_prevalence"]
    names, place = np.unique(group, return_inverse=True)
    drawn = np.concatenate(list(resample_groups(len(names), 10_000, seed=0)))[:, place]
    rates = weighted_metrics(label, score, drawn, threshold=0.5)
    for p in (0.05, 0.5):
        hit, false = rates["sensitivity"] * p, (1 - rates["specificity"]) * (1 - p)
        low, high = np.nanquantile(hit / (hit + false), [0.025, 0.975])
        assert (found[str(p)]["ppv"]["low"], found[str(p)]["ppv"]["high"]) == pytest.approx((low, high), abs=1e-9)
        assert found[str(p)]["ppv"]["low"] < found[str(p)]["ppv"]["value"] < found[str(p)]["ppv"]["high"]


def test_a_perfect_specificity_bounds_the_predictive_value_from_below() -> None:
    group = np.arange(30)
    label = (group < 12).astype(np.int64)
    score = np.where((label == 1) & (group % 4 > 0), 0.9, 0.1)
    found = bootstrap_intervals(label, score, group, threshold=0.5, prevalences=(0.05,))
    ppv = found["at_prevalence"]["0.05"]["ppv"]
    assert ppv["value"] == ppv["high"] == 1
    hit, false = 0.05 * found["sensitivity"]["low"], 0.95 * (1 - found["specificity"]["low"])
    assert ppv["low"] == pytest.approx(hit / (hit + false))
    assert found["specificity"]["low"] == pytest.approx(0.025 ** (1 / 18))
    old = bootstrap_intervals(
        label, score, group, threshold=0.5, replicates=50, prevalences=(0.05,), method="expanded-bca"
    )
    assert old["at_prevalence"]["0.05"]["ppv"]["low"] is None


def test_one_slice_a_patient_gives_wilsons_interval() -> None:
    label, score = np.ones(4000, int), np.repeat([0.9, 0.1], [3900, 100])
    found = bootstrap_intervals(label, score, np.arange(4000), threshold=0.5)["sensitivity"]
    wilson = binomtest(3900, 4000).proportion_ci(method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((wilson.low, wilson.high), abs=1e-5)
    # and of few patients, Wilson's of G (G + 1) / (G + 2) trials, at Student's t: solved, not transcribed
    part = np.repeat([1, 0], [9, 3])
    found = bound_share(part, np.ones(12))
    trials, t = 12 * 13 / 14, student.ppf(0.975, 11)
    ends = [
        brentq(lambda x: (0.75 - x) ** 2 - t**2 * x * (1 - x) / trials, *side) for side in ((0, 0.75), (0.75, 1))
    ]
    assert (found["low"], found["high"]) == pytest.approx(tuple(ends), abs=1e-9)


def test_the_jackknifes_interval_of_a_mean_is_students() -> None:
    values = np.random.default_rng(0).normal(size=12)
    left = (values.sum() - values) / 11
    found = jackknife_figure(float(values.mean()), left, [np.ones(12)], 12)
    expected = student.interval(0.95, 11, values.mean(), values.std(ddof=1) / 12**0.5)
    assert (found["low"], found["high"]) == pytest.approx(expected, abs=1e-12)
    # it takes the bias of 1 / n out: of the variance with 1 / n it is centred on that with 1 / (n - 1)
    spread = [np.delete(values, i).var() for i in range(12)]
    found = jackknife_figure(float(values.var()), np.array(spread), [np.ones(12)], 12)
    assert (found["low"] + found["high"]) / 2 == pytest.approx(values.var(ddof=1), abs=1e-12)


def test_alike_slices_count_as_one_patient() -> None:
    part = np.repeat([1, 0], [9, 3])
    once, often = bound_share(part, np.ones(12)), bound_share(part * 30, np.full(12, 30))
    assert (often["low"], often["high"]) == pytest.approx((once["low"], once["high"]), abs=1e-12)


def test_uneven_patients_are_worth_fewer() -> None:
    part, whole = np.array([8, 8, 8, 6, 8, 8]), np.full(6, 8)
    even = bound_share(part, whole)
    uneven = bound_share(np.append(part, 0), np.append(whole, 0))
    assert even == uneven  # a patient without a slice does not count
    assert bound_share([4, 4], [4, 4])["low"] == pytest.approx(0.025**0.5)
    worth = (4 + 28) ** 2 / (4**2 + 28**2)
    assert bound_share([4, 28], [4, 28])["low"] == pytest.approx(0.025 ** (1 / worth))
    assert bound_share([0, 0], [4, 4])["high"] == pytest.approx(1 - 0.025**0.5)


def test_one_patient_of_a_class_bounds_nothing() -> None:
    label, score = np.repeat([1, 0], [3, 12]), np.linspace(0.9, 0.1, 15)
    found = bootstrap_intervals(label, score, np.append([0] * 3, np.arange(12) // 3 + 1), threshold=0.5)
    for name in ("auroc", "sensitivity"):
        assert found[name]["low"] is None
        assert "two groups" in found[name]["undefined"]
    assert found["specificity"]["low"] is not None
