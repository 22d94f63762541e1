"""The tab that says what the model was trained on, how good it is and when it is wrong: its report, in short."""

import math
import re
from collections.abc import Mapping, Sequence

from charts import Line, draw_chart
from demo_model import DemoModel
from render import render

from stroke_hub.report.formatting import METRIC_TITLES, list_points
from stroke_hub.runs.report import CalibrationErrors, Curve, Epoch, Part, Report

__all__ = ["render_model"]

TITLES = {"overall": "All", "BT": "CT", "MR": "MR"}
BT = re.compile(r"\bBT\b")  # what files call CT
REST = re.compile(r"[:(,]| fitted | of [0-9]")
STYLES = {"overall": "one", "BT": "two", "MR": "three"}
UNIT = (0.0, 1.0, 0.0, 1.0)


def render_model(model: DemoModel) -> str:
    """Render the whole tab as HTML; without a report it says so."""
    report = model.report
    if report is None:
        return render("model.html", about=model.describe(), report=None)
    overall = report.test["overall"]
    tests = {part: test for part, test in report.test.items() if part == "overall" or 0 < test.n < overall.n}
    return render(
        "model.html",
        about=model.describe(),
        report=report,
        training=_say_training(report),
        tests=[(TITLES[part], test) for part, test in tests.items()],
        metrics=METRIC_TITLES,
        points=[point for point in list_points(report) if point["threshold"] is not None],
        baselines=[
            (_cut_words(one.words or one.name), one)
            for one in report.baselines or []
            if one.auroc is not None and one.auroc.value is not None
        ],
        sentences=[BT.sub("CT", sentence) for sentence in report.words],
        charts=[
            *_draw_curves(report.curves, tests),
            *_draw_calibration(tests["overall"].calibration),
            *_draw_losses(report.history or []),
        ],
    )


def _say_training(report: Report) -> str:
    """Say what the model was trained on, as far as its report knows."""
    source = report.trained_on or report.data
    what = f'dataset "{source.name}"'
    flow = None if report.trained_on else report.data.participants
    if flow and (part := flow.parts.get("train")):
        patients = f"{part.patients:,} patients ({part.stroke_patients:,} with stroke)"
        what = f"{part.slices:,} slices of {patients}, {what}"
    told = f"{source.note}; {what}." if source.note else f"{what}."
    return told[:1].upper() + told[1:]


def _cut_words(words: str) -> str:
    """Cut a baseline's description after what it is; how it was fitted stands in the report."""
    return REST.split(words.rstrip("."), maxsplit=1)[0]


def _draw_curves(curves: Mapping[str, Curve], tests: Mapping[str, Part]) -> list[str]:
    known = [(part, curves[part]) for part in tests if tests[part].n]
    if not known:
        return []
    roc = [
        Line(_name(part, tests, "auroc"), *_drop_undefined(curve.fpr, curve.tpr), STYLES[part])
        for part, curve in known
    ]
    precision_recall = [
        Line(
            _name(part, tests, "average_precision"),
            *_drop_undefined(curve.recall, curve.precision),
            STYLES[part],
        )
        for part, curve in known
    ]
    return [
        draw_chart("ROC", roc, axes=("1 - specificity", "Sensitivity"), limits=UNIT, diagonal=True),
        draw_chart("Precision and recall", precision_recall, axes=("Recall", "Precision"), limits=UNIT),
    ]


def _draw_calibration(calibration: CalibrationErrors) -> list[str]:
    lines = []
    for name, style in (("after", "one"), ("before", "two")):
        state = getattr(calibration, name)
        if state.ece is not None:
            x = [found.mean_probability for found in state.bins]
            y = [found.stroke_share for found in state.bins]
            words = f"{name} calibration, error {state.ece:.3f}"
            lines.append(Line(words, *_drop_undefined(x, y), style, dots=True))
    axes = ("Predicted probability", "Share of strokes")
    return [draw_chart("Calibration", lines, axes=axes, limits=UNIT, diagonal=True)] if lines else []


def _draw_losses(history: Sequence[Epoch]) -> list[str]:
    epochs = [row.epoch for row in history]
    lines = [
        Line(name, *_drop_undefined(epochs, [getattr(row, key) for row in history]), style)
        for key, name, style in (("train_loss", "training", "one"), ("val_loss", "validation", "two"))
    ]
    return [draw_chart("Loss", lines, axes=("Epoch", "Cross-entropy"))] if history else []


def _name(part: str, tests: Mapping[str, Part], measure: str) -> str:
    value = tests[part].intervals[measure].value
    return TITLES[part] if value is None else f"{TITLES[part]}: {value:.3f}"


def _drop_undefined(x: Sequence[float | None], y: Sequence[float | None]) -> tuple[list[float], list[float]]:
    """Drop the points of which a coordinate is undefined."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None and math.isfinite(a)]
    return [a for a, _ in pairs], [b for _, b in pairs]
