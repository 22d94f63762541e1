"""The tab that tells how good the model is: the report of exactly the commit that answers."""

import math
from html import escape

from charts import Line, draw_chart
from engine import Engine

from stroke_hub.report.formatting import METRIC_TITLES, PART_TITLES, say_interval
from stroke_hub.runs.report import Curve, Interval, Part, Report

__all__ = ["describe_model"]

STYLES = {"overall": "one", "BT": "two", "MR": "three"}
MEASURES = ("auroc", "sensitivity", "specificity", "ppv", "npv", "accuracy")
LIMITS = (
    "It judges one slice by itself and knows nothing of the rest of the scan or of the patient.",
    "Every input gets an answer, even one that shows no brain; heed the warning on unusual ones.",
    "A heatmap shows what the model used; it does not show where a lesion is.",
    "PPV and NPV hold at the share of strokes in these test slices, which no clinic has.",
)


def describe_model(engine: Engine) -> str:
    """The whole tab as HTML."""
    report = engine.report
    about = _describe_source(engine)
    if report is None:
        words = "This model has no report: how good it is, nobody knows."
        return f'<div class="page report">{about}<p class="notice">{words}</p></div>'
    tests = report.test
    warnings = "".join(f'<p class="notice">{escape(words)}</p>' for words in report.warnings)
    said = "".join(f"<li>{escape(words)}</li>" for words in report.words)
    limits = "".join(f"<li>{words}</li>" for words in (*LIMITS, *_say_novelty(report)))
    return f"""<div class="page report">{about}{warnings}
<h2>By modality</h2>{_describe_parts(tests)}
<div class="columns"><section><h2>Confusion matrix</h2>{_describe_confusion(tests["overall"])}</section>
<section><h2>Operating points</h2>{_describe_points(report)}</section></div>
<h2>Curves</h2><div class="charts">{"".join(_draw_charts(report, tests))}</div>
<h2>Against simple rules</h2>{_describe_baselines(report)}
<h2>Limits</h2><ul>{limits}</ul>
{f"<details><summary>The report in sentences</summary><ul>{said}</ul></details>" if said else ""}</div>"""


def _say_novelty(report: Report) -> list[str]:
    """How often the warning on unusual slices is wrong on slices of the same kind."""
    if report.novelty is None:
        return []
    return [f"The warning on unusual slices is given to {report.novelty.share:.1%} of the test slices, too."]


def _describe_source(engine: Engine) -> str:
    about = engine.describe()
    name, commit, report = about["model"], about["commit"], engine.report
    rows = {"Model": escape(name), "Commit": escape(commit or "none: a local folder")}
    if commit:
        address = f"https://huggingface.co/{escape(name, quote=True)}"
        places = {"files and card": f"tree/{commit}", "report.json": f"blob/{commit}/report.json"}
        links = (f'<a href="{address}/{place}" rel="noopener">{words}</a>' for words, place in places.items())
        rows["On the Hub"] = " · ".join(links)
    if report:
        rows["Weights"] = f"<code>SHA-256 {escape(report.model.weights_sha256 or 'not recorded')}</code>"
        rows["Measured on"] = escape(", ".join(filter(None, (report.data.name, report.data.note))))
        rows["Backbones"] = escape(f"{report.model.cnn} and {report.model.vit}")
    rows["Image size"] = f"{about['image_size']} × {about['image_size']} pixels"
    rows["Computed by"] = escape(about["backend"])
    rows["Threshold"] = f"{about['threshold']:.3f}"
    rows["Versions"] = escape(", ".join(f"{key} {value}" for key, value in about["versions"].items() if value))
    body = "".join(f'<tr><th scope="row">{key}</th><td>{value}</td></tr>' for key, value in rows.items())
    return f'<h2>What answers here</h2><div class="wide"><table>{body}</table></div>'


def _show_interval(interval: Interval | None) -> str:
    """Write a value with its 95 % interval in smaller letters."""
    value, space, reach = (say_interval(interval) if interval else "not defined").partition(" [")
    return f"{value} <small>[{reach}</small>" if space else value


