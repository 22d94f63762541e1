"""The demo in a real browser: what a visitor sees, what leaves the machine (nothing), what happens on mistakes."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from stroke_hub import Records, ResNetViT, explain, load_slices, predict
from stroke_hub.runs.report import read_report
from tests.demo.reading import (
    ask_room,
    await_model,
    await_study,
    check_maps,
    check_probabilities,
    read_picture,
    take_file,
    upload,
)
from tests.fakes.demo_server import ROOT, serve, visit, write_gate
from tests.hostile import dicom
from tests.inference.test_ood import KINDS

# the contrast of every text of ours with what lies behind it, by WCAG 2
FIND_PALE = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (node) => {
    for (let n = node; n; n = n.parentElement) {
      const c = rgba(getComputedStyle(n).backgroundColor);
      if (c[3] > 250) return c;
    }
    return [255, 255, 255, 255]; };
  const pale = [];
  for (const node of document.querySelectorAll(".page *, .room *, [role=tab], button")) {
    const own = [...node.childNodes].some(c => c.nodeType === 3 && c.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const style = getComputedStyle(node), ink = rgba(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(node))].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) pale.push([node.textContent.trim().slice(0, 40), ratio.toFixed(2)]);
  }
  return pale;
}"""


@pytest.fixture
def page(browser: Browser, app: str) -> Iterator[Page]:
    with visit(browser, app) as page:
        await_model(page)
        yield page


def test_the_page_answers_while_the_model_loads_and_goes_live(
    browser: Browser, run_dir: Path, sample: Records, tmp_path: Path
) -> None:
    named = {"STROKE_HUB_MODEL": str(run_dir), "STROKE_HUB_EXAMPLES": str(sample.root)}
    with serve(tmp_path, **named, **write_gate(tmp_path)) as url, visit(browser, url) as page:
        expect(page.get_by_text("The model is loading")).to_be_visible()
        expect(page.get_by_text("Research use only, not a medical device.")).to_be_visible()
        page.evaluate("window.sameDocument = true")
        time.sleep(1.5)
        expect(page.get_by_text("The model is loading")).to_be_visible()
        (tmp_path / "gate").touch()
        await_model(page)
        expect(page.get_by_text("The model is loading")).not_to_be_visible()
        expect(page.get_by_text("Trained on simulated slices")).to_be_visible()
        assert page.evaluate("window.sameDocument")


def test_the_page_opens_with_an_example_and_an_upload_takes_its_place(
    page: Page, scan: Path, trained: ResNetViT, run_dir: Path
) -> None:
    expect(page.locator(".room-title")).to_contain_text("Example: simulated")
    expect(page.locator(".room-right, .room-wrong")).to_contain_text("the truth is", ignore_case=True)
    upload(page, scan)
    await_study(page, scan.name)
    one = load_slices(scan)
    e = explain(trained, one[0])
    check_probabilities(page, predict(trained, one))
    expect(page.locator(".room-verdict h2")).to_have_text(e.label)
    expect(page.locator(".room-right, .room-wrong")).to_have_count(0)
    check_maps(page, e)
    expect(page.get_by_role("img", name=f"The slice: {e.label}")).to_be_visible()
    numbers = [
        float(cell.replace("\u2212", "-")) for cell in page.locator(".room-evidence .number").all_inner_texts()
    ]
    assert numbers == pytest.approx(
        [*(e.contributions[key] for key in ("baseline", "cnn", "vit")), e.log_odds], abs=0.005
    )
    assert sum(numbers[:3]) == pytest.approx(numbers[3], abs=0.02)
    sensitivity = read_report(run_dir).test["overall"].intervals["sensitivity"]
    words = page.locator(".room-point").inner_text()
    assert f"On simulated test slices it found {100 * sensitivity.value:.0f} %" in words
    page.get_by_text("Details", exact=True).click()
    interval = f"(95 % interval {100 * sensitivity.low:.0f} % to {100 * sensitivity.high:.0f} %)"
    expect(page.locator(".room-verdict details")).to_contain_text(interval)


def test_what_was_computed_is_drawn_without_a_request(page: Page, scan: Path, trained: ResNetViT) -> None:
    upload(page, scan)
    await_study(page, scan.name)
    e = explain(trained, load_slices(scan)[0])
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.get_by_label("Opacity").fill("80")
    check_maps(page, e, opacity=0.8)
    for name in ("Off", "ResNet (CNN)", "ViT", "Side by side", "Fused"):
        page.get_by_role("radio", name=name).check()
    picture = page.locator(".room-canvas")
    box = picture.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator(".room-pointed")).to_contain_text("column")
    expect(page.locator(".room-pointed")).to_contain_text("of its strongest")
    assert ask_room(page, "room.canvas.shownWindow") == {"low": 0, "high": 255}
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 120, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    assert ask_room(page, "room.canvas.shownWindow.high") > 280  # a wider window, for display only
    assert read_picture(page, "off").max() < e.picture.max()
    page.get_by_role("button", name="Zoom in").click()
    assert ask_room(page, "room.canvas.zoom") == pytest.approx(1.4)
    page.get_by_role("button", name="Reset").click()
    assert ask_room(page, "room.canvas.zoom") == 1
    check_maps(page, e, opacity=0.8)
    assert requests == []


