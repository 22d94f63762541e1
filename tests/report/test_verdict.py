"""The verdict says what the numbers say, finds every reason against, and never calls a model good enough."""

from typing import Any

import pytest

from stroke_hub.report.verdict import Answer, answer
from tests.report.test_html import NOTE, bare_report, interval, typed, whole_report


def ask(report: dict[str, Any], question: str) -> Answer:
    [found] = [one for one in answer(typed(report)) if question in one.question]
    return found


def test_good_enough_is_never_yes() -> None:
    report = whole_report()
    found = ask(report, "good enough")
    assert found.short == "No"
    assert found.sentences[0] == f"The figures are of: {NOTE}."
    assert set(report["warnings"]) <= set(found.sentences)
    assert "At the lower limit of the interval 86 of 100 patients with stroke are found." in found.sentences
    report["data"]["note"], report["warnings"] = "", []
    found = ask(report, "good enough")
    assert found.short == "Not shown"
    assert "Other hospitals" in found.sentences[-1]


def test_simple_rules_and_the_probe_that_win_are_said() -> None:
    report = whole_report()
    found = ask(report, "simple rules")
    assert found.short == "Yes"
    assert "(the majority class) reaches an AUROC of 0.500 [0.500, 0.500], the model 0.980" in found.sentences[0]
    report["baselines"][0]["difference"]["auroc"] = interval(0.02)  # its interval holds 0
    probe = {"name": "probe", "words": "A probe.", "auroc": interval(0.97), "accuracy": interval(0.9375)}
    probe["difference"] = {"auroc": interval(0.01), "accuracy": interval(-0.025)}
    report["baselines"].append(probe)
    found = ask(report, "simple rules")
    assert found.short == "Not shown"
    assert found.sentences[1] == (
        "A linear probe on the model's own features reaches an accuracy of 0.938 [0.887, 0.988], the model "
        "0.912 [0.862, 0.963]."
    )
    probe["difference"]["accuracy"] = interval(0.025)
    assert len(ask(report, "simple rules").sentences) == 1  # the model is better in both
    assert ask(bare_report(), "simple rules").short == "Not measured"


@pytest.mark.parametrize(("gap", "words"), [(0.2, "The ViT helps"), (0.02, "The ViT is not shown to help")])
def test_a_branch_helps_where_the_model_without_it_is_worse(gap: float, words: str) -> None:
    report = whole_report()
    row = {"name": "cnn_alone", "words": "The CNN.", "auroc": interval(0.78), "accuracy": interval(0.9)}
    report["baselines"].append(row | {"difference": {"auroc": interval(gap), "accuracy": interval(0.1)}})
    assert ask(report, "simple rules").sentences[1] == f"{words}: without it the AUROC is 0.780 [0.730, 0.830]."


def test_errors_are_counted_and_the_worst_subgroup_named() -> None:
    report = whole_report()
    found = ask(report, "wrong")
    assert found.short == "49 of 560 slices"
    assert found.sentences[0].startswith("4 of 92 Stroke slices are missed, 45 of 468 Normal slices")
    assert "CT: 4 missed, 45 false alarms." in found.sentences
    assert not any("lowest" in sentence for sentence in found.sentences)
    row = report["subgroups"][0]
    for value, rate in (("thin", 0.4), ("thick", 0.97)):
        report["subgroups"].append(row | {"column": "slices", "value": value, "sensitivity": interval(rate)})
    lowest = [sentence for sentence in ask(report, "wrong").sentences if "lowest" in sentence]
    assert lowest == ["The lowest sensitivity of a subgroup: 0.400 [0.350, 0.450], slices thin, 280 slices."]


def test_the_threshold_says_who_chose_it() -> None:
    report = whole_report()
    assert "No test slice chose it." in ask(report, "threshold").sentences[0]
    report["model"]["operating_point"] = "half"
    assert ask(report, "threshold").sentences == ["Probability 0.5: no slice chose it."]
    report["model"]["operating_point"] = None
    assert "not recorded" in ask(report, "threshold").sentences[0]


def test_probabilities_are_judged_where_they_matter() -> None:
    report = whole_report()
    found = ask(report, "probability")
    # bins 0.1 to 0.9 hold 7 k + 3 slices for k of 1 to 8, a share of k / 10 Stroke
    assert found.sentences[-1] == (
        "Stated between 10\N{NO-BREAK SPACE}% and 90\N{NO-BREAK SPACE}%: 276 slices, 154 of them Stroke; "
        "the mean stated is 60 %."
    )
    after = report["test"]["overall"]["calibration"]["after"]
    for high, short in ((0.02, "Not quite"), (0.04, "Not shown to be off")):
        floor = {"mean": 0.01, "high": high, "draws": 1000}
        parts = {name: interval(0.0312, 0.02) for name in ("ece", "slope", "intercept")}
        report["test"]["overall"]["calibration"]["after"] = after | {"recalibration": parts | {"floor": floor}}
        assert ask(report, "probability").short == short


def test_maps_are_judged_beside_what_knows_no_model() -> None:
    for build in (whole_report, bare_report):
        assert ask(build(), "heatmaps").short == "Not measured"
    report = whole_report()
    maps = {"cnn": interval(0.8), "vit": interval(0.4), "fused": interval(0.55), "control": interval(0.5)}
    measured = {"measures": {"pointing": maps}, "controls": {"pointing": "intensity"}}
    report["localisation"] = measured | {"n_stroke": 92, "n": 80, "groups": 40}
    found = ask(report, "heatmaps")
    assert found.short == "Better than without a model: CNN"
    assert "CNN 0.800 [0.750, 0.850], ViT 0.400 [0.350, 0.450]" in found.sentences[0]
    maps["cnn"] = interval(0.55)
    assert ask(report, "heatmaps").short == "Not shown"


def test_another_training_is_not_promised() -> None:
    assert ask(bare_report(), "another training").short == "Not known"
    assert "`stroke-hub train --seeds 3`" in ask(whole_report(), "another training").sentences[0]
