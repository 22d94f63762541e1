"""What a set of probabilities is worth. An undefined figure is None, never 0 or NaN.

Throughout, `label` is (N,), 1 for Stroke and 0 for Normal; `probability` is (N,), of Stroke, finite; Stroke is
predicted where probability >= threshold. Both of other lengths, a label that is neither 0 nor 1, or a probability
that is not finite is a ValueError.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "auroc",
    "average_precision",
    "brier",
    "choose_threshold",
    "confusion",
    "expected_calibration_error",
    "log_loss",
    "measure",
    "midrank",
    "net_benefit",
    "precision_recall_curve",
    "reliability",
    "report_classes",
    "roc_curve",
    "trace_curves",
]

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


def measure(label: Labels, probability: Floats, *, threshold: float) -> dict[str, Any]:
    """Accuracy, AUROC, average precision, confusion counts and the per-class report.

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
        "classes": report_classes(counts),
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
    """ROC and precision-recall curves as lists; empty where only one class is present."""
    fpr, tpr, _ = roc_curve(label, probability)
    precision, recall, _ = precision_recall_curve(label, probability)
    curves = {"fpr": fpr, "tpr": tpr, "precision": precision, "recall": recall}
    return {name: points.tolist() for name, points in curves.items()}


def confusion(label: Labels, probability: Floats, *, threshold: float) -> dict[str, int]:
    """Counts "tp", "tn", "fp", "fn", with Stroke as the positive class."""
    label, probability = _check(label, probability)
    stroke, predicted = label == 1, probability >= threshold
    cells = {"tp": stroke & predicted, "tn": ~stroke & ~predicted, "fp": ~stroke & predicted}
    cells["fn"] = stroke & ~predicted
    return {name: int(cell.sum()) for name, cell in cells.items()}


def report_classes(counts: dict[str, int]) -> dict[str, dict[str, float | None]]:
    """Precision, recall, F1 and support of "Normal" and "Stroke" from the counts that `confusion` gives."""
    tp, tn, fp, fn = (counts[name] for name in ("tp", "tn", "fp", "fn"))
    return {"Normal": _report_class(tn, fn, fp), "Stroke": _report_class(tp, fp, fn)}


def _report_class(hits: int, false: int, missed: int) -> dict[str, float | None]:
    return {
        "precision": _ratio(hits, hits + false),
        "recall": _ratio(hits, hits + missed),
        "f1-score": _ratio(2 * hits, 2 * hits + false + missed),
        "support": hits + missed,
    }


def midrank(values: Floats) -> Floats:
    """Ranks (N,) from 1; equal values share the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


def auroc(label: Labels, probability: Floats) -> float | None:
    """Area under the ROC curve, a tie counting half (Mann and Whitney, 1947); None for one class."""
    label, probability = _check(label, probability)
    if not _has_both(label):
        return None
    strokes = int(label.sum())
    excess = midrank(probability)[label == 1].sum() - strokes * (strokes + 1) / 2
    return float(excess / (strokes * (len(label) - strokes)))


def average_precision(label: Labels, probability: Floats) -> float | None:
    """Precision averaged over the steps of recall, nothing interpolated; None for one class."""
    precision, recall, _ = precision_recall_curve(label, probability)
    return float(-np.sum(np.diff(recall) * precision[:-1])) if len(recall) else None


def roc_curve(label: Labels, probability: Floats) -> tuple[Floats, Floats, Floats]:
    """False and true positive rates and their thresholds, from (0, 0) at infinity to (1, 1).

    Points on a straight line between their neighbours are left out, as scikit-learn's `roc_curve` does unless
    told otherwise. Empty where only one class is present.
    """
    label, probability = _check(label, probability)
    if not _has_both(label):
        return np.empty(0), np.empty(0), np.empty(0)
    tp, fp, threshold = _accumulate(label, probability)
    if len(tp) > 2:
        bends = (np.diff(fp, 2) != 0) | (np.diff(tp, 2) != 0)
        kept = np.concatenate([[True], bends, [True]])
        tp, fp, threshold = tp[kept], fp[kept], threshold[kept]
    false, true = (np.append(0.0, counts) / counts[-1] for counts in (fp, tp))
    return false, true, np.append(np.inf, threshold)


def precision_recall_curve(label: Labels, probability: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision and recall with growing threshold, then the point (1, 0), which has no threshold.

    The points of scikit-learn's `precision_recall_curve`. Empty where only one class is present.
    """
    label, probability = _check(label, probability)
    if not _has_both(label):
        return np.empty(0), np.empty(0), np.empty(0)
    tp, fp, threshold = _accumulate(label, probability)
    return np.append((tp / (tp + fp))[::-1], 1.0), np.append((tp / tp[-1])[::-1], 0.0), threshold[::-1]


