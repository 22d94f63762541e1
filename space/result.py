"""The result of one slice: its facts in numbers, and the same in words and bars for the page."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import datetime
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from engine import Engine, Settings
from uploads import Study

import stroke_hub

if TYPE_CHECKING:
    from stroke_hub.runs.report import Interval

__all__ = ["Result", "describe", "describe_point", "list_facts", "make_result"]

PARTS = {"cnn": "ResNet (CNN)", "vit": "ViT"}
SIDES = (("upper", "middle", "lower"), ("left", "centre", "right"))


class Result(NamedTuple):
    """One explained slice, and what the page, the downloads and the API say of it.

    page : its number within the file, from 1. engine : what `Engine.describe` says. point : see `find_point`.
    """

    explanation: stroke_hub.Explanation
    study: Study
    page: int
    settings: Settings
    engine: dict[str, Any]
    point: dict[str, Any] | None
    made: str

    @property
    def probability_of_stroke(self) -> float:
        """Of Stroke, whatever class was explained; calibrated, in [0, 1]."""
        e = self.explanation
        return e.probability if e.target == "Stroke" else 1 - e.probability

    @property
    def origin(self) -> str:
        """Where the slice came from, in words."""
        if self.study.example:
            made = "simulated " if "simulated" in self.study.name else ""
            return f"Example: {made}{self.study.example} (its true class)"
        pages = len(self.study.slices)
        return f"Upload: {self.study.name}" + (f", slice {self.page} of {pages}" if pages > 1 else "")

    @property
    def notices(self) -> list[str]:
        """The library's remarks as sentences: a slice unlike the training ones, maps without positive evidence."""
        return [f"{remark[0].upper()}{remark[1:]}." for remark in self.explanation.remarks]


def make_result(
    engine: Engine, study: Study, page: int, settings: Settings, explanation: stroke_hub.Explanation
) -> Result:
    """Put together what is shown of an explained slice."""
    modality = study.slices[page - 1].modality
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Result(explanation, study, page, settings, engine.describe(), find_point(engine, modality), made)


def find_point(engine: Engine, modality: str | None) -> dict[str, Any] | None:
    """Sensitivity and specificity at the model's own threshold, of the modality where it is known.

    None where the report has no figures at this very threshold.
    """
    tests = engine.report.test if engine.report else {}
    part = tests.get(modality or "overall") or tests.get("overall")
    if not part or abs(part.threshold - engine.threshold) > 1e-6:
        return None
    return {
        "part": modality if modality in tests else "overall",
        "n": part.n,
        "n_stroke": part.n_stroke,
        "groups": part.groups,
        "sensitivity": _list_interval(part.intervals["sensitivity"]),
        "specificity": _list_interval(part.intervals["specificity"]),
        "note": engine.note,
    }


def _list_interval(interval: Interval) -> dict[str, Any]:
    return {key: value for key, value in vars(interval).items() if key != "undefined" or value is not None}


