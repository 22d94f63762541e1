"""A test part for a dataset that has none: always the same patients, whatever the rules and whoever comes later."""

import hashlib
from collections.abc import Mapping

__all__ = ["draw_test"]

SHARE = 0.2  # of the patients


def draw_test(patients: Mapping[str, bool]) -> set[str]:
    """Draw the patients of the test part by a hash of their names.

    A patient's place depends on its name alone, so that neither other rules nor further patients move it. Only
    where all patients with a stroke, or all without, would stand on one side, one of them changes it.

    Parameters
    ----------
    patients : for each name, whether it has a stroke.
    """
    drawn: set[str] = set()
    for has_stroke in (True, False):
        places = sorted((_place(name), name) for name, stroke in patients.items() if stroke == has_stroke)
        chosen = [name for place, name in places if place < SHARE]
        if len(places) > 1:
            chosen = (chosen or [places[0][1]])[: len(places) - 1]
        drawn.update(chosen)
    return drawn


def _place(name: str) -> float:
    """A number from 0 to 1 that looks random and follows from the name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
