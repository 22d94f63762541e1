"""Figures of merit of probabilities against labels. An undefined figure is None, never 0 or NaN.

scikit-learn and scipy are imported where they are called: predicting needs neither.

Throughout, `label` is (N,), 1 for Stroke and 0 for Normal; `probability` is (N,), of Stroke, finite; Stroke is
predicted where probability >= threshold. Both of other lengths, a label that is neither 0 nor 1, or a probability
that is not finite is a ValueError.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Floats",
    "Labels",
    "auroc",
    "average_precision",
    "brier",
    "choose_threshold",
    "confusion",
    "expected_calibration_error",
    "log_loss",
    "measure",
    "net_benefit",
    "trace_curves",
]

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


def measure(label: Labels, probability: Floats, *, threshold: float) -> dict[str, Any]:
    """Measure accuracy, AUROC, average precision, confusion counts and the per-class report.

    Returns
    -------
    A dictionary of plain numbers; "auroc" and "average_precision" are None where only one class is present, and
    every figure is where N is 0, as are ratios of nothing; then "undefined" says why.
    """
    label, probability = _check(label, probability)
    result: dict[str, Any] = {"n": len(label), "n_stroke": int(label.sum()), "threshold": threshold}
    if not len(label):
        return result | {"accuracy": None, "undefined": "no images"}
    counts = confusion(label, probability, threshold=threshold)
    result |= {
        "accuracy": (counts["tp"] + counts["tn"]) / len(label),
        "auroc": auroc(label, probability),
        "average_precision": average_precision(label, probability),
        "confusion": counts,
        "classes": _report_classes(label, probability >= threshold),
    }
    reasons = []
    if not _has_both(label):
        reasons.append("only one class is present, so AUROC and average precision are undefined")
    if any(value is None for figures in result["classes"].values() for value in figures.values()):
        reasons.append("a class that is never called has no precision, one that is not there no recall")
    if reasons:
        result["undefined"] = "; ".join(reasons)
    return result


def trace_curves(label: Labels, probability: Floats) -> dict[str, list[float]]:
    """Trace the ROC and precision-recall curves as lists; empty where only one class is present.

    "fpr" and "tpr" go from (0, 0) to (1, 1), without points on a straight line between their neighbours;
    "precision" and "recall" go with growing threshold and end at (1, 0).
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    label, probability = _check(label, probability)
    if not _has_both(label):
        return {"fpr": [], "tpr": [], "precision": [], "recall": []}
    fpr, tpr, _ = roc_curve(label, probability)
    precision, recall, _ = precision_recall_curve(label, probability)
    curves = {"fpr": fpr, "tpr": tpr, "precision": precision, "recall": recall}
    return {name: points.tolist() for name, points in curves.items()}


def confusion(label: Labels, probability: Floats, *, threshold: float) -> dict[str, int]:
    """Count "tp", "tn", "fp" and "fn" at a threshold, with Stroke as the positive class."""
    from sklearn.metrics import confusion_matrix

    label, probability = _check(label, probability)
    tn, fp, fn, tp = confusion_matrix(label, probability >= threshold, labels=[0, 1]).ravel().tolist()
    return {"tp": tp, "tn": tn, "fp": fp, "fn": fn}


def _report_classes(label: Labels, called: NDArray[np.bool_]) -> dict[str, dict[str, float | None]]:
    """Report precision, recall, F1 and support of "Normal" and "Stroke"."""
    from sklearn.metrics import precision_recall_fscore_support

    *ratios, support = precision_recall_fscore_support(label, called, labels=[0, 1], zero_division=np.nan)
    report: dict[str, dict[str, float | None]] = {}
    for i, name in enumerate(("Normal", "Stroke")):
        values = [None if np.isnan(ratio[i]) else float(ratio[i]) for ratio in ratios]
        report[name] = dict(zip(("precision", "recall", "f1-score"), values, strict=True))
        report[name]["support"] = int(support[i])
    return report


def auroc(label: Labels, probability: Floats) -> float | None:
    """Compute the area under the ROC curve, a tie counting half (Mann and Whitney, 1947); None for one class.

    Ranks add up exactly, so that this is the very number of `intervals.weighted_metrics`. The trapezoids of
    scikit-learn's `roc_auc_score` are off by one rounding in two of five cases.
    """
    from scipy.stats import rankdata

    label, probability = _check(label, probability)
    if not _has_both(label):
        return None
    strokes = int(label.sum())
    excess = rankdata(probability)[label == 1].sum() - strokes * (strokes + 1) / 2
    return float(excess / (strokes * (len(label) - strokes)))


def average_precision(label: Labels, probability: Floats) -> float | None:
    """Average the precision over the steps of recall, nothing interpolated; None for one class."""
    from sklearn.metrics import average_precision_score

    label, probability = _check(label, probability)
    return float(average_precision_score(label, probability)) if _has_both(label) else None


def brier(label: Labels, probability: Floats, *, bins: int = 10) -> dict[str, float | None]:
    """Compute the mean squared error of the probabilities and what it is made of.

    Over `bins` equal-width bins of [0, 1], score = reliability - resolution + uncertainty (Murphy, 1973)
    + within_bin_variance - within_bin_covariance, exactly; the last two (Stephenson, Coelho and Jolliffe, 2008)
    are what binning loses, and vanish where each bin holds one probability. All None where there are no images.

    Raises
    ------
    ValueError : a probability is outside [0, 1], or bins < 1.
    """
    label, probability = _check(label, probability)
    share, stroke, mean, place = _bin(label, probability, bins)
    names = ("score", "reliability", "resolution", "uncertainty", "within_bin_variance", "within_bin_covariance")
    if not len(label):
        return dict.fromkeys(names)
    base, spread = label.mean(), probability - mean[place]
    terms = (
        np.mean((probability - label) ** 2),
        np.sum(share * (mean - stroke) ** 2),
        np.sum(share * (stroke - base) ** 2),
        base * (1 - base),
        np.mean(spread**2),
        2 * np.mean(spread * (label - stroke[place])),
    )
    return {name: float(term) for name, term in zip(names, terms, strict=True)}


