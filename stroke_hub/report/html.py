"""The report as a page: one HTML file to read, print or send, that fetches and runs nothing."""

import base64
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Template
from PIL import Image

from stroke_hub.errors import RunError
from stroke_hub.files import write_text
from stroke_hub.report.command import build_command
from stroke_hub.report.formatting import (
    BASELINES,
    MEASURES,
    NUMBER_FILTERS,
    Estimate,
    list_parts,
    list_points,
    list_prevalences,
    list_spreads,
)
from stroke_hub.report.methods import describe_decisions, describe_intervals
from stroke_hub.report.templating import make_environment
from stroke_hub.runs.report import Report

__all__ = ["write_page"]

ERRORS_SHOWN = 40  # the most confident ones; a page of hundreds is read by nobody
CSS_PX = 96  # to the inch
PNG_DPI = 160  # as figures are saved
NARROW = 450  # px: a wider figure gets the whole width of the page, and scrolls on a phone instead of shrinking


def write_page(report: Report, figures: Path, out: Path) -> Path:
    """Write a report as one self-contained HTML page.

    Parameters
    ----------
    figures : folder with <stem>.svg or <stem>.png; what is not there is left out.
    out : the page's file.

    Returns
    -------
    `out`.

    Raises
    ------
    RunError : a figure is none of ours.
    """
    page = _load_template().render(
        vars(report),
        parts=list_parts(report.test),
        measures=MEASURES,
        points=list_points(report),
        prevalences=list_prevalences(report.test["overall"]),
        method=describe_intervals(report),
        decisions=describe_decisions(report),
        figures=_load_figures(figures),
        command=build_command(report),
        shown=ERRORS_SHOWN,
        titles={name: words[0].upper() + words[1:] for name, words in BASELINES.items()},
        estimate=Estimate,
        list_spreads=list_spreads,
    )
    write_text(out, page)
    return out


def _load_template() -> Template:
    environment = make_environment(finalize=lambda value: "not defined" if value is None else value)
    environment.filters |= NUMBER_FILTERS
    return environment.get_template("report.html")


def _load_figures(folder: Path) -> dict[str, dict[str, Any]]:
    """By stem: "uri" (a data URI), "width" and "height" (CSS pixels), "wide".

    As pictures, not as markup: there a script does not run, nothing is fetched, and no id or style meets another's.
    """
    figures = {}
    for file in sorted([*folder.glob("*.png"), *folder.glob("*.svg")], key=lambda file: file.suffix):
        uri, width, height = (_read_svg if file.suffix == ".svg" else _read_png)(file)
        figures[file.stem] = {"uri": uri, "width": width, "height": height, "wide": width > NARROW}
    return figures


def _read_svg(file: Path) -> tuple[str, int, int]:
    text = file.read_text(encoding="utf-8")
    size = re.search(r'<svg\b[^>]*\bviewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    if size is None:
        raise RunError(f"{file}: has no viewBox, so it is no figure of ours; evaluate the model again.")
    width, height = (round(float(points) * CSS_PX / 72) for points in size.groups())
    # percent-encoding keeps the pixels inside, which are base64 already, at their size
    return f"data:image/svg+xml,{quote(text, safe=' /:;=,()+')}", width, height


def _read_png(file: Path) -> tuple[str, int, int]:
    with Image.open(file) as image:
        width, height = (round(side * CSS_PX / PNG_DPI) for side in image.size)
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}", width, height
