"""The price of intervals: every metric of a test set as large as Kaggle's, resampled 10,000 times by patients."""

import time

import numpy as np
from benchmarks.timing import Row, describe_ratios, time_in_turns
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    roc_auc_score,
)

from stroke_hub.metrics.intervals import bootstrap_intervals, resample_groups

IMAGES, GROUPS, REPLICATES = 776, 155, 10_000


def resample_with_sklearn(
    label: np.ndarray, score: np.ndarray, group: np.ndarray, *, replicates: int
) -> list[float]:
    """The same metrics, one resample after another, as scikit-learn computes them."""
    found = []
    for (counts,) in resample_groups(GROUPS, replicates, seed=0, step=1):
        weight = counts[group]
        called = score >= 0.5
        confusion_matrix(label, called, sample_weight=weight)  # sensitivity, specificity, PPV and NPV
        found += [
            accuracy_score(label, called, sample_weight=weight),
            roc_auc_score(label, score, sample_weight=weight),
        ]
        found += [average_precision_score(label, score, sample_weight=weight)]
        found += [brier_score_loss(label, score, sample_weight=weight)]
    return found


def benchmark_report() -> list[Row]:
    """CPU seconds of 10,000 resamples, and how many times as long scikit-learn takes, a resample at a time."""
    generator = np.random.default_rng(0)
    group = np.sort(generator.integers(0, GROUPS, IMAGES))
    label = (group % 3 == 0).astype(np.int64)
    score = generator.random(IMAGES) * 0.6 + label * 0.3
    few = 100
    pairs = time_in_turns(
        lambda: resample_with_sklearn(label, score, group, replicates=few),
        lambda: bootstrap_intervals(
            label, score, group, threshold=0.5, replicates=REPLICATES, method="expanded-bca"
        ),
        rounds=5,
        clock=time.process_time,
    )
    whole = [(theirs * REPLICATES / few, ours) for theirs, ours in pairs]
    ours = float(np.median([ours for _, ours in pairs]))
    return [
        describe_ratios("sklearn_over_intervals", whole, "none"),
        {"row": "intervals_cpu_seconds", "value": ours, "bar": "none"},
    ]
