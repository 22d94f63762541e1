"""The worklist: scans and slices by their answers, what has none apart, rows that open, a table to take home."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from stroke_hub import Records, ResNetViT, UnreadableImage, load_scan, load_slices, predict
from tests.fakes.demo_server import ROOT, visit
from tests.hostile import pack
from tests.inference.test_ood import KINDS
from tests.io.synth import dcm
from tests.scan.studies import save

MANY = 6  # slices of the scan


@pytest.fixture(autouse=True, scope="module")
def _space() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(ROOT / "space")
        yield


@pytest.fixture(scope="module")
def series(sample: Records, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Test slices of CT as the DICOM files of one scan, in Hounsfield units."""
    folder = tmp_path_factory.mktemp("series")
    rows = sample.part("test").query("modality == 'BT'").sort_values("label")
    for number, path in enumerate([*rows["path"].iloc[: MANY // 2], *rows["path"].iloc[-(MANY // 2) :]]):
        pixels = load_slices(sample.root / path)[0].pixels
        values = np.where(pixels > 0, pixels * (80 / 255), -1000).round().astype(np.int16)
        one = dcm(values + 1024, ipp=(0, 0, 5.0 * number), number=MANY - number, series="1.2.3.4")
        one.SeriesDescription = "head, thick"
        (folder / f"IM{number}").write_bytes(save(one))
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def uploads(
    series: list[Path], sample: Records, trained: ResNetViT, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """A scan of several files, an archive of two pictures, one picture, one of no brain, and one that is none."""
    folder = tmp_path_factory.mktemp("uploads")
    table = sample.part("test").query("modality == 'BT'")  # pictures of MR need somebody who says so
    slices = {Path(path).name: (sample.root / path).read_bytes() for path in table["path"].iloc[3:6]}
    first, *packed = slices
    (folder / first).write_bytes(slices[first])
    (folder / "two.zip").write_bytes(pack({f"in/{name}": slices[name] for name in packed}))
    Image.fromarray(KINDS["text"](0)).save(folder / "page.png")
    assert predict(trained, load_slices(folder / "page.png")).unusual[0]
    (folder / "=words.png").write_text("words")
    return [*series, *sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def entries(uploads: list[Path], run_dir: Path) -> dict[str, Any]:
    """What the list holds, by name."""
    from demo_model import DemoModel
    from study import Reading
    from worklist import Entry, predict_entries

    steps = list(predict_entries(DemoModel(str(run_dir)), [str(path) for path in uploads], Reading()))
    return {step.name: step for step in steps if isinstance(step, Entry)}


def test_entries_are_scans_and_slices_with_the_answers_of_predict(
    entries: dict[str, Any], uploads: list[Path], series: list[Path], trained: ResNetViT
) -> None:
    assert {name: (one.size, one.modality) for name, one in entries.items() if not one.error} == {
        "head, thick": (MANY, "CT"),
        "page.png": (1, ""),
        **{name: (1, "") for name in entries if name.endswith("_simulated.png")},
    }
    assert len([name for name in entries if name.startswith("two.zip/in/")]) == 2
    scan = entries["head, thick"]
    answer = predict(trained, load_scan(series))
    probability = np.where(answer.slices.unusual, -1, answer.slices.probability)
    assert [row.stroke_probability for row in scan.rows] == pytest.approx(list(answer.slices.probability), abs=1e-6)
    assert scan.label == answer.label
    assert scan.highest == int(probability.argmax()) + 1
    assert scan.known == int((~answer.slices.unusual).sum())
    assert scan.above == sum(
        label == "Stroke" and not odd for label, odd in zip(answer.slices.label, answer.slices.unusual, strict=True)
    )
    assert [row.slice for row in scan.rows] == list(range(1, MANY + 1))
    assert {row.file for row in scan.rows} == {path.name for path in series}
    single = next(path for path in uploads if path.name in entries and path.suffix == ".png" and path.stem[0] == "p"
                  and path.name != "page.png")  # fmt: skip
    found = entries[single.name].rows[0].stroke_probability
    assert found == pytest.approx(float(predict(trained, load_slices(single)).probability[0]), abs=1e-6)
    assert entries["=words.png"].error.startswith("=words.png: is not a")


def test_what_the_model_does_not_know_has_no_answer_and_comes_behind(entries: dict[str, Any]) -> None:
    from worklist import Entry, rank_entries

    page = entries["page.png"]
    assert (page.state, page.probability, page.above, page.highest) == ("unknown", None, 0, None)
    listed = list(entries.values())
    ranked = [listed[number] for number in rank_entries(listed)]
    assert [one.state for one in ranked[-2:]] == ["unknown", "error"]
    known = [one.probability for one in ranked if one.state in ("stroke", "normal")]
    assert len(known) == len(listed) - 2
    assert known == sorted(known, reverse=True)
    half = Entry("half", (), size=4, known=2, label="Normal", highest=None)
    assert half.state == "normal"
    assert half._replace(known=1).state == "unknown"


def test_a_member_of_an_archive_is_unpacked_to_be_opened(
    entries: dict[str, Any], uploads: list[Path], tmp_path: Path
) -> None:
    from worklist import unpack_member

    archive = tmp_path / "two.zip"
    archive.write_bytes(next(path for path in uploads if path.name == "two.zip").read_bytes())
    entry = next(one for name, one in entries.items() if name.startswith("two.zip/"))
    copy = Path(unpack_member(str(archive), entry.member))
    assert copy.name == entry.name.rsplit("/", 1)[-1]
    assert copy.parent.parent == tmp_path
    assert copy.parent.stat().st_mode & 0o077 == 0
    assert len(load_slices(copy)) == 1
    with pytest.raises(UnreadableImage, match="0 files of the archive have this name"):
        unpack_member(str(archive), "two.zip/other.png")
    content = copy.read_bytes()
    archive.write_bytes(pack([("a.png", content), ("a.png", content)]))
    with pytest.raises(UnreadableImage, match="2 files of the archive have this name"):
        unpack_member(str(archive), "two.zip/a.png")


def test_more_slices_than_one_request_may_have_are_refused_by_name(
    uploads: list[Path], run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import worklist
    from demo_model import DemoModel
    from study import Reading

    monkeypatch.setattr(worklist, "MAX_SLICES", MANY)
    steps = list(worklist.predict_entries(DemoModel(str(run_dir)), [str(path) for path in uploads], Reading()))
    listed = [step for step in steps if isinstance(step, worklist.Entry)]
    assert sum(one.size for one in listed) == MANY
    refused = [one for one in listed if "Upload it separately" in one.error]
    assert refused
    assert all(one.error.startswith(one.name) for one in refused)


@pytest.fixture
def page(browser: Browser, app: str) -> Iterator[Page]:
    with visit(browser, app) as page:
        expect(page.locator(".examples button").first).to_be_visible(timeout=60_000)
        page.get_by_role("tab", name="Worklist").click()
        yield page


def test_the_list_sorts_filters_opens_and_goes_home(
    page: Page, uploads: list[Path], entries: dict[str, Any], axe: Callable[[Page], list[str]]
) -> None:
    run, stop, save = (page.get_by_role("button", name=name) for name in ("Predict all", "Stop", "Download CSV"))
    for button in (run, stop, save):
        expect(button).to_be_disabled()  # there is nothing to do
    page.locator('[role="tabpanel"]:visible input[type="file"]').first.set_input_files(uploads)
    expect(run).to_be_enabled(timeout=20_000)
    run.click()
    expect(page.get_by_text("Done: 1 scan and 4 single slices")).to_be_visible(timeout=30_000)
    expect(stop).to_be_disabled()
    # a button within a button is of Gradio's own box of uploads
    assert [one for one in axe(page) if "nested-interactive" not in one] == []
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    answered = page.locator(".worklist tbody.sorted tr")
    names = [one.name for one in entries.values() if one.state in ("stroke", "normal")]
    wanted = sorted(names, key=lambda name: -entries[name].probability)
    listed = [one.split("\n")[0] for one in answered.locator("th").all_inner_texts()]
    assert listed == wanted
    expect(page.get_by_role("columnheader", name="Probability")).to_have_attribute("aria-sort", "descending")
    for direction in ("ascending", "descending"):
        page.get_by_role("button", name="Name", exact=True).click()
        expect(page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", direction)
        listed = [one.split("\n")[0] for one in answered.locator("th").all_inner_texts()]
        assert listed == sorted(names, reverse=direction == "descending")
    expect(page.get_by_text("Not counted and not ranked")).to_be_visible()
    expect(page.get_by_role("rowheader", name="=words.png: is not a")).to_be_visible()
    page.get_by_role("button", name="No answer 1").click()
    rows = page.locator(".worklist tr[data-state]:visible")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("page.png")
    page.get_by_role("button", name="All 6").click()
    page.get_by_role("searchbox", name="Filter by name").fill("TWO.zip")
    expect(rows).to_have_count(2)
    assert requests == []
    with page.expect_download() as waiting:
        save.click()
    table = list(csv.DictReader(io.StringIO(Path(waiting.value.path()).read_text())))
    assert list(table[0]) == [
        "scan", "file", "slice", "label", "stroke_probability", "unusual", "error", "remarks"
    ]  # fmt: skip
    assert [row["slice"] for row in table if row["scan"] == "head, thick"] == [str(n + 1) for n in range(MANY)]
    assert [row["scan"] for row in table if row["error"]] == ["'=words.png"]  # no spreadsheet computes it
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Open head, thick").click()
    expect(page.get_by_role("tab", name="Explain")).to_have_attribute("aria-selected", "true")
    scan = entries["head, thick"]
    expect(page.get_by_text(f"Slice {scan.highest} of {MANY}")).to_be_visible(timeout=20_000)
    page.get_by_role("tab", name="Worklist").click()
    packed = next(name for name in entries if name.startswith("two.zip/"))
    page.get_by_role("button", name=f"Open {packed}").click()
    expect(page.locator(".room-title")).to_contain_text(packed.rsplit("/", 1)[-1], timeout=20_000)


def test_a_phone_shows_the_probability_and_no_column_is_cut(
    browser: Browser, app: str, uploads: list[Path]
) -> None:
    with visit(browser, app, width=390) as page:
        expect(page.locator(".examples button").first).to_be_visible(timeout=60_000)
        page.get_by_role("tab", name="Worklist").click()
        page.locator('[role="tabpanel"]:visible input[type="file"]').first.set_input_files(uploads)
        page.get_by_role("button", name="Predict all").click()
        expect(page.get_by_text("Done:")).to_be_visible(timeout=30_000)
        expect(page.locator(".worklist tbody.sorted td[data-value]:visible").first).to_contain_text("%")
        rows = page.locator(".worklist .rows")
        assert rows.evaluate("box => box.scrollWidth - box.clientWidth") <= 1
