"""The model card for the Hub, made of the report by the template model_card.md; what a human edited is kept."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import yaml  # type: ignore[import-untyped]  # huggingface_hub brings it
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Template, Undefined
from markupsafe import Markup

from stroke_hub.data.kaggle import HANDLE
from stroke_hub.errors import HubError, RunError
from stroke_hub.inference.onnx_model import read_export
from stroke_hub.metrics.highest_mean import HighestMean
from stroke_hub.models.weights import WEIGHTS_FILE, read_scan_rule
from stroke_hub.report.formatting import (
    BASELINES,
    CONTROLS,
    LOCALISATION,
    MEASURES,
    METRIC_TITLES,
    PART_TITLES,
    Estimate,
    list_parts,
    list_points,
    list_prevalences,
    list_spreads,
    show_count,
    show_digits,
    show_interval,
    show_number,
    show_percent,
)
from stroke_hub.report.methods import describe_decisions, describe_intervals
from stroke_hub.report.templating import make_environment
from stroke_hub.runs.command import build_command
from stroke_hub.runs.report import CalibrationErrors, DeLong, Interval, Report

__all__ = ["is_untouched", "render_card", "renew_card"]

TAGS = ["medical", "brain", "stroke", "ct", "mri", "explainable"]
HUB_METRICS = {  # what the Hub calls those of a report
    "auroc": "roc_auc",
    "average_precision": "average_precision",
    "accuracy": "accuracy",
    "sensitivity": "recall",
    "specificity": "specificity",
    "ppv": "precision",
    "npv": "npv",
    "f1": "f1",
    "brier": "brier_score",
}
RANKING = {"auroc", "average_precision", "brier"}  # metrics without a threshold
MAPS = {"cnn": "CNN", "vit": "transformer", "fused": "fused, signed", "attention": "attention rollout"}
JUDGED = ("pointing", "mass", "road", "outside", "randomisation_size", "randomisation_chance")
SECTION = re.compile(r"(^<!-- generated: ([a-z]+) -->)(.*?)(^<!-- end: \2 -->)", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^<!-- (?:generated|end): [a-z]+ -->", re.MULTILINE)
HEADER = re.compile(r"\A\s*---\r?\n(.*?\r?\n)---[ \t]*\r?$", re.MULTILINE | re.DOTALL)  # YAML front matter
INDEX = re.compile(r"^model-index:.*\n(?:[ \t\r-].*\n)*", re.MULTILINE)
SEAL = "<!-- Made by stroke_hub. Edit at will: edits outlive the next publish. SHA-256 of what stands above: {} -->"
SEALED = re.compile(re.escape(SEAL).replace(r"\{\}", "([0-9a-f]{64})") + r"\s*\Z")


def render_card(
    report: Report,
    *,
    repo_id: str,
    run: str | Path,
    half: bool = False,
    with_onnx: bool = False,
    datasets: Sequence[str] = (),
    new_version: str | None = None,
) -> str:
    """Write the model card of an evaluated run, as the text of a repository's README.md.

    Parameters
    ----------
    report : every number comes from there, but for those of how true the maps are.
    repo_id : "owner/name" of the repository on the Hub.
    run : the run's folder; figures/*.png are shown from there, and faithfulness.json where it has one. Its weights
        say how scans are judged.
    half : the weights are published as float16: other bytes than those of the report's SHA-256.
    with_onnx : the run's export is published too; its sizes and changes come from onnx/export.json.
    datasets : "owner/name" of those on the Hub that the model learned from.
    new_version : "owner/name" of the model that replaces this one.

    Returns
    -------
    YAML front matter with the model-index, then Markdown, "\\n" between lines; `is_untouched` is true of it.

    Raises
    ------
    RunError : faithfulness.json is damaged.
    """
    files = {
        "faithfulness": _read_faithfulness(Path(run)),
        "exported": _read_export(Path(run)) if with_onnx else None,
        "scans": _tell_scan_rule(Path(run)),
        "figures": {file.stem for file in (Path(run) / "figures").glob("*.png")},
    }
    text = _load_template().render(
        vars(report) | _prepare(report, repo_id, datasets, new_version) | files, stored_half=half
    )
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    return f"{text}\n{SEAL.format(_hash(text))}\n"


def is_untouched(card: str) -> bool:
    """Tell whether a card is as `render_card` wrote it.

    Line ends and the space behind the last line do not count.
    """
    seal = SEALED.search(card)
    return seal is not None and seal[1] == _hash(card[: seal.start()])


def renew_card(existing: str, fresh: str) -> str:
    """Renew the generated sections and the model-index of a card that a human edited.

    All else is kept byte for byte. A section or model-index that was deleted stays away; one that is no longer
    generated is emptied, so that no old number is left. A card that nobody edited is replaced as a whole.

    Raises
    ------
    HubError : the card has no generated section, or a marker was lost, or its front matter cannot be read.
    """
    if is_untouched(existing):
        return fresh
    newline = "\r\n" if "\r\n" in existing else "\n"
    found = list(SECTION.finditer(existing))
    if not found or len(MARK.findall(existing)) != 2 * len(found):
        raise HubError(
            "README.md: has no whole generated section, or a marker of one was lost; put each line "
            "'<!-- generated: NAME -->' and '<!-- end: NAME -->' back, or delete README.md to get a new one."
        )
    sections = {section[2]: section[3].replace("\n", newline) for section in SECTION.finditer(fresh)}
    renewed = SECTION.sub(lambda section: f"{section[1]}{sections.get(section[2], newline)}{section[4]}", existing)
    return _renew_index(renewed, fresh, newline)


def _renew_index(card: str, fresh: str, newline: str) -> str:
    """Give a card the model-index of a fresh one, where it has one."""
    before, other = HEADER.search(card), HEADER.search(fresh)
    if before is None or other is None or not INDEX.search(before[1]):
        return card
    index = INDEX.search(other[1])
    block = index[0].replace("\n", newline) if index else ""
    header = INDEX.sub(lambda _: block, before[1])
    kept, wanted = _read_header(before[1]), _read_header(other[1])
    expected = {key: value for key, value in kept.items() if key != "model-index"}
    expected |= {"model-index": wanted["model-index"]} if index else {}
    if _read_header(header) != expected:  # the block was written in a way that its end was not found
        raise HubError("README.md: its model-index could not be replaced; delete it from the front matter.")
    return card[: before.start(1)] + header + card[before.end(1) :]


def _read_header(text: str) -> dict[str, Any]:
    try:
        header = yaml.safe_load(text)
    except yaml.YAMLError:
        header = None
    if not isinstance(header, dict):
        raise HubError("README.md: its front matter is not YAML; mend it, or delete README.md to get a new one.")
    return header


def _hash(text: str) -> str:
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return hashlib.sha256(lines.rstrip().encode()).hexdigest()


def _prepare(report: Report, repo_id: str, datasets: Sequence[str], new_version: str | None) -> dict[str, Any]:
    """Give what the template needs besides the report itself, or instead of it."""
    data, training = report.data, _hide_folders(report.training)
    report = replace(report, training=training)
    simulated = "simulated" in data.note.lower()
    kaggle = data.name == "kaggle" and not simulated and "stand-in" not in data.note.lower()
    parts = list_parts(report.test)
    return {
        "repo_id": repo_id,
        "owner": repo_id.partition("/")[0],
        "name": repo_id.rpartition("/")[2],
        # YAML, quoted by its own rules
        "metadata": Markup(_describe_metadata(report, repo_id, datasets, new_version).to_yaml()),  # noqa: S704
        "training": training,
        "weights": {branch: _tell_weights(training, branch) for branch in ("cnn", "vit")},
        "simulated": simulated,
        "kaggle": HANDLE if kaggle else "",
        "parts": parts,
        "worse": [title for title, part in parts if _is_worse(part.calibration)],
        "points": list_points(report),
        "prevalences": list_prevalences(report.test["overall"]),
        "metrics": [
            (title, name)
            for name, title in METRIC_TITLES.items()
            if all(name in part.intervals for _, part in parts)
        ],
        "method": describe_intervals(report),
        "decisions": describe_decisions(report),
        "titles": BASELINES,
        "estimate": Estimate,
        "spreads": list_spreads(report.trainings) if report.trainings else [],
        "command": " ".join(build_command(report)),
    }


def _describe_metadata(
    report: Report, repo_id: str, datasets: Sequence[str], new_version: str | None
) -> ModelCardData:
    bases = [_find_base(report.training, branch) for branch in ("cnn", "vit")]
    results = [result for part in PART_TITLES for result in _list_results(report, part)]
    return ModelCardData(
        license="apache-2.0",
        library_name="stroke-hub",
        pipeline_tag="image-classification",
        tags=TAGS,
        base_model=[base for base in bases if base] or None,
        datasets=list(datasets) or None,
        new_version=new_version,
        model_name=repo_id.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )


def _list_results(report: Report, name: str) -> list[EvalResult]:
    """List what is defined of a part's figures, for the model-index."""
    part, data = report.test[name], report.data
    if not part.n:
        return []
    named = {key: part.intervals[key] for key in HUB_METRICS if key in part.intervals}
    intervals = {key: interval for key, interval in named.items() if interval.value is not None}
    dataset = _clean(data.name) or "unnamed dataset"
    note = f" ({_clean(data.note)})" if data.note else ""
    return [
        EvalResult(
            task_type="image-classification",
            task_name="Stroke or normal on brain CT and MR slices",
            dataset_type="imagefolder",
            dataset_name=f"{dataset}{note}, {PART_TITLES[name]}",
            dataset_config=name,
            dataset_split=_clean(data.split),
            dataset_args={"n": part.n, "n_stroke": part.n_stroke, "groups": part.groups, "sha256": data.sha256},
            metric_type=HUB_METRICS[key],
            metric_name=METRIC_TITLES[key],
            metric_value=interval.value,
            metric_args={"low": interval.low, "high": interval.high}
            | ({} if key in RANKING else {"threshold": part.threshold}),
        )
        for key, interval in intervals.items()
    ]


