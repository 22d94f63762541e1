"""What of a gallery is shown: the slices of an outcome, of a modality, the unusual ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "MODALITIES",
    "NAMES",
    "Choice",
    "Selection",
    "find_address",
    "list_choices",
    "list_selections",
    "name_outcome",
]

ALL = "all"
NAMES = {"miss": "Miss", "false-alarm": "False alarm", "hit": "Hit", "correct-normal": "Correct normal"}
OUTCOMES = {outcome: f"{name}{'es' if name == 'Miss' else 's'}" for outcome, name in NAMES.items()}
MODALITIES = {"BT": "CT", "MR": "MR", "unknown": "Unknown"}
COLUMNS = {"outcome": "Outcome", "modality": "Modality", "novelty": "Novelty"}  # and what a reader calls them
TITLES = {"outcome": OUTCOMES, "modality": MODALITIES, "novelty": {"unusual": "Unusual"}}


@dataclass(frozen=True)
class Selection:
    """Which slices: each field is "all" or a value of the results' column of that name.

    outcome : "miss", "false-alarm", "hit" or "correct-normal".
    modality : "BT" (CT), "MR" or "unknown".
    novelty : "unusual", which others are not.
    """

    outcome: str = ALL
    modality: str = ALL
    novelty: str = ALL

    def match(self, results: pd.DataFrame) -> NDArray[np.bool_]:
        """Tell of each row whether it is one of these slices."""
        kept = np.ones(len(results), bool)
        for column, value in vars(self).items():
            if value != ALL:
                kept &= (results[column] == value).to_numpy()
        return kept


@dataclass(frozen=True)
class Choice:
    """A value that a reader may choose in one column.

    title : what it is called.
    count : how many slices would be shown.
    address : of their first page, from the gallery's folder; None where there are none.
    chosen : whether it is what the page shows.
    """

    title: str
    count: int
    address: str | None
    chosen: bool


def name_outcome(truth: str, label: str) -> str:
    """Name the outcome of a slice, of its true class and the class that it was called."""
    if truth == label:
        return "hit" if truth == "Stroke" else "correct-normal"
    return "miss" if truth == "Stroke" else "false-alarm"


def find_address(selection: Selection, number: int) -> str:
    """Find the address of a page, from the gallery's folder; the first page of everything is index.html."""
    if selection == Selection() and number == 1:
        return "index.html"
    parts = [value.lower() for value in vars(selection).values() if value != ALL]
    return f"pages/{'-'.join(parts) or ALL}-{number}.html"


def list_selections(results: pd.DataFrame) -> list[Selection]:
    """List the selections that hold a slice, everything first."""
    values = [[ALL, *_list_values(results, column)] for column in COLUMNS]
    found = [Selection(*each) for each in product(*values)]
    return [each for each in found if each.match(results).any() or each == Selection()]


def list_choices(results: pd.DataFrame, selection: Selection) -> list[tuple[str, list[Choice]]]:
    """List, by the title of each column that divides the results, what can be chosen beside a selection."""
    groups = []
    for column, title in COLUMNS.items():
        values = _list_values(results, column)
        if values:
            chosen = getattr(selection, column)
            others = [(value, replace(selection, **{column: value})) for value in (ALL, *values)]
            offers = []
            for value, other in others:
                count = int(other.match(results).sum())
                address = find_address(other, 1) if count else None
                offers.append(Choice(TITLES[column].get(value, "All"), count, address, value == chosen))
            groups.append((title, offers))
    return groups


def _list_values(results: pd.DataFrame, column: str) -> Sequence[str]:
    """List a column's values that can be chosen, in the order of their titles.

    All outcomes, as that there are no misses is worth knowing; of other columns those that divide the slices.
    """
    there = set(results[column])
    if column == "outcome":
        return list(OUTCOMES)
    return [value for value in TITLES[column] if value in there] if len(there) > 1 else []
