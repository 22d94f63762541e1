"""Push the demo and the package to a Hugging Face Space, with the model pinned to a commit."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import yaml  # type: ignore[import-untyped]  # a dependency of huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from stroke_hub.deploy.hub import check_name, explain_hub_errors
from stroke_hub.errors import ModelFormatError, RunError
from stroke_hub.inference.onnx_model import EXPORT_FILE, FILES, FOLDER, read_export
from stroke_hub.models.sample import EXAMPLES
from stroke_hub.models.weights import CONFIG_FILE, WEIGHTS_FILE
from stroke_hub.progress import say
from stroke_hub.runs.report import REPORT_FILE

__all__ = ["PACKAGE", "pin", "push_space", "upload"]

PACKAGE = Path(__file__).parent.parent  # the folder of the package
# folders of a Space in which push_space deletes what it does not put there
OURS = ("stroke_hub/", "examples/", "static/", "templates/")
SHIPPED = {".py", ".css", ".html", ".js", ".json"}  # of space/ and its folders: the modules and what they read
NEEDED = {CONFIG_FILE, WEIGHTS_FILE}
EXPORT = {f"{FOLDER}/{name}" for name in (EXPORT_FILE, FILES["fp32"])}
PRELOADED = {CONFIG_FILE, REPORT_FILE}  # when the Space is built, so that its page answers at once
THUMBNAIL = "thumbnail.png"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"  # PyTorch's own; those of PyPI bring CUDA, 19 packages


def push_space(repo_id: str, model: str, *, revision: str = "main", private: bool = False) -> str:
    """Push the demo to a Gradio Space in one commit, or in none if the Space has all of it.

    A model with an export is answered for by onnxruntime, and PyTorch is not installed; for another it is, without
    CUDA. The examples are the sample model's.

    Parameters
    ----------
    repo_id, model : "owner/name" of the Space and of the model on the Hub.
    revision : of the model. The Space keeps the commit that this names now.

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
    is_exported = _explains(model, commit) if there >= EXPORT else False
    if info.private:
        say(f"{model} is private: give the Space a secret HF_TOKEN with read access.")
    preloaded = sorted((PRELOADED | (EXPORT if is_exported else NEEDED)) & there)
    pinned: dict[str, object] = {
        "models": [model],
        "preload_from_hub": [f"{model} {','.join(preloaded)} {commit}"],
        "thumbnail": f"{api.endpoint}/spaces/{repo_id}/resolve/main/{THUMBNAIL}",
    }
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in SHIPPED
    }
    files |= {
        "README.md": pin(folder / "README.md", pinned).encode(),
        "requirements.txt": "".join(f"{line}\n" for line in _list_requirements(exported=is_exported)).encode(),
        "model.json": (json.dumps({"model": model, "revision": commit}, indent=2) + "\n").encode(),
    }
    files |= _read_package() | {THUMBNAIL: (PACKAGE.parent / "docs" / "demo.png").read_bytes()}
    files |= {
        f"examples/{path.relative_to(EXAMPLES).as_posix()}": path.read_bytes()
        for path in sorted(EXAMPLES.rglob("*.*"))
    }
    upload(api, repo_id, files, sdk="gradio", ours=OURS, private=private, message=f"Demo of {model} at {commit}")
    return f"{api.endpoint}/spaces/{repo_id}"


def upload(
    api: HfApi,
    repo_id: str,
    files: dict[str, bytes],
    *,
    sdk: Literal["gradio", "static"],
    ours: Sequence[str],
    private: bool,
    message: str,
) -> None:
    """Put files into a Space in one commit.

    Parameters
    ----------
    files : by path. sdk, private : of a Space that is made here.
    ours : folders of which everything else is deleted.

    Raises
    ------
    HubError : the Hub refused or cannot be reached.
    """
    operations: list[CommitOperationAdd | CommitOperationDelete]
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    with explain_hub_errors(repo_id):
        api.create_repo(repo_id, repo_type="space", space_sdk=sdk, private=private, exist_ok=True)
        before = api.list_repo_files(repo_id, repo_type="space")
        stale = (name for name in before if name.startswith(tuple(ours)) and name not in files)
        operations += [CommitOperationDelete(name) for name in stale]
        api.create_commit(repo_id, operations, repo_type="space", commit_message=message)


def _read_package() -> dict[str, bytes]:
    """Read the source of this package, by its place in the Space."""
    found = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"stroke_hub/{path.relative_to(PACKAGE).as_posix()}": path.read_bytes() for path in sorted(found)}


def pin(readme: Path, pinned: dict[str, object]) -> str:
    """Write the model and where the thumbnail is into the front matter of the Space's README."""
    _, header, text = readme.read_text(encoding="utf-8").split("---\n", 2)
    settings = yaml.safe_load(header) | pinned
    return f"---\n{yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)}---\n{text}"


def _explains(model: str, commit: str) -> bool:
    """Tell whether onnxruntime answers all that the demo asks of the model: then it is chosen."""
    record = read_export(model, commit)
    return record is not None and bool(record["explains"]) and "fp32" in record["files"]


def _list_requirements(*, exported: bool) -> list[str]:
    """List for pip what the demo needs of `stroke-hub[demo]`, and PyTorch for the CPU where there is no export.

    The command line is left out: nobody types in a Space, and tyro brings two packages more.
    """
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras["demo"]]
    if not exported:
        lines = [f"--extra-index-url {CPU_WHEELS}", *lines, *extras["torch"]]
    return [line for line in lines if not line.startswith(("stroke-hub[", "tyro"))]
