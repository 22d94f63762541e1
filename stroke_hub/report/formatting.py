"""How numbers are written, and what metrics, parts, baselines and measures are called."""

from collections.abc import Callable
from dataclasses import dataclass

from stroke_hub.runs.report import DeLong, Interval, Part, Report, Spread, Trainings

__all__ = [
    "BASELINES",
    "CONTROLS",
    "LOCALISATION",
    "MEASURES",
    "METRIC_TITLES",
    "NUMBER_FILTERS",
    "PART_TITLES",
    "PATIENT_TITLES",
    "POINT_TITLES",
    "Estimate",
    "format_interval",
    "list_parts",
    "list_points",
    "list_prevalences",
    "list_spreads",
    "name_value",
    "say_interval",
    "show_count",
    "show_digits",
    "show_hundred",
    "show_interval",
    "show_number",
    "show_percent",
]

PART_TITLES = {"overall": "All slices", "BT": "CT", "MR": "MR"}
METRIC_TITLES = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1 score, Stroke",
    "f1_normal": "F1 score, Normal",
    "brier": "Brier score (0 is best)",
}
PATIENT_TITLES = {
    "sensitivity": "Sensitivity, any slice",
    "specificity": "Specificity, no slice",
    "maximum": "AUROC, highest slice",
    "highest3": "AUROC, 3 highest",
}
POINT_TITLES = {
    "half": "Probability 0.5",
    "youden": "Youden",
    "sensitivity95": "Aimed at 95 % sensitivity",
    "specificity95": "Aimed at 95 % specificity",
}


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval, for what is no `Interval` of the report.

    undefined : why there is no value or no interval.
    """

    value: float | None
    low: float | None
    high: float | None
    undefined: str | None = None


def list_parts(test: dict[str, Part]) -> list[tuple[str, Part]]:
    """List title and figures of the parts to show.

    A single modality is the whole test and is not shown twice.
    """
    overall = test["overall"]
    rest = [(PART_TITLES[name], test[name]) for name in ("BT", "MR") if 0 < test[name].n < overall.n]
    whole = [PART_TITLES[name] for name in ("BT", "MR") if test[name].n == overall.n]
    return [(f"All slices, {whole[0]}" if whole else PART_TITLES["overall"], overall), *rest]


def list_points(report: Report) -> list[dict[str, object]]:
    """List the operating points, the model's own first, each with "name", "title" and whether it is the "own"."""
    chosen = report.model.operating_point
    points = sorted(report.operating_points.items(), key=lambda point: point[0] != chosen)
    return [
        vars(point) | {"name": name, "title": POINT_TITLES.get(name, name), "own": name == chosen}
        for name, point in points
    ]


def list_prevalences(overall: Part) -> list[str]:
    """List the prevalences that patients' PPV and NPV are given at, as the report has them, in rising order."""
    return sorted(overall.patients.any_slice.at_prevalence, key=float) if overall.patients else []


def name_value(column: str, value: str) -> str:
    """Name a value of a column of the dataset as people do: CT, where files say BT."""
    return PART_TITLES.get(value, value) if column == "modality" else value


def list_spreads(trainings: Trainings) -> list[tuple[str, list[tuple[str, Spread]]]]:
    """List, by title of each part and of each figure, the spread between trainings."""
    whole = trainings.test["overall"]
    parts = {name: spreads for name, spreads in trainings.test.items() if name == "overall" or spreads != whole}
    return [
        (PART_TITLES[name], [(title, spreads[key]) for key, title in METRIC_TITLES.items() if key in spreads])
        for name, spreads in parts.items()
    ]


def show_number(value: float | None, reason: str | None = None) -> str:
    """Write three decimals; what rounds to 0 or 1 without being it is said to be below or above."""
    if value is None:
        return f"not defined: {reason}" if reason else "not defined"
    if 0 < value < 0.0005:
        return "<0.001"
    if 0.9995 <= value < 1:
        return ">0.999"
    return f"{value:.3f}".replace("-", "−")