def _describe_parts(tests: dict[str, Part]) -> str:
    head = "".join(f'<th scope="col">{PART_TITLES[part]}</th>' for part in tests)
    rows = [("Slices (strokes)", [f"{test.n:,} ({test.n_stroke:,})" for test in tests.values()])]
    rows.append(("Patients or groups", [f"{test.groups:,}" for test in tests.values()]))
    for key in MEASURES:
        rows.append((METRIC_TITLES[key], [_show_interval(test.intervals[key]) for test in tests.values()]))
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in rows
    )
    caption = "At the model's own threshold, with 95 % intervals over patients"
    return (
        f'<div class="wide"><table><caption>{caption}</caption><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _describe_confusion(test: Part) -> str:
    c = test.confusion
    return f"""<table class="confusion"><caption>Test slices, all modalities</caption>
<thead><tr><td></td><th scope="col">called Stroke</th><th scope="col">called Normal</th></tr></thead><tbody>
<tr><th scope="row">Stroke</th><td class="right">{c.tp:,}</td><td class="wrong">{c.fn:,}</td></tr>
<tr><th scope="row">Normal</th><td class="wrong">{c.fp:,}</td><td class="right">{c.tn:,}</td></tr>
</tbody></table>"""


def _describe_points(report: Report) -> str:
    rows = ""
    for name, point in report.operating_points.items():
        measured = report.test["overall"].operating_points.get(name)
        if point.threshold is None or measured is None:
            continue
        words = point.words + (" (in use)" if report.model.operating_point == name else "")
        rows += (
            f'<tr><th scope="row">{escape(words[:1].upper() + words[1:])}</th><td>{point.threshold:.3f}</td>'
            f"<td>{_show_interval(measured.sensitivity)}</td><td>{_show_interval(measured.specificity)}</td></tr>"
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Rule", "Threshold", "Sensitivity", "Specificity"))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _draw_charts(report: Report, tests: dict[str, Part]) -> list[str]:
    curves, unit = report.curves, (0.0, 1.0, 0.0, 1.0)
    charts = []
    if curves:
        roc = [
            Line(_name(part, tests, "auroc"), *_clean(curve.fpr, curve.tpr), STYLES[part])
            for part, curve in _known(curves, tests)
        ]
        charts.append(draw_chart("ROC", roc, axes=("1 - specificity", "Sensitivity"), limits=unit, diagonal=True))
        pr = [
            Line(_name(part, tests, "average_precision"), *_clean(curve.recall, curve.precision), STYLES[part])
            for part, curve in _known(curves, tests)
        ]
        charts.append(draw_chart("Precision and recall", pr, axes=("Recall", "Precision"), limits=unit))
    calibration = tests["overall"].calibration
    bins = {"after": calibration.after, "before": calibration.before}
    lines = [
        Line(
            f"{name} calibration, error {state.ece:.3f}",
            *_clean([b.mean_probability for b in state.bins], [b.stroke_share for b in state.bins]),
            style,
            dots=True,
        )
        for (name, state), style in zip(bins.items(), ("one", "two"), strict=True)
        if state.ece is not None
    ]
    if lines:
        axes = ("Predicted probability", "Share of strokes")
        charts.append(draw_chart("Calibration", lines, axes=axes, limits=unit, diagonal=True))
    if history := report.history:
        epochs = [row.epoch for row in history]
        lines = [
            Line(name, *_clean(epochs, [getattr(row, key) for row in history]), style)
            for key, name, style in (("train_loss", "training", "one"), ("val_loss", "validation", "two"))
        ]
        charts.append(draw_chart("Loss", lines, axes=("Epoch", "Cross-entropy")))
    return charts


def _known(curves: dict[str, Curve], tests: dict[str, Part]) -> list[tuple[str, Curve]]:
    return [(part, curves[part]) for part in PART_TITLES if tests[part].n]


def _name(part: str, tests: dict[str, Part], measure: str) -> str:
    value = tests[part].intervals[measure].value
    return PART_TITLES[part] if value is None else f"{PART_TITLES[part]}: {value:.3f}"


def _clean(x: list[float | None], y: list[float | None]) -> tuple[list[float], list[float]]:
    """Both without the places where one is undefined."""
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if a is not None and b is not None and math.isfinite(a)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _describe_baselines(report: Report) -> str:
    rows = ""
    for baseline in report.baselines:
        words = escape(baseline.words or baseline.name)
        difference = baseline.difference.auroc if baseline.difference else None
        rows += (
            f'<tr><th scope="row">{words[0].upper() + words[1:]}</th>'
            f"<td>{_show_interval(baseline.auroc)}</td><td>{_show_interval(difference)}</td></tr>"
        )
    if not rows:
        return '<p class="legend">Not measured.</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Rule", "AUROC", "The model's AUROC, less this"))
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
