"""The demo with whole scans: what a visitor and a program are told, progress, cancelling, wrong uploads."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect

from stroke_hub import Records, ResNetViT, Scan, explain, load_scan, load_slices, predict
from tests.demo.test_app import await_model, check_maps, read_canvas, take_file, upload
from tests.fakes.demo_server import visit
from tests.hostile import nifti, pack
from tests.io.synth import dcm
from tests.scan.studies import save, series

GAP = 3  # slices below the one that is missing


@pytest.fixture
def page(browser: Browser, app: str) -> Iterator[Page]:
    with visit(browser, app) as page:
        await_model(page)
        yield page


@pytest.fixture(scope="module")
def client(app: str) -> Iterator[Client]:
    client = Client(app, verbose=False, analytics_enabled=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def hounsfield(sample: Records) -> np.ndarray:
    """Test slices of CT in Hounsfield units, (H, W, N)."""
    paths = sample.part("test").query("modality == 'BT'")["path"].iloc[:7]
    pixels = np.stack([load_slices(sample.root / path)[0].pixels for path in paths], axis=2)
    return np.where(pixels > 0, pixels.astype(np.int16) // 2 - 24, -1000).astype(np.int16)


@pytest.fixture(scope="module")
def files(hounsfield: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The slices as DICOM files, with one missing."""
    folder = tmp_path_factory.mktemp("study")
    for number in range(hounsfield.shape[2]):
        z = 5.0 * (number + (number > GAP))
        one = dcm(hounsfield[:, :, number] + 1024, ipp=(0, 0, z), number=number + 1, series="1.2.3.4")
        (folder / f"IM{number}").write_bytes(save(one))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def archive(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zip") / "study.zip"
    path.write_bytes(pack({f"study/{file.name}": file.read_bytes() for file in files}))
    return path


def check_answer(page: Page, scan: Scan, model: ResNetViT, name: str) -> int:
    """The page says what the library says of the scan; the number of its highest slice."""
    answer = predict(model, scan)
    panel = page.locator(".scan")
    expect(panel.locator(".verdict")).to_have_text(answer.label, timeout=20_000)
    expect(panel).to_contain_text(f"Upload: {name}, {len(scan)} slices, CT")
    expect(panel).to_contain_text(f"Probability of stroke, of the scan: {answer.probability:.1%}")
    highest, above = answer.ranked[0], answer.slices.label.count("Stroke")
    words = f"{above} of {len(scan)} slices {'is' if above == 1 else 'are'} above the threshold"
    expect(panel).to_contain_text(words)
    expect(panel).to_contain_text(f"the highest is slice {highest + 1} ({answer.slices.probability[highest]:.1%})")
    buttons = [
        int(button) for button in panel.locator("button").evaluate_all("all => all.map(b => b.dataset.slice)")
    ]
    assert buttons == [index + 1 for index in answer.ranked[:8]]
    titles = panel.locator("rect title").all_text_contents()
    assert titles == [f"slice {i + 1}: {p:.1%}" for i, p in enumerate(answer.slices.probability)]
    for remark in answer.remarks:
        expect(panel).to_contain_text(remark)
    expect(page.locator(".result h2")).to_contain_text(f"Slice {highest + 1} of {len(scan)}")
    return highest


def test_a_scan_is_answered_and_opened_on_its_highest_slice(
    page: Page, files: list[Path], trained: ResNetViT, folder: Path
) -> None:
    upload(page, *files)
    scan = load_scan(files)
    highest = check_answer(page, scan, trained, "7 files")
    expect(page.locator(".scan")).to_contain_text("1 slice seems to be missing")
    check_maps(page, explain(trained, scan.slices[highest]))
    facts = json.loads(take_file(page, "Download numbers (JSON)").read_text())
    answer = predict(trained, scan)
    assert facts["scan"]["stroke_probability"] == pytest.approx(answer.probability, abs=1e-6)
    assert facts["input"]["slice"] == highest + 1
    third = answer.ranked[2]
    button = page.locator(".ranked button").nth(2)
    button.focus()
    button.press("Enter")
    expect(page.locator(".result h2")).to_contain_text(f"Slice {third + 1} of", timeout=20_000)
    expect(button).to_have_attribute("aria-current", "true")
    expect(button).to_be_focused()
    check_maps(page, explain(trained, scan.slices[third]))
    chart = page.locator(".profile svg")
    size = chart.bounding_box()
    assert size
    chart.click(position={"x": size["width"] - 3, "y": 9})
    expect(page.locator(".result h2")).to_contain_text("Slice 7 of 7", timeout=20_000)
    slider = page.get_by_role("slider", name="Slice of this scan")
    slider.focus()
    slider.press("Home")
    expect(page.locator(".result h2")).to_contain_text("Slice 1 of 7", timeout=20_000)
    page.get_by_role("button", name="MR, stroke", exact=True).click()  # nothing of the scan stays
    expect(page.get_by_text("Example: simulated MR, stroke")).to_be_visible(timeout=20_000)
    expect(page.locator(".scan")).to_have_count(0)
    assert "SENTINEL" not in page.content()
    assert "Traceback" not in (folder / "log").read_text()


def test_a_volume_is_a_scan_and_a_window_is_shown(
    page: Page, hounsfield: np.ndarray, trained: ResNetViT, tmp_path: Path
) -> None:
    file = tmp_path / "head.nii"
    file.write_bytes(nifti(hounsfield))
    upload(page, file)
    scan = load_scan(file)
    answer = predict(trained, scan)
    panel = page.locator(".scan")
    expect(panel).to_contain_text(f"of the scan: {answer.probability:.1%}", timeout=20_000)
    page.get_by_role("radio", name="subdural").check()
    expect(page.get_by_text("the window subdural is for display only").first).to_be_visible(timeout=20_000)
    expect(panel).to_contain_text(f"of the scan: {answer.probability:.1%}")
    highest = answer.ranked[0]
    expect(page.locator(".result h2")).to_contain_text(f"Slice {highest + 1} of 7")
    shown = explain(trained, load_scan(file, window="subdural").slices[highest]).picture
    np.testing.assert_array_equal(read_canvas(page.locator("[data-layer=original]"))[..., 0], shown)
    assert (shown != explain(trained, scan.slices[highest]).picture).any()


def test_a_long_scan_is_cancelled(page: Page, archive: Path, trained: ResNetViT, tmp_path: Path) -> None:
    long = tmp_path / "long.nii"
    long.write_bytes(nifti(np.random.default_rng(0).integers(0, 99, (16, 16, 4000)).astype("<i2")))
    upload(page, long)
    expect(page.get_by_text(re.compile(r"long.nii: [\d,]+ of 4,000 slices predicted"))).to_be_visible(
        timeout=20_000
    )
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Upload a slice or a scan, or pick an example.")).to_be_visible(timeout=20_000)
    expect(page.locator(".scan")).to_have_count(0)
    page.wait_for_timeout(500)
    expect(page.locator(".scan")).to_have_count(0)  # nor does it come later
    upload(page, archive)  # both places are free again
    check_answer(page, load_scan(archive), trained, "study.zip")


def test_the_endpoint_says_what_the_command_writes(
    client: Client, files: list[Path], archive: Path, trained: ResNetViT, run_dir: Path
) -> None:
    from stroke_hub.report.scan_page import describe_scan

    scan = load_scan(archive)
    told = client.predict([handle_file(archive)], api_name="/scan")
    asked = {"series": None, "modality": None, "window": None}
    wanted = describe_scan(scan, explain(trained, scan), model=told["model"], asked=asked)
    wanted |= {"evidence": None, "display": None}
    assert told.keys() == wanted.keys()
    for key, value in wanted.items():
        if key in ("contributions", "log_odds", "probability", "evidence_sum", "evidence_outside", "shift"):
            assert told[key] == pytest.approx(value, abs=1e-4), key
        else:
            assert told[key] == json.loads(json.dumps(value)), key
    weights = json.loads((run_dir / "report.json").read_text())["model"]["weights_sha256"]
    assert told["model"] == {"name": run_dir.name, "commit": None, "weights_sha256": weights}
    several = client.predict([handle_file(file) for file in files], api_name="/scan")
    assert several | {"source": told["source"]} == told
    rows = client.predict(handle_file(archive), api_name="/predict")["slices"]
    assert [row["slice"] for row in rows] == list(range(1, 8))
    facts = client.predict(handle_file(archive), slice=told["ranked"][0] + 1, api_name="/explain")
    wanted = max(row["stroke_probability"] for row in rows)
    assert facts["stroke_probability"] == pytest.approx(wanted, abs=5e-6)  # batches round differently


def test_wrong_scans_are_sentences(
    client: Client, page: Page, hounsfield: np.ndarray, files: list[Path], folder: Path, tmp_path: Path
) -> None:
    before = (folder / "log").read_text()
    empty, words, mixed = tmp_path / "nothing.zip", tmp_path / "notes.zip", tmp_path / "mixed.zip"
    empty.write_bytes(pack({}))
    words.write_bytes(pack({"read.txt": b"SENTINEL"}))
    mixed.write_bytes(pack({"notes.png": b"SENTINEL", **{file.name: file.read_bytes() for file in files}}))
    for file, told in ((empty, r"^nothing\.zip: [^\n]*\.$"), (words, r"^notes\.zip: [^\n]*\.$")):
        with pytest.raises(AppError, match=told):
            client.predict([handle_file(file)], api_name="/scan")
    with pytest.raises(AppError, match="There are no files"):
        client.predict([], api_name="/scan")
    with pytest.raises(AppError, match="has no series 77"):
        client.predict([handle_file(mixed)], series="77", api_name="/scan")
    remarks = client.predict([handle_file(mixed)], api_name="/scan")["remarks"]
    assert any(
        "Left out because of what is wrong with them: 1 file. notes.png: is not a" in told for told in remarks
    )
    other = series(9, [dcm(hounsfield[:, :, 0] + 1024, ipp=(0, 0, 9.0 * z)) for z in range(5)], "other")
    two = tmp_path / "two.zip"
    members = {f"b/{number}": save(one) for number, one in enumerate(other)}
    two.write_bytes(pack({**{f"a/{file.name}": file.read_bytes() for file in files}, **members}))
    upload(page, two)
    expect(page.locator(".scan")).to_contain_text(re.compile(r"Of 2 series, .* was taken"), timeout=20_000)
    page.get_by_role("button", name="Remove").or_(page.get_by_role("button", name="Clear")).first.click()
    expect(page.locator(".scan")).to_have_count(0, timeout=20_000)
    upload(page, empty)
    expect(page.get_by_text("nothing.zip: ")).to_be_visible(timeout=20_000)
    expect(page.locator(".scan")).to_have_count(0, timeout=20_000)
    assert (folder / "log").read_text() == before
