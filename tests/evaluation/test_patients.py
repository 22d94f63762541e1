"""What a report says by patient is what its predictions say, and the flow of participants loses nobody."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from stroke_hub import Records, TrainConfig, fit
from stroke_hub.audit.leaks import assign_groups, audit, drop_leaks
from stroke_hub.data.records import LeftOut, read_slice_numbers
from stroke_hub.data.splits import apply_split
from stroke_hub.evaluation.patients import compare_patients, count_participants, list_patients, measure_patients
from stroke_hub.metrics.patients import RULES, ScanRule
from stroke_hub.report.patients import say_headline
from stroke_hub.report.sentences import describe, warn
from stroke_hub.runs.report import Report, read_report

POINTS = {"half": {"threshold": 0.5}, "none": {"threshold": None}}


@pytest.fixture
def predictions(run_dir: Path) -> pd.DataFrame:
    """The predictions of a run with the patients beside them."""
    found = pd.read_csv(run_dir / "stroke_classification_results.csv")
    groups = pd.read_csv(run_dir / "split.csv", dtype=str).set_index("path")["group"]
    return found.assign(group=found["image_path"].map(groups))


@pytest.fixture
def report(run_dir: Path) -> dict[str, Any]:
    return dict(json.loads((run_dir / "report.json").read_text()))


def typed(report: dict[str, Any]) -> Report:
    return Report.from_json(json.dumps(report))


def test_figures_by_patient_are_those_of_the_predictions(predictions: pd.DataFrame, report: dict) -> None:
    for part in ("overall", "BT", "MR"):
        rows = predictions if part == "overall" else predictions[predictions["image_type"] == part]
        found = report["test"][part]["patients"]
        by = rows.groupby("group")
        truth, highest = by["true_label"].max(), by["stroke_probability"].max()
        called = by["predicted_label"].max() == 1
        assert (found["n"], found["n_stroke"]) == (len(truth), truth.sum())
        assert found["rules"][0]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, highest), abs=1e-12)
        # the tiny model's validation scans are too few for a rule of its own
        own = by["stroke_probability"].agg(lambda p: logit(p).nlargest(3).mean())
        assert "default" in found["rules"][-1]["words"]
        assert found["rules"][-1]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, own), abs=1e-12)
        hits, n = int(called[truth == 1].sum()), int(truth.sum())
        exact = binomtest(hits, n).proportion_ci(method="exact")
        sensitivity = found["any_slice"]["sensitivity"]
        assert [sensitivity[key] for key in ("value", "low", "high")] == pytest.approx([hits / n, *exact])
        assert found["any_slice"]["specificity"]["value"] == pytest.approx((~called[truth == 0]).mean())
        strokes = rows[rows["true_label"] == 1]
        share = strokes.groupby("group")["predicted_label"].mean()
        assert found["mean_sensitivity"]["value"] == pytest.approx(share.mean(), abs=1e-12)
        assert found["missed"] == (share == 0).sum()
        false = rows[rows["true_label"] == 0].groupby("group")["predicted_label"].sum()
        assert found["false_calls"]["value"] == pytest.approx(false[truth[false.index] == 0].mean(), abs=1e-12)
        for point in found["operating_points"].values():
            reached = by["stroke_probability"].max() >= point["threshold"]
            hit, false_rate = reached[truth == 1].mean(), reached[truth == 0].mean()
            ppv = point["at_prevalence"]["0.05"]["ppv"]["value"]
            whole = 0.05 * hit + 0.95 * false_rate
            assert ppv is None if whole == 0 else ppv == pytest.approx(0.05 * hit / whole, abs=1e-12)


def test_each_patient_has_a_line_in_report_and_csv(run_dir: Path, predictions: pd.DataFrame, report: dict) -> None:
    table = pd.read_csv(run_dir / "patients.csv", dtype={"patient": str})
    assert table.to_dict("records") == [pytest.approx(row) for row in report["patients"]]
    assert sorted(table["patient"]) == sorted(set(predictions["group"]))
    assert table["slices"].sum() == len(predictions)
    assert table["found"].sum() == report["test"]["overall"]["confusion"]["tp"]
    assert table["false_calls"].sum() == report["test"]["overall"]["confusion"]["fp"]
    probability = predictions.set_index("image_path")["stroke_probability"]
    assert probability[table["path"]].to_numpy() == pytest.approx(table["probability"].to_numpy())
    positive = table["stroke_slices"] > 0
    assert positive.is_monotonic_decreasing  # those with stroke stand first, and the least found of them
    assert (table["found"] / table["stroke_slices"])[positive].is_monotonic_increasing
    assert table["false_calls"][~positive].is_monotonic_decreasing


def test_simple_rules_stand_beside_the_model_by_scan_too(report: dict) -> None:
    own = {rule["name"]: rule["auroc"]["value"] for rule in report["test"]["overall"]["patients"]["rules"]}
    for row in report["baselines"]:
        for scan in row["scans"]:
            gap = own[scan["name"]] - scan["auroc"]["value"]
            assert scan["difference"]["value"] == pytest.approx(gap, abs=1e-9)
    assert report["baselines"][0]["scans"][0]["auroc"]["value"] == 0.5  # one number for all
    assert "within" not in report["baselines"][0]


def test_the_headline_and_the_lack_of_contrast_are_said(report: dict) -> None:
    found = report["test"]["overall"]["patients"]
    found |= {"n": 20, "n_stroke": 9, "missed": 4, "missed_called": 0, "false_called": 5}
    words = "4 of 9 patients with stroke have no slice found; 5 of 11 patients without have a false call."
    assert say_headline(typed(report)) == words
    warning = "the slice's height, the scanner or the number of slices may give the class away"
    assert any(warning in sentence for sentence in warn(typed(report)))
    found |= {"missed": 1, "missed_called": 1, "n_mixed": 3}
    interval = found["mean_sensitivity"]
    found["within"] = {"slices": 9, "stroke_slices": 4, "pooled": interval, "mean": interval}
    assert "1 of 9 patients with stroke has no slice found (of 1 of them another" in str(
        say_headline(typed(report))
    )
    assert not any(warning in sentence for sentence in warn(typed(report)))
    assert any("3 patients have slices of both classes" in sentence for sentence in describe(typed(report)))


def test_a_report_of_an_earlier_version_says_nothing_by_patient(report: dict) -> None:
    for part in report["test"].values():
        del part["patients"]
    del report["patients"], report["headline"], report["data"]["participants"]
    for row in report["baselines"]:
        del row["scans"]
    old = typed(report)
    assert old.headline is None
    assert not any("called Stroke counts as called" in sentence for sentence in describe(old))
    assert old.to_json() == json.dumps(report, indent=2) + "\n"


def make_scans() -> tuple[pd.DataFrame, np.ndarray]:
    """Three patients, the first with two scans; slices out of order."""
    rows = [
        ("p1_s02.png", 1, "p1", "a", "2", 0.9),
        ("p1_s01.png", 0, "p1", "a", "1", 0.2),
        ("p1_s03.png", 0, "p1", "b", "1", 0.7),
        ("p2_s02.png", 0, "p2", "c", "2", 0.1),
        ("p2_s01.png", 0, "p2", "c", "10", 0.4),
        ("p3_s01.png", 1, "p3", "d", "1", 0.3),
    ]
    table = pd.DataFrame(rows, columns=["path", "label", "group", "scan", "slice", "probability"])
    return table.assign(modality="BT"), table["probability"].to_numpy()


def test_scans_are_the_unit_of_rules_and_patients_that_of_calls() -> None:
    table, probability = make_scans()
    orders: list[list[float]] = []

    def judge(z: np.ndarray) -> float:
        orders.append(np.round(1 / (1 + np.exp(-z)), 6).tolist())
        return float(z[-1])

    log_odds = np.log(probability / (1 - probability))
    rules = (*RULES, ScanRule("last", "the last slice", judge))
    found = measure_patients(table, probability, log_odds, threshold=0.5, points=POINTS, rules=rules)
    overall = found["overall"]
    assert orders[:4] == [[0.2, 0.9], [0.7], [0.1, 0.4], [0.3]]  # by number, not by name
    assert (overall["n"], overall["n_stroke"], overall["n_mixed"]) == (3, 2, 1)
    assert (overall["scans"], overall["stroke_scans"]) == (4, 2)
    assert (overall["missed"], overall["missed_called"], overall["false_called"]) == (1, 0, 0)
    assert overall["rules"][0]["auroc"]["value"] == pytest.approx(2.5 / 4 + 0.5 / 4 - 0.25)  # 0.9, 0.3 to 0.7, 0.4
    assert [rule["name"] for rule in overall["rules"]] == ["maximum", "highest3", "last"]
    assert list(overall["operating_points"]) == ["half"]
    assert overall["within"]["mean"]["value"] == 1
    assert found["MR"]["n"] == 0
    assert found["MR"]["any_slice"]["sensitivity"]["undefined"] == "no patient has a stroke slice"
    rows = list_patients(table, probability, threshold=0.5)
    assert [(row["patient"], row["found"], row["false_calls"], row["path"]) for row in rows] == [
        ("p3", 0, 0, "p3_s01.png"),
        ("p1", 1, 1, "p1_s02.png"),
        ("p2", 0, 0, "p2_s01.png"),
    ]


def test_one_slice_a_patient_gives_the_figures_of_slices(run_dir: Path, predictions: pd.DataFrame) -> None:
    table = predictions.rename(columns={"image_path": "path", "true_label": "label", "image_type": "modality"})
    table["group"] = table["path"]
    probability = table["stroke_probability"].to_numpy()
    log_odds = np.log(probability / (1 - probability))
    found = measure_patients(table, probability, log_odds, threshold=0.5, points={})["overall"]
    slices = read_report(run_dir).test["overall"]
    assert found["any_slice"]["sensitivity"]["value"] == slices.intervals["sensitivity"].value
    assert found["any_slice"]["specificity"]["value"] == slices.intervals["specificity"].value
    assert found["mean_sensitivity"]["value"] == slices.intervals["sensitivity"].value
    assert found["false_calls"]["value"] == pytest.approx(1 - float(slices.intervals["specificity"].value or 0))
    assert {rule["auroc"]["value"] for rule in found["rules"]} == {slices.auroc}
    assert found["within"] is None


def test_two_models_are_compared_by_patient() -> None:
    table, probability = make_scans()
    found = compare_patients(table, probability, 1 - probability, threshold_a=0.5, threshold_b=0.75)
    assert list(found) == ["sensitivity", "specificity", "maximum", "highest3"]
    assert (found["sensitivity"]["a"]["value"], found["sensitivity"]["b"]["value"]) == (0.5, 0.5)
    assert (found["specificity"]["a"]["value"], found["specificity"]["b"]["value"]) == (1, 0)
    for one in found.values():
        assert one["difference"]["value"] == pytest.approx(one["a"]["value"] - one["b"]["value"], abs=1e-12)


def test_slice_numbers_of_no_slices_are_none() -> None:
    assert len(read_slice_numbers(make_scans()[0].head(0))) == 0


def test_whatever_is_left_out_is_counted_to_the_last_slice(sample: Records, run_dir: Path, tmp_path: Path) -> None:
    report = read_report(run_dir)
    flow = report.data.participants
    assert flow is not None
    assert (flow.slices, flow.left_out) == (len(sample.table), [])
    assert flow.patients == sample.table["group"].nunique()
    assert sum(part.slices for part in flow.parts.values()) == flow.slices
    first = sample.table["path"].isin(sample.part("train")["path"].head(3))
    listed = tmp_path / "split.csv"
    sample.table[~first][["path", "split"]].to_csv(listed, index=False)
    kept = apply_split(assign_groups(sample, audit(sample)), listed)
    run = fit(TrainConfig(preset="tiny", epochs=1, limit=12), kept, tmp_path / "run")
    left_out = [LeftOut(**count) for count in json.loads((run / "left_out.json").read_text())]
    assert [count.reason for count in left_out] == [
        "images that split.csv does not list (--split-file)",
        "slices beyond 12 of a part (--limit)",
    ]
    assert left_out[0].slices == 3
    table = pd.read_csv(run / "split.csv")
    found = count_participants(table, left_out)
    assert (found["slices"], found["patients"]) == (len(sample.table), sample.table["group"].nunique())
    assert found["parts"]["test"]["slices"] == (table["split"] == "test").sum()
    assert count_participants(table, None)["slices"] is None


def test_leaks_that_are_dropped_are_counted(sample: Records, tmp_path: Path) -> None:
    copied = tmp_path / "data"
    for row in sample.table.itertuples():
        (copied / row.path).parent.mkdir(parents=True, exist_ok=True)
        (copied / row.path).symlink_to(sample.root / row.path)
    train, test = (sample.part(split)["path"][0] for split in ("train", "test"))
    (copied / train).unlink()
    (copied / train).write_bytes((sample.root / test).read_bytes())
    records = Records(copied, sample.table, ())
    found = audit(records)
    dropped = drop_leaks(records, found)
    assert dropped.left_out == (LeftOut("training images that stand in test too (--drop-leaks)", 1, 0),)
    joined = assign_groups(records, found)
    assert joined.left_out == (LeftOut("counted with another patient, whose picture they share", 0, 1),)
    parts = count_participants(joined.table, joined.left_out)
    assert (parts["slices"], parts["patients"]) == (len(sample.table), sample.table["group"].nunique())