def list_facts(result: Result) -> dict[str, Any]:
    """Everything in numbers, as the JSON download and the endpoint `explain` give it."""
    e = result.explanation
    return {
        "label": e.label,
        "probability_of_stroke": result.probability_of_stroke,
        "threshold": result.engine["threshold"],
        "target": e.target,
        "log_odds": e.log_odds,
        "contributions": e.contributions,
        "interaction": e.interaction,
        "unusual": bool(e.unusual),
        "distance": _finite(e.distance),
        "remarks": e.remarks,
        "method": e.method,
        "settings": result.settings._asdict(),
        "fused_per_pixel": {"low": float(e.fused_map.min()), "high": float(e.fused_map.max())},
        "input": {
            "sha256": result.study.sha256 or None,
            "slice": result.page,
            "slices": len(result.study.slices),
            "modality": result.study.slices[result.page - 1].modality,
            "example": result.study.example or None,
        },
        "operating_point": result.point,
        "model": result.engine,
        "made": result.made,
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def describe_place(values: np.ndarray[Any, Any]) -> str:
    """Where a map is strongest, in words for who cannot see it."""
    row, column = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    vertical, horizontal = (
        words[min(int(3 * i / n), 2)] for words, i, n in zip(SIDES, (row, column), values.shape, strict=True)
    )
    return "in the centre" if (vertical, horizontal) == ("middle", "centre") else f"at the {vertical} {horizontal}"


# --- for the page -------------------------------------------------------------------------------------------


def describe(result: Result) -> str:
    """Answer, warnings and evidence as HTML."""
    e, p, threshold = result.explanation, result.probability_of_stroke, result.engine["threshold"]
    notices = "".join(f'<p class="notice">{escape(notice)}</p>' for notice in result.notices)
    return f"""<div class="page result" style="--says: var(--{e.label.lower()})"><section aria-label="Answer">
<p>{escape(result.origin)}</p><p class="verdict">{e.label}</p>
<div>Probability of stroke: <b>{p:.1%}</b></div>
<div class="meter" role="meter" aria-label="Probability of stroke" aria-valuemin="0" aria-valuemax="1"
 aria-valuenow="{p:.3f}"><div style="width: {p:.1%}"></div><i style="left: {threshold:.1%}"></i></div>
{describe_point(result)}{notices}</section>
<section aria-label="Evidence">{describe_evidence(result)}</section></div>"""


def describe_point(result: Result) -> str:
    """What the threshold means, as HTML."""
    threshold, point = result.engine["threshold"], result.point
    words = f"The mark is the threshold: from {threshold:.1%} on, a slice is called Stroke."
    if point is None:
        return f'<p class="legend">{words} What that means was not measured at this threshold.</p>'
    of = f"{point['part']} " if point["part"] != "overall" else ""
    note = f" ({escape(point['note'])})" if point["note"] else ""
    found, spared = (_percent(point[name]) for name in ("sensitivity", "specificity"))
    return (
        f'<p class="legend">{words} On {point["n"]:,} {of}test slices of {point["groups"]:,} patients{note} this '
        f"threshold found {found[0]} of the strokes (sensitivity{found[1]}) and called {spared[0]} of the normal "
        f"slices normal (specificity{spared[1]}).</p>"
    )


def _percent(interval: dict[str, Any]) -> tuple[str, str]:
    """A rate and its interval, in words."""
    value, low, high = (interval[key] for key in ("value", "low", "high"))
    if value is None:
        return "an unknown share", ""
    reach = "" if low is None or high is None else f", 95 % interval {100 * low:.0f} to {100 * high:.0f} %"
    return f"<b>{100 * value:.0f} %</b>", reach


def describe_evidence(result: Result) -> str:
    """A bar a branch, each beginning where the one above ends, down to the sum."""
    e = result.explanation
    rows, start = [], 0.0
    for name, key in (("Average training slice", "baseline"), *((PARTS[key], key) for key in PARTS)):
        value = e.contributions[key]
        rows.append((name, value, start, start + value))
        start += value
    rows.append(("Sum, in log-odds", e.log_odds, 0.0, e.log_odds))
    low = min(0.0, *(min(row[2:]) for row in rows))
    high = max(0.0, *(max(row[2:]) for row in rows))
    span = (high - low) or 1.0
    zero, other = -low / span, "Normal" if e.target == "Stroke" else "Stroke"
    body = ""
    for name, value, begin, end in rows:
        left, width = (min(begin, end) - low) / span, abs(end - begin) / span
        colour = (e.target if value > 0 else other).lower()
        style = f"left: {left:.2%}; width: {width:.2%}; background: var(--{colour})"
        body += (
            f'<tr><th scope="row">{name}</th><td class="number">{value:+.2f}</td><td class="bar"><div>'
            f'<u style="left: {zero:.2%}"></u><i style="{style}"></i></div></td></tr>'
        )
    words = f"The threshold is a sum of {_threshold_log_odds(result):+.2f}."
    return (
        f'<table class="evidence"><caption>Evidence for {e.target}, in log-odds</caption>{body}</table>'
        f'<p class="legend">Each bar begins where the one above ends. {words}</p>'
    )


def _threshold_log_odds(result: Result) -> float:
    """The threshold as log-odds of the class explained."""
    threshold = min(max(result.engine["threshold"], 1e-6), 1 - 1e-6)
    log_odds = float(np.log(threshold / (1 - threshold)))
    return (log_odds if result.explanation.target == "Stroke" else -log_odds) + 0.0  # no -0.00
