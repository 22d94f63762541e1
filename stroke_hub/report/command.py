"""The command that makes a report again."""

import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from stroke_hub.errors import RunError
from stroke_hub.runs.report import Report
from stroke_hub.runs.train_config import TrainConfig, describe_variant

__all__ = ["build_command"]


def build_command(report: Report, *, installed: bool = False) -> list[str]:
    """What to type to get a report again, word by word: the training, or the evaluation of another's model.

    Parameters
    ----------
    installed : name the installed program instead of the script of a checkout.

    Returns
    -------
    The words, quoted for a shell. Of the training's options those that a default would not give.
    """
    data, model, training = report.data, report.model, report.training
    note = data.note
    if training is None:
        words = ["stroke-hub", "evaluate"] if installed else ["python", "scripts/evaluate.py"]
        words += ["--model", model.source or "MODEL"]
        if model.revision:
            words += ["--revision", model.revision]
        words += ["--data-dir", "FOLDER", "--out", "OUT"]
        if data.split != "test":
            words += ["--split", data.split]
        words += data.options or []
    else:
        known = data.name in ("sample", "kaggle")
        words = ["stroke-hub", "train"] if installed else ["python", "scripts/train_and_push.py"]
        words += ["--data", data.name] if known else ["--data-dir", "FOLDER"]
        given = _choose_options(training)
        for option in fields(TrainConfig):
            words += _spell_option(option.name, given.get(option.name), default=option.default)
        words += data.options or []
        if report.trainings:
            words += ["--seeds", str(len(report.trainings.seeds))]
        # the training adds this by itself
        note = note.removesuffix(describe_variant(TrainConfig(**given))).removesuffix("; ")
    if note:
        words += ["--data-note", note]
    return [shlex.quote(word) for word in words]


def _choose_options(training: Mapping[str, Any]) -> dict[str, Any]:
    """The fewest options that resolve to the same configuration: a preset names its backbones by itself."""
    given = {option.name: training[option.name] for option in fields(TrainConfig) if option.name in training}
    try:
        whole = TrainConfig(**given).resolve()
    except (RunError, KeyError, TypeError):
        return given  # of another version of the package: all of it is shown
    for name in tuple(given):
        fewer = {key: value for key, value in given.items() if key != name}
        try:
            if TrainConfig(**fewer).resolve() == whole:
                given = fewer
        except RunError:
            continue  # what is left would contradict itself: the option is needed
    return given


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
