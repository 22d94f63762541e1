"""How often 95 % intervals hold the truth: simulated patients, whose true figures are known."""

from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from benchmarks.timing import Row
from scipy.special import expit, ndtr, ndtri

from stroke_hub.metrics.classification import Floats, Labels
from stroke_hub.metrics.intervals import Method, bootstrap_intervals
from stroke_hub.metrics.reliability import measure_recalibration
from stroke_hub.progress import track

Sizes = Literal["equal", "uneven", "ct"]

# slices of each patient in the report on CT, docs/ct-report.json
CT_STROKE = (19, 12, 14, 12, 11, 1, 7, 4, 11)
CT_NORMAL = (33, 31, 30, 29, 35, 30, 33, 31, 31, 39, 32)
MEAN_SIZE = 8  # slices of a patient elsewhere
METHODS: tuple[Method, Method] = ("score", "expanded-bca")
FIGURES: dict[Method, tuple[str, ...]] = {
    "score": ("auroc", "sensitivity", "slope"),
    "expanded-bca": ("auroc", "sensitivity"),
}
KINDS = ("above", "below", "none")
REPLICATES = 600  # of the bootstrap
BAR = ">= 92"


@dataclass(frozen=True)
class Design:
    """A test to simulate.

    patients : of each class; those of the report on CT where `sizes` is "ct".
    sizes : slices of a patient: 8 each, geometric with mean 8, or as in the report on CT.
    icc : the part of the scores' variance that slices of a patient share.
    auroc : the true one.
    """

    patients: int
    sizes: Sizes
    icc: float
    auroc: float

    @property
    def name(self) -> str:
        """The design in words."""
        return f"{self.patients}+{self.patients} {self.sizes}" if self.sizes != "ct" else "9+11 as in CT"

    @property
    def truth(self) -> dict[str, float]:
        """The true figures: sensitivity is that at a probability of 0.5, slope that of calibration."""
        slope = float(np.sqrt(2) * ndtri(self.auroc))  # of the log-odds on the scores
        return {"auroc": self.auroc, "sensitivity": float(ndtr(slope / 2)), "slope": slope}


LAYOUTS: tuple[tuple[int, Sizes], ...] = ((10, "equal"), (10, "uneven"), (25, "equal"), (25, "uneven"), (9, "ct"))
DESIGNS = [Design(*layout, icc, auroc) for auroc, layout, icc in product((0.95, 0.8), LAYOUTS, (0.4, 0.8))]


def simulate(design: Design, generator: np.random.Generator) -> tuple[Labels, Floats, Labels]:
    """Draw the slices of a test: labels, probabilities and patients (N,), from binormal scores."""
    if design.sizes == "ct":
        sizes = [np.array(CT_STROKE), np.array(CT_NORMAL)]
    elif design.sizes == "equal":
        sizes = [np.full(design.patients, MEAN_SIZE)] * 2
    else:
        sizes = [generator.geometric(1 / MEAN_SIZE, design.patients) for _ in range(2)]
    count = np.concatenate(sizes)
    group = np.repeat(np.arange(len(count)), count)
    label = (group < len(sizes[0])).astype(np.int64)
    shared, own = generator.normal(size=len(count))[group], generator.normal(size=len(group))
    score = np.sqrt(2) * ndtri(design.auroc) * (label - 0.5)
    score += np.sqrt(design.icc) * shared + np.sqrt(1 - design.icc) * own
    return label, expit(score), group


def count_misses(design: Design, *, method: Method, draws: int, seed: int) -> Counter[tuple[str, str]]:
    """Count draws whose interval lies "above" or "below" the truth, or that have "none", by figure.

    The slope of calibration has one method, which goes with "score".
    """
    missed: Counter[tuple[str, str]] = Counter()
    for draw in range(draws):
        slices = simulate(design, np.random.default_rng((seed, DESIGNS.index(design), draw)))
        found = bootstrap_intervals(*slices, threshold=0.5, replicates=REPLICATES, seed=draw, method=method)
        if method == "score":
            found |= measure_recalibration(*slices, replicates=2)
        for name in FIGURES[method]:
            low, high, value = found[name]["low"], found[name]["high"], design.truth[name]
            if low is None:
                missed[name, "none"] += 1
            elif not low <= value <= high:
                missed[name, "above" if low > value else "below"] += 1
    return missed


def count_held(missed: Counter[tuple[str, str]], figure: str, draws: int) -> float:
    """How many of 100 intervals of a figure hold the truth; draws without an interval do not count."""
    there = draws - missed[figure, "none"]
    return 100 - 100 * (missed[figure, "above"] + missed[figure, "below"]) / max(there, 1)


def benchmark_coverage(draws: int = 1000, seed: int = 2026) -> list[Row]:
    """How often intervals hold the truth, in %, and how often they lie above or below it, beside the bootstrap's.

    Args:
        draws: simulated tests of each design.
        seed: of the draws. The methods were chosen with other simulations and seeds.
    """
    rows = []
    for design in track(DESIGNS, "simulating tests"):
        missed = {method: count_misses(design, method=method, draws=draws, seed=seed) for method in METHODS}
        for figure in FIGURES["score"]:
            row: Row = {
                "row": f"{figure}, {design.name}, ICC {design.icc}, AUROC {design.auroc}",
                "value": count_held(missed["score"], figure, draws),
                "bar": BAR,
                "draws": draws,
            }
            for method in METHODS:
                if figure in FIGURES[method]:
                    row[method] = {kind: missed[method][figure, kind] for kind in KINDS}
                    row[method]["held"] = count_held(missed[method], figure, draws)
            rows.append(row)
    return rows
