"""Draw docs/demo.png again: the demo in Chromium, on the model and the sample slices of `make quickstart`.

python scripts/screenshot.py
STROKE_HUB_MODEL=runs/other STROKE_HUB_EXAMPLES=data/other python scripts/screenshot.py
"""

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent / "space"))

from app import launch_from_environment

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "demo.png"
EXAMPLE = "MR, stroke"


def take_picture(page: Page, url: str) -> None:
    """Pick an example, wait until every picture is there, and save the whole page."""
    page.goto(url)
    page.get_by_role("button", name=EXAMPLE, exact=True).click()
    page.locator(".verdict").wait_for()
    page.get_by_role("img", name="Fused heatmap", exact=True).wait_for()
    page.wait_for_function("[...document.images].every(image => image.complete)")
    page.wait_for_timeout(1000)  # transitions
    page.screenshot(path=PICTURE, full_page=True)


def main() -> None:
    """Start the demo, photograph it and make the file small."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("error: there is no Chromium; install the package chromium.")
    PICTURE.parent.mkdir(exist_ok=True)
    url = launch_from_environment(prevent_thread_lock=True, quiet=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        take_picture(browser.new_page(viewport={"width": 1280, "height": 900}), url)
        browser.close()
    Image.open(PICTURE).convert("RGB").save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
