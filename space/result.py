"""The result of one slice: its facts as numbers, and what the page shows of them."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from demo_model import DemoModel, Settings
from render import render
from scan_panel import list_answer
from study import Study

import stroke_hub

if TYPE_CHECKING:
    from stroke_hub.runs.report import Interval

__all__ = ["Result", "describe_place", "find_point", "list_facts", "make_result", "render_result"]

BRANCHES = {"cnn": "ResNet (CNN)", "vit": "ViT"}
SIDES = (("upper", "middle", "lower"), ("left", "centre", "right"))


class Bar(NamedTuple):
    """A contribution in log-odds; `left`, `width` and `zero` are shares of the width of the chart."""

    name: str
    value: float
    left: float
    width: float
    zero: float
    favours: str


class Result(NamedTuple):
    """One explained slice, and what the page, the downloads and the API say of it.

    page : its number within the file, from 1. model : what `DemoModel.describe` says. point : see `find_point`.
    made : when, in UTC.
    """

    explanation: stroke_hub.Explanation
    study: Study
    page: int
    settings: Settings
    model: dict[str, Any]
    point: dict[str, Any] | None
    made: str

    @property
    def probability_of_stroke(self) -> float:
        """Of Stroke, whatever class was explained; calibrated, in [0, 1]."""
        e = self.explanation
        return e.probability if e.target == "Stroke" else 1 - e.probability

    @property
    def threshold_log_odds(self) -> float:
        """The threshold as log-odds of the class explained."""
        threshold = min(max(self.model["threshold"], 1e-6), 1 - 1e-6)
        log_odds = float(np.log(threshold / (1 - threshold)))
        return (log_odds if self.explanation.target == "Stroke" else -log_odds) + 0.0  # no -0.00

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
        """The library's remarks as sentences: of the picture, an unusual slice, maps without positive evidence."""
        chosen = () if self.study.scan else self.study.remarks  # a scan's stand with its answer
        remarks = [*chosen, *self.explanation.remarks]
        return [f"{remark[0].upper()}{remark[1:].removesuffix('.')}." for remark in remarks]

    @property
    def bars(self) -> list[Bar]:
        """A bar per contribution, each starting where the previous one ends, and their sum."""
        e = self.explanation
        rows, start = [], 0.0
        # "mean of the normal MR training slices", in the words of a label
        compared = e.baseline.replace("mean of the normal", "Average normal").replace("mean of all", "Average")
        compared = compared.replace("training slices", "slice").removesuffix(" of both modalities")
        for name, key in ((compared, "baseline"), *((name, key) for key, name in BRANCHES.items())):
            value = e.contributions[key]
            rows.append((name, value, start, start + value))
            start += value
        rows.append(("Sum, in log-odds", e.log_odds, 0.0, e.log_odds))
        edges = [0.0, *(edge for row in rows for edge in row[2:])]
        low, span = min(edges), (max(edges) - min(edges)) or 1.0
        other = "Normal" if e.target == "Stroke" else "Stroke"
        return [
            Bar(
                name=name,
                value=value,
                left=(min(begin, end) - low) / span,
                width=abs(end - begin) / span,
                zero=-low / span,
                favours=e.target if value > 0 else other,
            )
            for name, value, begin, end in rows
        ]


def make_result(
    model: DemoModel, study: Study, page: int, settings: Settings, explanation: stroke_hub.Explanation
) -> Result:
    """Collect what is shown of an explained slice."""
    modality = study.slices[page - 1].modality
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Result(explanation, study, page, settings, model.describe(), find_point(model, modality), made)


def find_point(model: DemoModel, modality: str | None) -> dict[str, Any] | None:
    """Find sensitivity and specificity at the model's own threshold, for the modality if it is known.

    None if the report has no results for exactly this threshold.
    """
    tests = model.report.test if model.report else {}
    part = tests.get(modality or "overall") or tests.get("overall")
    if not part or abs(part.threshold - model.threshold) > 1e-6:
        return None
    return {
        "part": modality if modality in tests else "overall",
        "n": part.n,
        "n_stroke": part.n_stroke,
        "groups": part.groups,
        "sensitivity": _list_interval(part.intervals["sensitivity"]),
        "specificity": _list_interval(part.intervals["specificity"]),
        "note": model.note,
    }


def _list_interval(interval: Interval) -> dict[str, Any]:
    return {key: value for key, value in vars(interval).items() if key != "undefined" or value is not None}


def list_facts(result: Result) -> dict[str, Any]:
    """List everything as numbers, for the JSON download and the endpoint `explain`."""
    e = result.explanation
    return {
        "label": e.label,
        "probability_of_stroke": result.probability_of_stroke,
        "threshold": result.model["threshold"],
        "target": e.target,
        "log_odds": e.log_odds,
        "contributions": e.contributions,
        "baseline": e.baseline,
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
            "remarks": list(result.study.remarks),
        },
        "scan": list_answer(result.study.answer) if result.study.answer else None,
        "operating_point": result.point,
        "model": result.model,
        "made": result.made,
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def describe_place(values: np.ndarray[Any, Any]) -> str:
    """Say where a map is strongest, for those who cannot see it."""
    row, column = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    vertical, horizontal = (
        words[min(int(3 * i / n), 2)] for words, i, n in zip(SIDES, (row, column), values.shape, strict=True)
    )
    return "in the centre" if (vertical, horizontal) == ("middle", "centre") else f"at the {vertical} {horizontal}"


def render_result(result: Result) -> str:
    """Render the answer, the warnings and the evidence as HTML."""
    return render("result.html", result=result)
