"""The Model tab begins with what matters, tells the report's figures, and stays short."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from playwright.sync_api import Browser, Page, expect

from stroke_hub.runs.report import Report, Source, read_report
from tests.fakes.demo_server import ROOT, visit

HEADINGS = ["Trained on", "How good it is", "When it is wrong", "Limits"]
DESKTOP, PHONE = 1033, 2281  # px: half of what the tab took when it opened with hashes


@pytest.fixture(autouse=True, scope="module")
def _space() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(ROOT / "space")
        yield


@pytest.fixture(scope="module")
def report(run_dir: Path) -> Report:
    return read_report(run_dir)


def render(report: Report | None) -> str:
    from model_tab import render_model

    about = {"model": "owner/name", "commit": "abc", "image_size": 128, "threshold": 0.5, "backend": "PyTorch"}
    model = Mock(report=report, describe=lambda: about | {"versions": {"python": "3"}})
    return " ".join(render_model(model).split())


def test_it_says_how_often_the_model_is_wrong_with_the_interval(report: Report) -> None:
    words = render(report).replace("&nbsp;", " ")
    overall = report.test["overall"]
    for n, of, measure in (
        (overall.confusion.fn, overall.n_stroke, "sensitivity"),
        (overall.confusion.fp, overall.n - overall.n_stroke, "specificity"),
    ):
        interval = overall.intervals[measure]
        assert interval.value is not None
        assert interval.low is not None
        assert interval.high is not None
        share = f"{100 - 100 * interval.value:.0f} % (95 % interval {100 - 100 * interval.high:.0f} to "
        assert f"{n} of {of}" in words
        assert f"{share}{100 - 100 * interval.low:.0f} %)" in words
    assert overall.patients is not None
    for measure in ("sensitivity", "specificity"):
        by_patient = getattr(overall.patients.any_slice, measure)
        assert f"{by_patient.value:.3f}" in words
    for cells in ("tp", "fn", "fp", "tn"):
        assert f"<b>{getattr(overall.confusion, cells)}</b>" in words
    assert words.index("by patient") < words.index("by slice")
    assert words.index("Limits") < words.index("SHA-256")
    assert report.model.weights_sha256 in words


def test_it_says_what_the_model_was_trained_on(report: Report) -> None:
    assert report.data.participants is not None
    train = report.data.participants.parts["train"]
    assert f"Simulated slices, not patients; {train.slices:,} slices of {train.patients:,} patients" in render(
        report
    )
    elsewhere = replace(report, trained_on=Source(name="heads", note="", sha256=None))
    assert "Dataset &#34;heads&#34;." in render(elsewhere)
    assert "no report" in render(None)


def test_modalities_are_those_of_people_and_recipes_are_not_of_the_page(report: Report) -> None:
    words = render(report)
    assert "BT" not in words
    assert "scripts/" not in words


@pytest.mark.parametrize(("width", "limit"), [(1440, DESKTOP), (390, PHONE)])
def test_what_matters_comes_first_and_the_rest_is_folded(
    browser: Browser, app: str, axe: Callable[[Page], list[str]], width: int, limit: int
) -> None:
    with visit(browser, app, width=width, dark=width < 500) as page:
        expect(page.locator(".examples button").first).to_be_visible(timeout=60_000)
        page.get_by_role("tab", name="Model").click()
        tab = page.locator(".report")
        expect(tab).to_be_visible()
        assert tab.get_by_role("heading").all_inner_texts() == HEADINGS
        assert tab.evaluate("tab => tab.getBoundingClientRect().height") <= limit
        expect(tab.get_by_text("SHA-256")).not_to_be_visible()
        tab.get_by_text("Which model this is").click()
        expect(tab.get_by_text("SHA-256")).to_be_visible()
        tab.get_by_text("Confusion matrix and curves").click()
        for title in ("ROC", "Precision and recall", "Calibration", "Loss"):
            expect(page.get_by_role("img", name=f"{title}:")).to_be_visible()
        tab.locator("details").evaluate_all("all => all.forEach(one => { one.open = true; })")
        assert axe(page) == []
