"""The examples to click on, each with its truth, and how they were chosen."""

from __future__ import annotations  # naming a type must not import torch before the page answers

from typing import TYPE_CHECKING, Any

from downloads import link_png
from examples import KINDS, MODALITIES, Choice
from numpy.typing import NDArray
from PIL import Image
from render import render

if TYPE_CHECKING:
    from demo_model import DemoModel

__all__ = ["render_examples"]

SIDE = 160  # px of a thumbnail


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
        absent=_list_absent(choice) if choice.is_own else [],
    )


def _list_absent(choice: Choice) -> list[str]:
    """List the kinds that do not occur among all slices asked, by modality."""
    captions = [f"{MODALITIES[modality]}, {kind}" for modality in choice.asked for kind in KINDS]
    return [caption.replace(",", "") for caption in captions if caption not in choice.examples]


def _draw_thumbnail(pixels: NDArray[Any]) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE))
    return link_png(picture)
