"""What is wrong with whole scans: one under two names, slices that are missing or stand there twice."""

from collections import Counter, defaultdict
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from stroke_hub.data.records import name_scans, read_slice_numbers

__all__ = ["SCAN_COLUMNS", "list_scans"]

SCAN_COLUMNS = ("scan", "split", "slices", "missing", "doubled", "same_as")
SAME = 0.5  # share of the shorter scan's pictures from which two scans are one
MOST_IN_ONE = 8  # scans that show one picture; more share a blank or a test pattern, and are no copies


def list_scans(table: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """List the scans of a dataset that names them, by name, with what is wrong with each.

    Parameters
    ----------
    table : a dataset's, as `records.Records` has it. pairs : of files that show one picture, as `Audit` has them.

    Returns
    -------
    One row per scan of two slices or more; none where no column says what a scan is. scan: patient and name; split;
    slices; missing: slice numbers between others that no slice has, where numbers go up by the same step mostly;
    doubled: slices whose number or picture another slice of the scan has; same_as: another scan that shows at least
    half of the shorter one's pictures, or "".
    """
    if "scan" not in table:
        return pd.DataFrame(columns=list(SCAN_COLUMNS))
    named = table.assign(_scan=name_scans(table), _number=read_slice_numbers(table))
    picture = _number_pictures(table["path"].tolist(), pairs)
    named["_picture"] = named["path"].map(picture)
    parts = {str(name): part for name, part in named.groupby("_scan") if len(part) > 1}
    same = _find_same({name: set(part["_picture"]) for name, part in parts.items()})
    rows = []
    for name, part in parts.items():
        numbers = part["_number"].to_numpy(float)
        twice = part["_picture"].duplicated() | (part["_number"].duplicated() & part["_number"].notna())
        splits = "/".join(sorted(set(part["split"])))
        rows.append((name, splits, len(part), _count_missing(numbers), int(twice.sum()), same.get(name, "")))
    return pd.DataFrame(rows, columns=list(SCAN_COLUMNS))


def _number_pictures(paths: list[str], pairs: pd.DataFrame) -> dict[str, str]:
    """For each file the first of those that show its picture, whatever chain of pairs leads there."""
    first: dict[str, str] = {path: path for path in paths}

    def find(path: str) -> str:
        while first[path] != path:
            path = first[path] = first[first[path]]
        return path

    for a, b in zip(pairs["path_a"], pairs["path_b"], strict=True):
        first[find(a)] = find(b)
    return {path: find(path) for path in paths}


def _find_same(pictures: dict[str, set[str]]) -> dict[str, str]:
    """For each scan one that shows at least half of the shorter one's pictures, the most alike."""
    holders: dict[str, list[str]] = defaultdict(list)
    for name, own in pictures.items():
        for one in own:
            holders[one].append(name)
    shared: Counter[tuple[str, str]] = Counter()
    for names in holders.values():
        if len(names) <= MOST_IN_ONE:
            shared.update(combinations(sorted(names), 2))
    best: dict[str, tuple[float, str]] = {}
    for (a, b), count in shared.items():
        share = count / min(len(pictures[a]), len(pictures[b]))
        if share >= SAME and count > 1:
            for one, other in ((a, b), (b, a)):
                best[one] = max(best.get(one, (0.0, "")), (share, other))
    return {name: other for name, (_, other) in best.items()}


def _count_missing(numbers: "np.ndarray[Any, Any]") -> int:
    """How many steps between the lowest and the highest number nobody took; 0 where there is no common step."""
    known = np.unique(numbers[np.isfinite(numbers)])
    steps = np.diff(known)
    if len(steps) < 2:
        return 0
    values, counts = np.unique(steps, return_counts=True)
    step = values[counts.argmax()]
    if counts.max() <= len(steps) / 2:
        return 0
    return int(np.maximum(np.rint(steps / step) - 1, 0).sum())
