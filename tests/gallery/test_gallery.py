"""The gallery shows every slice once in each list, errors first, needs no script, and no name speaks HTML."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

from stroke_hub import Predictor, Records, ResNetViT, explain, load_slices
from stroke_hub.gallery.pages import ON_PAGE, find_places, write_pages
from stroke_hub.gallery.selection import Selection, find_address, list_choices, list_selections
from stroke_hub.gallery.write_gallery import write_gallery
from stroke_hub.report.patients import say_headline
from stroke_hub.runs.report import read_report
from stroke_hub.runs.run_folder import EXPLANATIONS_FILE, GALLERY_FOLDER, find_gallery

NOTE = "simulated slices, not patients"


@pytest.fixture(scope="module")
def gallery(trained: ResNetViT, sample: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gallery of the trained model, in a folder beside a report."""
    run = tmp_path_factory.mktemp("run")
    (run / "report.html").write_text("<title>The report</title>")
    out = run / GALLERY_FOLDER
    out.mkdir()
    return write_gallery(Predictor(trained), sample.part("test"), sample.root, out, note=NOTE).parent


def make_results(count: int, **columns: Any) -> pd.DataFrame:
    """Make results of slices whose truth and label take turns, a modality each, one in ten unusual."""
    turn = np.arange(count)
    table = pd.DataFrame(
        {
            "name": [f"s{k:05d}" for k in turn],
            "path": [f"p{k:03d}.png" for k in turn],
            "patient": [f"p{k:03d}" for k in turn],
            "modality": np.where(turn % 3 == 0, "BT", "MR"),
            "truth": np.where(turn % 4 < 2, "Stroke", "Normal"),
            "label": np.where(turn % 2, "Stroke", "Normal"),
            "outcome": np.array(["miss", "hit", "correct-normal", "false-alarm"])[turn % 4],
            "novelty": np.where(turn % 10 == 0, "unusual", "usual"),
            "probability": 0.25,
            "cnn": 0.1,
            "vit": 0.1,
            "baseline": -1.5,
            "remarks": "",
            "picture": [f"pictures/{k:05d}.png" for k in turn],
            "width": 4,
            "height": 1,
        }
    ).assign(**columns)
    return table.assign(page=find_places(table))


def read_figures(page: Path) -> list[str]:
    return re.findall(r'<figure id="(.*?)"', page.read_text(encoding="utf-8"))


