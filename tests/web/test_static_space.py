"""The page in a static Space: the export of the model that was named, and a page that answers with it."""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from playwright.sync_api import Browser

from stroke_hub import load_slices
from stroke_hub.inference.predictor import Predictor
from stroke_hub.models.sample import EXAMPLE
from tests.deploy.test_space import run_script
from tests.fakes.hub_client import Client, make_client, make_hub  # noqa: F401
from tests.fakes.hub_server import Hub
from tests.web.conftest import Engine, load_server

PICTURE = EXAMPLE
NAMES = ("config.json", "model.safetensors", "report.json", "onnx/export.json", "onnx/model.onnx")


def push(client: Client, space: str, *options: object) -> Any:
    return client.call(run_script, "push_space.py", "--static", "--repo-id", space, *options)


def test_a_static_space_answers_with_the_models_export(
    dist: Path, hub: Hub, client: Client, browser: Browser, exported_run: Path, tmp_path: Path
) -> None:
    hub.add("owner/web", {name: (exported_run / name).read_bytes() for name in NAMES})
    hub.add("owner/page", {"model/gone.onnx": b"", "NOTE.md": b"a human's"}, repo_type="space")
    assert push(client, "owner/page", "--model", "owner/web") is None, client.said
    assert push(client, "owner/page", "--model", "owner/web") is None, client.said
    sha = hub.commits("owner/web")[0].sha
    assert hub.commits("owner/page", repo_type="space")[0].title == f"Page of owner/web at {sha}"
    files = hub.files("owner/page", repo_type="space")
    header = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert (header["sdk"], header["app_file"], header["models"]) == ("static", "index.html", ["owner/web"])
    assert files["model/model.onnx"] == (exported_run / "onnx" / "model.onnx").read_bytes()
    assert "model/gone.onnx" not in files
    assert "NOTE.md" in files
    for name, told in json.loads(files["files.json"]).items():
        assert told == {"bytes": len(files[name]), "sha256": hashlib.sha256(files[name]).hexdigest()}, name
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    expected = Predictor.from_pretrained(exported_run, backend="onnx").explain(
        load_slices(PICTURE, modality="MR")[0]
    )
    with load_server().make_server(tmp_path, isolated=False) as server:  # as where no header can be set
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = browser.new_context(service_workers="block")
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        engine = Engine(page)
        engine.open([PICTURE], "MR")
        found = engine.answer(0)
        context.close()
        server.shutdown()
    assert abs(found["probability"] - expected.probability) < 1e-4
    lifted = expected.framed.lift(expected.get_shown("fused"))
    np.testing.assert_allclose(found["maps"]["fused"], lifted.ravel(), atol=1e-4)


def test_the_sample_model_needs_no_repository(dist: Path, hub: Hub, client: Client) -> None:
    assert push(client, "owner/sampled", "--model", "sample") is None, client.said
    files = hub.files("owner/sampled", repo_type="space")
    assert files["model/model.onnx"] == (dist / "model" / "model.onnx").read_bytes()
    assert "models:" not in files["README.md"].decode()


def test_what_has_no_export_is_refused_in_a_sentence(dist: Path, hub: Hub, client: Client) -> None:
    hub.add("owner/plain", {"config.json": b"{}", "model.safetensors": b"x"})
    for model, words in (("owner/plain", "has no onnx/export.json"), ("owner/none", "no such repository")):
        assert words in str(push(client, "owner/never", "--model", model))
    assert ("spaces", "owner/never") not in hub.store.repos
