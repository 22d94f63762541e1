"""The examples to click on, each with its truth, and how they were chosen."""

from __future__ import annotations  # naming a type must not import torch before the page answers

from typing import TYPE_CHECKING, Any

from downloads import link_png
from examples import KINDS, MODALITIES, Choice
from numpy.typing import NDArray
from PIL import Image
from render import render

from stroke_hub.errors import pluralise

if TYPE_CHECKING:
    from demo_model import DemoModel

__all__ = ["render_examples"]

SIDE = 160  # px of a thumbnail
# how a sentence calls a kind that does not occur
ABSENT = {"clear hit": "hit", "subtle stroke": "second hit", "normal": "right answer to a normal slice"}


def render_examples(model: DemoModel) -> str:
    """Render the examples to click on, and how they were chosen, as HTML; nothing without examples."""
    choice = model.choice
    if not choice.examples:
        return ""
    return render(
        "examples.html",
        examples={
            caption: {"picture": _draw_thumbnail(one.slice.pixels), "truth": one.truth, "kind": one.kind}
            for caption, one in choice.examples.items()
        },
        simulated=all("simulated" in one.source for one in choice.examples.values()),
        among=" and ".join(f"{one.slices:,} {MODALITIES[name]}" for name, one in choice.asked.items()),
        is_own=choice.is_own,
        rules=KINDS,
        absent=_describe_absent(choice) if choice.is_own else [],
    )


def _describe_absent(choice: Choice) -> list[str]:
    """Say of each modality which kinds do not occur."""
    told = []
    for modality, asked in choice.asked.items():
        name = MODALITIES[modality]
        absent = [ABSENT.get(kind, kind) for kind in KINDS if f"{name}, {kind}" not in choice.examples]
        if absent:
            slices = pluralise(asked.slices, f"{name} test slice")
            told.append(f"This model has no {' and no '.join(absent)} among {slices}.")
    return told


def _draw_thumbnail(pixels: NDArray[Any]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    return link_png(picture)
