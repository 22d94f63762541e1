"""What a validation split decides behind the training: a temperature and a threshold, both stored in the model."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from stroke_hub.metrics import choose_threshold
from stroke_hub.model import ResNetViT

__all__ = ["OPERATING_POINTS", "OperatingPoint", "calibrate", "choose_operating_points", "fit_temperature"]

OperatingPoint = Literal["half", "youden", "sensitivity95", "specificity95"]
OPERATING_POINTS: tuple[OperatingPoint, ...] = get_args(OperatingPoint)
WORDS: dict[OperatingPoint, str] = {
    "half": "a probability of 0.5: Stroke is as likely as not",
    "youden": "the greatest sensitivity + specificity on the validation slices",
    "sensitivity95": "at least 95 % sensitivity on the validation slices",
    "specificity95": "at least 95 % specificity on the validation slices",
}
LIMITS = (0.05, 20.0)  # of a temperature

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


def fit_temperature(log_odds: Floats, label: Labels) -> float | None:
    """The temperature T > 0 for which sigmoid(log_odds / T) predicts the labels best (Guo et al., 2017).

    The loss is the cross-entropy with Platt's targets (1999), (n + 1) / (n + 2) and 1 / (n + 2) instead of 1 and 0:
    with plain ones a validation split without an error would ask for T = 0 and certainty.

    Parameters
    ----------
    log_odds : (N,), uncalibrated, of Stroke. label : (N,), 1 or 0.

    Returns
    -------
    T in [0.05, 20]; None where only one class is present.
    """
    log_odds, stroke = np.asarray(log_odds, np.float64), np.asarray(label) == 1
    strokes, normals = int(stroke.sum()), int((~stroke).sum())
    if not strokes or not normals:
        return None
    target = np.where(stroke, (strokes + 1) / (strokes + 2), 1 / (normals + 2))

    def loss(log_temperature: float) -> float:
        scaled = log_odds * np.exp(-log_temperature)
        return float(np.mean(np.logaddexp(0, scaled) - target * scaled))

    found = minimize_scalar(loss, bounds=np.log(LIMITS), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def choose_operating_points(label: Labels, probability: Floats) -> dict[str, dict[str, Any]]:
    """A threshold by each rule of `OPERATING_POINTS`, from calibrated validation probabilities.

    Returns
    -------
    By rule: "threshold" (float32 exactly, as a model stores it; None with "undefined" where no probability
    serves), "chosen_on" ("val" or "fixed"), "words".
    """
    points: dict[str, dict[str, Any]] = {}
    for rule in OPERATING_POINTS:
        threshold = 0.5 if rule == "half" else choose_threshold(label, probability, rule=rule)
        points[rule] = {
            "threshold": None if threshold is None else _round_down(threshold),
            "chosen_on": "fixed" if rule == "half" else "val",
            "words": WORDS[rule],
        }
        if threshold is None:
            points[rule]["undefined"] = "the validation slices hold one class only, or no threshold reaches it"
    return points


def calibrate(
    model: ResNetViT, logits: NDArray[np.float32], label: Labels, *, operating_point: OperatingPoint = "half"
) -> None:
    """Store the temperature and the threshold that validation logits (N, 2) give in the model, in place.

    Where they give none (one class), the model keeps what it has.
    """
    log_odds = np.diff(logits.astype(np.float64), axis=1)[:, 0]
    temperature = fit_temperature(log_odds, label)
    if temperature is not None:
        model.temperature.fill_(temperature)
    probability = expit(log_odds / float(model.temperature))
    threshold = choose_operating_points(label, probability)[operating_point]["threshold"]
    if threshold is not None:
        model.threshold.fill_(threshold)


def _round_down(threshold: float) -> float:
    """The greatest float32 that is not above: the slice that a threshold was taken from stays called Stroke."""
    rounded = np.float32(threshold)
    # as Python floats: numpy would round the other side of the comparison too
    return float(rounded) if float(rounded) <= threshold else float(np.nextafter(rounded, np.float32(0)))
