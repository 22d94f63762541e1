"""The command info: show what a model is."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import tyro

from stroke_hub.cli.common import program
from stroke_hub.errors import HubError, ModelFormatError, RunError
from stroke_hub.inference.onnx_model import read_export
from stroke_hub.metrics.highest_mean import HighestMean
from stroke_hub.models.download import download
from stroke_hub.models.sample import locate_model
from stroke_hub.models.weights import CONFIG_FILE, WEIGHTS_FILE, read_config, read_scan_rule
from stroke_hub.report.formatting import say_interval, show_digits
from stroke_hub.runs.report import REPORT_FILE, Data, Source, read_report
from stroke_hub.runs.run_folder import SCAN_RULE_FILE

__all__ = ["show_model"]


@program
def show_model(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER|OWNER/NAME|sample")],
    *,
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
) -> None:
    """Show what a model is: its backbones, what it was trained on, how good it is, its scan rule, and its exports.

    Args:
        model: a run folder, a model on the Hub, or sample, the model that comes with the package.
        revision: commit, tag or branch of a Hub model.
    """
    facts = _describe_config(model, revision)
    commit = facts.get("commit", revision)  # all of one commit, also while somebody pushes the next
    facts |= _describe_report(model, commit) | _describe_rule(model, commit) | _describe_export(model, commit)
    width = max(map(len, facts)) + 2
    print("\n".join(f"{name:<{width}}{value}" for name, value in facts.items()))


def _describe_config(model: str, revision: str | None) -> dict[str, str]:
    folder = Path(locate_model(model))
    file = folder / CONFIG_FILE if folder.is_dir() else download(model, CONFIG_FILE, revision, {})
    config = read_config(file, model)
    facts = {"model": model}
    if not folder.is_dir():
        facts["commit"] = file.parent.name  # the cache files every download under snapshots/<commit>/
    return facts | {
        "backbones": f"{config['cnn']} beside {config['vit']}",
        "input": f"squares of {config['image_size']} pixels",
        "config format": str(config["format_version"]),
    }


def _describe_report(model: str, revision: str | None) -> dict[str, str]:
    folder = Path(locate_model(model))
    try:
        if not folder.is_dir():
            folder = download(model, REPORT_FILE, revision, {}).parent
        report = read_report(folder)
    except (HubError, ModelFormatError):
        return {"report": "none; `stroke-hub evaluate` writes one"}
    except RunError as error:  # the rest is worth showing all the same
        return {"report": str(error)}
    overall, own, fitted = report.test["overall"], report.model, report.calibration
    method = fitted.method if fitted else None
    return {
        "parameters": f"{own.parameters:,}",
        "trained on": _name_data(report.trained_on or report.data),
        "measured on": _name_data(report.data),
        "test slices": f"{overall.n:,} of {overall.groups:,} patients or groups, {overall.n_stroke:,} of strokes",
        "test AUROC": say_interval(overall.intervals["auroc"]),
        "threshold": f"{show_digits(own.threshold)} ({own.operating_point or 'none of the rules'})",
        "calibration": f"{method or 'none'}, temperature {show_digits(own.temperature)}",
    }


def _name_data(data: Data | Source) -> str:
    return f"{data.name} ({data.note})" if data.note else data.name


def _describe_rule(model: str, revision: str | None) -> dict[str, str]:
    """How the model judges scans: its weights say so; those of the Hub are not fetched for it."""
    folder = Path(locate_model(model))
    rule = None
    if folder.is_dir():
        rule = read_scan_rule(folder / WEIGHTS_FILE)
    else:
        try:
            numbers = json.loads(download(model, SCAN_RULE_FILE, revision, {}).read_text(encoding="utf-8"))
            rule = HighestMean(**{field.name: numbers[field.name] for field in fields(HighestMean)})
        except (HubError, ModelFormatError, ValueError, KeyError, TypeError):
            pass
    if rule is None:
        missing = "none stored" if folder.is_dir() else "none published"
        return {"scan rule": f"{missing}; the default is {HighestMean().words}, not calibrated for scans"}
    return {"scan rule": f"{rule.words}; Stroke from a probability of {show_digits(rule.threshold)} on"}


def _describe_export(model: str, revision: str | None) -> dict[str, str]:
    try:
        record = read_export(model, revision)
    except ModelFormatError as error:  # the rest is worth showing all the same
        return {"ONNX export": str(error)}
    if record is None:
        return {"ONNX export": "none; `stroke-hub export` writes one"}
    sizes = ", ".join(f"{precision} {size / 2**20:.1f} MiB" for precision, size in record["bytes"].items())
    return {"ONNX export": sizes}
