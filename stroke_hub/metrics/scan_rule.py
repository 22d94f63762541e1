"""How a model judges scans is chosen and calibrated on validation scans."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stroke_hub.metrics.calibration import (
    Calibration,
    OperatingPoint,
    choose_operating_points,
    fit_calibration,
)
from stroke_hub.metrics.classification import Floats, Labels, auroc
from stroke_hub.metrics.highest_mean import WIDTHS, HighestMean

__all__ = ["FEWEST_SCANS", "FittedRule", "fit_highest_mean"]

COUNTS = (1, 3, 5, 8)  # of highest slices that are tried; at 5 mm eight are a lesion of 4 cm
FEWEST_SCANS = 10  # of each class: with fewer the AUROC of a candidate is mostly chance


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
