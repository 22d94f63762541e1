"""The pages of a gallery: 40 slices each, linked by plain addresses, without a script."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from jinja2 import Template

from stroke_hub.files import write_text
from stroke_hub.gallery.selection import (
    MODALITIES,
    NAMES,
    Selection,
    find_address,
    list_choices,
    list_selections,
)
from stroke_hub.report.formatting import NUMBER_FILTERS
from stroke_hub.report.templating import make_environment

__all__ = ["find_places", "write_pages"]

ON_PAGE = 40
NEAR = 2  # numbers of pages that are named on either side of the current one
REPORT_PAGE = "report.html"


def find_places(results: pd.DataFrame) -> list[str]:
    """Find where each slice of the results stands among all of them: page and anchor, from the gallery's folder."""
    addresses = [find_address(Selection(), 1 + i // ON_PAGE) for i in range(len(results))]
    return [f"{address}#{name}" for address, name in zip(addresses, results["name"], strict=True)]


def write_pages(results: pd.DataFrame, out: Path, *, headline: str, note: str) -> Path:
    """Write a page for every 40 slices of every selection: index.html, and others in pages/.

    Parameters
    ----------
    results : a row a slice in the order that is shown, as explanations.csv has it.
    out : the gallery's folder.
    headline, note : what was found by patient, and what the data stand for.

    Returns
    -------
    The first page, index.html; it is written last.
    """
    environment = make_environment()
    environment.filters |= NUMBER_FILTERS
    template = environment.get_template("gallery.html")
    (out / "pages").mkdir(parents=True, exist_ok=True)
    report = f"../{REPORT_PAGE}" if (out.parent / REPORT_PAGE).is_file() else None
    about = {"headline": headline, "note": note, "report": report, "total": len(results)}
    about["wrong"] = int((results["truth"] != results["label"]).sum())
    for selection in reversed(list_selections(results)):
        shown = results[selection.match(results)]
        count = max(1, -(-len(shown) // ON_PAGE))
        for number in range(count, 0, -1):
            address = find_address(selection, number)
            part = shown.iloc[(number - 1) * ON_PAGE : number * ON_PAGE]
            write_text(out / address, _render(template, results, selection, part, (number, count), about))
    return out / "index.html"


def _render(
    template: Template,
    results: pd.DataFrame,
    selection: Selection,
    part: pd.DataFrame,
    place: tuple[int, int],
    about: Mapping[str, object],
) -> str:
    """Render one page; `place` is its number and how many there are."""
    number, count = place
    near = {1, count, *range(max(1, number - NEAR), min(count, number + NEAR) + 1)}
    return template.render(
        about,
        rows=part.to_dict("records"),
        choices=list_choices(results, selection),
        home="" if find_address(selection, number) == "index.html" else "../",
        names=NAMES,
        modalities=MODALITIES,
        number=number,
        count=count,
        first=(number - 1) * ON_PAGE + 1,
        shown=int(selection.match(results).sum()),
        numbers=[(one, find_address(selection, one)) for one in sorted(near)],
        before=find_address(selection, number - 1) if number > 1 else None,
        after=find_address(selection, number + 1) if number < count else None,
    )
