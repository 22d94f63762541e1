"""The live demo survives what the internet sends: hostile files, and paths that are nobody's business."""

import hashlib
import http.client
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from PIL import Image

from stroke_hub import Records, ResNetViT, load_slices, predict
from tests.fakes.demo_server import ROOT, Visitor, serve
from tests.hostile import RAMP, Hostile, encode, list_hostile
from tests.inference.test_ood import KINDS

HOSTILE = list_hostile()
PICTURE = encode(Image.fromarray(RAMP), "PNG")
SECRETS = ("SENTINEL", "These are notes", "root:", "Traceback", 'File \\"')  # the last: of a stack trace
UNEXPECTED = "Something went wrong"


@pytest.fixture(scope="module")
def visitor(app: str) -> Iterator[Visitor]:
    with httpx.Client(base_url=f"{app}gradio_api/", timeout=60) as http:
        yield Visitor(http)


def list_files(*roots: Path) -> set[str]:
    found = (file for root in roots for file in root.rglob("*"))
    return {str(file) for file in found if "__pycache__" not in file.parts}


def check_sentence(words: str, folder: Path) -> None:
    """One sentence, fit for a page: no markup, no place of the machine, nothing that an unreadable file says."""
    assert words.endswith("."), words
    assert "\n" not in words
    assert len(words) < 400, words
    assert "<" not in words, words
    assert str(folder) not in words
    assert UNEXPECTED not in words, words


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])  # tests/io reads all of them
def test_hostile_files(visitor: Visitor, folder: Path, trained: ResNetViT, tmp_path: Path, step: int) -> None:
    files = HOSTILE[::step]
    (tmp_path / "good.png").write_bytes(PICTURE)
    wanted = float(predict(trained, load_slices(tmp_path / "good.png")).probability[0])
    good = visitor.upload("good.png", PICTURE)
    visitor.ask("predict", file=good)
    visitor.ask("explain", file=good)
    places = (folder, ROOT / "space", ROOT / "stroke_hub")
    before, log = list_files(*places), (folder / "log").read_text()

    def attack(one: Hostile) -> None:
        file = visitor.upload(one.name, one.content)
        for name, sent in (("predict", {"file": file}), ("explain", {"file": file}), ("scan", {"files": [file]})):
            kind, answer, raw = visitor.ask(name, **sent)
            secrets = SECRETS if kind == "complete" else (*SECRETS, "alert(")  # remarks name members of archives
            assert not any(words in raw for words in secrets), raw[:500]
            readable = one.slices or one.name == "four_volumes.nii"  # of which one is taken
            assert kind == ("complete" if readable else "error"), (one.name, name, answer)
            if kind == "error":
                check_sentence(answer["error"], folder)
            elif name == "predict" and not is_archive(one.content):  # of an archive one series is taken
                assert len(answer[0]["slices"]) == one.slices or answer[0]["remarks"]
            elif name == "scan":
                for remark in answer[0]["remarks"]:
                    assert remark.isprintable()
        kind, answer, raw = visitor.ask("batch", files=[file, good])
        assert kind == "complete", (one.name, answer)
        assert not any(words in raw for words in SECRETS), raw[:500]
        *rows, last = answer[0]
        assert sum(bool(row["label"]) for row in rows) == one.slices, one.name
        assert sum(bool(row["error"]) for row in rows) == one.errors, one.name
        for row in rows:
            assert bool(row["label"]) != bool(row["error"])
            assert row["file"].isprintable()
            check_sentence(row["error"] or "None.", folder)
        assert last["stroke_probability"] == pytest.approx(wanted, abs=1e-6), one.name
        _, answer, _ = visitor.ask("predict", file=good)
        assert answer[0]["slices"][0]["stroke_probability"] == pytest.approx(wanted, abs=1e-6), one.name

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(attack, files))
    assert (folder / "log").read_text() == log  # not a word
    added = {Path(file) for file in list_files(*places) - before if Path(file).is_file()}
    assert {file.parent.parent for file in added} == {folder / "uploads"}  # of archives nothing is unpacked
    assert sorted(file.read_bytes() for file in added) == sorted(one.content for one in files)


def is_archive(content: bytes) -> bool:
    return content.startswith(b"PK")


def test_what_is_nobodys_business_is_refused(
    app: str, visitor: Visitor, folder: Path, run_dir: Path, sample: Records
) -> None:
    mine = visitor.upload("mine.png", PICTURE)["path"]
    uploads, scan = folder / "uploads", sample.root / sample.part("test")["path"].iloc[0]
    assert fetch(app, quote(mine))[0] == 200  # so this is how a file is asked for
    here = ("/etc/passwd", "/etc/hostname", "/proc/self/environ", "/proc/self/cmdline", ROOT / "README.md", scan)
    own = (*(ROOT / "space").rglob("*.*"), folder / "log", folder / "pid", run_dir / "model.safetensors", run_dir)
    guesses = (
        uploads,
        uploads / ("0" * 64),
        Path(mine).parent,
        Path(mine).parent.parent / "..",
        f"{mine}.",
    )
    others = (f"{uploads}/{hashlib.sha256(PICTURE).hexdigest()}/mine.png", f"{uploads}/*/mine.png")
    for path in map(str, (*here, *own, *guesses, *others)):
        up = os.path.relpath(path, uploads)
        around = {
            path,
            f"/{path}",
            quote(path, safe=""),
            f"{mine}/../../{up}",
            f"{uploads}/{up}",
            f"{uploads}/./{up}",
        }
        around |= {up, os.path.relpath(path, folder), f"file://{path}", path.replace("/", "\\"), f"{path}%00.png"}
        for way in around:
            status, body = fetch(app, way if "%" in way else quote(way))
            assert status in (400, 403, 404), (way, status)
            check_body(body)
    for link in (
        "/gradio_api/upload",
        "/gradio_api/file/etc/passwd",
        "/static/../../../../etc/passwd",
        "/assets/../log",
    ):
        status, body = fetch(app, link, base="")
        assert status in (400, 403, 404, 405, 422), link
        check_body(body)
    assert "Traceback" not in (folder / "log").read_text()


