"""The card says what report.json says and nothing else; what a human edits in it outlives a renewal."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
import yaml
from huggingface_hub import ModelCard
from jinja2 import UndefinedError
from markdown_it import MarkdownIt
from markdown_it.token import Token
from safetensors.numpy import load_file, save_file

from stroke_hub import Records, ResNetViT, load_slices
from stroke_hub.errors import HubError, RunError
from stroke_hub.evaluation.faithfulness import judge
from stroke_hub.report.card import HUB_METRICS, _load_template, is_untouched, render_card, renew_card
from stroke_hub.report.formatting import CONTROLS, LOCALISATION, METRIC_TITLES
from stroke_hub.report.methods import describe_decisions, describe_intervals
from stroke_hub.runs.train_config import TrainConfig
from tests.report.test_html import NOTE, audit, bare_report, typed, whole_report

ROOT = Path(__file__).parents[2]
TEMPLATE = (ROOT / "model_card.md").read_text(encoding="utf-8")
FIELDS = [
    "Developer", "Contact", "Release", "Regulatory status", "Intended use and users", "How to use", "Out of scope",
    "Inputs and outputs", "Population", "Development data", "Reference standard", "Splits and their unit",
    "Performance", "By patient and scan", "Operating points", "Subgroup results", "Calibration",
    "Baselines and controls", "Leakage audit",
    "External validation", "Explanation validity", "Bias and risks", "Limits", "Maintenance", "How to reproduce",
    "Licence", "Citation",
]  # fmt: skip
NUMBER = r"[−+-]?\d[\d,]*(?:\.\d+)?"
HOSTILE = [
    "<script>alert(1)</script>",
    "<!-- end: summary -->\n<!-- generated: evil -->",
    "[text](javascript:alert) ![image](https://evil.example/x.png) <https://evil.example>",
    "[x]: https://evil.example",
    "a | b | c",
    "```\n# heading\n---\nkey: value\n---",
    "- list\n\n1. list\n\n# heading\n\n> quote",
    "1. numbered",
    "# heading",
    "*strong* __strong__ ~~gone~~ `code` $x$ \\ &lt;b&gt; {{ 7 * 7 }} {% raw %}",
    "https://evil.example www.evil.example me@evil.example",
    '</code></pre>\' OR "1"="1" $(rm -rf x)',
    "\u202etxt.exe\x00\x07",
]


@pytest.fixture(scope="module")
def report(run_dir: Path) -> dict[str, Any]:
    """Of a model that was trained."""
    return dict(json.loads((run_dir / "report.json").read_text()))


@pytest.fixture(scope="module")
def card(report: dict[str, Any], run_dir: Path) -> str:
    return render(report, run_dir)


def render(report: dict[str, Any], run: Path, *, half: bool = False) -> str:
    return render_card(typed(report), repo_id="owner/name", run=run, half=half)


def parse(card: str) -> list[Token]:
    """The Markdown of a card, as the Hub's renderer would read it."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(ModelCard(card).text)


def read_text(tokens: list[Token]) -> str:
    """What a reader sees, a line a paragraph or cell."""
    lines = []
    for token in tokens:
        if token.type == "inline":
            parts = (child.content for child in token.children or [] if child.type in ("text", "code_inline"))
            lines.append("".join(parts))
        elif token.type == "fence":
            lines.append(token.content)
    return "\n".join(lines)


def read_sections(card: str) -> dict[str, list[Token]]:
    """By heading, the tokens up to the next heading of any level."""
    tokens = parse(card)
    starts = [k for k, token in enumerate(tokens) if token.type == "heading_open"]
    return {tokens[a + 1].content: tokens[a + 3 : b] for a, b in pairwise([*starts, len(tokens)])}


def read_tables(tokens: list[Token]) -> list[list[list[str]]]:
    """Tables as rows of cells, heads first."""
    tables: list[list[list[str]]] = []
    for k, token in enumerate(tokens):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open"):
            tables[-1][-1].append(read_text(tokens[k + 1 : k + 2]))
    return tables


