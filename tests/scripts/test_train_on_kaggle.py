"""One line elsewhere: the script with its own metadata, and the notebook for Kaggle and Colab."""

import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hub_server import Hub, make_hub  # noqa: F401

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "train_on_kaggle.py"
NOTEBOOK = ROOT / "notebooks" / "train.ipynb"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
METADATA = re.compile(
    r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
)  # of PEP 723, for one kind of block


def read_metadata() -> dict[str, Any]:
    found = list(METADATA.finditer(SCRIPT.read_text()))
    assert len(found) == 1
    lines = found[0]["content"].splitlines()
    return tomllib.loads("\n".join(line.removeprefix("# ").removeprefix("#") for line in lines))


def read_cells() -> list[dict[str, Any]]:
    book = json.loads(NOTEBOOK.read_text())
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    cells: list[dict[str, Any]] = book["cells"]
    return cells


def run_script(*words: str) -> str:
    """What the script says, in this process, where it ends with an error."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [str(SCRIPT), *words])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(SCRIPT), run_name="__main__")
    return str(left.value.code)


def test_the_metadata_agrees_with_the_package() -> None:
    metadata = read_metadata()
    assert metadata.keys() == {"requires-python", "dependencies"}
    assert metadata["requires-python"] == PROJECT["requires-python"]
    (requirement,) = metadata["dependencies"]
    name, extra = re.fullmatch(r"([\w-]+)\[(\w+)\]", requirement).groups()  # type: ignore[union-attr]
    assert name == PROJECT["name"]
    assert extra in PROJECT["optional-dependencies"]


def test_the_notebook_installs_the_same_and_holds_no_output() -> None:
    cells = read_cells()
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    (settings,) = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    chosen: dict[str, str] = {}
    exec("".join(settings["source"]), {}, chosen)  # noqa: S102 (assignments of our own)
    assert chosen == {"repo": "", "data": "kaggle", "preset": "full", "run_dir": "runs/full", "options": ""}
    (installing,) = [line for cell in code for line in cell["source"] if line.startswith("%pip")]
    assert re.findall(r'"(.*)"', installing) == read_metadata()["dependencies"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--repo", "model"], "error: model: is not a repository name; give owner/name."),
        (["--repo", "owner/model", "--folds", "1"], "error: folds is 1, but must be at least 2."),
        (["--data", "sample"], "2"),  # argparse has said that --repo is missing
    ],
)
def test_what_cannot_be_is_said_before_the_training(words: list[str], sentence: str) -> None:
    assert run_script(*words) == sentence


@pytest.mark.parametrize("name", ["--data", "--preset", "--push-to"])
def test_the_last_of_an_option_counts(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = run_script("--repo", "owner/model", name, "nonsense")
    assert "nonsense" in said + capsys.readouterr().err


def run(*words: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_script_and_notebook_train_and_publish_where_only_their_requirements_are(hub: Hub, tmp_path: Path) -> None:
    """The wheel of this checkout stands for the one on an index; pip does what `uv run` would."""
    (tmp_path / "source").mkdir()
    archive = subprocess.run(["git", "stash", "create"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    content = subprocess.run(
        ["git", "archive", archive or "HEAD"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    subprocess.run(["tar", "x"], input=content, cwd=tmp_path / "source", check=True)
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "-w",
        tmp_path / "dist",
        tmp_path / "source",
        cwd=tmp_path,
    )
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    wanted = read_metadata()["dependencies"]
    run(python, "-m", "pip", "install", "--find-links", tmp_path / "dist", *wanted, cwd=tmp_path)

    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    env = hub.environment(tmp_path / "home") | {"PATH": path, "NO_ALBUMENTATIONS_UPDATE": "1"}
    env.pop("PYTHONPATH", None)
    tiny = ["--data", "sample", "--preset", "tiny", "--epochs", "1", "--run-dir", "runs/script"]
    for expected in ("published: ", "has all of this already"):  # the same line again trains nothing
        assert expected in run(python, SCRIPT, "--repo", "owner/script", *tiny, cwd=tmp_path, env=env)
    assert "model.safetensors" in hub.files("owner/script")

    run(python, "-m", "pip", "install", "papermill", "ipykernel", cwd=tmp_path)
    chosen = {"repo": "owner/notebook", "data": "sample", "preset": "tiny", "run_dir": "runs/notebook"}
    chosen["options"] = "--epochs 1"  # what a user may write there, too
    words = [word for name, value in chosen.items() for word in ("-r", name, value)]
    env |= {"PIP_FIND_LINKS": str(tmp_path / "dist"), "HTTPS_PROXY": "", "https_proxy": ""}
    run(python, "-m", "papermill", "--kernel", "python3", NOTEBOOK, "done.ipynb", *words, cwd=tmp_path, env=env)
    assert "model.safetensors" in hub.files("owner/notebook")
    assert "epochs" in (tmp_path / "runs" / "notebook" / "train_config.json").read_text()
