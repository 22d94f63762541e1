"""What a set of probabilities is worth. An undefined figure is None, never 0 or NaN."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    classification_report,
    confusion_matrix,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

__all__ = ["measure", "trace_curves"]

CLASS_NAMES = ["Normal", "Stroke"]


def measure(label: NDArray[np.int64], probability: NDArray[np.float64], *, threshold: float) -> dict[str, Any]:
    """Accuracy, AUROC, average precision, confusion counts and the per-class report.

    Parameters
    ----------
    label : (N,), 1 for Stroke, 0 for Normal.
    probability : (N,), of Stroke.
    threshold : Stroke is predicted where probability >= threshold.

    Returns
    -------
    A dictionary of plain numbers; "auroc" and "average_precision" are None where only one class is present,
    and every figure is where N is 0; then "undefined" says why.
    """
    predicted = (probability >= threshold).astype(int)
    result: dict[str, Any] = {"n": len(label), "n_stroke": int(label.sum()), "threshold": threshold}
    if not len(label):
        return result | {"accuracy": None, "undefined": "no images"}
    tn, fp, fn, tp = (int(count) for count in confusion_matrix(label, predicted, labels=[0, 1]).ravel())
    report = classification_report(
        label, predicted, labels=[0, 1], target_names=CLASS_NAMES, output_dict=True, zero_division=np.nan
    )
    result |= {
        "accuracy": (tp + tn) / len(label),
        "auroc": None,
        "average_precision": None,
        "confusion": {"tp": tp, "tn": tn, "fp": fp, "fn": fn},
        "classes": {name: _replace_nan(report[name]) for name in CLASS_NAMES},
    }
    if len(set(label.tolist())) < 2:
        return result | {"undefined": "only one class is present, so AUROC and average precision are undefined"}
    return result | {
        "auroc": float(roc_auc_score(label, probability)),
        "average_precision": float(average_precision_score(label, probability)),
    }


def trace_curves(label: NDArray[np.int64], probability: NDArray[np.float64]) -> dict[str, list[float]]:
    """ROC and precision-recall curves as lists; empty where only one class is present."""
    if len(set(label.tolist())) < 2:
        return {"fpr": [], "tpr": [], "precision": [], "recall": []}
    fpr, tpr, _ = roc_curve(label, probability)
    precision, recall, _ = precision_recall_curve(label, probability)
    return {
        "fpr": fpr.tolist(),
        "tpr": tpr.tolist(),
        "precision": precision.tolist(),
        "recall": recall.tolist(),
    }


def _replace_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else float(value) for name, value in values.items()}
