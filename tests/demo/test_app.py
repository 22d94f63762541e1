"""The demo in a real browser: what a visitor sees, what leaves the machine (nothing), what happens on mistakes."""

import base64
import csv
import hashlib
import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from stroke_hub import Explanation, Records, ResNetViT, explain, load_slices, predict
from stroke_hub.runs.report import read_report
from tests.fakes.demo_server import ROOT, serve, visit, write_gate
from tests.hostile import dicom
from tests.inference.test_ood import KINDS

MAPS = ("cnn", "vit", "fused")
ALTS = {"cnn": "ResNet (CNN) heatmap", "vit": "ViT heatmap", "fused": "Fused heatmap"}
READ_CANVAS = """canvas => [canvas.width, btoa(Array.from(
  canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data, c => String.fromCharCode(c)
).join(""))]"""
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
  for (const node of document.querySelectorAll(".page *, .viewer *, [role=tab], button")) {
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


def await_model(page: Page) -> None:
    expect(page.get_by_role("button", name="MR, stroke", exact=True)).to_be_visible(timeout=60_000)


def upload(page: Page, *paths: Path) -> None:
    page.locator('[role="tabpanel"]:visible input[type="file"]').first.set_input_files(paths)


def await_probability(page: Page, probability: float) -> None:
    expect(page.get_by_text("Probability of stroke:")).to_contain_text(f"{probability:.1%}", timeout=20_000)


def read_canvas(canvas: Locator) -> np.ndarray:
    """The colours of a canvas, (H, W, 3)."""
    width, data = canvas.evaluate(READ_CANVAS)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(-1, width, 4)[..., :3].astype(int)


def check_maps(page: Page, e: Explanation, *, opacity: float = 0.5, colormap: str | None = None) -> None:
    """The browser's pictures are `Explanation.overlay`'s, but for the rounding of a map to a byte."""
    assert (read_canvas(page.locator("[data-layer=original]")) == e.picture[..., None]).all()
    for layer in MAPS:
        wanted = np.asarray(e.overlay(layer, opacity=opacity, colormap=None if layer == "fused" else colormap))
        difference = np.abs(read_canvas(page.locator(f".maps [data-layer={layer}]")) - wanted)
        assert difference.mean() < 1, layer
        assert np.percentile(difference, 99) <= 6, layer


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


def test_upload_gives_a_probability_maps_and_what_they_are_worth(
    page: Page, scan: Path, trained: ResNetViT, run_dir: Path
) -> None:
    upload(page, scan)
    e = explain(trained, load_slices(scan)[0])
    await_probability(page, e.probability)
    expect(page.locator(".verdict")).to_have_text(e.label)
    check_maps(page, e)
    for name in ("The slice", *ALTS.values()):
        expect(page.get_by_role("img", name=name).first).to_be_visible()
    numbers = [float(cell) for cell in page.locator(".evidence .number").all_inner_texts()]
    assert numbers == pytest.approx(
        [*(e.contributions[key] for key in ("baseline", "cnn", "vit")), e.log_odds], abs=0.005
    )
    assert sum(numbers[:3]) == pytest.approx(numbers[3], abs=0.02)
    interval = read_report(run_dir).test["overall"].intervals["sensitivity"]
    words = page.locator(".result .legend").first.inner_text()
    assert f"sensitivity, 95% interval {100 * interval.low:.0f} to {100 * interval.high:.0f}%" in words
    assert "simulated slices, not patients" in words
    per_cell = np.abs(e.fused_map).max() * 256
    expect(page.locator(".scale span").last).to_have_text(f"{per_cell:+.2g}")
    for e_map, figure in zip(MAPS, page.locator(".maps figure").all()[1:], strict=True):
        remark = "" if (e.get_map(e_map) > 0).any() else "no positive evidence for Stroke"
        expect(figure.locator(".remark")).to_have_text(remark)


def test_colours_and_opacity_need_no_request(page: Page, scan: Path, trained: ResNetViT) -> None:
    upload(page, scan)
    e = explain(trained, load_slices(scan)[0])
    await_probability(page, e.probability)
    page.wait_for_timeout(500)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    opacity, compare = page.get_by_label("Opacity"), page.get_by_label("Where the original ends")
    opacity.fill("80")
    page.get_by_label("Colours").select_option("viridis")
    check_maps(page, e, opacity=0.8, colormap="viridis")
    page.get_by_role("radio", name="Fused").check()
    above = page.locator("[data-layer=above]")
    assert (read_canvas(above) == read_canvas(page.locator(".maps [data-layer=fused]"))).all()
    compare.focus()
    compare.press("ArrowRight")
    assert above.evaluate("canvas => canvas.style.clipPath") == "inset(0px 0px 0px 51%)"
    opacity.focus()
    opacity.press("Home")
    check_maps(page, e, opacity=0)
    assert requests == []


def test_class_method_and_depth_are_chosen(page: Page, scan: Path, trained: ResNetViT) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("radio", name="Normal", exact=True).check()
    upload(page, scan)
    s = load_slices(scan)[0]
    expect(page.locator(".evidence caption")).to_have_text("Evidence for Normal, in log-odds", timeout=20_000)
    await_probability(page, 1 - explain(trained, s, target="Normal").probability)
    page.get_by_label("Method for the ResNet and ViT maps").click()
    page.get_by_role("option", name="gradcam++").click()
    wanted = explain(trained, s, target="Normal", method="gradcam++")
    expect(page.locator(".maps [data-layer=cnn]")).to_be_visible()
    for _ in range(100):
        canvas = read_canvas(page.locator(".maps [data-layer=cnn]"))
        if np.abs(canvas - np.asarray(wanted.overlay("cnn"))).mean() < 1:
            break
        page.wait_for_timeout(100)
    check_maps(page, wanted)
    expect(page.locator(".evidence caption")).to_have_text("Evidence for Normal, in log-odds")


def test_what_is_unlike_the_training_slices_gets_a_warning(page: Page, trained: ResNetViT, tmp_path: Path) -> None:
    picture = KINDS["text"](0)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    upload(page, tmp_path / "picture.png")
    e = explain(trained, load_slices(picture)[0])
    assert e.unusual
    words = f"Unlike the training slices (distance {e.distance:.2f}, limit {e.distance_limit:.2f})"
    expect(page.locator(".notice").filter(has_text=words)).to_be_visible(timeout=20_000)
    expect(page.locator(".verdict")).to_have_text(e.label)  # a warning, no verdict


def test_example_says_what_it_is(page: Page) -> None:
    page.get_by_role("button", name="MR, stroke", exact=True).click()
    expect(page.get_by_text("Example: simulated MR, stroke (its true class)")).to_be_visible(timeout=20_000)
    assert page.locator(".examples button").count() == 4
    assert page.locator(".examples img").evaluate_all("all => all.every(image => image.naturalWidth > 0)")


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


def test_a_wrong_upload_is_answered_and_forgotten(
    page: Page, scan: Path, trained: ResNetViT, folder: Path, tmp_path: Path
) -> None:
    page.get_by_role("button", name="MR, stroke", exact=True).click()
    expect(page.locator(".verdict")).to_be_visible(timeout=20_000)
    wrong = tmp_path / "words.png"
    wrong.write_text("these are words")
    upload(page, wrong)
    expect(page.get_by_text("words.png: is not a")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("Upload a slice or a scan, or pick an example.")).to_be_visible()  # not the old result
    page.get_by_role("button", name="Remove").or_(page.get_by_role("button", name="Clear")).first.click()
    upload(page, scan)
    await_probability(page, float(predict(trained, load_slices(scan)).probability[0]))
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
    await_probability(page, float(predict(trained, load_slices(file)).probability[0]))
    unknown = page.get_by_text("Nothing says whether this is CT or MR")
    expect(unknown.first).to_be_visible()
    page.get_by_role("radio", name="MR").check()
    expect(unknown).to_have_count(0, timeout=20_000)
    await_probability(page, float(predict(trained, load_slices(file, modality="MR")).probability[0]))
    page.get_by_role("button", name="BT, stroke").click()  # an example needs no choice
    expect(page.get_by_role("radio", name="MR")).to_have_count(0)


def test_a_dicom_file_shows_no_patient(page: Page, folder: Path, scan: Path, tmp_path: Path) -> None:
    file = tmp_path / "scan.dcm"
    file.write_bytes(dicom(load_slices(scan)[0].pixels.astype(np.int16) + 1000))
    upload(page, file)
    expect(page.get_by_text("Upload: scan.dcm")).to_be_visible(timeout=20_000)
    expect(page.get_by_role("radio", name="subdural")).to_be_visible()
    assert "SENTINEL" not in page.content()
    assert "SENTINEL" not in take_file(page, "Download numbers (JSON)").read_text()
    assert "SENTINEL" not in (folder / "log").read_text()


def take_file(page: Page, name: str) -> Path:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name).click()
    return Path(waiting.value.path())