def check(cell: str, expected: float | Mapping[str, Any] | None) -> None:
    """A cell is a figure of the report, rounded, or says why there is none."""
    if expected is None:
        assert cell.startswith("not defined: "), cell
        return
    if isinstance(expected, Mapping):
        if expected["value"] is None:
            assert cell == f"not defined: {expected['undefined']}"
            return
        values = [expected["value"]]
        if expected["low"] is None:
            assert f"interval not defined: {expected['undefined']}" in cell
        else:
            values += [expected["low"], expected["high"]]
            assert re.fullmatch(r"\S+ \[\S+,\s\S+\]", cell), cell
    else:
        values = [expected]
    shown = re.findall(rf"[<>]?{NUMBER}", cell)
    assert len(shown) == len(values), cell
    for text, value in zip(shown, values, strict=True):
        if text in ("<0.001", ">0.999"):
            assert (0 < value < 0.0005) if text[0] == "<" else (0.9995 <= value < 1)
            continue
        places = len(text.partition(".")[2])
        number = float(text.replace("−", "-").replace(",", ""))
        assert number == pytest.approx(value, abs=0.5 * 10**-places * 1.001), (cell, value)


def check_tables(card: str, report: dict[str, Any]) -> int:
    """Every cell of every table against the report; how many tables there were."""
    sections = {title: read_tables(tokens) for title, tokens in read_sections(card).items()}
    test, overall = report["test"], report["test"]["overall"]
    names = {"All slices": "overall", "CT": "BT", "MR": "MR", "All slices, MR": "overall"}
    (head, *rows), *_ = sections["Performance"]
    parts = [test[names[title]] for title in head[1:]]
    metrics = [key for key in METRIC_TITLES if key in overall["intervals"]]
    keys = ["n", "n_stroke", "groups", "", *metrics, "tp", "fn", "fp", "tn"]
    for key, (_, *cells) in zip(keys, rows, strict=True):
        for part, cell in zip(parts, cells, strict=True):
            bearing = {"": part["intervals"]["sensitivity"]["groups"]}
            check(cell, part["intervals"].get(key) or (bearing | part["confusion"]).get(key, part.get(key)))
    titles = {"Probability 0.5": "half", "Youden": "youden"}
    titles |= {"Aimed at 95 % sensitivity": "sensitivity95", "Aimed at 95 % specificity": "specificity95"}
    (points,) = sections["Operating points"]
    for title, threshold, val_sensitivity, val_specificity, *cells in points[1:]:
        name = titles[title.removesuffix(" (the model’s own)")]
        assert title.endswith("own)") == (name == report["model"]["operating_point"])
        point = report["operating_points"][name]
        if point["threshold"] is None:
            assert threshold == f"not defined: {point['undefined']}"
        else:
            assert float(threshold) == pytest.approx(point["threshold"], rel=0.005)
        for key, cell in (("val_sensitivity", val_sensitivity), ("val_specificity", val_specificity)):
            if point.get(key) is None:
                assert cell == "–"
            else:
                check(cell, point[key])
        measured = overall["operating_points"].get(name)
        for key, cell in zip(("sensitivity", "specificity", "ppv", "npv"), cells, strict=True):
            assert cell == "–" if measured is None else True
            if measured:
                check(cell, measured[key])
    check_patients(sections["By patient and scan"], parts, titles)
    rows = [row for table in sections["Subgroup results"] for row in table[1:]]
    for row, (column, value, *cells) in zip(report["subgroups"], rows, strict=True):
        assert (column, value) == (row["column"], row["value"])
        for key, cell in zip(
            ("n", "n_stroke", "groups", "auroc", "sensitivity", "specificity"), cells, strict=True
        ):
            check(cell, row[key])
    (_, *rows), *further = sections["Calibration"]
    for key, (_, *cells) in zip(("ece", "log_loss", "brier"), rows, strict=True):
        found = [part["calibration"][when] for part in parts for when in ("before", "after")]
        for cell, measured in zip(cells, found, strict=True):
            value = measured and measured[key]
            check(cell, value["score"] if isinstance(value, dict) else value)
    for _, *rows in further:
        for key, (_, *cells) in zip(("ece", "slope", "intercept", "mean", "high"), rows, strict=True):
            for cell, part in zip(cells, parts, strict=True):
                found = part["calibration"]["after"]["recalibration"]
                check(cell, found[key] if key in found else found["floor"][key])
    for table in sections["Baselines and controls"][:1]:
        check(table[1][1], overall["intervals"]["auroc"])
        check(table[1][2], overall["intervals"]["accuracy"])
        for row, (_, auroc, accuracy, gap, better) in zip(report["baselines"], table[2:], strict=True):
            if row["difference"] is None:
                assert auroc == f"not defined: {row['undefined']}"
                continue
            check(auroc, row["auroc"])
            check(accuracy, row["accuracy"])
            check(gap, row["difference"]["auroc"])
            low = row["difference"]["auroc"]["low"]
            assert better == ("not defined" if low is None else "yes" if low > 0 else "no")
    for table in sections["Baselines and controls"][1:]:
        ruled = [row for row in report["baselines"] if "scans" in row]
        for row, (_, auroc, *cells) in zip(ruled, table[2:], strict=True):
            check(auroc, row["auroc"])
            expected = [one[key] for one in row["scans"] for key in ("auroc", "difference")]
            for cell, one in zip(cells, expected, strict=True):
                check(cell, one)
    for table in sections["Splits and their unit"]:
        flow = report["data"]["participants"]
        rows = [(flow, ("slices", "", "patients", "", ""))]
        rows += [(row, ("slices", "", "patients", "", "")) for row in flow["left_out"]]
        keys = ("slices", "stroke_slices", "patients", "stroke_patients", "mixed_patients")
        rows += [(flow["parts"][name], keys) for name in ("train", "val", "test")]
        found = [cells[:5] for _, *cells in table[1:] if flow["left_out"] or cells[0] != "0"]
        assert found == [[f"{row[key]:,}" if key else "–" for key in keys] for row, keys in rows]
    return sum(map(len, sections.values()))


