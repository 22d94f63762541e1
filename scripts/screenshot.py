"""Take the screenshots docs/demo*.png: the demo in Chromium, with the sample model and simulated slices.

python scripts/screenshot.py
STROKE_HUB_MODEL=runs/other STROKE_HUB_EXAMPLES=data/other python scripts/screenshot.py
"""

import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent / "space"))

from app import launch_from_environment

from stroke_hub import read_records, write_sample

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLE = "MR, clear hit"
FILES = 24  # in the worklist
PATIENTS = 36  # simulated for it: 11 of them to test, two slices each
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
    page.locator(".room[data-maps=complete]").wait_for()


def show_worklist(page: Page, *, root: Path) -> None:
    """Predict some test slices of a dataset, evenly spaced."""
    records = read_records(root)
    paths = list(records.part("test")["path"])
    chosen = [records.root / path for path in paths[:: max(1, len(paths) // FILES)][:FILES]]
    page.get_by_role("tab", name="Worklist").click()
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
    DOCS.mkdir(exist_ok=True)
    url = launch_from_environment(prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        named = os.environ.get("STROKE_HUB_EXAMPLES")
        root = Path(named) if named else write_sample(Path(folder) / "sample", patients=PATIENTS)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, show, width, height in (
            ("demo.png", show_example, 1280, None),
            ("demo-batch.png", partial(show_worklist, root=root), 1280, None),
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
