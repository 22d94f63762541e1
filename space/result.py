"""The result of one slice: its facts as numbers, and what the page shows of them."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from demo_model import DemoModel, Settings
from examples import MODALITIES
from study import Study

import stroke_hub
from stroke_hub.errors import pluralise
from stroke_hub.inference.ood import describe_unusual

if TYPE_CHECKING:
    from stroke_hub.inference.scan_answer import ScanPrediction
    from stroke_hub.runs.report import Interval

__all__ = [
    "BRANCHES",
    "Result",
    "find_point",
    "list_answer",
    "list_facts",
    "make_result",
    "name_origin",
    "say_baseline",
    "say_threshold",
]

BRANCHES = {"cnn": "ResNet (CNN)", "vit": "ViT"}


class Bar(NamedTuple):
    """A contribution in log-odds of Stroke; `left`, `width` and `zero` are shares of the width of the chart."""

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
    def stroke_probability(self) -> float:
        """Of Stroke, whatever class was explained; calibrated, in [0, 1]."""
        e = self.explanation
        return e.probability if e.target == "Stroke" else 1 - e.probability

    @property
    def origin(self) -> str:
        """Where the slice came from, in words."""
        return name_origin(self.study, self.page)

    @property
    def threshold_log_odds(self) -> float:
        """The threshold as log-odds of Stroke."""
        return _find_log_odds(self.model["threshold"])

    @property
    def place(self) -> str:
        """Where the slice lies in what was opened, in words."""
        pages = len(self.study.slices)
        return f"{self.origin}: slice {self.page} of {pages}" if pages > 1 else self.origin

    @property
    def scan_words(self) -> str:
        """What the scan as a whole is said to be, for those who see one slice of it; "" of a single slice."""
        answer = self.study.answer
        if answer is None:
            return ""
        known = [
            label for label, unusual in zip(answer.slices.label, answer.slices.unusual, strict=True) if not unusual
        ]
        return (
            f"Of the scan, {known.count('Stroke')} of {pluralise(len(known), 'slice')} are above the threshold. "
            f"As a whole it is called {answer.label}, {answer.probability:.1%}."
        )

    @property
    def notices(self) -> list[str]:
        """The library's remarks as sentences: of the picture, an unusual slice, maps without positive evidence."""
        chosen = () if self.study.scan else self.study.remarks  # a scan's stand with its answer
        return _write_sentences([*chosen, *self.explanation.remarks])

    @property
    def notices_of_picture(self) -> list[str]:
        """Those that the viewer does not say itself: of the picture and of an unusual slice."""
        e = self.explanation
        chosen = () if self.study.scan else self.study.remarks
        unusual = [describe_unusual(e.distance, e.distance_limit)] if e.unusual else []
        return _write_sentences([*chosen, *e.framed.remarks, *unusual])

    @property
    def bars(self) -> list[Bar]:
        """A bar per contribution, each starting where the previous one ends, and their sum."""
        e = self.explanation
        sign = 1 if e.target == "Stroke" else -1
        rows, start = [], 0.0
        for name, key in ((say_baseline(e.baseline), "baseline"), *((name, key) for key, name in BRANCHES.items())):
            value = sign * e.contributions[key]
            rows.append((name, value, start, start + value))
            start += value
        rows.append(("Sum", sign * e.log_odds, 0.0, sign * e.log_odds))
        edges = [0.0, *(edge for row in rows for edge in row[2:])]
        low, span = min(edges), (max(edges) - min(edges)) or 1.0
        return [
            Bar(
                name=name,
                value=value,
                left=(min(begin, end) - low) / span,
                width=abs(end - begin) / span,
                zero=-low / span,
                favours="Stroke" if value > 0 else "Normal",
            )
            for name, value, begin, end in rows
        ]


def _write_sentences(remarks: list[str]) -> list[str]:
    return [f"{remark[0].upper()}{remark[1:].removesuffix('.')}." for remark in remarks]


def name_origin(study: Study, page: int) -> str:
    """Name what was opened in words: its source, how many slices it has, its modality."""
    if study.example:
        made = "simulated " if "simulated" in study.name else ""
        return f"Example: {made}{study.example}"
    parts = [study.name]
    if study.scan is not None:
        parts += [pluralise(len(study.slices), "slice")]
    modality = study.slices[page - 1].modality
    return ", ".join([*parts, *([MODALITIES[modality]] if modality else [])])


def _find_log_odds(threshold: float) -> float:
    share = min(max(threshold, 1e-6), 1 - 1e-6)
    return float(np.log(share / (1 - share)))


def say_baseline(name: str) -> str:
    """Say what a slice is compared with in the words of a label: "Average normal MR slice"."""
    words = name.replace("mean of the normal", "Average normal").replace("mean of all", "Average")
    return words.replace("training slices", "slice").replace("BT", "CT").removesuffix(" of both modalities")


def say_threshold(threshold: float, point: dict[str, Any] | None) -> tuple[str, list[str]]:
    """Say in one sentence how good the threshold is, and in further ones where that comes from.

    Parameters
    ----------
    point : see `find_point`.
    """
    sum_ = _find_log_odds(threshold)
    rule = f"A slice of {_say_share(threshold, 1)} or more is called Stroke: a sum of {sum_:+.2f} log-odds."
    if point is None:
        return "The model's report has no results for this threshold.", [rule]
    part = "" if point["part"] == "overall" else f"{MODALITIES[point['part']]} "
    simulated = "simulated " if "simulated" in (point["note"] or "") else ""
    found, cleared = point["sensitivity"], point["specificity"]
    if found["value"] is None or cleared["value"] is None:
        return "The model's report cannot say how good this threshold is.", [rule]
    words = (
        f"On {simulated}{part}test slices it found {_say_share(found['value'])} of the strokes and cleared "
        f"{_say_share(cleared['value'])} of the normal slices."
    )
    slices, patients = pluralise(point["n"], f"{part}test slice"), point["groups"]
    where = f"On {slices} of {patients:,} patients or groups" + (f" ({point['note']})" if point["note"] else "")
    intervals = [
        f"{name} {_say_share(value['value'], 1)}"
        + (
            f" (95 % interval {_say_share(value['low'])} to {_say_share(value['high'])})"
            if value.get("low") is not None
            else ""
        )
        for name, value in (("sensitivity", found), ("specificity", cleared))
    ]
    return words, [rule, f"{where}: {intervals[0]}, {intervals[1]}."]


def _say_share(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


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
        "stroke_probability": result.stroke_probability,
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
            "index": result.page - 1,  # from 0, as in all files; the page counts from 1
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


def list_answer(answer: ScanPrediction) -> dict[str, Any]:
    """List the answer for a scan as numbers; slices are counted from 0, as in all files."""
    return {
        "label": answer.label,
        "stroke_probability": answer.probability,
        "threshold": answer.threshold,
        "log_odds": answer.log_odds,
        "rule": answer.rule,
        "slices_called_stroke": answer.slices.label.count("Stroke"),
        "ranked": answer.ranked,
        "stroke_probability_by_slice": answer.slices.probability.tolist(),
        "remarks": list(answer.remarks),
    }
