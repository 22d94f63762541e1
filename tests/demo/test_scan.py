"""The demo with whole scans: what a visitor and a program are told, progress, cancelling, wrong uploads."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from playwright.sync_api import Browser, Page, expect

from stroke_hub import Records, ResNetViT, Scan, explain, load_scan, load_slices, predict
from tests.demo.reading import (
    ask_room,
    await_maps,
    await_model,
    await_study,
    check_maps,
    check_probabilities,
    read_picture,
    take_file,
    upload,
)
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
    """The page says what the library says of the scan; the number of its highest slice, from 0."""
    answer = predict(model, scan)
    await_study(page, f"{name}, {len(scan)} slices" + (", CT" if scan.modality else ""))
    check_probabilities(page, answer.slices)
    verdict = page.locator(".room-verdict")
    known = [i for i in answer.ranked if not answer.slices.unusual[i]]
    above = sum(answer.slices.label[i] == "Stroke" for i in known)
    if len(known) < len(scan) / 2:
        expect(verdict.locator("h2")).to_have_text("No answer")
        return answer.ranked[0]
    headline = f"{above} of {len(known)} slices above the threshold" if above else "No slice above the threshold"
    expect(verdict.locator("h2")).to_have_text(headline)
    expect(verdict).to_contain_text(f"Highest: slice {known[0] + 1} (")
    told = ask_room(page, "room.study.scan")
    assert told["label"] == answer.label
    assert told["probability"] == pytest.approx(answer.probability, abs=5e-6)
    expect(verdict).to_contain_text(f"The scan as a whole: {answer.label}, ")
    buttons = page.locator(".room-ranked button").evaluate_all("all => all.map(b => Number(b.dataset.slice) - 1)")
    unknown = [i for i in answer.ranked if answer.slices.unusual[i]]
    assert buttons == [*known, *unknown][: max(3, min(8, above))]
    if above:
        expect(verdict).to_contain_text("Slices ")
    for remark in answer.remarks:
        # the page says which slices are not counted, and where to choose another series
        if not remark.startswith(("Unlike the training slices", "To choose another")):
            assert remark.replace("BT (CT)", "CT") in page.locator(".room-verdict").text_content()
    expect(page.locator(".room-number")).to_have_text(f"Slice {known[0] + 1} of {len(scan)}")
    return known[0]


def test_a_scan_is_answered_and_opened_on_its_highest_slice(
    page: Page, files: list[Path], trained: ResNetViT, folder: Path
) -> None:
    upload(page, *files)
    scan = load_scan(files)
    highest = check_answer(page, scan, trained, "7 files")
    expect(page.locator(".room-verdict")).to_contain_text("1 slice seems to be missing")
    check_maps(page, explain(trained, scan.slices[highest]))
    name, file = take_file(page, "Numbers (JSON)")
    assert name == f"7-files_slice-{highest + 1}_explanation.json"
    facts = json.loads(file.read_text())
    answer = predict(trained, scan)
    assert facts["scan"]["stroke_probability"] == pytest.approx(answer.probability, abs=1e-6)
    assert facts["input"]["index"] == highest
    await_maps(page)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    third = page.locator(".room-ranked button").nth(2)
    number = int(third.get_attribute("data-slice") or 0)
    third.focus()
    third.press("Enter")
    expect(page.locator(".room-number")).to_have_text(f"Slice {number} of 7")
    expect(page.locator(f'.room-ranked [data-slice="{number}"]')).to_be_focused()
    expect(page.locator(f'.room-ranked [data-slice="{number}"]')).to_have_attribute("aria-current", "true")
    check_maps(page, explain(trained, scan.slices[number - 1]))
    strip = page.locator(".room-strip")
    size = strip.bounding_box()
    assert size
    strip.click(position={"x": size["width"] - 3, "y": 9})
    expect(page.locator(".room-number")).to_have_text("Slice 7 of 7")
    slider = page.get_by_role("slider", name="Slice", exact=True)
    slider.focus()
    slider.press("Home")
    expect(page.locator(".room-number")).to_have_text("Slice 1 of 7")
    picture = page.locator(".room-canvas")
    picture.focus()
    for key, wanted in (("ArrowDown", 2), ("ArrowRight", 3), ("ArrowUp", 2), ("End", 7), ("Home", 1)):
        picture.press(key)
        expect(page.locator(".room-number")).to_have_text(f"Slice {wanted} of 7")
    picture.press("1")
    expect(page.get_by_role("radio", name="ResNet (CNN)")).to_be_checked()
    place = picture.bounding_box()
    assert place
    page.mouse.move(place["x"] + 50, place["y"] + 50)
    scrolled = page.evaluate("scrollY")
    page.mouse.wheel(0, 100)
    expect(page.locator(".room-number")).to_have_text("Slice 2 of 7")
    assert page.evaluate("scrollY") == scrolled  # the wheel goes through the slices, not down the page
    assert requests == []
    page.locator(".examples button").first.click()  # nothing of the scan stays
    await_study(page, "Example: simulated")
    expect(page.locator(".room-number")).to_be_hidden()
    assert "SENTINEL" not in page.content()
    assert "Traceback" not in (folder / "log").read_text()


def test_a_display_window_changes_the_picture_and_not_the_answer(
    page: Page, hounsfield: np.ndarray, trained: ResNetViT, tmp_path: Path
) -> None:
    file = tmp_path / "head.nii"
    file.write_bytes(nifti(hounsfield))
    upload(page, file)
    scan = load_scan(file)
    highest = check_answer(page, scan, trained, "head.nii")
    headline = page.locator(".room-verdict h2").inner_text()
    before = read_picture(page, "off")
    page.get_by_label("Display").select_option("Subdural")
    shown = load_scan(file, window="subdural").slices[highest].pixels
    assert np.abs(read_picture(page, "off") - shown[..., None]).max() <= 1
    assert (read_picture(page, "off") != before).any()
    expect(page.locator(".room-verdict h2")).to_have_text(headline)
    expect(page.locator(".room-number")).to_have_text(f"Slice {highest + 1} of 7")
    expect(page.locator(".room-window")).to_have_text("W 200 L 75")


def test_a_scan_goes_back_as_nifti_and_as_dicom_without_a_patient(
    page: Page, files: list[Path], hounsfield: np.ndarray, trained: ResNetViT, tmp_path: Path
) -> None:
    volume = tmp_path / "head.nii"
    volume.write_bytes(nifti(hounsfield))
    upload(page, volume)
    scan = load_scan(volume)
    await_study(page, "head.nii")
    expect(page.get_by_role("button", name="Results for a viewer (DICOM)")).to_have_count(0)
    name, file = take_file(page, "Maps of the scan (NIfTI)")
    assert name == "head_explanation_nifti.zip"
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path / "maps")
    evidence = nibabel.load(tmp_path / "maps" / "evidence.nii.gz")
    np.testing.assert_allclose(evidence.affine, nibabel.load(volume).affine, atol=1e-5)
    wanted = explain(trained, scan).evidence
    np.testing.assert_allclose(evidence.get_fdata(), wanted, atol=1e-5)
    upload(page, *files)
    await_study(page, "7 files")
    name, file = take_file(page, "Results for a viewer (DICOM)")
    assert name == "7-files_explanation_dicom.zip"
    with zipfile.ZipFile(file) as archive:
        contents = {member: archive.read(member) for member in archive.namelist()}
    assert {"key-objects.dcm", "secondary-capture.dcm", "structured-report.dcm"} < contents.keys()
    for member, content in contents.items():
        assert b"SENTINEL" not in content, member
        if member.endswith(".dcm"):
            found = pydicom.dcmread(io.BytesIO(content))
            assert not found.PatientName
            assert not found.PatientID


def test_a_long_scan_is_cancelled(page: Page, archive: Path, trained: ResNetViT, tmp_path: Path) -> None:
    long = tmp_path / "long.nii"
    long.write_bytes(nifti(np.random.default_rng(0).integers(0, 99, (16, 16, 4000)).astype("<i2")))
    upload(page, long)
    expect(page.get_by_text(re.compile(r"long.nii: [\d,]+ of 4,000 slices predicted"))).to_be_visible(
        timeout=20_000
    )
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("slices predicted")).to_have_count(0, timeout=20_000)
    expect(page.locator(".room-body")).to_be_hidden()
    page.wait_for_timeout(500)
    expect(page.locator(".room-body")).to_be_hidden()  # nor does it come later
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
    await_study(page, "two.zip")
    expect(page.locator(".room-verdict")).to_contain_text(re.compile(r"Of 2 series, .* was taken"))
    page.get_by_label("Clear").first.click()
    expect(page.locator(".room-body")).to_be_hidden(timeout=20_000)
    upload(page, empty)
    expect(page.get_by_role("alert").filter(has_text="nothing.zip: ")).to_be_visible(timeout=20_000)
    expect(page.locator(".room-body")).to_be_hidden()
    assert (folder / "log").read_text() == before
