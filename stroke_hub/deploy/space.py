"""Push the demo and the package to a Hugging Face Space, with the model pinned to a commit."""

import json
import tempfile
import tomllib
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # a dependency of huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from stroke_hub.data.simulated import write_sample
from stroke_hub.deploy.publish import check_name, explain_hub_errors
from stroke_hub.errors import ModelFormatError, RunError
from stroke_hub.models.weights import CONFIG_FILE, WEIGHTS_FILE
from stroke_hub.progress import say

__all__ = ["push_space"]

PACKAGE = Path(__file__).parent.parent  # the folder of the package
# folders of a Space in which push_space deletes what it does not put there
OURS = ("stroke_hub/", "examples/", "static/", "templates/")
SHIPPED = {".py", ".css", ".html", ".js", ".json"}  # of space/ and its folders: the modules and what they read
NEEDED = {CONFIG_FILE, WEIGHTS_FILE}
EXPORT = {f"onnx/{name}" for name in ("export.json", "model.onnx")}  # preferred where they exist
PRELOADED = NEEDED | {"report.json"} | EXPORT  # when the Space is built, so that its page answers at once


def push_space(
    repo_id: str, model: str, *, revision: str = "main", private: bool = False, examples: bool = True
) -> str:
    """Push the demo to a Gradio Space in one commit, or in none if the Space has all of it.

    Parameters
    ----------
    repo_id, model : "owner/name" of the Space and of the model on the Hub.
    revision : of the model. The Space keeps the commit that this names now.
    examples : whether to add simulated example slices.

    Returns
    -------
    The address of the Space.

    Raises
    ------
    RunError : there is no space/ here; this needs a checkout of the repository.
    ModelFormatError : the repository holds no saved ResNetViT.
    HubError : the model does not exist, or the Hub refused or cannot be reached.
    """
    for name in (repo_id, model):
        check_name(name)
    folder = PACKAGE.parent / "space"
    if not (folder / "app.py").is_file():
        raise RunError(f"{folder}: does not exist; run this from a checkout of the repository.")
    api = HfApi()
    with explain_hub_errors(model):
        info = api.model_info(model, revision=revision)
    there, commit = {file.rfilename for file in info.siblings or []}, str(info.sha)
    if missing := NEEDED - there:
        raise ModelFormatError(f"{model}: has no {min(missing)}, so it is not a saved ResNetViT.")
    if info.private:
        say(f"{model} is private: give the Space a secret HF_TOKEN with read access.")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in SHIPPED
    }
    files |= {
        "README.md": _pin(folder / "README.md", model, commit, sorted(PRELOADED & there)).encode(),
        "requirements.txt": "".join(f"{line}\n" for line in _list_requirements(exported=there >= EXPORT)).encode(),
        "model.json": (json.dumps({"model": model, "revision": commit}, indent=2) + "\n").encode(),
    }
    files |= _read_package()
    if examples:
        files |= _draw_examples()
    _upload(api, repo_id, files, private=private, message=f"Demo of {model} at {commit}")
    return f"{api.endpoint}/spaces/{repo_id}"


def _upload(api: HfApi, repo_id: str, files: dict[str, bytes], *, private: bool, message: str) -> None:
    operations: list[CommitOperationAdd | CommitOperationDelete]
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    with explain_hub_errors(repo_id):
        api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        before = api.list_repo_files(repo_id, repo_type="space")
        stale = (name for name in before if name.startswith(OURS) and name not in files)
        operations += [CommitOperationDelete(name) for name in stale]
        api.create_commit(repo_id, operations, repo_type="space", commit_message=message)


def _read_package() -> dict[str, bytes]:
    """Read the source of this package, by its place in the Space."""
    found = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"stroke_hub/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes() for path in sorted(found)}


def _pin(readme: Path, model: str, commit: str, preloaded: list[str]) -> str:
    """Write the model into the front matter of the Space's README."""
    _, header, text = readme.read_text(encoding="utf-8").split("---\n", 2)
    settings = yaml.safe_load(header) | {
        "models": [model],
        "preload_from_hub": [f"{model} {','.join(preloaded)} {commit}"],
    }
    return f"---\n{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)}---\n{text}"


def _list_requirements(*, exported: bool) -> list[str]:
    """List the requirements of the package and its demo for pip; an export needs onnxruntime, too."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    runtime = [line for line in extras["onnx"] if line.startswith("onnxruntime")] if exported else []
    return [*project["dependencies"], *extras["demo"], *runtime]


def _draw_examples() -> dict[str, bytes]:
    """Draw a small simulated dataset, by its place in the Space."""
    with tempfile.TemporaryDirectory() as folder:
        root = write_sample(Path(folder) / "examples", patients=36)
        found = sorted(path for path in root.rglob("*") if path.is_file())
        return {f"examples/{path.relative_to(root).as_posix()}": path.read_bytes() for path in found}
