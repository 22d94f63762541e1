"""Calibration on a validation split: temperature, shift and threshold, which the model then stores."""

from typing import Any, Literal, get_args

import numpy as np

from stroke_hub.metrics.classification import Floats, Labels, choose_threshold

__all__ = ["Calibration", "OperatingPoint", "choose_operating_points", "fit_calibration"]

Calibration = Literal["platt", "temperature", "none"]
OperatingPoint = Literal["half", "youden", "sensitivity95", "specificity95"]
OPERATING_POINTS: tuple[OperatingPoint, ...] = get_args(OperatingPoint)
WORDS: dict[OperatingPoint, str] = {
    "half": "a probability of 0.5: Stroke is as likely as not",
    "youden": "the greatest sensitivity + specificity on the validation slices",
    "sensitivity95": "at least 95 % sensitivity on the validation slices",
    "specificity95": "at least 95 % specificity on the validation slices",
}
MEET = "; one threshold meets both 95 % rules, so both points have it: of those that do, the best of both rates"
LIMITS = (0.05, 20.0)  # of a temperature


def fit_calibration(
    log_odds: Floats, label: Labels, *, method: Calibration = "platt"
) -> tuple[float, float] | None:
    """Fit temperature T and shift b so that sigmoid((log_odds + b) / T) predicts the labels best.

    Cross-entropy with Platt's targets (1999), (n + 1) / (n + 2) and 1 / (n + 2) instead of 1 and 0: with plain ones
    a validation split without an error would ask for T = 0 and certainty. The temperature alone (Guo et al., 2017)
    cannot mend a model that overstates strokes: of an earlier quickstart's it made the expected calibration error
    on the test slices worse, 0.115 to 0.149; with the shift it was 0.024.

    Parameters
    ----------
    log_odds : (N,), uncalibrated, of Stroke. label : (N,), 1 or 0.
    method : "platt" fits both, "temperature" leaves the shift at 0, "none" leaves T at 1 too.

    Returns
    -------
    T in [0.05, 20], and b; None where only one class is present.
    """
    from scipy.optimize import minimize  # the core judges scans by a fitted rule, and has no scipy
    from scipy.special import expit

    z, stroke = np.asarray(log_odds, np.float64), np.asarray(label) == 1
    strokes, normals = int(stroke.sum()), int((~stroke).sum())
    if not strokes or not normals:
        return None
    target = np.where(stroke, (strokes + 1) / (strokes + 2), 1 / (normals + 2))

    def loss(line: Floats) -> tuple[float, Floats]:
        scaled = line[0] * z + line[1]  # convex in slope and intercept
        off = expit(scaled) - target
        return float(np.mean(np.logaddexp(0, scaled) - target * scaled)), np.array([np.mean(off * z), np.mean(off)])

    slopes = (1.0, 1.0) if method == "none" else (1 / LIMITS[1], 1 / LIMITS[0])
    intercepts = (None, None) if method == "platt" else (0.0, 0.0)
    exact = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}
    found = minimize(
        loss, np.array([1.0, 0.0]), jac=True, bounds=[slopes, intercepts], method="L-BFGS-B", options=exact
    )
    slope, intercept = found.x
    return float(1 / slope), float(intercept / slope)


def choose_operating_points(label: Labels, probability: Floats) -> dict[str, dict[str, Any]]:
    """Choose a threshold by each rule of `OPERATING_POINTS`, from calibrated validation probabilities.

    Where thresholds meet both 95 % rules, the rules alone would give "sensitivity95" the highest of them and
    "specificity95" the lowest: the point for sensitivity would find fewer strokes. Both then get the one with the
    greatest sensitivity + specificity, so that "sensitivity95" never has the higher threshold.

    Returns
    -------
    By rule: "threshold" (float32 exactly, as a model stores it; None with "undefined" where no probability
    serves), "chosen_on" ("val" or "fixed"), "words", and "val_sensitivity" and "val_specificity", what it gave on
    these slices, None where undefined.
    """
    points: dict[str, dict[str, Any]] = {}
    chosen: dict[OperatingPoint, float | None] = {
        rule: 0.5 if rule == "half" else choose_threshold(label, probability, rule=rule)
        for rule in OPERATING_POINTS
    }
    high, low = chosen["sensitivity95"], chosen["specificity95"]
    meet = high is not None and low is not None and low < high
    if high is not None and low is not None and low < high:
        chosen["sensitivity95"] = chosen["specificity95"] = _choose_between(label, probability, low, high)
    for rule, threshold in chosen.items():
        points[rule] = {
            "threshold": None if threshold is None else _round_down(threshold),
            "chosen_on": "fixed" if rule == "half" else "val",
            "words": WORDS[rule] + (MEET if meet and rule.endswith("95") else ""),
        }
        points[rule] |= _measure_rates(label, probability, points[rule]["threshold"])
        if threshold is None:
            points[rule]["undefined"] = "the validation slices hold one class only, or no threshold reaches it"
    return points


def _choose_between(label: Labels, probability: Floats, low: float, high: float) -> float:
    """Choose the probability from low to high with the greatest sensitivity + specificity.

    Ties go to the higher.
    """
    between = (probability >= low) & (probability <= high)
    threshold = np.unique(probability[between])
    called = probability >= threshold[:, None]
    hits, false = called[:, label == 1].sum(1), called[:, label == 0].sum(1)
    # in whole counts, as equal indices must tie
    index = hits * int((label == 0).sum()) - false * int((label == 1).sum())
    return float(threshold[len(index) - 1 - np.argmax(index[::-1])])


def _measure_rates(label: Labels, probability: Floats, threshold: float | None) -> dict[str, float | None]:
    """Measure sensitivity and specificity on the slices that chose a threshold."""
    right = None if threshold is None else (probability >= threshold) == (label == 1)
    rates = {}
    for name, value in (("val_sensitivity", 1), ("val_specificity", 0)):
        of = label == value
        rates[name] = float(right[of].mean()) if right is not None and of.any() else None
    return rates


def _round_down(threshold: float) -> float:
    """Find the greatest float32 that is not above, so that the slice of a threshold stays called Stroke."""
    rounded = np.float32(threshold)
    # as Python floats: numpy would round the other side of the comparison too
    return float(rounded) if float(rounded) <= threshold else float(np.nextafter(rounded, np.float32(0)))
