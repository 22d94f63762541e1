"""How far a model's figures may be off: 95 % intervals that know that slices of a patient are alike.

A figure that lies in [0, 1] (a share, AUROC, F1, Brier score) has the "score" interval: Wilson's (1927), with an
effective number of patients in place of the number of slices, and Student's t in place of the normal quantile.

- The variance v of the figure x comes from leaving out each group (patient) in turn: the jackknife. It gives
  x (1 - x) / v effective patients.
- e = (sum n)^2 / sum n^2 is how many patients of equal size the sizes n are worth (Kish, 1965); of two classes, the
  fewer. Near 0 and 1 few patients show few errors, and the jackknife's v is too small just where x is too high. So
  v is averaged with x (1 - x) / e, as if all slices of a patient were alike. v counts for its degrees of freedom,
  the other for `PRIOR`.
- The degrees of freedom of t are Satterthwaite's (1946), with e - 1 for each class.
- A figure of exactly 0 or 1 has the exact limit of Clopper and Pearson (1934) with e as the trials, 0.025^(1 / e).
  For an AUROC of 1 it holds as all of e disjoint pairs of a patient of either class are then ranked right.

Slope and intercept of calibration have the jackknife's own interval (Tukey, 1958): corrected for bias, with t of
e - 1 degrees of freedom. Of the slope, the bootstrap below held the truth in 72 % of 200 draws with 10 uneven
patients a class (ICC 0.8, AUROC 0.95).

What else has no such limits (differences, calibration error, net benefit) is resampled: whole groups with
replacement, as often as there are groups (Field and Welsh, 2007). A replicate is a weight for each slice, and
thousands of them are a few running sums. The methods:

- "percentile": the 2.5 % and 97.5 % quantiles of the replicates (Efron, 1979).
- "expanded": quantiles further out, as Student's t and sqrt(G / (G - 1)) ask for (Hesterberg, 2015). G counts the
  groups that bear on the metric; for the AUROC and average precision those of the class with fewer.
- "bca": corrected for bias and skewness, from leaving out each group in turn (Efron, 1987).
- "expanded-bca": both.

`PRIOR` was chosen as the least whole number with 93 % or more for AUROC, sensitivity and PPV in each of 20 designs
like those of `scripts/benchmark.py coverage`, with 500 draws each and seeds of their own. Of the AUROC, the least
coverage in %, and the misses of 10,000 with the interval above the truth and below it:

    method                                          least  above  below
    "expanded-bca" (300 replicates)                  82.6    607    134
    the same, expanded by e                          84.4    563    101
    jackknife and t on the logit scale               86.2    479    170
    "score", PRIOR 0                                 82.6    585    203
    "score", PRIOR 1                                 91.4    201    154
    "score", PRIOR 1.5                               93.2    133    147
    "score", PRIOR 2                                 93.6     93    140
    "score", PRIOR 3                                 94.2     58    123

docs/read-the-report.md has the coverage on fresh seeds, design by design.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stroke_hub.metrics.classification import Floats, Labels, auroc
from stroke_hub.progress import track

__all__ = [
    "METRICS",
    "bootstrap_figures",
    "bootstrap_intervals",
    "bootstrap_ratio",
    "bootstrap_rivals",
    "bound_figure",
    "bound_share",
    "compare_with_chance",
    "delong_interval",
    "jackknife_figure",
    "paired_bootstrap",
    "resample_groups",
]

Resampling = Literal["percentile", "expanded", "bca", "expanded-bca"]
Method = Literal["score", "percentile", "expanded", "bca", "expanded-bca"]

METRICS = (
    "accuracy",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "f1_normal",
    "auroc",
    "average_precision",
    "brier",
)
PROPORTIONS = METRICS[:5]
PRIOR = 2.0  # degrees of freedom that the variance of patients whose slices are all alike counts for
TAIL = 0.025
SCORE = "score interval over effective patients"
EXACT = "Clopper-Pearson over effective patients"
JACKKNIFE = "jackknife over patients"
BAYES = "Bayes' theorem from the score intervals of both rates"
ALIKE = "the same whichever group is left out, so they do not say how it varies"
ROUNDING = 1e-12  # figures that differ by no more are equal
CELLS = 2**19  # weights held at once: 4 MB, which stays in cache


def bootstrap_intervals(
    label: Labels,
    probability: Floats,
    group: ArrayLike,
    *,
    threshold: float,
    replicates: int = 10_000,
    seed: int = 0,
    method: Method = "score",
    prevalences: Sequence[float] = (),
) -> dict[str, dict[str, Any]]:
    """Estimate 95 % intervals of every metric in `METRICS`, over groups (patients).

    Parameters
    ----------
    label, probability, threshold : as in `stroke_hub.metrics`; label and probability (N,).
    group : (N,), whose slice it is; strings or numbers.
    method : the module's docstring has them, and how often each holds the truth. Those but "score" resample
        groups, for comparison; "score" uses neither `replicates` nor `seed`.
    prevalences : of stroke, from 0 to 1; with some, "at_prevalence" holds by each, as text, the intervals of "ppv"
        and "npv" there, by Bayes' theorem: from the intervals of sensitivity and specificity with "score", in every
        resample with the others.

    Returns
    -------
    By metric: "value", "low", "high", "method", "groups" (that bear on it), "replicates" (that define it, or 0) and
    "left_out" (that do not, as a class is missing). What is undefined is None, and then "undefined" says why.

    Raises
    ------
    ValueError : shapes or labels are wrong, there is no such method, or replicates < 2.
    """
    _require(label, probability, group, replicates, method)
    groups = _count_groups(label, probability, group, threshold)
    result: dict[str, dict[str, Any]]
    if method == "score":
        values = _replicate(label, probability, group, threshold, 0, seed, True)
        sizes = _count_slices(label, probability, group, threshold)
        result = {
            name: bound_figure(values[name][0], values[name][1:], sizes[name], groups[name]) for name in METRICS
        }
        rates = result["sensitivity"], result["specificity"]
        found = {str(p): _bound_at(p, *rates, values) for p in prevalences}
    else:
        values = _replicate(label, probability, group, threshold, replicates, seed, "bca" in method)
        result = {
            name: _summarise(values[name], replicates, groups[name], method, proportion=name in PROPORTIONS)
            for name in METRICS
        }
        fewer = min(groups["sensitivity"], groups["specificity"])
        found = {str(p): _predict_at(p, values, replicates, fewer, method) for p in prevalences}
    if prevalences:
        result["at_prevalence"] = found
    return result


def bound_figure(value: float, left: Floats, sizes: Sequence[Floats], groups: int) -> dict[str, Any]:
    """Estimate the "score" interval of a figure in [0, 1].

    Parameters
    ----------
    value : the figure; NaN where it is undefined.
    left : (G,), the figure without each group; NaN where it is undefined without one.
    sizes : of each class that the figure compares, (G,): how many slices of it each group has.
    groups : that bear on the figure.

    Returns
    -------
    The interval, as in `bootstrap_intervals`.
    """
    result = _start(value, SCORE, groups)
    if "undefined" in result:
        return result
    worth = [_count_effective(n) for n in sizes]
    if min(value, 1 - value) < ROUNDING:
        far = TAIL ** (1 / min(worth))
        low, high = (far, 1.0) if value > 0.5 else (0.0, 1 - far)
        return result | {"low": low, "high": high, "method": EXACT}
    found = _count_trials(value, left, sizes, min(worth))
    if found is None:
        return result | {"undefined": ALIKE}
    trials, free = found
    from scipy.special import stdtrit  # the core counts, and has no scipy

    low, high = _bound_score(float(value), trials, float(stdtrit(free, 1 - TAIL)))
    return result | {"low": low, "high": high}


def compare_with_chance(value: float, left: Floats, sizes: Sequence[Floats], chance: float) -> float | None:
    """Test whether a figure in [0, 1] is what chance gives: the two-sided p-value that belongs to `bound_figure`.

    Parameters
    ----------
    value, left, sizes : as in `bound_figure`. chance : between 0 and 1.

    Returns
    -------
    Below 0.05 where the interval leaves `chance` out, and nowhere else; None where there is no interval.
    """
    if not np.isfinite(value):
        return None
    least = min(_count_effective(n) for n in sizes)
    if min(value, 1 - value) < ROUNDING:
        return float(min(1.0, 2 * (chance if value > 0.5 else 1 - chance) ** least))
    found = _count_trials(value, left, sizes, least)
    if found is None:
        return None
    trials, free = found
    from scipy.special import stdtr

    return float(2 * stdtr(free, -abs(value - chance) / (chance * (1 - chance) / trials) ** 0.5))


def _count_trials(value: float, left: Floats, sizes: Sequence[Floats], least: float) -> tuple[float, float] | None:
    """Count effective patients and degrees of freedom; None where no patient differs from another."""
    kept = np.isfinite(left)
    pull = np.where(kept, left - left[kept].mean() if kept.any() else 0, 0)
    square = pull**2 * (kept.sum() - 1) / max(kept.sum(), 1)
    variance = float(square.sum())
    if variance < ROUNDING**2:
        return None
    whole = np.maximum(np.sum(sizes, axis=0), 1)
    # a group of both classes gives to both, by its slices
    shares = [float(np.sum(square * n / whole)) for n in sizes]
    free = sum(shares) ** 2 / sum(
        v**2 / max(_count_effective(n) - 1, 1) for v, n in zip(shares, sizes, strict=True)
    )
    return (free + PRIOR) / (free * variance / (value * (1 - value)) + PRIOR / least), free


def jackknife_figure(value: float, left: Floats, sizes: Sequence[Floats], groups: int) -> dict[str, Any]:
    """Estimate the jackknife's interval of a figure without limits, corrected for its bias (Tukey, 1958).

    Parameters and result are those of `bound_figure`. There is no interval where the figure is undefined without
    one of the groups.
    """
    result = _start(value, JACKKNIFE, groups)
    if "undefined" in result:
        return result
    if not np.isfinite(left).all():
        return result | {"undefined": "not defined without one of the groups"}
    count = len(left)
    error = float(np.sum((left - left.mean()) ** 2) * (count - 1) / count) ** 0.5
    if error < ROUNDING:
        return result | {"undefined": ALIKE}
    from scipy.special import stdtrit

    free = max(min(map(_count_effective, sizes)) - 1, 1)
    middle, reach = count * value - (count - 1) * float(left.mean()), float(stdtrit(free, 1 - TAIL)) * error
    return result | {"low": middle - reach, "high": middle + reach}


def bound_share(part: ArrayLike, whole: ArrayLike) -> dict[str, Any]:
    """Estimate the "score" interval of a share over groups: part (G,) of whole (G,) slices of each, 0 among them.

    A group without a slice in `whole` does not count.
    """
    part, whole = (np.asarray(of, np.float64) for of in (part, whole))
    part, whole = part[whole > 0], whole[whole > 0]
    value = part.sum() / whole.sum() if len(whole) else np.nan
    left = _divide(part.sum() - part, whole.sum() - whole)
    return bound_figure(float(value), left, [whole], len(whole))


def bootstrap_figures(
    compute: Callable[[Floats], dict[str, Floats]],
    group: ArrayLike,
    groups: Mapping[str, int],
    *,
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Estimate 95 % intervals of any figures, by "expanded-bca" resampling of groups.

    Parameters
    ----------
    compute : figures by name, (R,), from the weights of the slices in each resample, (R, N).
    group : (N,), whose slice it is.
    groups : by name, how many bear on the figure.

    Returns
    -------
    By name, the interval, as in `bootstrap_intervals`.
    """
    blocks = _weigh(group, replicates, seed, jackknife=True) if np.size(group) else iter(())
    parts = [compute(weight) for weight in blocks]
    values = {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in groups}
    return {
        name: _summarise(of, replicates, groups[name], "expanded-bca", proportion=False)
        for name, of in values.items()
    }


