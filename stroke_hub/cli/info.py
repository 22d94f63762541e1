"""The command info: show what a model is."""

from pathlib import Path
from typing import Annotated, Any

import tyro

from stroke_hub.cli.common import program
from stroke_hub.inference.onnx_model import read_export
from stroke_hub.models.download import download
from stroke_hub.models.weights import CONFIG_FILE, read_config
from stroke_hub.report.formatting import show_digits, show_interval
from stroke_hub.runs.report import find_report

__all__ = ["show_model"]


@program
def show_model(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER|OWNER/NAME")],
    *,
    revision: Annotated[str | None, tyro.conf.arg(metavar="COMMIT")] = None,
) -> None:
    """Show what a model is: its backbones, what it was trained on, how good it is, and its exports.

    Args:
        model: a run folder, or a model on the Hub.
        revision: commit, tag or branch of a Hub model.
    """
    facts = (
        _describe_config(model, revision) | _describe_report(model, revision) | _describe_export(model, revision)
    )
    width = max(map(len, facts)) + 2
    print("\n".join(f"{name:<{width}}{value}" for name, value in facts.items()))


def _describe_config(model: str, revision: str | None) -> dict[str, str]:
    folder = Path(model)
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
    report: dict[str, Any] | None = find_report(model, revision)
    if report is None:
        return {"report": "none; `stroke-hub evaluate` writes one"}
    data, own, overall = report["data"], report["model"], report["test"]["overall"]
    trained_on = report["trained_on"] or data
    tested = (
        f"{overall['n']:,} slices of {overall['groups']:,} patients or groups, {overall['n_stroke']:,} of strokes"
    )
    calibration = report["calibration"] or {}
    return {
        "trained on": f"{trained_on['name']} ({trained_on['note']})" if trained_on["note"] else trained_on["name"],
        "measured on": f"{data['name']} ({data['note']})" if data["note"] else data["name"],
        "test slices": tested,
        "test AUROC": show_interval(overall["intervals"]["auroc"]),
        "threshold": f"{show_digits(own['threshold'])} ({own['operating_point'] or 'of its own'})",
        "calibration": f"{calibration.get('method') or 'none'}, temperature {show_digits(own['temperature'])}",
    }


def _describe_export(model: str, revision: str | None) -> dict[str, str]:
    record = read_export(model, revision)
    if record is None:
        return {"ONNX export": "none; `stroke-hub export` writes one"}
    sizes = ", ".join(f"{precision} {size / 2**20:.1f} MiB" for precision, size in record["bytes"].items())
    return {"ONNX export": sizes}
