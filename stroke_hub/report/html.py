"""The report as a page: one HTML file to read, print or send, that fetches and runs nothing."""

import base64
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Template
from markupsafe import Markup, escape
from PIL import Image

from stroke_hub.errors import RunError
from stroke_hub.files import write_text
from stroke_hub.report.formatting import (
    BASELINES,
    MEASURES,
    NUMBER_FILTERS,
    PART_TITLES,
    POINT_TITLES,
    Estimate,
    list_parts,
    list_points,
    list_prevalences,
    list_spreads,
    name_value,
    show_interval,
)
from stroke_hub.report.methods import describe_decisions, describe_intervals
from stroke_hub.report.templating import make_environment
from stroke_hub.report.verdict import answer
from stroke_hub.runs.command import build_command, choose_options
from stroke_hub.runs.report import Baseline, DeLong, Interval, Report
from stroke_hub.runs.run_folder import GALLERY_FOLDER, find_gallery

__all__ = ["write_page"]

ERRORS_SHOWN = 40  # the most confident ones; a page of hundreds is read by nobody
OUTCOMES = ("best_epoch", "best_val_auroc")  # that training gave, beside what it was told
CSS_PX = 96  # to the inch
PNG_DPI = 160  # as figures are saved
NARROW = 450  # px: a wider figure gets the whole width of the page, and scrolls on a phone instead of shrinking


def write_page(report: Report, figures: Path, out: Path) -> Path:
    """Write a report as one self-contained HTML page, a verdict first and the rest folded.

    Parameters
    ----------
    figures : folder with <stem>.svg or <stem>.png; what is not there is left out.
    out : the page's file. Errors lead to the gallery that lies beside it in gallery/, where there is one.

    Returns
    -------
    `out`.

    Raises
    ------
    RunError : a figure is none of ours.
    """
    notes = _Notes()
    unusual = f"{GALLERY_FOLDER}/pages/unusual-1.html"
    page = _load_template(notes).render(
        vars(report),
        answers=answer(report),
        modalities=[PART_TITLES[part] for part in ("BT", "MR") if report.test[part].n],
        parts=list_parts(report.test),
        measures=MEASURES,
        points=list_points(report),
        point_titles=POINT_TITLES,
        prevalences=list_prevalences(report.test["overall"]),
        method=describe_intervals(report),
        decisions=describe_decisions(report),
        figures=_load_figures(figures),
        command=build_command(report),
        settings=_divide_settings(report.training or {}),
        shown=ERRORS_SHOWN,
        titles={name: words[0].upper() + words[1:] for name, words in BASELINES.items()},
        explain_rule=_explain_rule,
        estimate=Estimate,
        list_spreads=list_spreads,
        name_value=name_value,
        gallery=find_gallery(out.parent),
        unusual=unusual if (out.parent / unusual).is_file() else None,
        notes=notes,
    )
    write_text(out, page)
    return out


class _Notes:
    """Why figures of a table are undefined: said once below it, with a letter in the cells."""

    def __init__(self) -> None:
        self._reasons: list[str] = []

    def mark(self, interval: Interval | DeLong | Estimate | None, sign: bool = False) -> str:
        """Write a figure with its interval, or what there is of it with a letter for the reason."""
        if interval is None or (interval.value is not None and None not in (interval.low, interval.high)):
            return show_interval(interval, sign=sign)
        if interval.value is None:
            text, reason = "–", "Not defined"
        else:
            text = show_interval(Estimate(interval.value, None, None), sign=sign).partition(" (")[0]
            reason = "No interval"
        reason = f"{reason}: {interval.undefined}." if interval.undefined else f"{reason}."
        if reason not in self._reasons:
            self._reasons.append(reason)
        return escape(text) + Markup("<sup>{}</sup>").format(self._letter(self._reasons.index(reason)))

    def take(self) -> list[tuple[str, str]]:
        """Take the letters and reasons that have come together, to write them below the table."""
        taken, self._reasons = self._reasons, []
        return [(self._letter(place), reason) for place, reason in enumerate(taken)]

    @staticmethod
    def _letter(place: int) -> str:
        return chr(ord("a") + place)


def _load_template(notes: _Notes) -> Template:
    environment = make_environment(finalize=lambda value: "not defined" if value is None else value)
    environment.filters |= NUMBER_FILTERS | {"coded": _mark_code, "marked": notes.mark}
    return environment.get_template("report.html")


def _mark_code(sentence: str) -> Markup:
    """Mark what stands in backticks as code, and escape the rest."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))  # noqa: S704  escaped


def _divide_settings(training: dict[str, Any]) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Divide the settings into those that a default would not give, and the rest."""
    given = choose_options(training)
    told = {name: value for name, value in training.items() if value is not None and name not in OUTCOMES}
    changed = [(name, value) for name, value in told.items() if name in given]
    return changed, [(name, value) for name, value in told.items() if name not in given]


def _explain_rule(row: Baseline) -> str:
    """Say what a simple rule is, without its name before it, which stands beside."""
    head, colon, rest = row.words.partition(": ")
    return rest[0].upper() + rest[1:] if colon and rest and len(head.split()) < 4 else row.words


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