def brier(label: Labels, probability: Floats, *, bins: int = 10) -> dict[str, float | None]:
    """Mean squared error of the probabilities and what it is made of.

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
    """Mean distance of probability and share of strokes over `bins` equal-width bins (Naeini et al., 2015).

    Raises
    ------
    ValueError : a probability is outside [0, 1], or bins < 1.
    """
    label, probability = _check(label, probability)
    share, stroke, mean, _ = _bin(label, probability, bins)
    return float(np.sum(share * np.abs(mean - stroke))) if len(label) else None


def reliability(label: Labels, probability: Floats, *, bins: int = 10) -> list[dict[str, Any]]:
    """The filled ones of `bins` equal-width bins, for a reliability diagram.

    Returns
    -------
    Of each: "low", "high", "n", "mean_probability", "stroke_share" and its 95 % interval "share_low", "share_high"
    (Wilson, 1927, which takes slices for independent).

    Raises
    ------
    ValueError : a probability is outside [0, 1], or bins < 1.
    """
    label, probability = _check(label, probability)
    _, stroke, mean, place = _bin(label, probability, bins)
    rows = []
    for k, n in enumerate(np.bincount(place, minlength=bins).tolist()):
        if n:
            share, z = float(stroke[k]), 1.959963984540054
            centre, scale = share + z**2 / (2 * n), 1 + z**2 / n
            reach = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
            low, high = max(0.0, float((centre - reach) / scale)), min(1.0, float((centre + reach) / scale))
            rows.append({"low": k / bins, "high": (k + 1) / bins, "n": n, "mean_probability": float(mean[k])})
            rows[-1] |= {"stroke_share": share, "share_low": low, "share_high": high}
    return rows


def log_loss(label: Labels, probability: Floats) -> float | None:
    """Mean cross-entropy in nats; None where there are no images, or where a wrong certainty makes it infinite."""
    label, probability = _check(label, probability)
    right = np.where(label == 1, probability, 1 - probability)
    return float(-np.mean(np.log(right))) if len(label) and (right > 0).all() else None


def net_benefit(label: Labels, probability: Floats, thresholds: Floats) -> dict[str, list[float]]:
    """The decision curve of Vickers and Elkin (2006): hits a slice, less false alarms at the threshold's odds.

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
    """The given probability that serves best as threshold; chosen on test data, it flatters the model.

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
    if rule not in ("youden", "sensitivity95", "specificity95"):
        raise ValueError(f"rule must be youden, sensitivity95 or specificity95, not {rule!r}")
    label, probability = _check(label, probability)
    if not _has_both(label):
        return None
    tp, fp, threshold = _accumulate(label, probability)  # thresholds fall
    sensitivity, specificity = tp / tp[-1], (fp[-1] - fp) / fp[-1]
    if rule == "youden":
        # in whole counts, as equal indices must tie
        return float(threshold[np.argmax(tp * fp[-1] - fp * tp[-1])])
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


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _accumulate(label: Labels, probability: Floats) -> tuple[Labels, Labels, Floats]:
    """True and false positives (T,) at each of the T distinct probabilities as threshold, highest first."""
    order = np.argsort(-probability, kind="stable")
    label, probability = label[order], probability[order]
    last = np.append(np.flatnonzero(np.diff(probability)), len(label) - 1)  # of each tie
    tp = np.cumsum(label)[last]
    return tp, last + 1 - tp, probability[last]


def _bin(label: Labels, probability: Floats, bins: int) -> tuple[Floats, Floats, Floats, Labels]:
    """Of each bin: share of the slices, share of strokes, mean probability (K,); and each slice's bin (N,)."""
    if bins < 1 or ((probability < 0) | (probability > 1)).any():
        raise ValueError("probabilities must lie in [0, 1] and bins be at least 1")
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = np.maximum(count, 1)  # an empty bin weighs nothing
    stroke, total = (np.bincount(place, weights=of, minlength=bins) for of in (label, probability))
    return count / max(len(label), 1), stroke / filled, total / filled, place
