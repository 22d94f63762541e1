"""The command that makes a report again, and the options that set its training apart."""

import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from stroke_hub.errors import RunError
from stroke_hub.runs.report import Report
from stroke_hub.runs.train_config import TrainConfig, describe_variant

__all__ = ["build_command", "choose_options"]

AGAIN = "runs/again"  # not the folder that a training takes by itself: there the run of this report may lie


def build_command(report: Report) -> list[str]:
    """Build what to type to get a report again, word by word: the training, or the evaluation of another's model.

    Returns
    -------
    The words, quoted for a shell. Of the training's options those that a default would not give. The number of
    threads stands first: sums are rounded in their order, so that another number trains another model.
    """
    data, model, training = report.data, report.model, report.training
    note = data.note
    if training is None:
        words = ["stroke-hub", "evaluate", "--model", model.source or "MODEL"]
        if model.revision:
            words += ["--revision", model.revision]
        words += ["--data-dir", "FOLDER", "--out", "OUT"]
        if data.split != "test":
            words += ["--split", data.split]
        words += data.options or []
    else:
        known = data.name in ("sample", "kaggle")
        words = [f"OMP_NUM_THREADS={training['threads']}"] if "threads" in training else []
        words += ["stroke-hub", "train"]
        words += ["--data", data.name] if known else ["--data-dir", "FOLDER"]
        words += ["--run-dir", AGAIN]
        given = choose_options(training)
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


def choose_options(training: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the fewest options that resolve to the same configuration: a preset names its backbones by itself."""
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
