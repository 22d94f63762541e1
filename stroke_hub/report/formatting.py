"""What the page and the card say alike: how numbers are written, what parts are called, what to type again."""

from collections.abc import Mapping
from typing import Any

__all__ = [
    "BASELINES",
    "CONTROLS",
    "LOCALISATION",
    "MEASURES",
    "METRICS",
    "NUMBER_FILTERS",
    "PARTS",
    "list_parts",
    "list_points",
    "list_prevalences",
    "say_interval",
    "show_count",
    "show_digits",
    "show_interval",
    "show_number",
    "show_percent",
]

PARTS = {"overall": "All slices", "BT": "CT (BT)", "MR": "MR"}
METRICS = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "brier": "Brier score (0 is best)",
}
POINTS = {
    "half": "Probability 0.5",
    "youden": "Youden",
    "sensitivity95": "Aimed at 95 % sensitivity",
    "specificity95": "Aimed at 95 % specificity",
}


def list_parts(test: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Title and figures of the parts to show: a single modality is the whole test and is not shown twice."""
    overall = test["overall"]
    rest = [(PARTS[name], test[name]) for name in ("BT", "MR") if 0 < test[name]["n"] < overall["n"]]
    whole = [PARTS[name] for name in ("BT", "MR") if test[name]["n"] == overall["n"]]
    return [(f"All slices, {whole[0]}" if whole else PARTS["overall"], overall), *rest]


def list_points(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The operating points, the model's own first, each with "name", "title" and whether it is the "own"."""
    chosen = report["model"]["operating_point"]
    names = sorted(report["operating_points"], key=lambda name: name != chosen)
    return [
        report["operating_points"][name] | {"name": name, "title": POINTS.get(name, name), "own": name == chosen}
        for name in names
    ]


def list_prevalences(overall: Mapping[str, Any]) -> list[str]:
    """The prevalences of a part's operating points, as the report has them, in rising order."""
    found = {key for point in overall["operating_points"].values() for key in point.get("at_prevalence") or ()}
    return sorted(found, key=float)


def show_number(value: float | None, reason: str | None = None) -> str:
    """Three decimals; what rounds to 0 or 1 without being it is said to be below or above."""
    if value is None:
        return f"not defined: {reason}" if reason else "not defined"
    if 0 < value < 0.0005:
        return "<0.001"
    if 0.9995 <= value < 1:
        return ">0.999"
    return f"{value:.3f}".replace("-", "−")


def show_interval(interval: Mapping[str, Any] | None, sign: bool = False) -> str:
    """0.857 [0.581, 0.966], or why there is none."""
    if interval is None:
        return "not defined"
    show = _show_signed if sign else show_number
    reason = interval.get("undefined")
    if interval["value"] is None:
        return show_number(None, reason)
    if interval["low"] is None or interval["high"] is None:
        return f"{show(interval['value'])} (interval not defined{f': {reason}' if reason else ''})"
    # no line ends inside the brackets
    return f"{show(interval['value'])} [{show(interval['low'])},\N{NO-BREAK SPACE}{show(interval['high'])}]"


def _show_signed(value: float | None) -> str:
    """Three decimals with their sign."""
    return "not defined" if value is None else f"{value:+.3f}".replace("-", "−")


def show_digits(value: float | None) -> str:
    """Three significant digits, for what has no fixed scale: a temperature, a threshold close to 0."""
    return "not defined" if value is None else f"{value:.3g}"


def show_percent(value: float | None) -> str:
    """A share in per cent, three significant digits."""
    return "not defined" if value is None else f"{100 * value:.3g}\N{NO-BREAK SPACE}%"


def show_count(value: int | None) -> str:
    """A whole number with thousands separated."""
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


NUMBER_FILTERS = {
    "count": show_count,
    "digits": show_digits,
    "hundred": _hundred,
    "interval": show_interval,
    "number": show_number,
    "percent": show_percent,
    "range": _range,
    "signed": _show_signed,
}  # by the name that templates use

BASELINES = {
    "majority": "the majority class",
    "modality": "the modality alone",
    "trivial_logistic": "head area, grey level and slice number, linear",
    "trivial_boosted": "head area, grey level and slice number, boosted trees",
    "cnn_alone": "the CNN branch alone",
    "vit_alone": "the ViT branch alone",
    "probe": "a linear probe on the model's features",
}


def say_interval(interval: dict[str, Any]) -> str:
    """A figure with its interval: "0.857 [0.581, 0.966]"."""
    if interval["value"] is None:
        return "not defined"
    reach = "" if interval["low"] is None else f" [{interval['low']:.3f}, {interval['high']:.3f}]"
    return f"{interval['value']:.3f}{reach}"


CONTROLS = ("random", "blurred random", "centre Gaussian", "uniform", "uniform brain", "edges", "intensity")
MEASURES = {  # title, and +1 where more is better, -1 where less is
    "deletion": ("Deletion AUC", -1),
    "insertion": ("Insertion AUC", 1),
    "road": ("ROAD, combined", 1),
    "average_drop": ("Average drop", -1),
    "increase": ("Increase in confidence", 1),
    "outside": ("Mass outside the head", -1),
    "pointing": ("Pointing game", 1),
    "mass": ("Mass in the lesion", 1),
    "mass_cnn_cells": ("Mass in touched CNN cells", 1),
    "mass_vit_cells": ("Mass in touched patches", 1),
    "rank": ("Relevance rank", 1),
    "dice": ("Dice at half maximum", 1),
    "iou": ("IoU at half maximum", 1),
    "randomisation": ("Randomised: Spearman", -1),
    "randomisation_size": ("Randomised: |Spearman|", -1),
    "sensitivity": ("Max-sensitivity", -1),
}
LOCALISATION = ("pointing", "mass", "mass_cnn_cells", "mass_vit_cells", "rank", "dice", "iou")
