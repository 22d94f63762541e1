"""From the slices of a scan to one answer: the mean of the highest smoothed log-odds, calibrated. numpy alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_SLICES", "WIDTHS", "HighestMean", "Judged"]

Floats = NDArray[np.float64]

WIDTHS = (1, 3)
MOST_SLICES = 64


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

    @classmethod
    def from_numbers(cls, numbers: Sequence[float]) -> "HighestMean":
        """Make a rule of its five numbers in their order, as weights store them.

        Raises
        ------
        ValueError : they are no rule.
        """
        highest, width, *rest = numbers
        if not (highest.is_integer() and width.is_integer()):
            raise ValueError("scan_rule counts slices in fractions; the file is not usable.")
        return cls(int(highest), int(width), *rest)

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