def check_patients(tables: list[list[list[str]]], parts: list[dict[str, Any]], titles: Mapping[str, str]) -> None:
    """The tables by patient against the report."""
    if not tables:
        assert "patients" not in parts[0]
        return
    (_, *rows), (_, *points) = tables
    found = [part["patients"] for part in parts]
    counts = ["n", "n_stroke", "n_mixed", "scans", "missed", "missed_called", "false_called"]
    expected = [[one[key] for one in found] for key in counts]
    expected += [[one["any_slice"][key] for one in found] for key in ("sensitivity", "specificity")]
    expected += [[one[key] for one in found] for key in ("mean_sensitivity", "false_calls")]
    expected += [[one["rules"][i]["auroc"] for one in found] for i in range(len(found[0]["rules"]))]
    for (_, *cells), values in zip(rows, expected, strict=True):
        for cell, value in zip(cells, values, strict=True):
            check(cell, value)
    for title, *cells in points:
        measured = found[0]["operating_points"][titles[title.removesuffix(" (the model’s own)")]]
        values = [measured["sensitivity"], measured["specificity"]]
        values += [measured["at_prevalence"][p][key] for p in ("0.05", "0.2", "0.5") for key in ("ppv", "npv")]
        for cell, value in zip(cells, values, strict=True):
            check(cell, value)


def test_every_field_has_content(card: str, tmp_path: Path) -> None:
    for text in (
        card,
        *(render(r, tmp_path) for r in (whole_report(), bare_report())),
    ):
        sections = read_sections(text)
        assert [title for title in sections if title in FIELDS] == FIELDS
        for title in FIELDS:
            words = read_text(sections[title])
            assert len(words) > 20, title
            assert not re.search(r"\b(None|nan|inf|Undefined|null)\b", words), title


def test_tables_are_the_reports(card: str, report: dict[str, Any], tmp_path: Path) -> None:
    assert check_tables(card, report) == 10 + 2  # of pictures
    for made, tables in ((whole_report(), 9), (bare_report(), 3)):
        assert check_tables(render(made, tmp_path), made) == tables


