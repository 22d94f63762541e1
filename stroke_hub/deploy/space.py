"""push_space(): the demo goes to a Hugging Face Space, beside it the package, the model pinned to a commit."""

import json
import tempfile
import tomllib
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # huggingface_hub brings it
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from stroke_hub.data.simulated import write_sample
from stroke_hub.deploy.publish import check_name, explain_hub_errors
from stroke_hub.errors import ModelFormatError, RunError
from stroke_hub.models.weights import CONFIG_FILE, WEIGHTS_FILE
from stroke_hub.progress import say

__all__ = ["push_space"]

PACKAGE = Path(__file__).parent.parent  # the folder of the package
# folders of a Space that hold what push_space puts there, and nothing else
OURS = ("stroke_hub/", "examples/", "static/", "templates/")
SHIPPED = {".py", ".css", ".html", ".js", ".json"}  # of space/ and its folders: the modules and what they read
NEEDED = {CONFIG_FILE, WEIGHTS_FILE}
EXPORT = {f"onnx/{name}" for name in ("export.json", "model.onnx")}  # where they are, they answer
PRELOADED = NEEDED | {"report.json"} | EXPORT  # at build time: the page answers at once


def push_space(
    repo_id: str, model: str, *, revision: str = "main", private: bool = False, examples: bool = True
) -> str:
    """Put the demo into a Gradio Space in one commit; a Space that has all of it already gets none.

    Parameters
    ----------
    repo_id, model : "owner/name" of the Space and of the model on the Hub.
    revision : the Space shows the commit that this is now, whatever it becomes later.
    examples : add a small set of simulated slices to click on.

    Returns
    -------
    The address of the Space.

    Raises
    ------
    RunError : space/ is not here: this needs a checkout of the repository.
    ModelFormatError : the repository holds no model of ours.
    HubError : the model is not there, or the Hub refused or cannot be reached.
    """
    for name in (repo_id, model):
        check_name(name)
    folder = PACKAGE.parent / "space"
    if not (folder / "app.py").is_file():
        raise RunError(f"{folder}: is not there; run this from a checkout of the repository.")
    api = HfApi()
    with explain_hub_errors(model):
        info = api.model_info(model, revision=revision)
    there, commit = {file.rfilename for file in info.siblings or []}, str(info.sha)
    if missing := NEEDED - there:
        raise ModelFormatError(f"{model}: has no {min(missing)}, so it is not a saved ResNetViT.")
    if info.private:
        say(f"{model} is private: give the Space a secret HF_TOKEN that may read it.")
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
    """The source of this package, by its place in the Space."""
    found = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"stroke_hub/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes() for path in sorted(found)}


def _pin(readme: Path, model: str, commit: str, preloaded: list[str]) -> str:
    """The Space's README with the model in its front matter."""
    _, header, text = readme.read_text(encoding="utf-8").split("---\n", 2)
    settings = yaml.safe_load(header) | {
        "models": [model],
        "preload_from_hub": [f"{model} {','.join(preloaded)} {commit}"],
    }
    return f"---\n{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)}---\n{text}"


def _list_requirements(*, exported: bool) -> list[str]:
    """What the package and its demo need, as pip takes it; an export is run by onnxruntime."""
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    runtime = [line for line in extras["onnx"] if line.startswith("onnxruntime")] if exported else []
    return [*project["dependencies"], *extras["demo"], *runtime]


def _draw_examples() -> dict[str, bytes]:
    """A small simulated dataset, by its place in the Space."""
    with tempfile.TemporaryDirectory() as folder:
        root = write_sample(Path(folder) / "examples", patients=36)
        found = sorted(path for path in root.rglob("*") if path.is_file())
        return {f"examples/{path.relative_to(root).as_posix()}": path.read_bytes() for path in found}