def test_downloads(browser: Browser, page: Page, scan: Path, trained: ResNetViT, tmp_path: Path) -> None:
    upload(page, scan)
    e = explain(trained, load_slices(scan)[0])
    await_probability(page, e.probability)
    digest = hashlib.sha256(scan.read_bytes()).hexdigest()
    facts = json.loads(take_file(page, "Download numbers (JSON)").read_text())
    assert facts["input"]["sha256"] == digest
    assert facts["probability_of_stroke"] == pytest.approx(e.probability, abs=1e-9)
    assert sum(facts["contributions"].values()) == pytest.approx(facts["log_odds"], abs=1e-4)
    assert facts["model"]["versions"]["torch"]
    assert facts["model"]["research_use_only"]
    with Image.open(take_file(page, "Download picture (PNG)")) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1500
    html = take_file(page, "Download report (HTML)").read_text()
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


def test_batch(page: Page, sample: Records, trained: ResNetViT, tmp_path: Path) -> None:
    files = [sample.root / path for path in sample.part("test")["path"].iloc[:6]]
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as archive:
        for file in files[3:]:
            archive.write(file, file.name)
    (tmp_path / "=cmd.png").write_text("words")
    page.get_by_role("tab", name="Batch").click()
    upload(page, *files[:3], tmp_path / "series.zip", tmp_path / "=cmd.png")
    run = page.get_by_role("button", name="Predict all")
    expect(page.get_by_text("series")).to_be_visible(timeout=20_000)
    run.click()
    expect(page.get_by_text("Done: 6 slices")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("1 file could not be read")).to_be_visible()
    expect(page.locator(".gallery figure")).to_have_count(6)
    rows = list(csv.DictReader(io.StringIO(take_file(page, "Download table (CSV)").read_text())))
    probabilities = [float(row["probability_of_stroke"]) for row in rows if row["label"]]
    wanted = predict(trained, [load_slices(file)[0] for file in files]).probability
    assert probabilities == pytest.approx(list(wanted), abs=1e-6)
    assert all("Nothing says whether this is CT or MR" in row["remarks"] for row in rows if row["label"])
    bad = next(row for row in rows if row["error"])
    assert bad["file"].startswith("'=")
    assert "is not a" in bad["error"]
    head = page.get_by_role("button", name="Probability of stroke")
    for direction, order in (("ascending", sorted(wanted)), ("descending", sorted(wanted, reverse=True))):
        head.focus()
        head.press("Enter")
        expect(page.get_by_role("columnheader").nth(3)).to_have_attribute("aria-sort", direction)
        cells = page.locator(".predictions td:nth-child(4)").all_inner_texts()
        assert cells == [*(f"{value:.4f}" for value in order), ""]  # what was not read stays last