def expected_calibration_error(label: Labels, probability: Floats, *, bins: int = 10) -> float | None:
    """Average the distance of probability and share of strokes over `bins` equal-width bins (Naeini et al., 2015).

    Raises
    ------
    ValueError : a probability is outside [0, 1], or bins < 1.
    """
    label, probability = _check(label, probability)
    share, stroke, mean, _ = _bin(label, probability, bins)
    return float(np.sum(share * np.abs(mean - stroke))) if len(label) else None


def log_loss(label: Labels, probability: Floats) -> float | None:
    """Average the cross-entropy in nats; None where there are no images, or a wrong certainty makes it infinite.

    scikit-learn's clips probabilities at 2e-16, so that no error costs more than 36 nats.
    """
    label, probability = _check(label, probability)
    right = np.where(label == 1, probability, 1 - probability)
    return float(-np.mean(np.log(right))) if len(label) and (right > 0).all() else None


def net_benefit(label: Labels, probability: Floats, thresholds: Floats) -> dict[str, list[float]]:
    """Trace the decision curve of Vickers and Elkin (2006): hits a slice, less false alarms at the odds.

    Parameters
    ----------
    thresholds : (T,), above 0 and below 1: how likely Stroke must be to act on it.

    Returns
    -------
    "threshold", "model" and "treat_all" (acting on every slice), T numbers each; acting on none is 0 everywhere.
    Empty lists where there are no images.
    """
    label, probability = _check(label, probability)
    thresholds = np.asarray(thresholds, np.float64)
    if not len(label):
        return {"threshold": [], "model": [], "treat_all": []}
    odds = thresholds / (1 - thresholds)
    called = probability >= thresholds[:, None]
    hits, false = (np.mean(called & (label == value), axis=1) for value in (1, 0))
    base = label.mean()
    curves = {"threshold": thresholds, "model": hits - false * odds, "treat_all": base - (1 - base) * odds}
    return {name: curve.tolist() for name, curve in curves.items()}


def choose_threshold(
    label: Labels, probability: Floats, *, rule: Literal["youden", "sensitivity95", "specificity95"]
) -> float | None:
    """Choose the given probability that serves best as threshold; chosen on test data, it flatters the model.

    Parameters
    ----------
    rule : "youden" has the greatest sensitivity + specificity (Youden, 1950), "sensitivity95" the greatest
        specificity with sensitivity >= 0.95, "specificity95" the other way round. Ties go to the higher
        threshold, except in "specificity95", where they go to the lower.

    Returns
    -------
    None where only one class is present, or where no probability reaches the specificity asked for.

    Raises
    ------
    ValueError : no such rule.
    """
    from sklearn.metrics import roc_curve

    if rule not in ("youden", "sensitivity95", "specificity95"):
        raise ValueError(f"rule must be youden, sensitivity95 or specificity95, not {rule!r}")
    label, probability = _check(label, probability)
    if not _has_both(label):
        return None
    strokes, normals = int(label.sum()), len(label) - int(label.sum())
    # thresholds fall, and the first is infinity
    fpr, tpr, threshold = (points[1:] for points in roc_curve(label, probability, drop_intermediate=False))
    tp, fp = np.rint(tpr * strokes).astype(np.int64), np.rint(fpr * normals).astype(np.int64)
    sensitivity, specificity = tp / strokes, (normals - fp) / normals
    if rule == "youden":
        # in whole counts, as equal indices must tie
        return float(threshold[np.argmax(tp * normals - fp * strokes)])
    if rule == "sensitivity95":
        return float(threshold[np.argmax(sensitivity >= 0.95)])
    reached = threshold[specificity >= 0.95]
    return float(reached[-1]) if len(reached) else None


def _check(label: Labels, probability: Floats) -> tuple[Labels, Floats]:
    label, probability = np.asarray(label), np.asarray(probability, np.float64)
    if label.ndim != 1 or label.shape != probability.shape:
        raise ValueError(f"label and probability must both be (N,), not {label.shape} and {probability.shape}")
    if not (np.isin(label, (0, 1)).all() and np.isfinite(probability).all()):
        raise ValueError("labels must be 0 or 1 and probabilities finite")
    return label.astype(np.int64), probability


def _has_both(label: Labels) -> bool:
    return 0 < int(label.sum()) < len(label)


def _bin(label: Labels, probability: Floats, bins: int) -> tuple[Floats, Floats, Floats, Labels]:
    """Compute each bin's share of slices, share of strokes and mean probability (K,); and each slice's bin (N,)."""
    if bins < 1 or ((probability < 0) | (probability > 1)).any():
        raise ValueError("probabilities must lie in [0, 1] and bins be at least 1")
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = np.maximum(count, 1)  # an empty bin weighs nothing
    stroke, total = (np.bincount(place, weights=of, minlength=bins) for of in (label, probability))
    return count / max(len(label), 1), stroke / filled, total / filled, place