def format_interval(
    value: float | None, low: float | None, high: float | None, *, number: Callable[[float], str] = "{:.3f}".format
) -> str:
    """Write a figure with its interval: "0.857 [0.581, 0.966]".

    Parameters
    ----------
    value, low, high : the figure and its limits, or None where they are undefined.
    number : writes each of the three.
    """
    if value is None:
        return "not defined"
    return number(value) if low is None or high is None else f"{number(value)} [{number(low)}, {number(high)}]"


def say_interval(interval: Interval | DeLong | Estimate) -> str:
    """Write a figure of the report with its interval, for a sentence: "0.857 [0.581, 0.966]"."""
    return format_interval(interval.value, interval.low, interval.high)


def show_interval(interval: Interval | DeLong | Estimate | None, sign: bool = False) -> str:
    """Write a figure of the report with its interval, for a table, or why there is none."""
    if interval is None:
        return "not defined"
    reason = interval.undefined
    if interval.value is None:
        return show_number(None, reason)
    words = format_interval(
        interval.value, interval.low, interval.high, number=_show_signed if sign else show_number
    )
    if interval.low is None or interval.high is None:
        return f"{words} (interval not defined{f': {reason}' if reason else ''})"
    return words.replace(", ", ",\N{NO-BREAK SPACE}")  # no line ends inside the brackets


def _show_signed(value: float | None) -> str:
    """Write three decimals with their sign."""
    return "not defined" if value is None else f"{value:+.3f}".replace("-", "−")


def show_digits(value: float | None) -> str:
    """Write three significant digits, for what has no fixed scale: a temperature, a threshold close to 0."""
    return "not defined" if value is None else f"{value:.3g}"


def show_percent(value: float | None) -> str:
    """Write a share in per cent, three significant digits."""
    return "not defined" if value is None else f"{100 * value:.3g}\N{NO-BREAK SPACE}%"


def show_count(value: int | None) -> str:
    """Write a whole number with thousands separated."""
    return "not defined" if value is None else f"{value:,.0f}"


def show_hundred(value: float) -> str:
    """Write a share as how many of 100; neither none nor all of them where it is only close to that."""
    share = round(100 * value)
    if share == 100 and value < 1:
        return "more than 99"
    if share == 0 and value > 0:
        return "fewer than 1"
    return str(share)


NUMBER_FILTERS = {
    "count": show_count,
    "digits": show_digits,
    "interval": show_interval,
    "number": show_number,
    "percent": show_percent,
    "signed": _show_signed,
}  # by the name that templates use

BASELINES = {
    "majority": "the majority class",
    "modality": "the modality alone",
    "trivial_place": "slice number and number of slices, without the picture",
    "trivial_logistic": "head area, grey level and slice number, linear",
    "trivial_boosted": "head area, grey level and slice number, boosted trees",
    "cnn_alone": "the CNN branch alone",
    "vit_alone": "the ViT branch alone",
    "probe": "a linear probe on the model's features",
}

CONTROLS = ("random", "blurred random", "centre Gaussian", "uniform", "uniform brain", "edges", "intensity")
MEASURES = {  # title, and +1 where more is better, -1 where less is, 0 where neither
    "deletion": ("Deletion AUC", -1),
    "insertion": ("Insertion AUC", 1),
    "road": ("ROAD, combined", 1),
    "average_drop": ("Average drop", -1),
    "increase": ("Increase in confidence", 1),
    "outside": ("Relevance a pixel, outside over inside", -1),
    "regions_rank": ("Regions: rank correlation", 1),
    "regions_error": ("Regions: error over predicting 0", -1),
    "pointing": ("Pointing game", 1),
    "pointing_inside": ("Strongest pixel in the lesion", 1),
    "mass": ("Mass in the lesion", 1),
    "mass_cnn_cells": ("Mass in touched CNN cells", 1),
    "mass_vit_cells": ("Mass in touched patches", 1),
    "rank": ("Relevance rank", 1),
    "dice": ("Dice at half maximum", 1),
    "iou": ("IoU at half maximum", 1),
    "randomisation": ("Randomised: Spearman", -1),
    "randomisation_size": ("Randomised: |Spearman|", -1),
    "randomisation_chance": ("|Spearman|, both randomised", 0),
    "sensitivity": ("Max-sensitivity", -1),
}
LOCALISATION = ("pointing", "pointing_inside", "mass", "mass_cnn_cells", "mass_vit_cells", "rank", "dice", "iou")