def paired_bootstrap(
    label: Labels,
    probability_a: Floats,
    probability_b: Floats,
    group: ArrayLike,
    *,
    threshold_a: float,
    threshold_b: float,
    replicates: int = 10_000,
    seed: int = 0,
    method: Resampling = "expanded-bca",
) -> dict[str, dict[str, Any]]:
    """Estimate 95 % intervals of a's metrics minus b's: two models, the same slices and the same resamples.

    Parameters, result and errors are those of `bootstrap_intervals`, for differences; these are resampled. A
    difference that every replicate repeats has no interval.
    """
    rivals = {"b": (probability_b, threshold_b)}
    found = bootstrap_rivals(
        label, probability_a, rivals, group, threshold=threshold_a, replicates=replicates, seed=seed, method=method
    )
    return found["b"]["difference"]


def bootstrap_rivals(
    label: Labels,
    probability: Floats,
    rivals: Mapping[str, tuple[Floats, float]],
    group: ArrayLike,
    *,
    threshold: float,
    replicates: int = 10_000,
    seed: int = 0,
    method: Resampling = "expanded-bca",
) -> dict[str, dict[str, dict[str, Any]]]:
    """Estimate 95 % intervals of rivals' metrics, and of one model's minus theirs, over the same resamples.

    Parameters, intervals and errors are those of `bootstrap_intervals`. A difference that every replicate repeats
    has no interval.

    Parameters
    ----------
    rivals : by name, the probability (N,) and the threshold of each.

    Returns
    -------
    By rival, "own", which has "score" intervals, and "difference": intervals by metric.
    """
    drawn, bearing = [], []
    for scores, at in track([(probability, threshold), *rivals.values()], "resampling patients"):
        _require(label, scores, group, replicates, method)
        drawn.append(_replicate(label, scores, group, at, replicates, seed, "bca" in method))
        bearing.append(_count_groups(label, scores, group, at))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for rival, values, groups in zip(rivals, drawn[1:], bearing[1:], strict=True):
        scores, at = rivals[rival]
        own, difference = bootstrap_intervals(label, scores, group, threshold=at), {}
        for name in METRICS:
            gap, fewer = drawn[0][name] - values[name], min(bearing[0][name], groups[name])
            difference[name] = _summarise(gap, replicates, fewer, method, proportion=False)
        found[rival] = {"own": own, "difference": difference}
    return found