def test_class_method_and_depth_are_chosen(page: Page, scan: Path, trained: ResNetViT) -> None:
    upload(page, scan)
    await_study(page, scan.name)
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("radio", name="Normal", exact=True).check()
    s = load_slices(scan)[0]
    page.wait_for_function("document.querySelector('.room-host').room.slices.get(0)?.sign === -1")
    check_maps(page, explain(trained, s, target="Normal"))  # blue speaks for Normal
    before = ask_room(page, "room.study.id")
    page.get_by_label("Method of the branch maps").click()
    page.get_by_role("option", name="gradcam++").click()
    page.wait_for_function(
        f"document.querySelector('.room-host').room.study.id !== {before!r} "
        "&& document.querySelector('.room-host').room.slices.size > 0"
    )
    check_maps(page, explain(trained, s, target="Normal", method="gradcam++"))


def test_what_the_model_does_not_know_gets_no_answer(page: Page, trained: ResNetViT, tmp_path: Path) -> None:
    picture = KINDS["text"](0)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    upload(page, tmp_path / "picture.png")
    await_study(page, "picture.png")
    e = explain(trained, load_slices(picture)[0])
    assert e.unusual
    verdict = page.locator(".room-verdict")
    expect(verdict.locator("h2")).to_have_text("No answer")
    expect(verdict).not_to_contain_text("%")
    expect(page.locator(".room-evidence")).to_have_count(0)
    assert (read_picture(page, "fused") == read_picture(page, "off")).all()
    words = f"Unlike the training slices (distance {e.distance:.2f}, limit {e.distance_limit:.2f})"
    expect(page.locator(".room-notice").filter(has_text=words)).to_be_visible()
    page.get_by_role("button", name="Show anyway").first.click()
    expect(verdict.locator("h2")).to_have_text(e.label)
    expect(page.locator(".room-evidence")).to_be_visible()
    check_maps(page, e)


def test_an_example_says_its_truth_and_when_the_model_is_wrong(page: Page) -> None:
    buttons = page.locator(".examples button")
    assert buttons.count() >= 4
    assert page.locator(".examples img").evaluate_all("all => all.every(image => image.naturalWidth > 0)")
    for button in buttons.all():
        before = ask_room(page, "room.study.id")
        button.click()
        page.wait_for_function(f"document.querySelector('.room-host').room.study.id !== {before!r}")
        await_study(page, "Example: simulated")
        told = ask_room(page, "[room.study.truth, room.study.slices[0].label]")
        wrong = "The model is wrong here" if told[0] != told[1] else f"The truth is {told[0]}."
        expect(page.locator(".room-verdict")).to_contain_text(wrong)