def test_every_slice_is_there_and_errors_come_first(gallery: Path, sample: Records, run_dir: Path) -> None:
    results = pd.read_csv(gallery / EXPLANATIONS_FILE)
    assert sorted(results["path"]) == sorted(sample.part("test")["path"])
    wrong = (results["truth"] != results["label"]).to_numpy()
    assert wrong.any()
    assert not np.diff(wrong.astype(int)).max() > 0  # no error behind a slice that is right
    for part in (results[wrong], results[~wrong]):
        assert part["error"].is_monotonic_decreasing
    text = (gallery / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<code>(.*?)</code>", text) == results["path"].tolist()[:ON_PAGE]
    for words in (NOTE, "not a medical device", str(say_headline(read_report(run_dir)))):
        assert words in text
    assert "BT" not in re.sub(r"<code>.*?</code>|<[^>]*>", "", text)  # CT for people
    assert all((gallery / picture).is_file() for picture in re.findall(r'src="(.*?)"', text))


def test_maps_and_numbers_are_explains(trained: ResNetViT, sample: Records, tmp_path: Path) -> None:
    table = sample.part("test").head(3)
    write_gallery(Predictor(trained), table, sample.root, tmp_path)
    for row in pd.read_csv(tmp_path / EXPLANATIONS_FILE).itertuples():
        e = explain(trained, load_slices(sample.root / row.path)[0])
        assert abs(e.probability - row.probability) < 1e-5
        assert abs(row.cnn + row.vit + row.baseline - e.log_odds) < 1e-4
        with np.load(tmp_path / row.maps) as maps:
            np.testing.assert_allclose(maps["cnn_map"], e.cnn_map, atol=1e-5)
            np.testing.assert_allclose(maps["vit_evidence"], e.vit_evidence, atol=1e-6)


def test_each_list_holds_its_slices_once_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    results = make_results(250)
    write_pages(results, tmp_path, headline="", note="")
    files = {tmp_path / "index.html", *(tmp_path / "pages").iterdir()}
    seen = set()
    for selection in list_selections(results):
        shown = results[selection.match(results)]
        pages = [tmp_path / find_address(selection, 1 + k) for k in range(-(-len(shown) // ON_PAGE))]
        assert [name for page in pages for name in read_figures(page)] == shown["name"].tolist()
        seen |= set(pages)
    assert seen == files
    links = [(page, link) for page in files for link in re.findall(r'href="(.*?)"', page.read_text())]
    pages = {(page.parent / link).resolve() for page, link in links if link.endswith(".html")}
    assert pages == {page.resolve() for page in files}  # and each is reached
    assert not [link for _, link in links if "://" in link or link.startswith("/")]


def test_choices_count_what_they_lead_to() -> None:
    results = make_results(40)
    groups = dict(list_choices(results, Selection(outcome="miss")))
    assert [(one.title, one.count, one.chosen) for one in groups["Modality"]] == [
        ("All", 10, True),
        ("CT", 4, False),
        ("MR", 6, False),
    ]
    assert [one.title for one in groups["Outcome"] if one.chosen] == ["Misses"]
    hits = Selection(outcome="hit")
    unusual = dict(list_choices(results, hits))["Novelty"]
    assert [(one.title, one.count, one.address is None) for one in unusual] == [
        ("All", 10, False),
        ("Unusual", 0, True),
    ]
    alike = make_results(8, modality="MR", novelty="usual", outcome="hit")
    [(title, outcomes)] = list_choices(alike, Selection())
    assert title == "Outcome"  # there are no misses, and that is said
    assert [(one.title, one.count) for one in outcomes if one.address is None] == [
        ("Misses", 0),
        ("False alarms", 0),
        ("Correct normals", 0),
    ]


def test_a_run_finds_its_slices_in_its_gallery(gallery: Path, tmp_path: Path) -> None:
    places = find_gallery(gallery.parent)
    results = pd.read_csv(gallery / EXPLANATIONS_FILE)
    assert list(places) == results["path"].tolist()
    for path, name in zip(results["path"], results["name"], strict=True):
        page, _, anchor = places[path].partition("#")
        assert anchor == name
        assert name in read_figures(gallery.parent / page)
    assert find_gallery(tmp_path) == {}
    (tmp_path / GALLERY_FOLDER).mkdir()
    (tmp_path / GALLERY_FOLDER / EXPLANATIONS_FILE).write_text("path\na.png\n")  # of an earlier version
    assert find_gallery(tmp_path) == {}


def test_file_names_are_text(tmp_path: Path) -> None:
    hostile = {"path": "<script>alert(1)</script>.png", "patient": "<s>", "remarks": "<b>"}
    text = write_pages(make_results(1, **hostile), tmp_path, headline="<u>", note="<i>").read_text()
    for markup in ("<script>", "<b>", "<i>", "<s>", "<u>"):
        assert markup not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.png" in text
    assert 'class="miss"' in text


def test_a_dataset_without_slices_has_a_page(tmp_path: Path) -> None:
    assert "No slice" in write_pages(make_results(0), tmp_path, headline="", note="").read_text()


@pytest.fixture
def page(browser: Browser, gallery: Path) -> Any:
    """The first page, which may fetch its pictures alone."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    requests: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    context.on("requestfailed", lambda request: errors.append(request.url))
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text))
    page.goto((gallery / "index.html").as_uri())
    yield page
    context.close()
    assert all(url.startswith(gallery.parent.as_uri()) for url in requests)
    assert errors == []


def test_it_is_leafed_and_filtered_by_keyboard(page: Page) -> None:
    misses = page.get_by_role("navigation", name="Show").get_by_role("link", name="Misses")
    count = int(misses.inner_text().split()[-1])
    misses.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/pages/miss-1.html")
    assert 0 < page.locator("figure").count() == page.locator("figure.miss").count() == min(count, ON_PAGE)
    drawn = "image => image.complete && image.naturalWidth > 100"
    page.locator("figure img").first.scroll_into_view_if_needed()
    page.wait_for_function(drawn, arg=page.locator("figure img").first.element_handle())
    page.get_by_role("link", name="The report").click()
    page.wait_for_url("**/report.html")


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, axe: Callable[[Page], list[str]], scheme: Any, width: int) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []
