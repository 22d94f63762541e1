"""Take the screenshots docs/demo*.png: the demo in Chromium, with the model and slices of `make quickstart`.

python scripts/screenshot.py
STROKE_HUB_MODEL=runs/other STROKE_HUB_EXAMPLES=data/other python scripts/screenshot.py
"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent / "space"))

from app import launch_from_environment
from demo_model import choose_examples, choose_model

from stroke_hub import read_records

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLE = "MR, stroke"
FILES = 24  # in the batch
LARGEST = 400_000  # bytes; a larger picture gets fewer colours


def visit(browser: Browser, url: str, *, width: int = 1280) -> Page:
    """Open the page and wait for its model."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(url)
    page.get_by_role("button", name=EXAMPLE, exact=True).wait_for(timeout=120_000)
    return page


def show_example(page: Page) -> None:
    """Pick an example and wait for its maps."""
    page.get_by_role("button", name=EXAMPLE, exact=True).click()
    page.locator(".verdict").wait_for()
    page.get_by_role("img", name="Fused heatmap").first.wait_for()


def show_batch(page: Page) -> None:
    """Predict some test slices, evenly spaced."""
    records = read_records(choose_examples() or "")
    paths = list(records.part("test")["path"])
    chosen = [records.root / path for path in paths[:: max(1, len(paths) // FILES)][:FILES]]
    page.get_by_role("tab", name="Batch").click()
    page.locator('[role="tabpanel"]:visible input[type="file"]').first.set_input_files(chosen)
    page.get_by_text(chosen[0].stem).wait_for()
    page.get_by_role("button", name="Predict all").click()
    page.get_by_text("Done:").wait_for(timeout=120_000)


def show_model(page: Page) -> None:
    """Open the report."""
    page.get_by_role("tab", name="Model").click()
    page.locator(".report").wait_for()


def save(page: Page, name: str, *, height: int | None = None) -> None:
    """Save a screenshot of the page (its first `height` pixels) as a small file."""
    page.wait_for_timeout(1500)  # transitions
    file = DOCS / name
    page.screenshot(path=file, full_page=True)
    with Image.open(file) as picture:
        cut = picture.convert("RGB").crop((0, 0, picture.width, min(picture.height, height or picture.height)))
    cut.save(file, optimize=True)
    if file.stat().st_size > LARGEST:
        cut.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.FLOYDSTEINBERG).save(file, optimize=True)
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size / 1024:.0f} KiB")


def main() -> None:
    """Start the demo and take screenshots of its tabs, and of one on a phone."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("error: no Chromium was found; install the package chromium.")
    if len(sys.argv) > 1:
        sys.exit(str(__doc__))
    if choose_model()[0] is None or choose_examples() is None:
        sys.exit("error: there is no model or no slice to show; run `make quickstart` first.")
    DOCS.mkdir(exist_ok=True)
    url = launch_from_environment(prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, show, width, height in (
            ("demo.png", show_example, 1280, None),
            ("demo-batch.png", show_batch, 1280, None),
            ("demo-model.png", show_model, 1280, 1800),
            ("demo-phone.png", show_example, 390, 1700),
        ):
            page = visit(browser, url, width=width)
            show(page)
            save(page, name, height=height)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
