"""report.json and figures -> report.html: one file to read, print or send, that fetches and runs nothing."""

import base64
import re
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from stroke_hub.errors import RunError
from stroke_hub.files import write_text
from stroke_hub.summary import BASELINES
from stroke_hub.train import TrainConfig

__all__ = ["write_page"]

SCHEMA_VERSION = 2
ERRORS_SHOWN = 40  # the most confident ones; a page of hundreds is read by nobody
CSS_PX = 96  # to the inch
PNG_DPI = 160  # as figures are saved
NARROW = 450  # px: a wider figure gets the whole width of the page, and scrolls on a phone instead of shrinking
PARTS = {"overall": "All slices", "BT": "CT (BT)", "MR": "MR"}
POINTS = {
    "half": "Probability 0.5",
    "youden": "Youden",
    "sensitivity95": "Sensitivity 95 %",
    "specificity95": "Specificity 95 %",
}


def write_page(report: Mapping[str, Any], figures: Path, out: Path) -> Path:
    """Write a report as one self-contained HTML page.

    Parameters
    ----------
    report : as report.json has it, schema version 2 (docs/report.md).
    figures : folder with <stem>.svg or <stem>.png; what is not there is left out.
    out : the page's file.

    Returns
    -------
    `out`.

    Raises
    ------
    RunError : the report is of another schema version, or a figure is none of ours.
    """
    if report.get("schema_version") != SCHEMA_VERSION:
        raise RunError(
            f"The report is of schema version {report.get('schema_version')}, but a page is made of version "
            f"{SCHEMA_VERSION}; evaluate the model again."
        )
    page = _load_template().render(
        report,
        parts=_list_parts(report["test"]),
        points=_list_points(report),
        prevalences=_list_prevalences(report["test"]["overall"]),
        figures=_load_figures(figures),
        command=_build_command(report),
        shown=ERRORS_SHOWN,
        titles={name: words[0].upper() + words[1:] for name, words in BASELINES.items()},
    )
    write_text(out, page)
    return out


def _load_template() -> Any:
    environment = Environment(
        loader=PackageLoader("stroke_hub"),
        autoescape=True,  # names and notes come from anywhere
        undefined=StrictUndefined,
        finalize=lambda value: "not defined" if value is None else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (_count, _digits, _hundred, _interval, _number, _percent, _range, _signed)
    environment.filters |= {function.__name__.strip("_"): function for function in filters}
    return environment.get_template("report.html")


def _list_parts(test: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Title and figures of the parts to show: a single modality is the whole test and is not shown twice."""
    overall = test["overall"]
    rest = [(PARTS[name], test[name]) for name in ("BT", "MR") if 0 < test[name]["n"] < overall["n"]]
    whole = [PARTS[name] for name in ("BT", "MR") if test[name]["n"] == overall["n"]]
    return [(f"All slices, {whole[0]}" if whole else PARTS["overall"], overall), *rest]


def _list_points(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The operating points, the model's own first."""
    chosen = report["model"]["operating_point"]
    names = sorted(report["operating_points"], key=lambda name: name != chosen)
    return [
        report["operating_points"][name] | {"name": name, "title": POINTS.get(name, name), "own": name == chosen}
        for name in names
    ]


def _list_prevalences(overall: Mapping[str, Any]) -> list[str]:
    found = {key for point in overall["operating_points"].values() for key in point.get("at_prevalence") or ()}
    return sorted(found, key=float)


def _build_command(report: Mapping[str, Any]) -> list[str]:
    """What to type to get this report again, word by word: the training, or the evaluation of another's model."""
    data, model, training = report["data"], report["model"], report["training"]
    if training is None:
        words = ["python", "scripts/evaluate.py", "--model", str(model["source"] or "MODEL")]
        if model["revision"]:
            words += ["--revision", str(model["revision"])]
        words += ["--data-dir", "FOLDER", "--out", "OUT"]
        if data.get("split", "test") != "test":
            words += ["--split", str(data["split"])]
    else:
        known = data["name"] in ("sample", "kaggle")
        words = ["python", "scripts/train_and_push.py"]
        words += ["--data", str(data["name"])] if known else ["--data-dir", "FOLDER"]
        for option in fields(TrainConfig):
            words += _spell_option(option.name, training.get(option.name), default=option.default)
    if data["note"]:
        words += ["--data-note", str(data["note"])]
    return [shlex.quote(word) for word in words]


def _spell_option(name: str, value: Any, *, default: Any) -> list[str]:
    """An option of the command, where it is not the default."""
    option = f"--{name.replace('_', '-')}"
    if value is None or value == default:
        return []
    if isinstance(default, bool):
        return [option]  # a flag
    if isinstance(value, list):
        return [option, *(str(item) for item in value)]
    return [option, str(value)]


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


def _number(value: float | None, reason: str | None = None) -> str:
    """Three decimals; what rounds to 0 or 1 without being it is said to be below or above."""
    if value is None:
        return f"not defined: {reason}" if reason else "not defined"
    if 0 < value < 0.0005:
        return "<0.001"
    if 0.9995 <= value < 1:
        return ">0.999"
    return f"{value:.3f}".replace("-", "−")


def _interval(interval: Mapping[str, Any] | None, sign: bool = False) -> str:
    """0.857 [0.581, 0.966], or why there is none."""
    if interval is None:
        return "not defined"
    show = _signed if sign else _number
    reason = interval.get("undefined")
    if interval["value"] is None:
        return _number(None, reason)
    if interval["low"] is None or interval["high"] is None:
        return f"{show(interval['value'])} (interval not defined{f': {reason}' if reason else ''})"
    # no line ends inside the brackets
    return f"{show(interval['value'])} [{show(interval['low'])},\N{NO-BREAK SPACE}{show(interval['high'])}]"


def _signed(value: float | None) -> str:
    return "not defined" if value is None else f"{value:+.3f}".replace("-", "−")


def _digits(value: float | None) -> str:
    """Three significant digits, for what has no fixed scale: a temperature, a threshold close to 0."""
    return "not defined" if value is None else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "not defined" if value is None else f"{100 * value:.3g}\N{NO-BREAK SPACE}%"


def _count(value: int | None) -> str:
    return "not defined" if value is None else f"{value:,.0f}"


def _hundred(value: float) -> str:
    """A share as how many of 100; neither none nor all of them where it is only close to that."""
    share = round(100 * value)
    if share == 100 and value < 1:
        return "more than 99"
    if share == 0 and value > 0:
        return "fewer than 1"
    return str(share)


def _range(interval: Mapping[str, Any]) -> str:
    """An interval as how many of 100, for a sentence; empty where there is none."""
    if interval["low"] is None or interval["high"] is None:
        return ""
    return f" (95 % interval: {_hundred(interval['low'])} to {_hundred(interval['high'])})"
