"""How the benchmarks measure: two things in turns in one process, medians; bars; memory as Linux counts it."""

import operator
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from stroke_hub.progress import track

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Row = dict[str, Any]
Call = Callable[[], object]
Clock = Callable[[], float]
COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}


def time_in_turns(first: Call, second: Call, *, rounds: int, clock: Clock) -> list[tuple[float, float]]:
    """Seconds of both by `clock`, a pair a round, after one unmeasured call of each."""

    def measure(call: Call) -> float:
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        start = clock()
        call()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return clock() - start

    first(), second()
    return [(measure(first), measure(second)) for _ in track(range(rounds), "timing")]


def compare_times(first: Call, second: Call, *, rounds: int) -> tuple[float, float]:
    """Median seconds of both, run in turns: CPU time of the process, or the GPU's."""
    clock = time.perf_counter if DEVICE == "cuda" else time.process_time
    pairs = time_in_turns(first, second, rounds=rounds, clock=clock)
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def describe_ratios(name: str, pairs: list[tuple[float, float]], bar: str, **further: Any) -> Row:
    """A row of how many times as long the first took: the median round, the extremes, and what else to tell."""
    ratios = sorted(first / second for first, second in pairs)
    median = statistics.median(ratios)
    return {"row": name, "value": median, "low": ratios[0], "high": ratios[-1], "bar": bar} | further


def meets_bar(value: float, bar: str) -> bool | None:
    """Whether a value is within a bar like "<= 1.50", "> 3" or "0" (exactly that); None where the bar is "none".

    Raises
    ------
    ValueError : it is none of these.
    """
    if bar == "none":
        return None
    try:
        *comparison, bound = bar.split()
        (compare,) = [COMPARISONS[word] for word in comparison or ["=="]]
        return compare(value, float(bound))
    except (KeyError, ValueError):
        raise ValueError(f"{bar!r} is no bar; write a comparison and a number, a number, or none") from None


def read_memory(kind: str) -> float:
    """A figure of this process's memory by its name in /proc/self/status, in MiB (Linux)."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(kind))
    return int(line.split()[1]) / 1024