def bootstrap_ratio(
    part: Floats | Labels, whole: Floats | Labels, *, proportion: bool, replicates: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """Estimate the 95 % interval of a ratio of two sums over groups: "score" for a share, else "expanded-bca".

    Parameters
    ----------
    part, whole : (G,), what each group adds to the two sums; with a `whole` of ones, a mean over groups.
    proportion : every group's ratio lies in [0, 1].

    Returns
    -------
    The interval, as in `bootstrap_intervals`.
    """
    if proportion:
        return bound_share(part, whole)
    groups = len(part)
    values = np.full(1 + replicates, np.nan)
    if groups:
        blocks = _weigh_groups(groups, replicates, seed, max(1, CELLS // groups), jackknife=True)
        sums = np.stack([part, whole], axis=1).astype(np.float64)
        values = np.concatenate([_divide(*(counts @ sums).T) for counts in blocks])
    return _summarise(values, replicates, groups, "expanded-bca", proportion=False)


def delong_interval(label: Labels, probability: Floats) -> dict[str, Any]:
    """Estimate a 95 % interval of the AUROC of independent slices: a check on the bootstrap without clusters.

    The variance is that of DeLong, DeLong and Clarke-Pearson (1988), computed from midranks (Sun and Xu, 2014);
    the interval is symmetric on the logit scale, so that it stays within [0, 1].

    Returns
    -------
    "value", "low", "high", "method"; "low" and "high" are None, and "undefined" says why, where the AUROC is
    undefined, 0 or 1, a class has fewer than two slices, or the scores do not vary.
    """
    from scipy.stats import rankdata

    label, probability = np.asarray(label), np.asarray(probability, np.float64)
    value = auroc(label, probability)
    result = {"value": value, "low": None, "high": None, "method": "DeLong, logit"}
    stroke, normal = probability[label == 1], probability[label == 0]
    m, n = len(stroke), len(normal)
    if value is None or min(m, n) < 2 or value in (0, 1):
        return result | {"undefined": "both classes need two slices or more and the AUROC must not be 0 or 1"}
    ranks = rankdata(np.concatenate([stroke, normal]))  # equal scores share the mean of their ranks
    above = (ranks[:m] - rankdata(stroke)) / n  # of each stroke, the share of normals below it
    below = 1 - (ranks[m:] - rankdata(normal)) / m
    error = np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n) / (value * (1 - value))
    if error < 1e-12:
        return result | {"undefined": "the scores do not vary within a class"}
    from scipy.special import expit, logit, ndtri

    low, high = expit(logit(value) + error * ndtri([TAIL, 1 - TAIL]))
    return result | {"low": float(low), "high": float(high)}


def weighted_metrics(label: Labels, probability: Floats, weight: Floats, *, threshold: float) -> dict[str, Floats]:
    """Compute every metric in `METRICS` under R sets of weights at once; NaN where one is undefined.

    scikit-learn takes one set of weights a call: 10,000 replicates of 560 slices would take it 55 s, not 0.5 s.

    Parameters
    ----------
    weight : (R, N), N >= 1, of each slice, not negative; a slice of weight 2 counts as two.

    Returns
    -------
    By metric, (R,). The slices are sorted once, and each threshold's counts are running sums of the weights.
    """
    order = np.argsort(-probability, kind="stable")
    stroke, probability, weight = label[order] == 1, probability[order], weight[:, order]
    last = np.append(np.flatnonzero(np.diff(probability)), len(label) - 1)  # of each tie
    tp = np.cumsum(weight * stroke, axis=1)
    fp = np.cumsum(weight * ~stroke, axis=1)
    strokes, normals = tp[:, -1], fp[:, -1]
    called = int((probability >= threshold).sum())
    hit, false = (tp[:, called - 1], fp[:, called - 1]) if called else (0 * strokes, 0 * normals)
    tp, fp = tp[:, last], fp[:, last]
    rise = np.diff(tp, axis=1, prepend=0)
    pairs = np.sum(np.diff(fp, axis=1, prepend=0) * (tp - rise / 2), axis=1)  # a tie counts half
    precision = np.divide(tp, tp + fp, out=np.zeros_like(tp), where=rise > 0)
    missed, rest, total = strokes - hit, normals - false, strokes + normals
    return {
        "accuracy": _divide(hit + rest, total),
        "sensitivity": _divide(hit, strokes),
        "specificity": _divide(rest, normals),
        "ppv": _divide(hit, hit + false),
        "npv": _divide(rest, rest + missed),
        "f1": _divide(2 * hit, 2 * hit + false + missed),
        "f1_normal": _divide(2 * rest, 2 * rest + false + missed),
        "auroc": _divide(pairs, strokes * normals),
        "average_precision": _divide(np.sum(precision * rise, axis=1) * normals, strokes * normals),
        "brier": _divide(weight @ (probability - stroke) ** 2, total),
    }


def resample_groups(groups: int, replicates: int, *, seed: int, step: int = 1000) -> Iterator[Floats]:
    """Draw how often each of G groups is in each replicate, up to `step` replicates (., G) at a time.

    The counts are the same whatever the step.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        yield generator.multinomial(groups, np.full(groups, 1 / groups), size=size).astype(np.float64)


def _require(label: Labels, probability: Floats, group: ArrayLike, replicates: int, method: str) -> None:
    if not np.shape(label) == np.shape(probability) == np.shape(group) or np.ndim(label) != 1:
        raise ValueError("label, probability and group must all be (N,)")
    if not (np.isin(label, (0, 1)).all() and np.isfinite(probability).all()):
        raise ValueError("labels must be 0 or 1 and probabilities finite")
    if replicates < 2 or method not in get_args(Method):
        raise ValueError(f"replicates must be 2 or more and method one of {', '.join(get_args(Method))}")


def _replicate(
    label: Labels,
    probability: Floats,
    group: ArrayLike,
    threshold: float,
    replicates: int,
    seed: int,
    jackknife: bool,
) -> dict[str, Floats]:
    """Compute by metric (1 + R [+ G],): of the slices as they are, each replicate, and with each group left out."""
    if not len(label):
        return {name: np.full(1 + replicates, np.nan) for name in METRICS}
    blocks = _weigh(group, replicates, seed, jackknife=jackknife)
    parts = [weighted_metrics(label, probability, weight, threshold=threshold) for weight in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in METRICS}


def _weigh(group: ArrayLike, replicates: int, seed: int, *, jackknife: bool) -> Iterator[Floats]:
    """Weigh the slices, (., N): once as they are, as in each replicate, and with each group left out."""
    names, index = np.unique(np.asarray(group), return_inverse=True)
    step = max(1, CELLS // len(index))
    for counts in _weigh_groups(len(names), replicates, seed, step, jackknife=jackknife):
        yield counts[:, index]


def _weigh_groups(groups: int, replicates: int, seed: int, step: int, *, jackknife: bool) -> Iterator[Floats]:
    """Weigh the groups once as they are, then as in each replicate, then with each left out: blocks of (., G)."""
    yield np.ones((1, groups))
    yield from resample_groups(groups, replicates, seed=seed, step=step)
    if jackknife:
        yield from (1 - np.eye(groups)[i : i + step] for i in range(0, groups, step))


def _find_bearing(label: Labels, probability: Floats, threshold: float) -> dict[str, list[NDArray[np.bool_]]]:
    """Find by metric the slices (N,) that bear on it, for each class that it compares."""
    label, probability = np.asarray(label), np.asarray(probability)
    stroke, called, every = label == 1, probability >= threshold, np.ones(len(label), bool)
    both = [stroke, ~stroke]
    return {
        "accuracy": [every],
        "sensitivity": [stroke],
        "specificity": [~stroke],
        "ppv": [called],
        "npv": [~called],
        "f1": [stroke | called],
        "f1_normal": [~(stroke & called)],
        "auroc": both,
        "average_precision": both,
        "brier": [every],
    }


def _count_groups(label: Labels, probability: Floats, group: ArrayLike, threshold: float) -> dict[str, int]:
    """Count by metric the groups that bear on it; on a comparison of classes, those of the class with fewer."""
    found = _find_bearing(label, probability, threshold)
    return {name: min(len(np.unique(np.asarray(group)[mask])) for mask in masks) for name, masks in found.items()}


def _count_slices(
    label: Labels, probability: Floats, group: ArrayLike, threshold: float
) -> dict[str, list[Floats]]:
    """Count by metric the slices of each group (G,) that bear on it, for each class that it compares."""
    names, index = np.unique(np.asarray(group), return_inverse=True)
    return {
        name: [np.bincount(index[mask], minlength=len(names)).astype(np.float64) for mask in masks]
        for name, masks in _find_bearing(label, probability, threshold).items()
    }


def _start(value: float, method: str, groups: int) -> dict[str, Any]:
    """Start an interval that is not resampled: without limits, and "undefined" where there can be none."""
    result: dict[str, Any] = {
        "value": None if np.isnan(value) else float(value),
        "low": None,
        "high": None,
        "method": method,
        "groups": groups,
        "replicates": 0,
        "left_out": 0,
    }
    if np.isnan(value):
        return result | {"undefined": "no slices of a class that it needs"}
    if groups < 2:
        return result | {"undefined": "fewer than two groups, so nothing is known of how they differ"}
    return result


def _count_effective(sizes: Floats) -> float:
    """Count the groups of equal size that groups of these sizes (G,) are worth (Kish, 1965)."""
    return float(np.sum(sizes)) ** 2 / float(np.sum(sizes**2))


def _bound_score(value: float, trials: float, quantile: float) -> tuple[float, float]:
    """Solve (value - x)^2 = quantile^2 x (1 - x) / trials for x (Wilson, 1927)."""
    spread = quantile**2 / trials
    middle = (value + spread / 2) / (1 + spread)
    reach = (spread * value * (1 - value) + spread**2 / 4) ** 0.5 / (1 + spread)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def _bound_at(
    p: float, sensitivity: dict[str, Any], specificity: dict[str, Any], values: dict[str, Floats]
) -> dict[str, dict[str, Any]]:
    """Compute PPV and NPV at prevalence p with intervals, from those of both rates, taken for independent.

    On the logarithm of the likelihood ratio the distances to the limits of two rates add up in squares (method of
    variance estimates recovery: Zou and Donner, 2008). Where the rate below is 0, both rates are at their limits.
    """
    hit, rest = sensitivity, specificity
    found = {"ppv": _bound_ratio(p / (1 - p) if p < 1 else np.inf, hit, _turn(rest))}
    found["npv"] = _bound_ratio((1 - p) / p if p > 0 else np.inf, rest, _turn(hit))
    rates = values["sensitivity"][0], values["specificity"][0]
    for name, value in zip(found, _apply_bayes(p, *rates), strict=True):
        found[name]["value"] = None if np.isnan(value) else float(value)
        found[name] |= {"groups": min(hit["groups"], rest["groups"]), "replicates": 0, "left_out": 0}
        if found[name]["value"] is None:
            found[name] |= {"low": None, "high": None, "undefined": "no slices of a class that it needs"}
    return found


def _turn(rate: dict[str, Any]) -> dict[str, Any]:
    """Give the interval of 1 - rate."""
    value, low, high = (None if rate[key] is None else 1 - rate[key] for key in ("value", "high", "low"))
    return {"value": value, "low": low, "high": high, "undefined": rate.get("undefined")}


def _bound_ratio(odds: float, above: dict[str, Any], below: dict[str, Any]) -> dict[str, Any]:
    """Bound the share that odds times `above` to `below` are: two rates with their intervals."""
    if above["low"] is None or below["low"] is None:
        reason = above.get("undefined") or below.get("undefined")
        return {"low": None, "high": None, "method": BAYES, "undefined": reason}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        x, low_x, high_x = np.log([above["value"], above["low"], above["high"]])
        y, low_y, high_y = np.log([below["value"], below["low"], below["high"]])
        if np.isfinite([x, y]).all():
            low, high = x - y - np.hypot(x - low_x, high_y - y), x - y + np.hypot(high_x - x, y - low_y)
        else:
            low, high = low_x - high_y, high_x - low_y
        low, high = 1 / (1 + np.exp(-(np.log(odds) + np.array([low, high]))))
    return {"low": float(low), "high": float(high), "method": BAYES}


def _apply_bayes(p: float, hit: Floats, rest: Floats) -> tuple[Floats, Floats]:
    """Compute PPV and NPV at prevalence p from sensitivity and specificity."""
    ppv = _divide(hit * p, hit * p + (1 - rest) * (1 - p))
    return ppv, _divide(rest * (1 - p), rest * (1 - p) + (1 - hit) * p)


def _summarise(
    values: Floats, replicates: int, groups: int, method: Resampling, *, proportion: bool
) -> dict[str, Any]:
    value = values[0] if len(values) else np.nan
    drawn, left = values[1 : 1 + replicates], values[1 + replicates :]
    drawn = drawn[np.isfinite(drawn)]
    result: dict[str, Any] = {
        "value": None if np.isnan(value) else float(value),
        "low": None,
        "high": None,
        "method": f"{method} bootstrap of groups",
        "groups": groups,
        "replicates": len(drawn),
        "left_out": replicates - len(drawn),
    }
    if np.isnan(value):
        return result | {"undefined": "no slices of a class that it needs"}
    if groups < 2:
        return result | {"undefined": "fewer than two groups, so nothing is known of how they differ"}
    if len(drawn) and np.ptp(drawn) > ROUNDING:
        low, high = np.quantile(drawn, _choose_levels(value, drawn, left, groups, method))
        return result | {"low": float(low), "high": float(high)}
    if not proportion or value not in (0, 1):
        return result | {"undefined": "the same in every replicate, so resampling does not say how it varies"}
    far = TAIL ** (1 / groups)
    low, high = (far, 1.0) if value == 1 else (0.0, 1 - far)
    return result | {"low": low, "high": high, "method": "Clopper-Pearson over groups"}


def _predict_at(
    p: float, values: dict[str, Floats], replicates: int, groups: int, method: Resampling
) -> dict[str, dict[str, Any]]:
    """Compute PPV and NPV at prevalence p; no interval where a rate never varies: resampling does not bound it."""
    hit, rest = values["sensitivity"], values["specificity"]
    drawn = dict(zip(("ppv", "npv"), _apply_bayes(p, hit, rest), strict=True))
    result = {name: _summarise(part, replicates, groups, method, proportion=False) for name, part in drawn.items()}
    if any(not np.isnan(rate[0]) and np.nanmax(rate) - np.nanmin(rate) < 1e-12 for rate in (hit, rest)):
        reason = "sensitivity or specificity is the same in every replicate, so resampling does not bound it"
        for interval in result.values():
            interval |= {"low": None, "high": None, "undefined": interval.get("undefined", reason)}
    return result


def _choose_levels(value: float, drawn: Floats, left: Floats, groups: int, method: Resampling) -> Floats:
    """Choose the two quantiles of the replicates that bound the interval."""
    from scipy.special import ndtr, ndtri, stdtrit  # the core counts, and has no scipy

    z = ndtri(np.array([TAIL, 1 - TAIL]))
    if "expanded" in method:
        z = np.sqrt(groups / (groups - 1)) * stdtrit(groups - 1, np.array([TAIL, 1 - TAIL]))
    if "bca" in method:
        # a replicate of the same groups in another order equals the figure but for rounding
        tied = np.abs(drawn - value) <= ROUNDING
        below = np.mean((drawn < value) & ~tied) + np.mean(tied) / 2
        bias = ndtri(np.clip(below, 1e-6, 1 - 1e-6))
        pull = left[np.isfinite(left)]
        pull = pull.mean() - pull
        square = np.sum(pull**2)
        skew = np.sum(pull**3) / (6 * square**1.5) if square else 0.0
        # past its pole the correction would turn the interval over: there the level is 0 or 1
        z = bias + (bias + z) / np.maximum(1 - skew * (bias + z), 1e-9)
    levels: Floats = ndtr(z)
    return levels


def _divide(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
    return ratio