def fetch(app: str, path: str, *, base: str = "/gradio_api/file=") -> tuple[int, bytes]:
    """As it stands: most clients would tidy up `..` first."""
    where = urlsplit(app)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=30)
    try:
        connection.request("GET", base + path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def check_body(body: bytes) -> None:
    assert len(body) < 2000
    for secret in (b"root:", b"import ", b"GRADIO_TEMP_DIR", b"Traceback", b"PNG"):
        assert secret not in body


@pytest.mark.parametrize(
    "options",
    [
        {"window": "SENTINEL<b>"},
        {"modality": "SENTINEL<b>"},
        {"target": "SENTINEL<b>"},
        {"method": ["SENTINEL"]},
        {"depth": "SENTINEL"},
        {"slice": "SENTINEL"},
        {"slice": {"SENTINEL": 1}},
        {"file": "SENTINEL"},
        {"file": {"SENTINEL": 1}},
    ],
    ids=str,
)
def test_options_that_are_none_are_refused_and_not_logged(
    visitor: Visitor, folder: Path, options: dict[str, object]
) -> None:
    log, good = (folder / "log").read_text(), visitor.upload("good.png", PICTURE)
    kind, answer, raw = visitor.ask("explain", **{"file": good} | options)
    assert kind == "error"
    assert "Traceback" not in raw
    assert "<b>" not in answer["error"]
    assert "SENTINEL" not in (folder / "log").read_text().removeprefix(log)
    assert "Traceback" not in (folder / "log").read_text()
    event, answer, _ = visitor.ask("model_info")
    assert event == "complete", answer


def test_uploads_go_with_the_demo_and_with_the_next(tmp_path: Path) -> None:
    """Beside <temporary folder>/gradio, which is Gradio's own place and here is somebody else's."""
    (tmp_path / "gradio").write_text("no folder, so that Gradio could make none in it")
    uploads = tmp_path / f"stroke_hub_demo{os.getuid()}"
    old, young = uploads / "killed" / "old.png", uploads / "running" / "young.png"
    for file in (old, young):
        file.parent.mkdir(parents=True)
        file.write_bytes(PICTURE)
    os.utime(old, (0, 0))
    with serve(tmp_path, GRADIO_TEMP_DIR="", TMPDIR=str(tmp_path)) as url:
        assert not old.parent.exists()
        assert young.is_file()  # another demo may be at work with it
        assert uploads.stat().st_mode & 0o077 == 0
        with httpx.Client(base_url=f"{url}gradio_api/", timeout=60) as http:
            path = Path(Visitor(http).upload("mine.png", PICTURE)["path"])
        assert path.is_relative_to(uploads)
        assert path.is_file()
    assert not path.exists()  # stopped by SIGTERM
    assert young.is_file()


@pytest.mark.parametrize("kind", ["file", "link", "other user"])
def test_uploads_go_into_no_folder_of_somebody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")
    from uploads import open_upload_folder

    taken, other = tmp_path / f"stroke_hub_demo{os.getuid()}", tmp_path / "other"
    if kind == "file":
        taken.write_text("theirs")
    elif kind == "link":
        other.mkdir()
        taken.symlink_to(other)
    else:
        if os.getuid() != 0:
            pytest.skip("only root may give a folder away")
        taken.mkdir()
        os.chown(taken, 12345, -1)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    open_upload_folder()
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert folder not in (taken, other)
    assert folder.resolve().parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/a.png", "https://example.org/a.png", "HTTP://EXAMPLE.org/a"]
)
def test_the_server_fetches_no_address(app: str, address: str) -> None:
    """Gradio would hand on what it finds at a public address: an open proxy."""
    for base in ("/gradio_api/file=", "/gradio_api/proxy="):
        for way in (address, quote(address, safe="")):
            status, body = fetch(app, way, base=base)
            assert status == 403
            assert b"Web addresses are not fetched" in body


@pytest.mark.parametrize("kind", ["text", "chest", "noise"])
def test_what_is_no_brain_slice_is_answered_with_a_warning(visitor: Visitor, kind: str) -> None:
    for seed in range(3):
        content = encode(Image.fromarray(KINDS[kind](seed)), "PNG")
        file = visitor.upload(f"{kind}{seed}.png", content)
        row = visitor.ask("predict", file=file)[1][0]["slices"][0]
        facts = visitor.ask("explain", file=file)[1][0]
        assert row["unusual"]
        assert facts["unusual"]
        assert any("nlike the training slices" in remark for remark in facts["remarks"])
        assert row["label"] == facts["label"] in ("Normal", "Stroke")
