"""From the slices of a scan to one answer: the mean of the highest smoothed log-odds, calibrated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stroke_hub.metrics.calibration import (
    Calibration,
    OperatingPoint,
    choose_operating_points,
    fit_calibration,
)
from stroke_hub.metrics.classification import Floats, Labels, auroc

__all__ = ["MOST_SLICES", "WIDTHS", "FittedRule", "HighestMean", "Judged", "fit_highest_mean"]

WIDTHS = (1, 3)
COUNTS = (1, 3, 5, 8)  # of highest slices that are tried; at 5 mm eight are a lesion of 4 cm
MOST_SLICES = 64
FEWEST_SCANS = 10  # of each class: with fewer the AUROC of a candidate is mostly chance


class Judged(NamedTuple):
    """Hold the answer for a scan of N slices.

    log_odds : of Stroke, calibrated.
    weights : (N,) float64, >= 0, adding up to 1: with these held, log_odds = scale * weights @ slices + shift.
    """

    log_odds: float
    weights: Floats


@dataclass(frozen=True)
class HighestMean:
    """Judge a scan by the mean of its highest slices, each averaged with its neighbours before.

    Parameters
    ----------
    highest : how many slices count, 1 to 64; a scan with fewer counts all.
    width : slices that are averaged, 1 (none) or 3 (with the one below and the one above).
    scale, shift : turn the mean of the slices' log-odds into that of the scan; scale > 0.
    threshold : probability from which a scan is called Stroke, 0 to 1.

    Raises
    ------
    ValueError : a number is none of these.
    """

    highest: int = 3
    width: int = 1
    scale: float = 1.0
    shift: float = 0.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        numbers = (self.scale, self.shift, self.threshold)
        if not (
            type(self.highest) is int
            and 1 <= self.highest <= MOST_SLICES
            and type(self.width) is int
            and self.width in WIDTHS
            and all(type(number) is float and np.isfinite(number) for number in numbers)
            and self.scale > 0
            and 0 <= self.threshold <= 1
        ):
            raise ValueError(f"{self!r} is no rule for scans; train the model again.")

    @property
    def words(self) -> str:
        """What a scan's log-odds are, to follow "a scan is judged by"."""
        highest = "the highest slice" if self.highest == 1 else f"the mean of the {self.highest} highest slices"
        smoothed = ", each averaged with its neighbours" if self.width > 1 else ""
        return f"{highest}{smoothed}"

    def judge(self, log_odds: Floats) -> Judged:
        """Judge a scan.

        Parameters
        ----------
        log_odds : (N,), calibrated, of Stroke, of its slices in the order of their positions; N at least 1.

        Raises
        ------
        ValueError : there are none.
        """
        z = np.asarray(log_odds, np.float64)
        if not len(z):
            raise ValueError("the scan has no slices; pass one with at least one.")
        shares = _smooth(len(z), self.width)
        smoothed = np.array([float(z[rows] @ share) for rows, share in shares])
        chosen = np.argsort(-smoothed, kind="stable")[: self.highest]  # of equals the lower slices
        weights = np.zeros(len(z))
        for index in chosen:
            rows, share = shares[index]
            weights[rows] += share / len(chosen)
        return Judged(self.scale * float(weights @ z) + self.shift, weights)


def _smooth(count: int, width: int) -> list[tuple[slice, Floats]]:
    """The slices that each of `count` is averaged over, and their shares; at an end there are fewer."""
    found = []
    for index in range(count):
        rows = slice(max(0, index - width // 2), min(count, index + width // 2 + 1))
        size = rows.stop - rows.start
        found.append((rows, np.full(size, 1 / size)))
    return found


class FittedRule(NamedTuple):
    """Hold a rule and how it was chosen.

    rule : the one chosen. auroc : by (highest, width) that of the scans, of every candidate.
    scans : the numbers of normal and of stroke scans.
    """

    rule: HighestMean
    auroc: dict[tuple[int, int], float]
    scans: tuple[int, int]

    def describe(self) -> dict[str, Any]:
        """Describe it for the run folder, as plain JSON."""
        numbers = self.rule.__dict__ | {"normal_scans": self.scans[0], "stroke_scans": self.scans[1]}
        candidates = [
            {"highest": highest, "width": width, "auroc": area} for (highest, width), area in self.auroc.items()
        ]
        return numbers | {"words": self.rule.words, "candidates": candidates}


def fit_highest_mean(
    scans: Sequence[Floats],
    label: Labels,
    *,
    method: Calibration = "platt",
    operating_point: OperatingPoint = "youden",
) -> FittedRule | None:
    """Choose a rule and calibrate it on the slices of validation scans.

    The AUROC of the scans chooses how many slices count and whether they are smoothed; of equals the simplest:
    unsmoothed, then fewer slices. Scale and shift are those of `fit_calibration`, with its shrunken targets.

    Parameters
    ----------
    scans : log-odds of the slices of each scan, in the order of their positions.
    label : 1 for a scan with stroke, else 0.

    Returns
    -------
    None where fewer than 10 scans of either class are there. Numbers are float32 exactly, as a model stores them.
    """
    from scipy.special import expit  # the core judges by a fitted rule, and has no scipy

    label = np.asarray(label)
    counts = (int((label == 0).sum()), int((label == 1).sum()))
    if min(counts) < FEWEST_SCANS:
        return None
    best: tuple[float, HighestMean, Floats] | None = None
    areas = {}
    for width in WIDTHS:
        for highest in COUNTS:
            candidate = HighestMean(highest, width)
            z = np.array([candidate.judge(one).log_odds for one in scans])
            areas[highest, width] = area = auroc(label, expit(z)) or 0.0
            if best is None or area > best[0]:
                best = (area, candidate, z)
    assert best is not None  # noqa: S101  there are candidates
    _, chosen, z = best
    temperature, offset = fit_calibration(z, label, method=method) or (1.0, 0.0)
    # as stored, before the threshold is chosen: the scan of a threshold stays called Stroke
    scale, shift = float(np.float32(1 / temperature)), float(np.float32(offset / temperature))
    points = choose_operating_points(label, expit(scale * z + shift))
    threshold = points[operating_point]["threshold"]
    if threshold is None:
        threshold = points["half"]["threshold"]
    return FittedRule(HighestMean(chosen.highest, chosen.width, scale, shift, threshold), areas, counts)
