"""Push the page that runs a model in the visitor's browser to a static Space, with the model's export inside."""

import hashlib
import json
from pathlib import Path

from huggingface_hub import HfApi

from stroke_hub.deploy.hub import check_name, explain_hub_errors
from stroke_hub.deploy.space import PACKAGE, pin, upload
from stroke_hub.errors import ModelFormatError, RunError
from stroke_hub.inference.onnx_model import FILES, FOLDER, ExportedModel
from stroke_hub.models.download import download
from stroke_hub.models.sample import SAMPLE, SAMPLE_FOLDER
from stroke_hub.progress import say
from stroke_hub.runs.report import REPORT_FILE

__all__ = ["push_static_space"]

WEB = PACKAGE.parent / "web"
DIST = WEB / "dist"
LISTED = "files.json"  # what the page downloads: bytes and SHA-256 of each file
OURS = ("model/", "examples/")  # folders of a Space in which files that are not put there are deleted


def push_static_space(repo_id: str, model: str, *, revision: str = "main", private: bool = False) -> str:
    """Push the built page to a static Space in one commit, or in none if the Space has all of it.

    The export lies in the Space itself, so the page asks the Hub for nothing.

    Parameters
    ----------
    repo_id : "owner/name" of the Space.
    model : "owner/name" of a model on the Hub that has an export, or "sample", that of the package.
    revision : of the model. The Space holds the export of the commit that this names now.

    Returns
    -------
    The address of the Space.

    Raises
    ------
    RunError : the page is not built; this needs a checkout of the repository.
    ModelFormatError : the model has no export that explains, or is one whose rendering the page does not know.
    HubError : the model does not exist, or the Hub refused or cannot be reached.
    """
    check_name(repo_id)
    if not (DIST / LISTED).is_file():
        raise RunError(f"{DIST}: is not built; run `make web-build` in a checkout of the repository.")
    api = HfApi()
    graph, report, commit = _find_export(api, model, revision)
    files = {
        path.relative_to(DIST).as_posix(): path.read_bytes() for path in sorted(DIST.rglob("*")) if path.is_file()
    }
    files["model/model.onnx"] = graph.read_bytes()
    files.pop(f"model/{REPORT_FILE}", None)
    if report is not None:
        files[f"model/{REPORT_FILE}"] = report.read_bytes()
    del files[LISTED]
    listed = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    files[LISTED] = f"{json.dumps(listed, indent=1)}\n".encode()
    pinned: dict[str, object] = {"models": [model]} if commit else {}
    files["README.md"] = pin(WEB / "README.md", pinned).encode()
    what = f"{model} at {commit}" if commit else "the sample model"
    upload(api, repo_id, files, sdk="static", ours=OURS, private=private, message=f"Page of {what}")
    return f"{api.endpoint}/spaces/{repo_id}"


def _find_export(api: HfApi, model: str, revision: str) -> tuple[Path, Path | None, str | None]:
    """Find the graph of a model, its report and the commit that both are of; of the sample model there is none."""
    if model == SAMPLE:
        return SAMPLE_FOLDER / FOLDER / FILES["fp32"], SAMPLE_FOLDER / REPORT_FILE, None
    check_name(model)
    with explain_hub_errors(model):
        info = api.model_info(model, revision=revision)
    commit = str(info.sha)
    exported = ExportedModel.from_pretrained(model, revision=commit)  # checks its hash and whose it is
    if not exported.explains or exported.rendering != "canonical":
        raise ModelFormatError(
            f"{model}: its export does not explain, or is of an older rendering, so the page cannot show it; "
            "push the Gradio Space instead."
        )
    if info.private:
        say(f"{model} is private, but everyone who may see the Space can load its export.")
    has_report = any(file.rfilename == REPORT_FILE for file in info.siblings or [])
    report = download(model, REPORT_FILE, commit, {}) if has_report else None
    return download(model, f"{FOLDER}/{FILES['fp32']}", commit, {}), report, commit