def test_every_number_follows_the_report(report: dict[str, Any], run_dir: Path) -> None:
    """With other numbers in the report no number of the card stays, but those of the template and of sentences."""
    before, after = (render(r, run_dir) for r in (report, change(report)))
    outside_code = [[token for token in parse(text) if token.type != "fence"] for text in (before, after)]
    texts = [re.sub(r"[0-9a-f]{64}|0\.1\.0", "", read_text(tokens)) for tokens in outside_code]
    numbers = [re.findall(NUMBER, text) for text in texts]
    assert len(numbers[0]) == len(numbers[1]) > 300
    fixed = {
        "-256",
        "-2.0",
        "80",
        "100",
        "95",
        "0",
        "0.5",
        "5",
        "20",
        "50",
    }  # SHA-256, Apache-2.0, 95 %, prevalences
    fixed |= set(re.findall(NUMBER, " ".join(find_strings(report))))
    sentences = [*describe_intervals(typed(report)), *describe_decisions(typed(report))]
    fixed |= set(re.findall(NUMBER, " ".join(sentences)))
    for a, b in zip(*numbers, strict=True):
        assert a != b or a in fixed, a


def change(value: Any) -> Any:
    """The same with other numbers; no difference changes its sign."""
    if isinstance(value, dict):
        return {key: item if key in ("schema_version", "seed") else change(item) for key, item in value.items()}
    if isinstance(value, list):
        return [change(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return value + 1009 if isinstance(value, int) else 1.3 * value + (0.01 if value >= 0 else -0.01)


def find_strings(value: Any) -> list[str]:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value] if isinstance(value, str) else [text for item in items for text in find_strings(item)]


def test_a_number_that_is_not_shown_is_an_error() -> None:
    environment = _load_template().environment
    template = environment.from_string("{{ 1234 | show }} {{ 0.12345 | show }} {{ a }}")
    assert template.render(a="*") == "1,234 0.123 \\*"
    for source in ("{{ a }}", "{{ b }}", "{{ [a] }}", "{{ (a > 0) | show }}", "{{ 'x' | show }}"):
        with pytest.raises(TypeError):
            environment.from_string(source).render(a=0.5, b=None)
    with pytest.raises(UndefinedError):
        environment.from_string("{{ missing }}").render()


def test_words_warnings_and_notes_stand_first(tmp_path: Path) -> None:
    report = whole_report()
    text = render(report, tmp_path)
    lines = [line for line in ModelCard(text).text.splitlines() if line and not line.startswith("<!--")]
    assert lines[0].startswith("# ")
    assert lines[1] == f"**Every figure below is of: {NOTE}.**"
    assert "not a medical device" in lines[2]
    assert lines[3] == f"**{report['headline']}**"
    assert lines[5] == f"- {report['warnings'][0]}"
    seen = read_text(parse(text))
    for sentence in (*report["words"], *report["warnings"], *report["data"]["notes"]):
        assert sentence in seen
    assert "2 slices stand in train and test." in seen


def test_model_index_is_the_reports(card: str, report: dict[str, Any]) -> None:
    data = ModelCard(card).data
    assert data.library_name == "stroke-hub"
    assert data.pipeline_tag == "image-classification"
    assert (data.license, data.datasets, data.base_model) == ("apache-2.0", None, None)
    assert "verified" not in card
    assert "co2" not in card
    found = {(result.dataset_config, result.metric_type): result for result in data.eval_results}
    intervals = [part["intervals"][key] for part in report["test"].values() for key in HUB_METRICS]
    defined = [interval for interval in intervals if interval["value"] is not None]
    assert len(found) == len(data.eval_results) == len(defined) >= 3 * 7
    for part in ("overall", "BT", "MR"):
        measured = report["test"][part]
        for key, kind in HUB_METRICS.items():
            interval = measured["intervals"][key]
            if interval["value"] is None:
                assert (part, kind) not in found
                continue
            result = found[part, kind]
            assert result.metric_value == interval["value"]
            assert (result.metric_args.get("low"), result.metric_args.get("high")) == (
                interval["low"],
                interval["high"],
            )
            assert result.metric_args.get("threshold", measured["threshold"]) == measured["threshold"]
            assert result.dataset_args["n_stroke"] == measured["n_stroke"]
            assert NOTE in result.dataset_name
        assert found[part, "accuracy"].metric_value == measured["accuracy"]


def test_without_figures_there_is_no_model_index(tmp_path: Path) -> None:
    text = render(bare_report(), tmp_path)
    assert "model-index" not in text
    assert ModelCard(text).data.eval_results is None
    assert "not defined: no slices of a class that it needs" in text
    assert "Every figure below" not in text


@pytest.mark.parametrize(
    ("weights", "base", "words"),
    [
        ({}, ["timm/resnet50.a1_in1k", "timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"], "timm/resnet50.a1_in1k"),
        ({"cnn": "resnet50.a2_in1k", "vit_weights": "random"}, ["timm/resnet50.a2_in1k"], "transformer random"),
        (
            {"cnn_weights": "/home/me/a.safetensors", "vit_weights": r"C:\me\b.safetensors"},
            None,
            "CNN a.safetensors",
        ),
        ({"init_from": "/home/me/runs/first"}, None, "CNN from the run first"),
    ],
)
def test_base_models_are_the_weights_that_were_started_from(
    weights: dict[str, str], base: list[str] | None, words: str, tmp_path: Path
) -> None:
    report = whole_report()
    report["training"] |= vars(TrainConfig(**weights).resolve())
    text = render(report, tmp_path)
    assert ModelCard(text).data.base_model == base
    assert words in text
    assert "/home/me" not in text
    assert r"C:\me" not in text


def test_the_command_gives_the_training_again(card: str, report: dict[str, Any]) -> None:
    commands = next(token.content for token in read_sections(card)["How to reproduce"] if token.type == "fence")
    install, train, evaluate = (shlex.split(line) for line in commands.splitlines())
    assert install == ["pip", "install", f"stroke-hub[train]=={report['stroke_hub']}"]
    threads, *start = train[:7]
    assert threads == f"OMP_NUM_THREADS={report['training']['threads']}"
    assert start == ["stroke-hub", "train", "--data", "sample", "--run-dir", "runs/again"]
    assert train[-2:] == ["--data-note", NOTE]
    config = tyro.cli(TrainConfig, args=train[7:-2])
    resolved = {key: report["training"][key] for key in vars(config)}
    assert vars(config.resolve()) == resolved
    assert len(train[7:-2]) == 2 * sum(value != getattr(TrainConfig(), key) for key, value in vars(config).items())
    assert evaluate[:4] == ["stroke-hub", "evaluate", "--model", "owner/name"]
    assert evaluate[-1] == "--compare"


def test_the_command_leaves_out_the_words_that_the_training_adds(tmp_path: Path) -> None:
    report = whole_report()
    report["training"] |= vars(TrainConfig(branches="cnn", shuffle_labels=True).resolve())
    report["data"]["note"] += "; ablation: CNN branch only; control: trained on shuffled labels"
    text = render(report, tmp_path)
    assert f"--branches cnn --shuffle-labels --data-note '{NOTE}'\n" in text
    assert f"**Every figure below is of: {report['data']['note']}.**" in text


def test_the_card_says_how_scans_are_judged(
    card: str, report: dict[str, Any], run_dir: Path, tmp_path: Path
) -> None:
    assert "\n- It stores no rule for scans; the default is the mean of the 3 highest slices" in card
    weights = load_file(run_dir / "model.safetensors") | {"scan_rule": np.array([1, 1, 1, 0, 0.25], np.float32)}
    save_file(weights, tmp_path / "model.safetensors")
    words = "\n- A scan is judged by the highest slice, as chosen on validation scans, and called Stroke from a"
    assert f"{words} probability of 0.25 on.\n" in render(report, tmp_path)


def test_weights_that_were_rounded_are_called_that(card: str, report: dict[str, Any], run_dir: Path) -> None:
    halved = render(report, run_dir, half=True)
    words = read_text(read_sections(halved)["Release"])
    change = float(re.findall(r"by more than (\S+)\.", words)[0])
    assert change == pytest.approx(report["half"]["max_probability_change"], rel=0.005)
    assert "SHA-256 of the weights, as float32" in words
    assert "float16" not in card


def test_python_runs(
    card: str, run_dir: Path, sample: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").symlink_to(run_dir)
    (tmp_path / "scan.png").symlink_to(next((sample.root / "test").rglob("*.png")))
    monkeypatch.chdir(tmp_path)
    code = next(token.content for token in read_sections(card)["How to use"] if token.type == "fence")
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    assert (tmp_path / "why.png").is_file()


def test_figures_are_there_and_described(card: str, run_dir: Path) -> None:
    pictures = [child for token in parse(card) for child in token.children or [] if child.type == "image"]
    assert len(pictures) >= 9
    for picture in pictures:
        assert (run_dir / str(picture.attrs["src"])).is_file()
        assert len(picture.content) > 20


def test_maps_are_judged_where_the_run_has_it(
    report: dict[str, Any], run_dir: Path, trained: ResNetViT, sample: Records, tmp_path: Path
) -> None:
    strokes = sample.part("test").query("label == 1").head(2)
    slices = [load_slices(sample.root / path)[0] for path in strokes["path"]]
    masks = [load_slices(sample.root / path)[0].pixels > 127 for path in strokes["mask"]]
    quick = {"steps": 2, "randomisations": 2, "draws": 1, "replicates": 100}
    judged = judge(trained, slices, masks=masks, groups=["a", "b"], **quick)
    nothing = {measure: dict.fromkeys(judged["measures"][measure]) for measure in LOCALISATION}
    unmasked = judged | {"n_masks": 0, "measures": judged["measures"] | nothing}
    for found in (judged, unmasked):
        (tmp_path / "faithfulness.json").write_text(json.dumps(found))
        tokens = read_sections(render(report, tmp_path))["Explanation validity"]
        ((head, *rows),) = read_tables(tokens)
        measures = ("pointing", "mass", "road", "outside")
        randomised = ("randomisation_size", "randomisation_chance")
        assert [title.partition(" (")[0] for title in head[1:3]] == ["Pointing game", "Mass in the lesion"]
        assert "less is better" in head[4]
        assert head[5:] == ["Randomised: |Spearman| (less is better)", "|Spearman|, both randomised (chance)"]
        for name, (_, *cells) in zip(("cnn", "vit", "fused", "attention"), rows, strict=False):
            for measure, cell in zip((*measures, *randomised), cells, strict=True):
                check_judged(cell, found["measures"][measure][name])
        for cell in rows[-1][5:]:
            assert cell == "not defined: a control reads no parameter"
        for measure, sign, cell in zip(measures, (1, 1, 1, -1), rows[-1][1:5], strict=True):
            values = [found["measures"][measure][name] for name in CONTROLS]
            best = max(values, key=lambda value: -9 if value is None else sign * value["mean"])
            check_judged(cell.rpartition(" (")[0] if best else cell, best)
    (tmp_path / "faithfulness.json").write_text("{")
    with pytest.raises(RunError, match=r"faithfulness\.json: cannot be read"):
        render(report, tmp_path)
    assert "Not measured for this model" in render(report, run_dir)


def check_judged(cell: str, found: dict[str, Any] | None) -> None:
    if found is None:
        assert cell in ("not defined: no slice has a lesion mask", "not defined: no map has anything to measure")
    else:
        few = "too few groups, or all alike"
        check(cell, {"value": found["mean"], "low": found["low"], "high": found["high"], "undefined": few})


@pytest.mark.parametrize("words", HOSTILE)
def test_what_others_wrote_is_text(words: str, tmp_path: Path) -> None:
    plain, hostile = whole_report(), whole_report()
    for made, text in ((plain, "Zq"), (hostile, words)):
        made["data"] |= {"name": text, "note": text, "notes": [text]}
        made["model"] |= {"cnn": text, "vit": text, "weights_sha256": text}
        made["training"] |= {"cnn_weights": "random" if set(words) & {"/", "\\"} else text}  # of a path, the name
        made |= {"words": [text], "warnings": [text], "stroke_hub": text, "unit": text}
        made["subgroups"][0] |= {"column": text, "value": text}
        made["baselines"][0]["name"] = text
        made["subgroups"][-1]["auroc"]["undefined"] = text
        made["operating_points"]["youden"]["words"] = text
        made["audit"] = audit(*[{"level": "error", "sentence": text, "counts": {}}] * 2)
    cards = [render(made, tmp_path) for made in (plain, hostile)]
    outlines = [outline(card) for card in cards]
    assert outlines[0] == outlines[1]
    clean = "".join(sign for sign in " ".join(words.split()) if sign.isprintable())
    texts = [read_text([token for token in parse(text) if token.type != "fence"]) for text in cards]
    assert texts[0].count("Zq") == texts[1].count(clean) >= 12
    assert clean in ModelCard(cards[1]).data.eval_results[0].dataset_name
    assert is_untouched(cards[1])
    assert renew_card(cards[0] + "mine\n", cards[1]) == cut_seal(cards[1]) + seal_of(cards[0]) + "mine\n"


def cut_seal(card: str) -> str:
    return card[: card.rindex("<!-- Made by")]


def seal_of(card: str) -> str:
    return card[card.rindex("<!-- Made by") :]


def outline(card: str) -> list[tuple[str, str]]:
    """What a card is built of: blocks, HTML, links and pictures, but for `<code>`, the other way to write code."""
    kept = []
    for token in parse(card):
        kept.append(
            (token.type, token.content if token.type in ("html_block", "fence") and token.info != "bash" else "")
        )
        for child in token.children or []:
            if child.type in ("html_inline", "link_open", "image", "strong_open", "em_open", "s_open"):
                kept.append((child.type, child.content + str(child.attrs)))
    return [
        (kind, re.sub(r"[0-9a-f]{64}", "", text)) for kind, text in kept if text not in ("<code>{}", "</code>{}")
    ]


def test_a_card_is_untouched_until_a_human_edits_it(card: str) -> None:
    assert is_untouched(card)
    for same in (
        card.replace("\n", "\r\n"),
        card.rstrip(),
        card + "\n\n",
        "\ufeff" + card,
        card.replace("\n", "\r"),
    ):
        assert is_untouched(same)
    end = card.rindex("<!-- Made by")
    for place in range(0, end - 2, end // 50):
        assert not is_untouched(card[:place] + "x" + card[place:])
        assert not is_untouched(card[:place] + card[place + 1 :])
    assert not is_untouched(card + "mine")
    assert not is_untouched(card[:end])
    assert not is_untouched("")


def edit(card: str) -> str:
    """What humans do to a card."""
    assert "## Licence\n" in card
    card = card.replace("license: apache-2.0\n", "# asked for by legal\nlicense: mit\nextra: [1,  2]\n")
    card = card.replace("This is not a medical device:", "This is not a medical device (we asked):")
    return card.replace("## Licence\n", "## Ours\n\n| my | table |\n|---|---|\n| 0.999 | 1 |  \n\n## Licence\n")


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_renewing_keeps_what_a_human_wrote(card: str, report: dict[str, Any], run_dir: Path, newline: str) -> None:
    fresh = render(change(report), run_dir)
    edited = edit(card).replace("\n", newline)
    renewed = renew_card(edited, fresh)
    expected = edit(cut_seal(fresh) + seal_of(card)).replace("\n", newline)
    assert renewed == expected  # every generated byte is new, every other one is old
    assert not is_untouched(renewed)
    assert renew_card(renewed, fresh) == renewed
    data = ModelCard(renewed).data
    assert data.license == "mit"
    assert data.eval_results[0].metric_value == change(report)["test"]["overall"]["auroc"]
    assert renew_card(card.replace("\n", newline), fresh) == fresh  # nobody edited it


def test_outside_of_generated_sections_nothing_hangs_on_the_report(card: str, tmp_path: Path) -> None:
    def keep(text: str) -> str:
        return re.sub(r"<!-- generated: (\w+) -->.*?<!-- end: \1 -->", "", cut_seal(text), flags=re.DOTALL)

    others = [render(made, tmp_path) for made in (whole_report(), bare_report())]
    assert len({keep(ModelCard(text).text) for text in (card + "\n", *others)}) == 1


def test_a_section_that_was_deleted_stays_away(card: str, report: dict[str, Any], run_dir: Path) -> None:
    fresh = render(change(report), run_dir)
    fewer = re.sub(r"### Leakage audit.*?<!-- end: audit -->\n", "", card, flags=re.DOTALL)
    fewer = re.sub(r"^model-index:\n(?:[ -].*\n)*", "", fewer, flags=re.MULTILINE)
    renewed = renew_card(fewer, fresh)
    assert "Leakage audit" not in renewed
    assert "model-index" not in renewed
    older = card.replace(
        "### Leakage audit", "<!-- generated: old -->\n\n0.99\n\n<!-- end: old -->\n\n### Leakage audit"
    )
    assert "<!-- generated: old -->\n<!-- end: old -->" in renew_card(older, fresh)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("<!-- end: audit -->\n", "", "a marker of one was lost"),
        ("<!-- generated: audit -->\n", "", "a marker of one was lost"),
        ("<!-- end: audit -->", "<!-- end: splits -->", "a marker of one was lost"),
        ("library_name: stroke-hub", "library_name: [", "front matter is not YAML"),
        ("model-index:\n- name", "model-index:\n# why\n- name", "model-index could not be replaced"),
    ],
)
def test_a_card_that_cannot_be_renewed_is_refused(card: str, old: str, new: str, sentence: str) -> None:
    broken = card.replace(old, new)
    assert broken != card
    with pytest.raises(HubError, match=sentence):
        renew_card(broken, card)


def test_a_card_without_sections_is_refused(card: str) -> None:
    with pytest.raises(HubError, match="no whole generated section"):
        renew_card("# All mine\n", card)


def test_the_data_are_called_what_they_are(tmp_path: Path) -> None:
    report = whole_report()
    for note, kaggle, simulated in (
        ("Kaggle Multimodal Stroke Image Dataset", True, False),
        ("stand-in data: CT of head injuries in the layout of the Kaggle dataset", False, False),
        ("simulated slices, not patients", False, True),
    ):
        report["data"] |= {"name": "kaggle", "note": note}
        sections = read_sections(render(report, tmp_path))
        assert ("turkertuncer" in str(sections["Development data"])) == kaggle
        assert ("True by construction" in read_text(sections["Reference standard"])) == simulated
        assert note in read_text(sections["Population"])


def test_the_package_has_the_template() -> None:
    assert (ROOT / "stroke_hub" / "report" / "templates" / "model_card.md").read_text(encoding="utf-8") == TEMPLATE


@pytest.mark.slow
def test_the_wheel_has_the_template(tmp_path: Path) -> None:
    """From a checkout, and from a source distribution of it."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "model_card.md"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "stroke_hub", source / "stroke_hub", symlinks=True)
    build = "import setuptools.build_meta as b; print(b.build_sdist('dist'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (archive,) = (source / "dist").glob("*.tar.gz")
    for number, given in enumerate((source, archive)):
        out = tmp_path / str(number)
        wheel = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            out,
            given,
        ]
        subprocess.run(wheel, check=True, capture_output=True)
        (built,) = out.glob("*.whl")
        with zipfile.ZipFile(built) as files:
            assert files.read("stroke_hub/report/templates/model_card.md").decode() == TEMPLATE


def test_front_matter_is_plain_yaml(card: str) -> None:
    header = yaml.safe_load(card.split("---\n")[1])
    assert set(header) == {"library_name", "license", "pipeline_tag", "tags", "model-index"}
