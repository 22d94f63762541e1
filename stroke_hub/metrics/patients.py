"""The patient and the scan as units: rules from slices to a scan, what is found of a patient, and exact intervals.

Throughout, `group` is (N,), whose slice it is; `scan` is (N,), of which scan; label and probability are those of
`classification`. A patient or a scan is positive where one of its slices is Stroke.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stroke_hub.metrics.classification import Floats, Labels, auroc
from stroke_hub.metrics.highest_mean import HighestMean
from stroke_hub.metrics.intervals import bootstrap_intervals, bootstrap_ratio, bootstrap_rivals, paired_bootstrap

__all__ = [
    "RULES",
    "Names",
    "PatientCounts",
    "ScanRule",
    "ScanScores",
    "compare_calls",
    "compare_scans",
    "count_patients",
    "estimate_exactly",
    "make_own_rule",
    "measure_calls",
    "measure_rules",
    "measure_within",
    "predict_patients",
    "score_scans",
]

Names = NDArray[np.str_]

HIGHEST = 3  # slices that the second rule averages


class ScanRule(NamedTuple):
    """Make one probability of a scan's slices.

    name : of the rule.
    words : what the probability of a scan is, to follow "a scan is judged by".
    score : log-odds (K,) of the slices of one scan, in the order of their numbers -> probability of the scan.
    """

    name: str
    words: str
    score: Callable[[Floats], float]


def _to_probability(log_odds: Any) -> Any:
    from scipy.special import expit  # the core counts, and has no scipy

    return expit(log_odds)


RULES = (
    ScanRule("maximum", "the highest probability", lambda z: float(_to_probability(z.max()))),
    ScanRule(
        "highest3",
        f"the mean of the {HIGHEST} highest probabilities",
        lambda z: float(_to_probability(np.sort(z)[-HIGHEST:]).mean()),
    ),
)


def make_own_rule(rule: HighestMean | None) -> ScanRule:
    """Make the rule by which a model answers for a scan; `rule` is what it stores, None takes the default."""
    known = rule or HighestMean()
    whose = "model's own" if rule else "default"
    words = f"the {whose} rule for scans ({known.words})"
    return ScanRule("own", words, lambda z: float(_to_probability(np.asarray(known.judge(z).log_odds))))


class PatientCounts(NamedTuple):
    """Count the slices of each of P patients, at a threshold.

    name : (P,), in rising order.
    slices, strokes, found, false_calls : (P,) int64: all, those that are Stroke, those of these that are called
        Stroke, and those of the others that are.
    scans : (P,) int64.
    highest : (P,) int64, the row of the slice of highest probability; of equals the first.
    """

    name: Names
    slices: Labels
    strokes: Labels
    found: Labels
    false_calls: Labels
    scans: Labels
    highest: Labels

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Tell who has a stroke slice, (P,)."""
        return self.strokes > 0

    @property
    def mixed(self) -> NDArray[np.bool_]:
        """Tell who has slices of both classes, (P,)."""
        return (self.strokes > 0) & (self.strokes < self.slices)

    @property
    def missed(self) -> NDArray[np.bool_]:
        """Tell of whom with stroke slices none is called Stroke, (P,)."""
        missed: NDArray[np.bool_] = self.positive & (self.found == 0)
        return missed

    @property
    def called(self) -> NDArray[np.bool_]:
        """Tell of whom any slice is called Stroke, (P,)."""
        return self.found + self.false_calls > 0


def count_patients(
    label: Labels, probability: Floats, group: Names, scan: Names, *, threshold: float
) -> PatientCounts:
    """Count what each patient has, and what is called of it at a threshold."""
    names, index = np.unique(group, return_inverse=True)
    called = probability >= threshold

    def count(mask: NDArray[np.bool_]) -> Labels:
        return np.bincount(index[mask], minlength=len(names))

    pairs = np.unique(np.stack([index, np.unique(scan, return_inverse=True)[1]]), axis=1)
    order = np.lexsort((-probability, index))  # stable: of equals the first row
    return PatientCounts(
        name=names,
        slices=count(np.ones(len(label), bool)),
        strokes=count(label == 1),
        found=count((label == 1) & called),
        false_calls=count((label == 0) & called),
        scans=np.bincount(pairs[0], minlength=len(names)),
        highest=order[np.unique(index[order], return_index=True)[1]],
    )


def estimate_exactly(hits: int, trials: int, *, lacking: str) -> dict[str, Any]:
    """Estimate a share of independent patients with the exact 95 % interval of Clopper and Pearson (1934).

    Parameters
    ----------
    lacking : why there is no value, where `trials` is 0.

    Returns
    -------
    An interval as `intervals.bootstrap_intervals` gives it, of no replicates.
    """
    from scipy.stats import binomtest

    method = {"method": "Clopper-Pearson over patients", "groups": trials, "replicates": 0, "left_out": 0}
    if not trials:
        return {"value": None, "low": None, "high": None, **method, "undefined": lacking}
    limits = binomtest(hits, trials).proportion_ci(confidence_level=0.95, method="exact")
    return {"value": hits / trials, "low": float(limits.low), "high": float(limits.high), **method}