def _find_base(training: Mapping[str, Any] | None, branch: str) -> str | None:
    """Find the Hub's name of the weights that a branch started from, where they are timm's."""
    if not training or training.get(f"{branch}_weights") != "imagenet":
        return None
    source = timm.get_pretrained_cfg(training[branch])
    return source.hf_hub_id if source and source.hf_hub_id else None


def _tell_weights(training: Mapping[str, Any] | None, branch: str) -> str:
    if training is None:
        return "not known"
    if training.get("init_from"):
        return f"from the run {training['init_from']}"
    base, given = _find_base(training, branch), training.get(f"{branch}_weights")
    return f"pretrained on ImageNet, {base}" if base else str(given or "not recorded")


def _is_worse(calibration: CalibrationErrors) -> bool:
    """Tell whether the calibration error is larger after the calibration than before it."""
    before, after = calibration.before.ece, calibration.after.ece
    return before is not None and after is not None and after > before


def _hide_folders(training: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Name the files of a configuration without their folders: a card tells nothing of a machine."""
    if training is None:
        return None
    files = {key for key in ("cnn_weights", "vit_weights", "init_from") if isinstance(training.get(key), str)}
    return dict(training) | {key: re.split(r"[\\/]", training[key].rstrip("\\/"))[-1] for key in files}


def _tell_scan_rule(run: Path) -> str:
    """Tell how the model judges scans; "" where there are no weights to ask."""
    weights = run / WEIGHTS_FILE
    if not weights.is_file():
        return ""
    rule = read_scan_rule(weights)
    if rule is None:
        return f"It stores no rule for scans; the default is {HighestMean().words}, not calibrated for scans."
    return (
        f"A scan is judged by {rule.words}, as chosen on validation scans, and called Stroke from a probability of "
        f"{show_digits(rule.threshold)} on."
    )


def _read_faithfulness(run: Path) -> dict[str, Any] | None:
    """Read how true the maps are: a row a map and one of the best controls."""
    file = run / "faithfulness.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        judged = [measure for measure in JUDGED if measure in found["measures"]]  # an earlier version knew fewer
        rows = [(title, [_read_cell(found, measure, name) for measure in judged]) for name, title in MAPS.items()]
        best = [_read_best(found, measure) for measure in judged]
        counts = {key: found[key] for key in ("n", "n_masks", "groups")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"{file}: cannot be read; delete it, or judge the maps again (--faithfulness).") from None
    direction = {1: "more is better", -1: "less is better", 0: "chance"}
    titles = [f"{MEASURES[measure][0]} ({direction[MEASURES[measure][1]]})" for measure in judged]
    return counts | {"titles": titles, "rows": [*rows, ("best control", best)]}


def _read_export(run: Path) -> dict[str, Any] | None:
    """Read the export, a row a precision: bytes, and changes of probabilities, maps and AUROC against PyTorch."""
    record = read_export(run)
    if record is None:
        return None
    measured = record["measured"]
    rows = [
        (precision, [size, *(measured[precision][key] for key in ("probability", "map", "auroc"))])
        for precision, size in record["bytes"].items()
    ]
    return {"rows": rows, "on": measured["on"], "n": measured["n"], "explains": record["explains"]}


def _rank(cell: Mapping[str, Any] | None, sign: int) -> float:
    return -float("inf") if cell is None else sign * float(cell["mean"])


def _read_best(found: Mapping[str, Any], measure: str) -> tuple[Estimate, str]:
    """Read a measure of its best control; where parameters are permuted, none reads any."""
    cells, (_, sign) = found["measures"][measure], MEASURES[measure]
    if measure.startswith("randomisation"):
        return Estimate(None, None, None, "a control reads no parameter"), ""
    control = max(CONTROLS, key=lambda name: _rank(cells[name], sign))
    return _read_cell(found, measure, control, control)


def _read_cell(found: Mapping[str, Any], measure: str, name: str, shown: str = "") -> tuple[Estimate, str]:
    """Read a measure of a map as an interval, with the name that is shown beside it."""
    cell = found["measures"][measure][name]
    if cell is not None:
        return Estimate(cell["mean"], cell["low"], cell["high"], "too few groups, or all alike"), shown
    unmasked = measure in LOCALISATION and not found["n_masks"]
    reason = "no slice has a lesion mask" if unmasked else "no map has anything to measure"
    return Estimate(None, None, None, reason), ""


def _load_template() -> Template:
    # what is printed and not marked as Markdown goes through `_print`
    environment = make_environment(finalize=_print, keep_trailing_newline=True)
    filters: dict[str, Callable[..., Markup]] = {"code": _code, "quoted": _quote, "show": _show, "verbatim": _keep}
    environment.filters |= filters
    return environment.get_template("model_card.md")


def _print(value: object) -> object:
    """Turn text into harmless Markdown; a number that did not go through `show` is an error in the template."""
    if isinstance(value, Markup | Undefined):
        return value
    if isinstance(value, str):
        return _escape(value)
    raise TypeError(f"{value!r} is printed in model_card.md; give it to the filter show.")


def _show(value: Any, form: str = "", *, reason: str | None = None) -> Markup:
    """Write a number of the report as the card has it: the only way for one to get there.

    Parameters
    ----------
    value : a number, an interval, or None, which is "not defined".
    form : "" (counts in whole numbers, others to three decimals), "digits" (three significant), "percent",
        "signed" (of an interval), or "plain" (as it is).
    reason : why there is none, where `value` is None and not an interval.
    """
    if isinstance(value, Interval | DeLong | Estimate):
        plain = Estimate(value.value, value.low, value.high, _escape(value.undefined or ""))
        shown = show_interval(plain, sign=form == "signed")
    elif value is None:
        shown = show_number(None, _escape(reason or ""))
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value} is not a number.")
    elif form == "plain":
        shown = str(value)
    elif isinstance(value, int):
        shown = show_count(value)
    else:
        shown = {"": show_number, "digits": show_digits, "percent": show_percent}[form](value)
    return Markup(shown)  # noqa: S704  digits, and a reason that is escaped


def _clean(text: str) -> str:
    """Make text one line, without what cannot be seen or turns the direction of writing."""
    return "".join(sign for sign in " ".join(str(text).split()) if sign.isprintable())


def _escape(text: str) -> Markup:
    """Write text as Markdown that says just that: no markup, no HTML, no link, wherever on a line it stands."""
    text = _clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # brackets matter where a target follows: intervals stay as they are; a _ inside a word is only itself
    text = re.sub(r"[\\`*~|$]|\](?=[(\[:])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", text)
    text = re.sub(r"^[-+#=\[]|^\d+(?=[.)])", lambda found: _escape_start(found[0]), text)
    return Markup(text.replace("://", "&#58;//").replace("www.", "www&#46;").replace("@", "&#64;"))  # noqa: S704


def _escape_start(mark: str) -> str:
    """Escape what would open a list, a heading or a numbered item at the start of a line."""
    return f"&#{ord(mark[0])};{mark[1:]}"


def _code(text: str) -> Markup:
    plain = re.fullmatch(r"[A-Za-z0-9_.+-]+", text)
    return Markup(f"`{text}`" if plain else f"<code>{_escape(text)}</code>")  # noqa: S704


def _quote(text: str) -> Markup:
    """Write a string of Python, or a word of a shell, in double quotes."""
    return Markup(json.dumps(_clean(text)))  # noqa: S704  for a code block, where nothing is markup


def _keep(text: str) -> Markup:
    return Markup(_clean(text))  # noqa: S704  for a code block, where nothing is markup
