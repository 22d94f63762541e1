"""The demo in a real browser: what a visitor sees, what leaves the machine (nothing), what happens on mistakes."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from stroke_hub import Records, ResNetViT, load_slices, predict

ROOT = Path(__file__).parent.parent
LOOPBACK = ("127.0.0.1", "localhost")
MAPS = ("ResNet (CNN)", "ViT", "Fused")


@contextmanager
def serve(folder: Path, script: Path = ROOT / "space" / "app.py", **environment: str) -> Iterator[str]:
    """The address of the demo, started as a process of its own in `folder`, where its log goes too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    own = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "uploads"), "HF_HUB_OFFLINE": "1"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STROKE_HUB_")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, script],
            env=inherited | own | environment,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            await_answer(url, process, folder / "log")
            yield url
        finally:
            process.terminate()
            process.wait(timeout=20)


def await_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url).close()  # noqa: S310  loopback
            return
        except OSError:
            time.sleep(0.25)
    raise AssertionError(f"the demo does not answer: {log.read_text()}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("space")


@pytest.fixture(scope="module")
def app(run_dir: Path, sample: Records, folder: Path) -> Iterator[str]:
    with serve(folder, STROKE_HUB_MODEL=str(run_dir), STROKE_HUB_EXAMPLES=str(sample.root)) as url:
        yield url


@contextmanager
def visit(browser: Browser, url: str, *, width: int = 1280) -> Iterator[Page]:
    """A page whose every request stays on this machine and whose console stays free of errors."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    requests: list[str] = []
    errors: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    yield page
    context.close()
    away = [it for it in requests if it.startswith("http") and urlsplit(it).hostname not in LOOPBACK]
    assert requests
    assert away == []
    assert errors == []


@pytest.fixture
def page(browser: Browser, app: str) -> Iterator[Page]:
    with visit(browser, app) as page:
        yield page


@pytest.fixture(scope="module")
def scan(sample: Records) -> Path:
    return sample.root / sample.part("test")["path"].iloc[0]


def upload(page: Page, path: Path) -> None:
    page.locator('input[type="file"]').first.set_input_files(path)


def await_result(page: Page, probability: float) -> None:
    """Wait for the probability and the four pictures, each decoded."""
    expect(page.get_by_text("Probability of stroke:")).to_contain_text(f"{probability:.1%}", timeout=20_000)
    for name in ("The slice as the model saw it", *(f"{name} heatmap" for name in MAPS)):
        picture = page.get_by_role("img", name=name, exact=True)
        expect(picture).to_be_visible()
        page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())


def test_upload_gives_a_probability_and_three_heatmaps(page: Page, scan: Path, trained: ResNetViT) -> None:
    expect(page.get_by_text("Research use only, not a medical device.")).to_be_visible()
    expect(page.get_by_text("Trained on simulated slices")).to_be_visible()
    upload(page, scan)
    prediction = predict(trained, load_slices(scan))
    await_result(page, float(prediction.probability[0]))
    expect(page.locator(".verdict")).to_have_text(prediction.label[0])
    expect(page.locator(".evidence tr")).to_have_count(4)


def test_opacity_draws_again(page: Page, scan: Path, trained: ResNetViT) -> None:
    upload(page, scan)
    await_result(page, float(predict(trained, load_slices(scan)).probability[0]))
    heatmap = page.get_by_role("img", name="Fused heatmap", exact=True)
    before = heatmap.get_attribute("src")
    page.get_by_role("slider", name="Opacity").fill("0")
    expect(heatmap).not_to_have_attribute("src", str(before))
    original = page.get_by_role("img", name="The slice as the model saw it", exact=True)
    read = "image => { const c = document.createElement('canvas'); c.width = c.height = image.naturalWidth; "
    read += "c.getContext('2d').drawImage(image, 0, 0); return c.toDataURL(); }"
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=heatmap.element_handle())
    assert heatmap.evaluate(read) == original.evaluate(read)


def test_example_says_what_it_is(page: Page) -> None:
    page.get_by_role("button", name="MR, stroke", exact=True).click()
    expect(page.get_by_text("Example: simulated MR, stroke (its true class)")).to_be_visible(timeout=20_000)
    assert page.get_by_role("button", name="Example: ").count() == 4


def test_a_wrong_upload_is_answered_and_forgotten(
    page: Page, scan: Path, trained: ResNetViT, folder: Path, tmp_path: Path
) -> None:
    page.get_by_role("button", name="MR, stroke", exact=True).click()
    expect(page.locator(".verdict")).to_be_visible(timeout=20_000)
    wrong = tmp_path / "words.png"
    wrong.write_text("these are words")
    upload(page, wrong)
    expect(page.get_by_text("words.png: is not a PNG, JPEG, TIFF, WebP or BMP image")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("Upload a slice, or pick an example.")).to_be_visible()  # not the old result
    page.get_by_role("button", name="Remove").or_(page.get_by_role("button", name="Clear")).first.click()
    upload(page, scan)
    await_result(page, float(predict(trained, load_slices(scan)).probability[0]))
    log = (folder / "log").read_text()
    assert "Traceback" not in log
    assert "words" not in log


def test_16_bit_and_pages_arrive_intact(page: Page, tmp_path: Path, trained: ResNetViT) -> None:
    generator = np.random.default_rng(0)
    pages = [Image.fromarray(generator.integers(0, 4096, (96, 80), dtype=np.uint16)) for _ in range(3)]
    pages[0].save(tmp_path / "stack.tiff", save_all=True, append_images=pages[1:])
    probabilities = predict(trained, load_slices(tmp_path / "stack.tiff")).probability
    upload(page, tmp_path / "stack.tiff")
    await_result(page, float(probabilities[0]))
    expect(page.get_by_text("Upload: stack.tiff, slice 1 of 3")).to_be_visible()
    slider = page.get_by_role("slider", name="Slice of this file")
    slider.focus()
    slider.press("End")
    expect(page.get_by_text("Upload: stack.tiff, slice 3 of 3")).to_be_visible(timeout=20_000)
    await_result(page, float(probabilities[2]))


def test_phone(browser: Browser, app: str) -> None:
    with visit(browser, app, width=390) as page:
        page.get_by_role("button", name="BT, stroke", exact=True).click()
        expect(page.locator(".verdict")).to_be_visible(timeout=20_000)
        expect(page.get_by_role("img", name="Fused heatmap", exact=True)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        edges = "parts => Math.max(...parts.map(part => part.getBoundingClientRect().right))"
        assert page.locator(".page, .page *, img, input, button").evaluate_all(edges) <= 390  # nor cut off


def test_api_answers_as_predict_does(app: str, scan: Path, trained: ResNetViT) -> None:
    client = Client(app, verbose=False, analytics_enabled=False)
    try:
        assert list(client.view_api(return_format="dict")["named_endpoints"]) == ["/explain"]
        facts = client.predict(handle_file(scan), api_name="/explain")
    finally:
        client.close()
    prediction = predict(trained, load_slices(scan))
    assert facts["label"] == prediction.label[0]
    assert facts["probability_of_stroke"] == pytest.approx(prediction.probability[0], abs=1e-6)
    assert sum(facts["contributions"].values()) == pytest.approx(facts["log_odds"], abs=1e-4)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"STROKE_HUB_MODEL": "nobody/nothing"}, "nobody/nothing: is no folder here"),
        ({}, "There is no model to show"),
    ],
)
def test_no_model_gives_a_page_that_says_so(
    browser: Browser, tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    with serve(tmp_path, **environment) as url, visit(browser, url) as page:
        expect(page.locator(".notice")).to_contain_text(sentence)