def measure_calls(counts: PatientCounts) -> dict[str, dict[str, Any]]:
    """Measure how patients are told apart by "any slice is called Stroke".

    Returns
    -------
    "sensitivity" and "specificity", with exact intervals over patients.
    """
    positive, called = counts.positive, counts.called
    hits, rest = int(called[positive].sum()), int((~called[~positive]).sum())
    return {
        "sensitivity": estimate_exactly(hits, int(positive.sum()), lacking="no patient has a stroke slice"),
        "specificity": estimate_exactly(rest, int((~positive).sum()), lacking="every patient has a stroke slice"),
    }


def predict_patients(counts: PatientCounts, prevalences: tuple[float, ...]) -> dict[str, dict[str, Any]]:
    """Compute what a call of a patient, "any slice is called Stroke", is worth at prevalences of positive patients.

    Returns
    -------
    By prevalence, as text, "ppv" and "npv" by Bayes' theorem, with intervals from those of both rates.
    """
    positive, called = counts.positive.astype(np.int64), counts.called.astype(np.float64)
    found = bootstrap_intervals(positive, called, counts.name, threshold=0.5, prevalences=prevalences)
    return dict(found["at_prevalence"])


def compare_calls(
    label: Labels,
    probability_a: Floats,
    probability_b: Floats,
    group: Names,
    *,
    threshold_a: float,
    threshold_b: float,
) -> dict[str, dict[str, Any]]:
    """Measure how two models call patients by "any slice is called Stroke", and a's figures minus b's.

    Returns
    -------
    "sensitivity" and "specificity", each as "a" and "b" with exact intervals and "difference" over resamples of the
    patients.
    """
    sides = ((probability_a, threshold_a), (probability_b, threshold_b))
    counts = [count_patients(label, one, group, group, threshold=at) for one, at in sides]
    points = [measure_calls(found) for found in counts]
    positive = counts[0].positive.astype(np.int64)
    a, b = (found.called.astype(np.float64) for found in counts)
    gaps = paired_bootstrap(positive, a, b, counts[0].name, threshold_a=0.5, threshold_b=0.5)
    return {
        name: {"a": points[0][name], "b": points[1][name], "difference": gaps[name]}
        for name in ("sensitivity", "specificity")
    }


class ScanScores(NamedTuple):
    """Hold one probability for each of S scans.

    label : (S,), 1 where a slice of the scan is Stroke. probability : (S,). group : (S,), whose scan it is.
    """

    label: Labels
    probability: Floats
    group: Names


def score_scans(label: Labels, log_odds: Floats, group: Names, scan: Names, rule: ScanRule) -> ScanScores:
    """Judge each scan by a rule; the slices of a scan keep their order."""
    members = _split_rows(scan)
    return ScanScores(
        label=np.array([label[rows].max() for rows in members], np.int64),
        probability=np.array([rule.score(log_odds[rows]) for rows in members], np.float64),
        group=group[[rows[0] for rows in members]],
    )


def measure_rules(
    label: Labels, log_odds: Floats, group: Names, scan: Names, rules: tuple[ScanRule, ...]
) -> list[dict[str, Any]]:
    """Measure the AUROC of scans by each rule: "name", "words", and "auroc" with its interval over patients."""
    rows = []
    for rule in rules:
        found = score_scans(label, log_odds, group, scan, rule)
        intervals = bootstrap_intervals(found.label, found.probability, found.group, threshold=0.5)
        rows.append({"name": rule.name, "words": rule.words, "auroc": intervals["auroc"]})
    return rows


def compare_scans(
    label: Labels,
    log_odds: Floats,
    rivals: Mapping[str, Floats],
    group: Names,
    scan: Names,
    rule: ScanRule,
) -> dict[str, dict[str, Any]]:
    """Measure the AUROC of scans by a rule, of rivals of a model on the same slices, and the model's minus theirs.

    Parameters
    ----------
    log_odds : (N,), the model's; and by name those of its rivals.

    Returns
    -------
    By rival, "auroc" and "difference", with intervals over patients.
    """
    own = score_scans(label, log_odds, group, scan, rule)
    scored = {name: (score_scans(label, one, group, scan, rule).probability, 0.5) for name, one in rivals.items()}
    found = bootstrap_rivals(own.label, own.probability, scored, own.group, threshold=0.5)
    return {
        name: {"auroc": one["own"]["auroc"], "difference": one["difference"]["auroc"]}
        for name, one in found.items()
    }


def measure_within(label: Labels, probability: Floats, group: Names) -> dict[str, Any] | None:
    """Measure how slices of patients with both classes are told apart; None where no patient has both.

    Returns
    -------
    "slices" and "stroke_slices" of these patients; "pooled", the AUROC of all their slices together; and "mean",
    the mean over these patients of the AUROC among the slices of each, which nothing that differs between
    patients can raise. Both with intervals over patients.
    """
    mixed = np.isin(group, np.intersect1d(group[label == 1], group[label == 0]))
    if not mixed.any():
        return None
    label, probability, group = label[mixed], probability[mixed], group[mixed]
    each = [auroc(label[rows], probability[rows]) for rows in _split_rows(group)]
    mean = bootstrap_ratio(np.array(each, np.float64), np.ones(len(each)), proportion=True)
    return {
        "slices": len(label),
        "stroke_slices": int(label.sum()),
        "pooled": bootstrap_intervals(label, probability, group, threshold=0.5)["auroc"],
        "mean": mean,
    }


def _split_rows(names: Names) -> list[Labels]:
    """List the rows of each name, in their order; the names in rising order."""
    _, count = np.unique(names, return_counts=True)
    return np.split(np.argsort(names, kind="stable"), np.cumsum(count)[:-1]) if len(names) else []