def test_examples_are_computed_once(run_dir: Path, sample: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")
    from demo_model import DemoModel, Settings

    model = DemoModel(str(run_dir), None, sample.root)
    model.start()
    assert model.predictor.image_size == 128
    computed: list[object] = []
    plain = model.explain
    monkeypatch.setattr(model, "explain", lambda *given: computed.append(given) or plain(*given))
    caption = next(iter(model.examples))
    first = model.explain_example(caption, Settings())
    assert model.explain_example(caption, Settings()) is first
    assert model.explain_example(caption, Settings("Normal")) is not first
    assert len(computed) == 2


def test_a_wrong_upload_is_answered_on_the_page(
    page: Page, scan: Path, trained: ResNetViT, folder: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "words.png"
    wrong.write_text("these are words")
    upload(page, wrong)
    expect(page.get_by_role("alert").filter(has_text="words.png: is not a")).to_be_visible(timeout=20_000)
    expect(page.locator(".room-body")).to_be_hidden()  # not the old result
    page.wait_for_timeout(500)
    expect(page.get_by_role("alert").filter(has_text="words.png: is not a")).to_be_visible()  # it stays
    upload(page, scan)
    await_study(page, scan.name)
    expect(page.get_by_role("alert").filter(has_text="words.png")).to_have_count(0)
    check_probabilities(page, predict(trained, load_slices(scan)))
    log = (folder / "log").read_text()
    assert "Traceback" not in log
    assert "words" not in log


def test_the_visitor_says_the_modality_of_a_picture(
    page: Page, trained: ResNetViT, sample: Records, tmp_path: Path
) -> None:
    path = sample.part("test").query("modality == 'MR'")["path"].iloc[0]
    file = tmp_path / "faint.png"
    faint = load_slices(sample.root / path)[0].pixels // 2 + 20
    Image.fromarray(faint).save(file)
    upload(page, file)
    await_study(page, "faint.png")
    check_probabilities(page, predict(trained, load_slices(file)))
    unknown = page.get_by_text("Nothing says whether this is CT or MR")
    expect(unknown.first).to_be_visible()
    page.get_by_role("radio", name="MR").check()
    await_study(page, "faint.png, MR")
    expect(unknown).to_have_count(0)
    check_probabilities(page, predict(trained, load_slices(file, modality="MR")))
    page.locator(".examples button").first.click()  # an example needs no choice
    expect(page.get_by_role("radio", name="MR")).to_have_count(0, timeout=20_000)


def test_a_dicom_file_shows_no_patient(page: Page, folder: Path, scan: Path, tmp_path: Path) -> None:
    file = tmp_path / "scan.dcm"
    file.write_bytes(dicom(load_slices(scan)[0].pixels.astype(np.int16) + 1000))
    upload(page, file)
    await_study(page, "scan.dcm")
    assert "SENTINEL" not in page.content()
    assert "SENTINEL" not in take_file(page, "Numbers (JSON)")[1].read_text()
    assert "SENTINEL" not in (folder / "log").read_text()


def test_downloads(browser: Browser, page: Page, scan: Path, trained: ResNetViT, tmp_path: Path) -> None:
    upload(page, scan)
    await_study(page, scan.name)
    e = explain(trained, load_slices(scan)[0])
    digest = hashlib.sha256(scan.read_bytes()).hexdigest()
    name, file = take_file(page, "Numbers (JSON)")
    assert name == f"{scan.stem}_explanation.json"
    facts = json.loads(file.read_text())
    assert facts["input"]["sha256"] == digest
    assert facts["stroke_probability"] == pytest.approx(e.probability, abs=1e-9)
    assert sum(facts["contributions"].values()) == pytest.approx(facts["log_odds"], abs=1e-4)
    assert facts["model"]["versions"]["torch"]
    assert facts["model"]["research_use_only"]
    name, file = take_file(page, "Picture (PNG)")
    assert name == f"{scan.stem}_explanation.png"
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1500
    html = take_file(page, "Report (HTML)")[1].read_text()
    for words in (
        digest,
        "Research use only",
        "simulated slices",
        f"{e.probability:.1%}",
        facts["model"]["weights_sha256"],
    ):
        assert words in html
    (tmp_path / "report.html").write_text(html)
    sheet = browser.new_page()
    asked: list[str] = []
    sheet.on("request", lambda request: asked.append(request.url))
    sheet.goto((tmp_path / "report.html").as_uri())
    printed = sheet.pdf(prefer_css_page_size=True)
    sheet.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert printed.count(b"/Type /Page\n") == 1
    assert b"/MediaBox [0 0 595" in printed or b"/MediaBox [0 0 594" in printed  # A4


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_tab_is_legible_and_fits(browser: Browser, app: str, width: int, dark: bool) -> None:
    with visit(browser, app, width=width, dark=dark) as page:
        await_model(page)
        await_study(page, "Example")
        for tab in ("Explain", "Worklist", "Model"):
            page.get_by_role("tab", name=tab).click()
            page.wait_for_timeout(400)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            edges = "parts => Math.max(0, ...parts.filter(p => p.checkVisibility())"
            edges += ".filter(p => !p.closest('.wide, .examples'))"
            edges += ".map(part => part.getBoundingClientRect().right))"
            assert page.locator(".page, .page *, .room *, button").evaluate_all(edges) <= width, tab
            assert page.evaluate(FIND_PALE) == [], tab
            nameless = "all => all.filter(i => i.checkVisibility() && !i.labels?.length && !i.ariaLabel"
            nameless += " && !i.getAttribute('aria-labelledby') && !i.title).map(i => i.outerHTML)"
            assert page.locator(".page input, .room input, .room select").evaluate_all(nameless) == []


def test_no_model_gives_a_page_that_says_so(browser: Browser, tmp_path: Path) -> None:
    with serve(tmp_path, STROKE_HUB_MODEL="nobody/nothing") as url, visit(browser, url) as page:
        sentence = "nobody/nothing: is no folder, and"
        expect(page.get_by_role("alert").filter(has_text=sentence)).to_be_visible(timeout=60_000)
        assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_axe_has_nothing_against_any_tab(
    browser: Browser, app: str, axe: Callable[[Page], list[str]], width: int, dark: bool
) -> None:
    with visit(browser, app, width=width, dark=dark) as page:
        await_model(page)
        for tab in page.get_by_role("tab").all():
            tab.click()
            page.wait_for_timeout(400)
            assert axe(page) == [], tab.inner_text()
