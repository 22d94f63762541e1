"""The whole story over HTTP: a run is published, measured again from the card, and shown in a Space.

The commands are the scripts themselves, called one after another in the client's process; the Space is a process of
its own, started from the files that lie in its repository.
"""

import json
import os
import runpy
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from gradio_client import Client as GradioClient
from gradio_client import handle_file
from packaging.requirements import Requirement

from stroke_hub import Records, ResNetViT, load_slices, predict
from stroke_hub.deploy.space import EXPORT
from stroke_hub.models.sample import EXAMPLES
from tests.fakes.demo_server import serve
from tests.fakes.hub_client import Client, make_client, make_hub  # noqa: F401
from tests.fakes.hub_server import Hub
from tests.models.test_loading import compute_logits
from tests.report.test_card import check_tables

ROOT = Path(__file__).parents[2]
MODEL, SPACE, EXPORTED = "owner/stroke", "owner/demo", "owner/exported"


def run_script(name: str, *arguments: object) -> str | int | None:
    """Run a script as its user would; its exit status, or the sentence that it ends with."""
    sys.argv = [name, *map(str, arguments)]
    try:
        runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
    except SystemExit as end:
        return end.code
    return None


def test_the_command_checks_before_it_trains(hub: Hub, client: Client, tmp_path: Path) -> None:
    arguments = [
        "--data",
        "sample",
        "--data-dir",
        tmp_path / "data",
        "--run-dir",
        tmp_path / "run",
        "--push-to",
        MODEL,
    ]
    asked = len(hub.requests)
    for options, who, words in (
        ([], "read", "error: Your Hub token may only read"),
        ([], "someone", "error: owner/stroke: you are someone on the Hub and cannot write to owner"),
        (["--create-pr", "--tag", "v1"], "write", "error: --create-pr goes to main and gets no tag"),
        (["--folds", 3], "write", "error: Cross-validation makes no one model to publish"),
    ):
        status = client.call(run_script, "train_and_push.py", *arguments, *options, who=who)
        assert str(status).startswith(words)
        assert client.said == ""
    assert {path for _, path in hub.requests[asked:]} == {"/api/whoami-v2"}
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def sha(hub: Hub, client: Client, run_dir: Path, sample: Records, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The commit that the training command, given again on a finished run, publishes."""
    run = shutil.copytree(run_dir, tmp_path_factory.mktemp("story") / "run")
    arguments = ["--data-dir", sample.root, "--data-note", "simulated slices, not patients", "--run-dir", run]
    arguments += ["--preset", "tiny", "--recipe", "plain", "--operating-point", "half", "--epochs", 2]
    arguments += ["--validation-fraction", 0.3, "--push-to", MODEL]
    asked = len(hub.requests)
    assert client.call(run_script, "train_and_push.py", *arguments, "--dry-run") is None, client.said
    assert "would upload" in client.said
    assert len(hub.requests) == asked
    assert client.call(run_script, "train_and_push.py", *arguments) is None, client.said
    head = hub.commits(MODEL)[0].sha
    assert "training is finished already" in client.said
    assert "evaluated already" in client.said
    assert f"published: {hub.url}/{MODEL}/commit/{head}" in client.said
    return head


@pytest.mark.slow
def test_the_published_model_is_the_runs_and_measures_what_its_card_says(
    hub: Hub, client: Client, sha: str, run_dir: Path, sample: Records, tmp_path: Path
) -> None:
    found = client.call(compute_logits, MODEL, revision=sha, who=None)
    assert found == compute_logits(str(run_dir)) | {"commit": sha}
    arguments = ["--model", MODEL, "--revision", sha, "--compare", "--data-dir"]
    assert client.call(run_script, "evaluate.py", *arguments, sample.root, "--out", tmp_path / "again") is None
    assert ", as in the report" in client.said
    assert "DIFFERS" not in client.said
    files = hub.files(MODEL, sha)
    published, again = (
        json.loads(files["report.json"]),
        json.loads((tmp_path / "again" / "report.json").read_text()),
    )
    assert again["model"]["revision"] == sha
    assert again["model"]["weights_sha256"] == published["model"]["weights_sha256"]
    measured = {key: again[key] for key in ("test", "subgroups")}
    assert check_tables(files["README.md"].decode(), published | measured) > 5
    turned = turn_labels(sample, tmp_path / "turned")
    status = client.call(run_script, "evaluate.py", *arguments, turned, "--out", tmp_path / "worse")
    assert status == "error: Not every figure agrees with the model's own report; the lines above say which."
    assert "other than in the report" in client.said
    assert "OUTSIDE" in client.said


def turn_labels(sample: Records, folder: Path) -> Path:
    """The test slices in folders that say the opposite."""
    for row in sample.part("test").itertuples():
        there = folder / ("normal" if row.label else "stroke") / Path(row.path).name
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.root / row.path, there)
    return folder


def write_space(hub: Hub, folder: Path) -> Path:
    for path, data in hub.files(SPACE, repo_type="space").items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


def read_front_matter(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "README.md").read_text().split("---\n")[1]))


def test_a_space_of_an_exported_model_asks_for_the_demo_alone(hub: Hub, client: Client, exported_run: Path) -> None:
    names = ("config.json", "model.safetensors", "report.json", *EXPORT)
    hub.add(EXPORTED, {name: (exported_run / name).read_bytes() for name in names})
    arguments = ["push_space.py", "--repo-id", f"{SPACE}-exported", "--model", EXPORTED]
    assert client.call(run_script, *arguments) is None, client.said
    files = hub.files(f"{SPACE}-exported", repo_type="space")
    needed = {Requirement(line).name for line in files["requirements.txt"].decode().split("\n") if line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {Requirement(line).name for line in project["dependencies"]} - {"tyro"} < needed
    assert {"onnxruntime", "gradio", "imagecodecs"} <= needed
    assert not {"torch", "onnx", "opencv-python-headless", "stroke-hub"} & needed
    header = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert set(header["preload_from_hub"][0].split()[1].split(",")) == {"config.json", "report.json", *EXPORT}
    assert header["suggested_hardware"] == "cpu-basic"
    picture = header["thumbnail"].removeprefix(f"{hub.url}/spaces/{SPACE}-exported/resolve/main/")
    assert files[picture].startswith(b"\x89PNG")


def test_the_space_shows_the_commit_that_it_was_pushed_with(
    hub: Hub, client: Client, sha: str, trained: ResNetViT, sample: Records, tmp_path: Path
) -> None:
    arguments = ["push_space.py", "--repo-id", SPACE, "--model", MODEL]
    assert client.call(run_script, *arguments) is None, client.said
    assert f"Space: {hub.url}/spaces/{SPACE}" in client.said
    assert client.call(run_script, *arguments) is None, client.said
    assert [commit.title for commit in hub.commits(SPACE, repo_type="space")] == [
        f"Demo of {MODEL} at {sha}",
        "initial commit",
    ]
    folder = write_space(hub, tmp_path / "space")
    settings = read_front_matter(folder)
    assert settings["models"] == [MODEL]
    assert settings["preload_from_hub"] == [f"{MODEL} config.json,model.safetensors,report.json {sha}"]
    assert (settings["sdk"], settings["app_file"]) == ("gradio", "app.py")
    needed = {
        (wanted := Requirement(line)).name: wanted
        for line in (folder / "requirements.txt").read_text().split("\n")
        if line and line[0] != "-"
    }
    assert {"torch", "timm", "gradio", "huggingface_hub"} <= set(needed)
    assert needed["gradio"].specifier.contains(str(settings["sdk_version"]))
    hub.add(MODEL, {"config.json": b"{}"})  # main moves on; the Space does not
    asked = len(hub.requests)
    environment = hub.environment(tmp_path / "home", token=None) | {"HF_HUB_OFFLINE": "0", "PYTHONPATH": ""}
    scan = sample.root / sample.part("test")["path"].iloc[0]
    with serve(folder, folder / "app.py", **environment) as url:
        page = GradioClient(url, verbose=False, analytics_enabled=False)
        try:
            facts = page.predict(handle_file(scan), api_name="/explain")
            about = page.predict(api_name="/model_info")
        finally:
            page.close()
    prediction = predict(trained, load_slices(scan))
    assert facts["label"] == prediction.label[0]
    assert facts["stroke_probability"] == pytest.approx(prediction.probability[0], abs=1e-6)
    assert (about["model"], about["commit"]) == (MODEL, sha)
    assert about["trained_on"] == "simulated slices, not patients"
    ours = {path.relative_to(ROOT / "space") for path in (ROOT / "space").rglob("*.*") if path.suffix != ".pyc"}
    assert Path("static", "viewer", "reading_room.js") in ours
    assert ours <= {path.relative_to(folder) for path in folder.rglob("*.*")}
    held = {path.relative_to(EXAMPLES) for path in EXAMPLES.rglob("*.*")}
    assert {path.relative_to(folder / "examples") for path in (folder / "examples").rglob("*.*")} == held
    assert (folder / "stroke_hub" / "models" / "sample_model" / "onnx" / "model.onnx").is_file()
    assert {path for _, path in hub.requests[asked:]} == {
        f"/{MODEL}/resolve/{sha}/{name}"
        for name in ("config.json", "model.safetensors", "report.json", "onnx/export.json")
    }
    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        assert (folder / "stroke_hub" / "__pycache__").is_dir(), (
            "the package beside app.py was not the one that ran"
        )


def test_a_space_keeps_what_is_not_ours_and_loses_what_is_stale(hub: Hub, client: Client, sha: str) -> None:
    hub.add("owner/other", hub.files(MODEL, sha), private=True)
    assert client.call(run_script, "push_space.py", "--repo-id", "owner/kept", "--model", "owner/other") is None
    assert "owner/other is private" in client.said
    hub.add("owner/kept", {"stroke_hub/gone.py": b"", "NOTE.md": b"a human's"}, repo_type="space")
    assert client.call(run_script, "push_space.py", "--repo-id", "owner/kept", "--model", "owner/other") is None
    there = set(hub.files("owner/kept", repo_type="space"))
    assert "NOTE.md" in there
    assert "stroke_hub/gone.py" not in there
    for model, words in (
        ("owner/none", "no such repository"),
        ("owner", "is not a repository name"),
        ("owner/bare", "has no config.json"),
    ):
        if model == "owner/bare":
            hub.add(model, {"README.md": b"words"})
        status = client.call(run_script, "push_space.py", "--repo-id", "owner/never", "--model", model)
        assert words in str(status)
    assert ("spaces", "owner/never") not in hub.store.repos
