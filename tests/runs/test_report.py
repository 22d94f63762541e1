"""report.json: what is read is written again to the byte, and what is not as described is refused in a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from stroke_hub.errors import RunError
from stroke_hub.runs.report import PARTS, SCHEMA_VERSION, Report, find_report, read_report

ROOT = Path(__file__).parents[2]


@pytest.fixture
def report(run_dir: Path) -> dict[str, Any]:
    return dict(json.loads((run_dir / "report.json").read_text()))


def test_the_same_bytes_are_written_again(run_dir: Path) -> None:
    for file in (run_dir / "report.json", ROOT / "docs" / "ct-report.json"):
        assert Report.from_json(file.read_bytes()).to_json().encode() == file.read_bytes()


def test_every_part_and_metric_is_there(run_dir: Path) -> None:
    report = read_report(run_dir)
    assert tuple(report.test) == tuple(report.curves) == PARTS
    assert report.schema_version == SCHEMA_VERSION
    assert read_report(run_dir) == report == find_report(run_dir)


@pytest.mark.parametrize(
    ("keys", "value", "named"),
    [
        (("data", "note"), 1, r"data\.note: Input should be a valid string"),
        (("data", "slices"), {"train": {"normal": 1, "stroke": 1}}, r"data\.slices: lacks val, test"),
        (("model", "threshold"), "0.5", r"model\.threshold: Input should be a valid number"),
        (("model", "image_size"), True, r"model\.image_size: Input should be a valid integer"),
        (("test", "BT", "confusion", "tp"), 1.5, r"test\.BT\.confusion\.tp: Input should be a valid integer"),
        (("test", "overall", "delong"), None, r"test\.overall\.delong: Input should be an object"),
        (("test", "overall", "intervals"), {}, r"test\.overall\.intervals: lacks accuracy, sensitivity"),
        (("test", "overall", "auroc"), float("nan"), r"test\.overall\.auroc: Input should be a finite number"),
        (("test",), {}, r"test: lacks overall, BT, MR"),
        (("operating_points", "half"), 0.5, r"operating_points\.half: Input should be an object"),
        (("history",), {}, r"history: Input should be a valid array"),
        (("curves", "MR", "fpr", 0), None, r"curves\.MR\.fpr\.0: Input should be a valid number"),
        (("schema_version",), 1, "not of schema version 2"),
        (("schema_version",), "2", "not of schema version 2"),
    ],
)
def test_a_wrong_type_is_refused(
    report: dict[str, Any], tmp_path: Path, keys: tuple[Any, ...], value: Any, named: str
) -> None:
    inner: Any = report
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(RunError, match=named) as refused:
        read_report(tmp_path)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "report.json"))
    assert str(refused.value).endswith("evaluate the run again.")
    assert find_report(tmp_path) is None


def test_every_missing_key_is_named(report: dict[str, Any]) -> None:
    optional = {
        "options",
        "slices",
        "groups",
        "measured_sha256",
        "undefined",
        "novelty",
        "patients",
        "headline",
        "participants",
        "software",
        "scans",
        "localisation",
    }  # "groups" of the data alone
    places = [("", report)] + [
        (f"{name}.", part)
        for name, part in (
            ("data", report["data"]),
            ("model", report["model"]),
            ("calibration", report["calibration"]),
            ("test.overall", report["test"]["overall"]),
            ("test.overall.intervals.auroc", report["test"]["overall"]["intervals"]["auroc"]),
            ("test.overall.calibration.before.brier", report["test"]["overall"]["calibration"]["before"]["brier"]),
            ("audit", report["audit"] or {}),
        )
    ]
    refused = 0
    for prefix, part in places:
        for key in list(part):
            # "groups" may be missing in the data alone
            if key in optional and not (key == "groups" and prefix != "data."):
                continue
            value = part.pop(key)
            with pytest.raises(RunError) as error:
                Report.from_json(json.dumps(report))
            if key != "schema_version":
                assert f"({prefix}{key}: is missing)" in str(error.value)
            part[key] = value  # at the end: a report's keys have no order to its readers
            refused += 1
    assert refused > 60
    Report.from_json(json.dumps(report))


def test_hostile_text_is_refused_without_being_repeated(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no report\.json"):
        read_report(tmp_path)
    whole = (run_dir / "report.json").read_bytes()
    points = b'"operating_points": {'
    hostile = points + b'"\\u001b[31m<b>\\n' + b"x" * 5000 + b'": 1,'
    contents = {
        "not JSON": (b"", b"{", whole[:-9], b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 100_000),
        "not whole": (b"[]", b"null", b"1"),
        "schema version": (b"{}", b'{"schema_version": 1}'),
        "operating_points": (whole.replace(points, hostile, 1),),
    }
    for words, texts in contents.items():
        for text in texts:
            (tmp_path / "report.json").write_bytes(text)
            with pytest.raises(RunError, match=words) as refused:
                read_report(tmp_path)
            assert str(refused.value).isprintable()
            assert len(str(refused.value)) < 300 + len(str(tmp_path))
            assert find_report(tmp_path) is None
