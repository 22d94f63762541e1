"""How true stated probabilities are, and what acting on them is worth, with 95 % intervals over patients.

Throughout, `label` is (N,), 1 for Stroke and 0 for Normal; `probability` is (N,), of Stroke, in [0, 1]; `group` is
(N,), whose slice it is. Intervals are those of `stroke_hub.metrics.intervals`.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stroke_hub.metrics.classification import Floats, Labels, expected_calibration_error, net_benefit
from stroke_hub.metrics.intervals import CELLS, bootstrap_figures, bound_share, jackknife_figure

__all__ = ["DECISION_THRESHOLDS", "measure_recalibration", "reliability", "simulate_noise_floor", "trace_decisions"]

DECISION_THRESHOLDS = np.arange(5, 51) / 100
BINS = 10
CERTAIN = 1e-6  # probabilities closer to 0 or 1 are taken for that: the logarithm of their odds is finite
STEPS = 50  # of Newton's method; 10 are usual
STEEPEST = 100.0  # slope: beyond, a threshold parts the classes, and there is no best one


def reliability(label: Labels, probability: Floats, group: ArrayLike, *, bins: int = BINS) -> list[dict[str, Any]]:
    """List the filled ones of `bins` equal-width bins, for a reliability diagram.

    Returns
    -------
    Of each: "low", "high", "n", "groups", "mean_probability", "stroke_share" and its 95 % interval over groups,
    "share_low", "share_high"; both None where the bin has slices of one group, or its groups are all alike.

    Raises
    ------
    ValueError : bins < 1, or a probability is outside [0, 1].
    """
    place = _place(probability, bins)
    names, index = np.unique(np.asarray(group), return_inverse=True)
    rows = []
    for k in np.unique(place).tolist():
        inside = place == k
        whole = np.bincount(index[inside], minlength=len(names))
        found = bound_share(np.bincount(index[inside], label[inside], len(names)), whole)
        rows.append(
            {
                "low": k / bins,
                "high": (k + 1) / bins,
                "n": int(inside.sum()),
                "groups": found["groups"],
                "mean_probability": float(probability[inside].mean()),
                "stroke_share": found["value"],
                "share_low": found["low"],
                "share_high": found["high"],
            }
        )
    return rows


def measure_recalibration(
    label: Labels, probability: Floats, group: ArrayLike, *, replicates: int = 2000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Measure calibration error, slope and intercept, with intervals over groups.

    Logistic recalibration (Cox, 1958): the slope b of log-odds a + b z fitted to the labels, z being the stated
    log-odds; 1 is right, less is overconfident. The intercept is a where b is 1 (calibration in the large; Van
    Calster et al., 2019): 0 is right, more is that strokes are more frequent than stated.

    Returns
    -------
    "ece" (of 10 bins, resampled), "slope" and "intercept" (jackknife): intervals as `bootstrap_intervals` gives
    them. Slope and intercept are undefined for one class, the slope too where a threshold parts the classes or all
    probabilities are equal.
    """
    from scipy.special import logit  # the core counts, and has no scipy

    places = np.eye(BINS)[_place(probability, BINS)]
    off = (probability - label)[:, None] * places
    z = logit(np.clip(probability, CERTAIN, 1 - CERTAIN))

    def compute(weight: Floats) -> dict[str, Floats]:
        return {"ece": np.abs(weight @ off).sum(1) / np.maximum(weight.sum(1), 1e-300)}

    every, fewer = _count_groups(label, group)
    found = bootstrap_figures(compute, group, {"ece": every}, replicates=replicates, seed=seed)
    names, index = np.unique(np.asarray(group), return_inverse=True)
    sizes = [np.bincount(index[label == of], minlength=len(names)).astype(np.float64) for of in (0, 1)]
    step = max(1, CELLS // max(len(label), 1))
    omitted = [np.arange(-1, len(names))[i : i + step, None] for i in range(0, 1 + len(names), step)]  # -1: none
    for name, fixed, which in (("slope", False, 1), ("intercept", True, 0)):
        fits = [
            _fit_recalibration(z, label, (number != index).astype(np.float64), fixed=fixed) for number in omitted
        ]
        values = np.concatenate([fit[which] for fit in fits])
        found[name] = jackknife_figure(float(values[0]), values[1:], sizes, fewer)
    if found["slope"]["value"] is None and 0 < label.sum() < len(label):
        found["slope"]["undefined"] = "a threshold parts the classes, or all probabilities are equal"
    return found


def simulate_noise_floor(probability: Floats, *, draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Simulate the calibration error that a perfectly calibrated model with these probabilities would show.

    Labels are drawn from the probabilities, each slice for itself; labels that slices of a patient share would
    raise the floor.

    Returns
    -------
    "mean" and "high", the 95 % point, of the expected calibration error of 10 bins over the "draws".
    """
    if not len(probability):
        return {"mean": None, "high": None, "draws": 0}
    generator = np.random.default_rng(seed)
    found = [
        expected_calibration_error((generator.random(len(probability)) < probability).astype(np.int64), probability)
        for _ in range(draws)
    ]
    values = np.array(found, np.float64)
    return {"mean": float(values.mean()), "high": float(np.quantile(values, 0.95)), "draws": draws}


def trace_decisions(
    label: Labels, probability: Floats, group: ArrayLike, *, replicates: int = 2000, seed: int = 0
) -> dict[str, list[float | None]]:
    """Trace the decision curve (Vickers and Elkin, 2006) over `DECISION_THRESHOLDS`, with intervals.

    The thresholds are those that somebody would choose, 0.05 to 0.50. To act is to let a radiologist look at the
    slice first. At 0.05 a missed stroke weighs as much as 19 needless looks: whoever cares more looks at every
    slice, and needs no model. At 0.50 it weighs as much as one: whoever cares less would leave strokes waiting.

    Returns
    -------
    "threshold", "model" with "low" and "high"; "treat_all" (acting on every slice; acting on none is 0); "gain", of
    the model over the better of these two, with "gain_low" and "gain_high". Limits are None where undefined. Empty
    lists, and no limits, where there are no images.
    """
    thresholds = DECISION_THRESHOLDS
    curve = net_benefit(label, probability, thresholds)
    if not len(label):
        return {name: [] for name in curve}
    odds = thresholds / (1 - thresholds)
    called, stroke = probability[:, None] >= thresholds, label[:, None] == 1
    worth = called * np.where(stroke, 1.0, -odds)
    whole = np.where(stroke, 1.0, -odds)

    def compute(weight: Floats) -> dict[str, Floats]:
        total = np.maximum(weight.sum(1, keepdims=True), 1e-300)
        model, every = weight @ worth / total, weight @ whole / total
        gain = model - np.maximum(every, 0)
        numbered = range(len(thresholds))
        return {f"model{i}": model[:, i] for i in numbered} | {f"gain{i}": gain[:, i] for i in numbered}

    every, _ = _count_groups(label, group)
    names_of = [f"{kind}{i}" for kind in ("model", "gain") for i in range(len(thresholds))]
    found = bootstrap_figures(compute, group, dict.fromkeys(names_of, every), replicates=replicates, seed=seed)
    limits: dict[str, list[float | None]] = {
        name: [found[f"{kind}{i}"][key] for i in range(len(thresholds))]
        for name, kind, key in (
            ("low", "model", "low"),
            ("high", "model", "high"),
            ("gain", "gain", "value"),
            ("gain_low", "gain", "low"),
            ("gain_high", "gain", "high"),
        )
    }
    own: dict[str, list[float | None]] = {name: [*values] for name, values in curve.items()}
    return own | limits


def _place(probability: Floats, bins: int) -> NDArray[np.int64]:
    """Find each slice's bin (N,)."""
    if bins < 1 or ((probability < 0) | (probability > 1)).any():
        raise ValueError("probabilities must lie in [0, 1] and bins be at least 1")
    return np.minimum((probability * bins).astype(np.int64), bins - 1)


def _count_groups(label: Labels, group: ArrayLike) -> tuple[int, int]:
    """Count all groups, and those of the class with fewer."""
    group = np.asarray(group)
    return len(np.unique(group)), min(len(np.unique(group[label == value])) for value in (0, 1))


def _fit_recalibration(z: Floats, label: Labels, weight: Floats, *, fixed: bool) -> tuple[Floats, Floats]:
    """Fit labels by sigmoid(a + b z) under R sets of weights (R, N): a and b (R,), NaN where there is no best one.

    With `fixed`, b is 1. scikit-learn's logistic regression fits one set of weights at a time.
    """
    from scipy.special import expit

    a, b = np.zeros(len(weight)), np.ones(len(weight))
    strokes, total = weight @ (label == 1), weight.sum(1)
    lost = (strokes <= 0) | (strokes >= total)
    moved = np.full(len(weight), np.inf)
    for _ in range(STEPS):
        stated = expit(a[:, None] + b[:, None] * z)
        off, spread = weight * (label - stated), weight * stated * (1 - stated)
        pull, curve = off.sum(1), spread.sum(1)
        if fixed:
            step_a, step_b = _divide(pull, curve), np.zeros_like(b)
        else:
            cross, square, turn = spread @ z, spread @ z**2, off @ z
            area = curve * square - cross**2
            area = np.where(area > 1e-9 * curve * square, area, 0)
            step_a, step_b = _divide(square * pull - cross * turn, area), _divide(curve * turn - cross * pull, area)
        # a whole step may overshoot far from the optimum
        a, b = a + np.clip(step_a, -2, 2), b + np.clip(step_b, -2, 2)
        moved = np.maximum(np.abs(step_a), np.abs(step_b))
        if (lost | ~(moved > 1e-9) | (np.abs(b) > STEEPEST)).all():
            break
    lost |= ~(moved < 1e-6) | (np.abs(b) > STEEPEST)
    return np.where(lost, np.nan, a), np.where(lost, np.nan, b)


def _divide(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio
