"""The demo for programs: its endpoints answer as the library does, by HTTP, gradio_client, curl and MCP."""

import ast
import asyncio
import base64
import io
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from stroke_hub import Records, ResNetViT, explain, load_slices, predict
from tests.fakes.demo_server import ROOT, serve
from tests.hostile import pack

PAGE = (ROOT / "docs" / "call-the-api.md").read_text(encoding="utf-8")
LOCAL = "http://127.0.0.1:7860"
# put before everything else on the path: leaves a file when torch is imported
SPY = """
import builtins, os, pathlib
plain = builtins.__import__
def tell(name, *rest, **options):
    if name == "torch":
        pathlib.Path(os.environ["DEMO_NOTE"]).touch()
    return plain(name, *rest, **options)
builtins.__import__ = tell
"""
ENDPOINTS = {"/predict", "/explain", "/scan", "/batch", "/model_info"}


@pytest.fixture(scope="module")
def client(app: str) -> Iterator[Client]:
    client = Client(app, verbose=False, analytics_enabled=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def scans(sample: Records) -> list[Path]:
    return [sample.root / path for path in sample.part("test")["path"].iloc[:4]]


def test_only_these_endpoints_are_public_and_each_says_its_types(client: Client) -> None:
    api = client.view_api(return_format="dict")
    assert isinstance(api, dict)
    assert set(api["named_endpoints"]) == ENDPOINTS
    assert api["unnamed_endpoints"] == {}
    named = {p["parameter_name"]: p for p in api["named_endpoints"]["/explain"]["parameters"]}
    assert list(named) == ["file", "slice", "target", "method", "depth", "window", "modality"]
    assert named["target"]["python_type"]["type"] == "Literal['Stroke', 'Normal', 'predicted']"
    assert "Research use only" in api["named_endpoints"]["/predict"]["description"]


def test_predict_and_explain_answer_as_the_library_does(
    client: Client, scans: list[Path], trained: ResNetViT
) -> None:
    slices = load_slices(scans[0])
    prediction, e = predict(trained, slices), explain(trained, slices[0], target="Normal")
    answer = client.predict(handle_file(scans[0]), api_name="/predict")
    assert answer["slices"][0]["label"] == prediction.label[0]
    assert answer["slices"][0]["stroke_probability"] == pytest.approx(prediction.probability[0], abs=1e-6)
    assert answer["slices"][0]["distance"] == pytest.approx(prediction.distance[0], rel=1e-4)
    assert answer["slices"][0]["remarks"] == list(prediction.remarks[0])
    told = client.predict(handle_file(scans[0]), modality="MR", api_name="/predict")["slices"][0]
    expected = predict(trained, load_slices(scans[0], modality="MR"))
    assert told["stroke_probability"] == pytest.approx(expected.probability[0], abs=1e-6)
    assert told["remarks"] == list(expected.remarks[0]) != answer["slices"][0]["remarks"]
    facts = client.predict(handle_file(scans[0]), target="Normal", api_name="/explain")
    assert facts["log_odds"] == pytest.approx(e.log_odds, abs=1e-5)
    assert facts["stroke_probability"] == pytest.approx(1 - e.probability, abs=1e-6)
    assert sum(facts["contributions"].values()) == pytest.approx(facts["log_odds"], abs=1e-4)
    fused = Image.open(io.BytesIO(base64.b64decode(facts["maps"]["fused"].split(",")[1])))
    assert (np.asarray(fused) == np.asarray(e.overlay("fused"))).all()


def test_batch_and_model_info(
    client: Client, scans: list[Path], trained: ResNetViT, run_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "series.zip").write_bytes(pack({path.name: path.read_bytes() for path in scans[1:]}))
    (tmp_path / "words.png").write_text("words")
    files = [handle_file(path) for path in (scans[0], tmp_path / "words.png", tmp_path / "series.zip")]
    rows = client.predict(files, api_name="/batch")
    wanted = predict(trained, [load_slices(path)[0] for path in scans]).probability
    found = [row["stroke_probability"] for row in rows if row["label"]]
    assert found == pytest.approx(list(wanted), abs=1e-6)
    assert [row["file"] for row in rows if row["error"]] == ["words.png"]
    about = client.predict(api_name="/model_info")
    assert about["classes"] == ["Normal", "Stroke"]
    assert about["image_size"] == trained.image_size
    assert about["weights_sha256"] == json.loads((run_dir / "report.json").read_text())["model"]["weights_sha256"]
    assert str(run_dir.parent) not in json.dumps(about), "a path of the machine"


def test_many_at_once_get_what_one_gets(app: str, scans: list[Path], trained: ResNetViT) -> None:
    def ask(number: int) -> float:
        client = Client(app, verbose=False, analytics_enabled=False)
        try:
            answer = client.predict(handle_file(scans[number % 4]), api_name="/predict")
            return float(answer["slices"][0]["stroke_probability"])
        finally:
            client.close()

    alone = [float(predict(trained, load_slices(path)).probability[0]) for path in scans]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, range(12)))
    assert found == pytest.approx(alone * 3, abs=1e-6)


def test_mistakes_are_one_sentence(client: Client, scans: list[Path], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("words")
    with pytest.raises(AppError, match=r"^words.png: is not a [^\n]*\.$"):
        client.predict(handle_file(tmp_path / "words.png"), api_name="/explain")
    with pytest.raises(AppError, match=r"^The file has one slice: slice must be 1\.$"):
        client.predict(handle_file(scans[0]), slice=7, api_name="/explain")
    with pytest.raises(AppError, match="depth must be from 1"):
        client.predict(handle_file(scans[0]), depth=0, api_name="/explain")
    log = (folder / "log").read_text()
    assert "Traceback" not in log
    assert "words" not in log


def post(url: str, content: object) -> str:
    """What a call ends with, as the text of its stream of events."""
    ask = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})  # noqa: S310
    event = json.loads(urllib.request.urlopen(ask, timeout=30).read())["event_id"]  # noqa: S310
    return urllib.request.urlopen(f"{url.replace('/v2', '')}/{event}", timeout=30).read().decode()  # noqa: S310


@pytest.mark.parametrize("path", ["http://127.0.0.1:9/scan.png", "https://example.org/scan.png", "/etc/passwd"])
def test_nothing_is_fetched_and_nothing_outside_is_read(app: str, path: str) -> None:
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    for endpoint, content in (("predict", {"file": file}), ("batch", {"files": [file]})):
        answer = post(f"{app}gradio_api/call/v2/{endpoint}", content)
        assert answer.startswith("event: error")
        assert "root:" not in answer
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{app}gradio_api/file=/etc/passwd", timeout=30)  # noqa: S310
    assert refused.value.code in (403, 404)
    refused.value.close()


def find_block(info: str) -> str:
    (block,) = re.findall(rf"^```{info}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    return str(block)


def test_the_pages_python_runs(
    app: str, scans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scan.png").symlink_to(scans[0])
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {}
    exec(compile(find_block("python demo").replace(LOCAL, app), "call-the-api.md", "exec"), space)  # noqa: S102
    space["demo"].close()
    assert "stroke_probability" in capsys.readouterr().out


def test_the_pages_curl_runs(app: str, scans: list[Path], trained: ResNetViT, tmp_path: Path) -> None:
    (tmp_path / "scan.png").symlink_to(scans[0])
    script = find_block("sh demo").replace(LOCAL, app.rstrip("/"))
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    data = json.loads(done.stdout.split("data: ", 1)[1].split("\n")[0])
    wanted = float(predict(trained, load_slices(scans[0])).probability[0])
    assert data[0]["slices"][0]["stroke_probability"] == pytest.approx(wanted, abs=1e-6)


def test_mcp_lists_the_endpoints_as_tools(app: str, scans: list[Path], trained: ResNetViT) -> None:
    pytest.importorskip("mcp")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    uri = f"data:image/png;base64,{base64.b64encode(scans[0].read_bytes()).decode()}"

    async def call() -> tuple[set[str], dict[str, Any]]:
        async with (
            streamable_http_client(f"{app}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            names = {tool.name for tool in (await session.list_tools()).tools}
            answer = await session.call_tool("predict", {"file": uri})
            return names, ast.literal_eval(answer.content[0].text)

    names, answer = asyncio.run(call())
    assert names == {endpoint[1:] for endpoint in ENDPOINTS}
    wanted = float(predict(trained, load_slices(scans[0])).probability[0])
    assert answer["slices"][0]["stroke_probability"] == pytest.approx(wanted, abs=1e-6)


def test_files_go_when_their_session_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")
    import uploads

    monkeypatch.setattr(uploads, "GRACE_SECONDS", 0.2)
    mine, shared = tmp_path / "mine.png", tmp_path / "shared.png"
    for file in (mine, shared):
        file.write_bytes(b"x")
    sessions = uploads.UploadSessions()
    sessions.add(type("Request", (), {"session_hash": "a"})(), str(mine), str(shared))  # type: ignore[arg-type]
    time.sleep(0.3)
    sessions.end("b")
    sessions.end("a")
    time.sleep(0.1)
    shared.write_bytes(b"x")  # somebody else's, of the same bytes
    for _ in range(50):
        if not mine.exists():
            break
        time.sleep(0.1)
    assert not mine.exists()
    assert shared.exists()


@pytest.mark.slow  # tests/inference/test_predictor.py answers by an export without torch
def test_an_exported_model_answers_by_onnxruntime_and_other_methods_by_pytorch(
    exported_run: Path, scans: list[Path], trained: ResNetViT, tmp_path: Path
) -> None:
    # the server may import torch, but must not before it is asked for what an export cannot do
    spy = tmp_path / "spy"
    spy.mkdir()
    (spy / "sitecustomize.py").write_text(SPY)
    note = tmp_path / "torch-was-imported"
    with serve(
        tmp_path, STROKE_HUB_MODEL=str(exported_run), PYTHONPATH=f"{spy}:{ROOT}", DEMO_NOTE=str(note)
    ) as url:
        client = Client(url, verbose=False, analytics_enabled=False)
        assert client.predict(api_name="/model_info")["backend"] == "ONNX Runtime, fp32"
        answer = client.predict(handle_file(scans[0]), api_name="/predict")["slices"][0]
        expected = predict(trained, load_slices(scans[0]))
        assert answer["stroke_probability"] == pytest.approx(expected.probability[0], abs=1e-5)
        facts = client.predict(handle_file(scans[0]), api_name="/explain")
        assert facts["method"] == "closed form"
        assert not note.exists()
        other = client.predict(handle_file(scans[0]), method="gradcam++", api_name="/explain")
        assert "gradcam++" in other["method"]
        assert other["log_odds"] == pytest.approx(facts["log_odds"], abs=1e-4)
        assert note.exists()
        client.close()


def test_many_sessions_that_end_take_one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT / "space")
    import uploads

    monkeypatch.setattr(uploads, "GRACE_SECONDS", 0.5)
    sessions, before = uploads.UploadSessions(), set(threading.enumerate())
    for again in range(2):
        files = [tmp_path / f"{again}_{number}.png" for number in range(50)]
        for number, file in enumerate(files):
            file.write_bytes(b"x")
            sessions.add(type("Request", (), {"session_hash": str(number)})(), str(file))  # type: ignore[arg-type]
        for number in range(50):
            sessions.end(str(number))
        (sweeper,) = set(threading.enumerate()) - before
        sweeper.join(10)
        assert not sweeper.is_alive()
        assert not any(file.exists() for file in files)