def test_model_tab_is_the_report(page: Page, run_dir: Path) -> None:
    report = read_report(run_dir)
    page.get_by_role("tab", name="Model").click()
    text = page.locator(".report")
    expect(text).to_contain_text(report.model.weights_sha256)
    for part in ("overall", "BT", "MR"):
        interval = report.test[part].intervals["accuracy"]
        expect(text).to_contain_text(f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
    cells = page.locator(".confusion td:not(:first-child:empty)").all_inner_texts()
    confusion = report.test["overall"].confusion
    assert [int(cell.replace(",", "")) for cell in cells if cell] == [
        getattr(confusion, key) for key in ("tp", "fn", "fp", "tn")
    ]
    for title in ("ROC", "Precision and recall", "Calibration", "Loss"):
        expect(page.get_by_role("img", name=f"{title}:")).to_be_visible()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_every_tab_is_legible_and_fits(browser: Browser, app: str, width: int, dark: bool) -> None:
    with visit(browser, app, width=width, dark=dark) as page:
        await_model(page)
        page.get_by_role("button", name="BT, stroke", exact=True).click()
        expect(page.locator(".verdict")).to_be_visible(timeout=20_000)
        expect(page.get_by_role("img", name="Fused heatmap").first).to_be_visible()
        for tab in ("Explain", "Batch", "Model"):
            page.get_by_role("tab", name=tab).click()
            page.wait_for_timeout(400)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            edges = "parts => Math.max(0, ...parts.filter(p => p.checkVisibility())"
            edges += ".filter(p => !p.closest('.wide, .predictions'))"
            edges += ".map(part => part.getBoundingClientRect().right))"
            assert page.locator(".page, .page *, .viewer *, button").evaluate_all(edges) <= width, tab
            assert page.evaluate(FIND_PALE) == [], tab
            nameless = "all => all.filter(i => i.checkVisibility() && !i.labels?.length && !i.ariaLabel"
            nameless += " && !i.getAttribute('aria-labelledby') && !i.title).map(i => i.outerHTML)"
            assert page.locator(".page input, .viewer input, .viewer select").evaluate_all(nameless) == []


def test_no_model_gives_a_page_that_says_so(browser: Browser, tmp_path: Path) -> None:
    with serve(tmp_path, STROKE_HUB_MODEL="nobody/nothing") as url, visit(browser, url) as page:
        sentence = "nobody/nothing: is no folder, and"
        expect(page.get_by_role("alert").filter(has_text=sentence)).to_be_visible(timeout=60_000)
        assert "Traceback" not in (tmp_path / "log").read_text()
