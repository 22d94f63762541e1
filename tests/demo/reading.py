"""The reading room of a page, as tests read it: what is said, and the pictures in the slice's own pixels."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from stroke_hub import Explanation, Prediction

LAYERS = ("cnn", "vit", "fused")
READ_PICTURE = """layer => {
  const picture = document.querySelector(".room-host").room.canvas.pictureOf(layer);
  const { data } = picture.getContext("2d").getImageData(0, 0, picture.width, picture.height);
  return [picture.width, btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""))];
}"""


def await_model(page: Page) -> None:
    """Wait until the page has opened with an example."""
    expect(page.locator(".room-verdict h2")).to_be_visible(timeout=60_000)


def upload(page: Page, *paths: Path) -> None:
    """Give files to the visible tab."""
    page.locator('[role="tabpanel"]:visible input[type="file"]').first.set_input_files(paths)


def await_study(page: Page, title: str) -> None:
    """Wait for the answer for what the title names, and for the picture of its slice."""
    expect(page.locator(".room-title")).to_contain_text(title, timeout=20_000)
    expect(page.locator(".room-cover")).to_be_hidden(timeout=20_000)


def await_maps(page: Page) -> None:
    """Wait until the maps of all slices are in the browser."""
    expect(page.locator(".room-host")).to_have_attribute("data-maps", "complete", timeout=60_000)


def ask_room(page: Page, expression: str) -> Any:
    """Evaluate an expression of `room`."""
    return page.evaluate(
        f"() => {{ const room = document.querySelector('.room-host').room; return {expression}; }}"
    )


def check_probabilities(page: Page, prediction: Prediction) -> None:
    """The browser was told what the library says of each slice."""
    told = ask_room(page, "room.study.slices")
    assert [one["probability"] for one in told] == pytest.approx(prediction.probability.tolist(), abs=5e-6)
    assert [one["label"] for one in told] == prediction.label
    assert [one["unusual"] for one in told] == prediction.unusual.tolist()


def read_picture(page: Page, layer: str) -> np.ndarray:
    """What the browser draws of the seen slice with a layer, (H, W, 3), in the pixels of the slice."""
    width, data = page.evaluate(READ_PICTURE, layer)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(-1, width, 4)[..., :3].astype(int)


def check_maps(page: Page, e: Explanation, *, opacity: float = 0.5) -> None:
    """The browser's pictures are `Explanation.overlay`'s, but for the rounding of a map to 127 levels."""
    assert np.abs(read_picture(page, "off") - e.picture[..., None]).max() <= 1
    for layer in LAYERS:
        wanted = np.asarray(e.overlay(layer, opacity=opacity))  # type: ignore[arg-type]
        difference = np.abs(read_picture(page, layer) - wanted)
        assert difference.mean() < 1, layer
        assert np.percentile(difference, 99) <= 6, layer


def take_file(page: Page, name: str) -> tuple[str, Path]:
    """Download what a button gives: its file name, and where it lies."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name).click()
    return waiting.value.suggested_filename, Path(waiting.value.path())
