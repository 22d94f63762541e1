"""publish(): a finished run goes to the Hub in one commit, with its report, its card and all that reproduces it."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile, hf_hub_download
from huggingface_hub.utils.sha import git_hash
from safetensors.torch import load_file, save_file

from stroke_hub._version import __version__
from stroke_hub.deploy.hub import check_name, explain_hub_errors
from stroke_hub.deploy.notebook import NOTEBOOK_FILE, make_notebook
from stroke_hub.errors import HubError, RunError
from stroke_hub.files import hash_file
from stroke_hub.inference.onnx_model import check_export
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.models.weights import (
    CONFIG_FILE,
    PREPROCESSOR,
    PREPROCESSOR_FILE,
    WEIGHTS_FILE,
    halve_weights,
    read_config,
)
from stroke_hub.progress import say
from stroke_hub.report.card import is_untouched, render_card, renew_card
from stroke_hub.runs.report import read_report
from stroke_hub.runs.run_folder import is_trained

__all__ = ["publish"]

CARD_FILE = "README.md"
MESSAGE = "Model, report and card"
FILES = (
    CONFIG_FILE,
    PREPROCESSOR_FILE,
    "report.json",
    "report.html",
    "stroke_classification_results.csv",
    "patients.csv",
    "summary_statistics.csv",
    "split.csv",
    "left_out.json",
    "history.csv",
    "train_config.json",
    "calibration.json",
    "scan_rule.json",
    "audit.json",
    "audit.csv",
    "faithfulness.json",
)
FOLDERS = ("checkpoints", "onnx")  # go along where asked for
Operation = CommitOperationAdd | CommitOperationDelete


def publish(
    run: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    update_card: bool = False,
    half: bool = False,
    with_checkpoints: bool = False,
    with_onnx: bool = False,
    with_handler: bool = False,
    datasets: Sequence[str] = (),
    new_version: str | None = None,
    dry_run: bool = False,
) -> str:
    """Put a finished, evaluated run on the Hub in one commit, then tag it.

    Nothing lands before everything is there. An interrupted publish is repeated by the same call, and an unchanged
    run makes no commit. Figures and tables that an earlier run left there go in the same commit, and so do its
    checkpoints and exports where the weights are others. The run folder is only read.

    Parameters
    ----------
    private : of a repository that is made here.
    create_pr : open a pull request to main instead of committing; repeated, it opens no second one.
    revision : the branch, "main" by default; made where there is none.
    tag : the tag's name; by default "weights-" and the first 8 digits of the SHA-256 of the model.safetensors that
        is published, which stays where it is when only something else changes. Pull requests get none.
    update_card : renew the generated sections of a card that was edited on the Hub; without it such a card stays
        as it is.
    half : store the weights as float16: half the download, loaded back as float32.
    with_checkpoints, with_onnx : put the folders checkpoints/ and onnx/ of the run there too; the latter must be of
        these weights, as `export` writes it.
    with_handler : put handler.py there, by which an Inference Endpoint answers; onnx/ goes along.
    datasets, new_version : of the card: "owner/name" of the datasets that the model learned from, and of the model
        that replaces this one. A card that was edited on the Hub keeps its own.
    dry_run : only say what would be uploaded; no request is made.

    Returns
    -------
    The address of the commit or pull request; "" for a dry run.

    Raises
    ------
    RunError : the run is not finished or not evaluated, its report is of other weights, it lacks what was asked
        for, or the options contradict each other.
    HubError : the Hub refused or cannot be reached, or the tag stands elsewhere; the run folder stays as it is.
    """
    run = Path(run)
    check_name(repo_id)
    if create_pr and (revision or tag):
        raise RunError("A pull request goes to main and gets no tag; leave the branch and the tag out.")
    report = read_report(run) if is_trained(run) else None
    if report is None:
        raise RunError(f"{run}: is not a finished run; train it to its end first.")
    if report.model.weights_sha256 != hash_file(run / WEIGHTS_FILE):
        raise RunError(f"{run}: its report is of other weights than {WEIGHTS_FILE}; evaluate the run again.")
    for name in (*datasets, *filter(None, [new_version])):
        check_name(name)
    with_onnx = with_onnx or with_handler
    asked = [name for name, wanted in zip(FOLDERS, (with_checkpoints, with_onnx), strict=True) if wanted]
    if with_onnx:
        check_export(run, report.model.weights_sha256)
    about: dict[str, Any] = {"datasets": datasets, "new_version": new_version}
    card = render_card(report, repo_id=repo_id, run=run, half=half, with_onnx=with_onnx, **about)
    with tempfile.TemporaryDirectory() as workplace:
        files = _collect(run, Path(workplace), half=half, folders=["figures", *asked])
        files |= _write_helpers(Path(workplace), repo_id, with_onnx=with_onnx, with_handler=with_handler)
        if dry_run:
            for name, size in [
                *((name, path.stat().st_size) for name, path in files.items()),
                (CARD_FILE, len(card.encode())),
            ]:
                say(f"would upload {name} ({size:,} bytes)")
            return ""
        with explain_hub_errors(repo_id, run):
            api = HfApi()
            if not (create_pr and api.repo_exists(repo_id)):
                api.create_repo(repo_id, private=private, exist_ok=True)
            if revision:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            head = str(api.repo_info(repo_id, revision=revision).sha)
            there = _list_files(api, repo_id, head)
            operations = _plan(repo_id, head, there, files, card, update_card=update_card)
            done = _holds(there, operations)
            if create_pr:
                return _propose(api, repo_id, head, operations, done=done)
            default = f"weights-{hash_file(files[WEIGHTS_FILE])[:8]}"
            return _commit(api, repo_id, revision, head, operations, done=done, asked=tag, default=default)


def _collect(run: Path, workplace: Path, *, half: bool, folders: list[str]) -> dict[str, Path]:
    """What goes to the Hub besides the card: names there, and files here."""
    files = {name: run / name for name in FILES if (run / name).is_file()}
    for folder in folders:
        found = sorted(path for path in (run / folder).rglob("*") if path.is_file() and path.name[0] != ".")
        if not found:
            raise RunError(f"{run}: has no {folder} to publish; evaluate the run, or leave that out.")
        files |= {path.relative_to(run).as_posix(): path for path in found}
    files[WEIGHTS_FILE] = run / WEIGHTS_FILE
    if PREPROCESSOR_FILE not in files:  # an older run: Hugging Face transformers would not find it
        config = ResNetViT.outline(read_config(run / CONFIG_FILE, str(run)), str(run)).get_config()
        for name, content in ((CONFIG_FILE, config), (PREPROCESSOR_FILE, PREPROCESSOR)):
            files[name] = workplace / name
            files[name].write_text(json.dumps(content, sort_keys=True, indent=2), encoding="utf-8")
    if half:
        files[WEIGHTS_FILE] = workplace / WEIGHTS_FILE
        save_file(halve_weights(load_file(run / WEIGHTS_FILE)), files[WEIGHTS_FILE], metadata={"format": "pt"})
    return files


def _write_helpers(folder: Path, repo_id: str, *, with_onnx: bool, with_handler: bool) -> dict[str, Path]:
    """Write what helps to use the model: a notebook, and the handler of an Inference Endpoint."""
    found = {NOTEBOOK_FILE: folder / NOTEBOOK_FILE}
    found[NOTEBOOK_FILE].write_text(make_notebook(repo_id, exported=with_onnx), encoding="utf-8")
    if with_handler:
        found["handler.py"] = Path(__file__).parent / "handler.py"
        found["requirements.txt"] = folder / "requirements.txt"
        found["requirements.txt"].write_text(f"stroke-hub[dicom]=={__version__}\n", encoding="utf-8")
    return found


def _plan(
    repo_id: str, head: str, there: Mapping[str, str], files: dict[str, Path], card: str, *, update_card: bool
) -> list[Operation]:
    """The operations of the one commit: what this run has comes, what an earlier one left goes."""
    operations: list[Operation] = [CommitOperationAdd(name, path) for name, path in files.items()]
    existing = _read_card(repo_id, head) if CARD_FILE in there else ""
    if existing and not is_untouched(existing) and not update_card:
        say(f"{repo_id}: its card was edited on the Hub and stays; --update-card renews the numbers in it.")
    else:
        fresh = renew_card(existing, card) if existing else card
        operations.append(CommitOperationAdd(CARD_FILE, fresh.encode()))
    stale = ["figures/"]
    if there.get(WEIGHTS_FILE) != hash_file(files[WEIGHTS_FILE]):
        stale += [f"{folder}/" for folder in FOLDERS]
    gone = [name for name in there if name not in files and (name in FILES or name.startswith(tuple(stale)))]
    return operations + [CommitOperationDelete(name) for name in gone]


def _list_files(api: HfApi, repo_id: str, revision: str) -> dict[str, str]:
    """The files of a revision; of those stored as LFS the SHA-256, of others git's SHA-1."""
    entries = api.list_repo_tree(repo_id, recursive=True, revision=revision)
    files = (entry for entry in entries if isinstance(entry, RepoFile))
    return {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in files}


def _read_card(repo_id: str, head: str) -> str:
    try:
        with open(hf_hub_download(repo_id, CARD_FILE, revision=head), encoding="utf-8", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise HubError(f"{repo_id}: its {CARD_FILE} is not UTF-8; delete it on the Hub to get a new one.") from None


def _holds(there: Mapping[str, str], operations: list[Operation]) -> bool:
    """Whether nothing is left to do: every file is there with the same content, and none that should be gone."""
    for operation in operations:
        found = there.get(operation.path_in_repo)
        if isinstance(operation, CommitOperationDelete):
            if found is not None:
                return False
            continue
        if found == operation.upload_info.sha256.hex():
            continue
        with operation.as_file() as file:
            if found != git_hash(file.read()):
                return False
    return True


def _propose(api: HfApi, repo_id: str, head: str, operations: list[Operation], *, done: bool) -> str:
    """Open a pull request, unless main or one that is there holds all of it; the address."""
    if done:
        return f"{api.endpoint}/{repo_id}/commit/{head}"
    for pull in api.list_repo_refs(repo_id, include_pull_requests=True).pull_requests or []:
        if _holds(_list_files(api, repo_id, pull.ref), operations):
            return f"{api.endpoint}/{repo_id}/discussions/{pull.ref.rpartition('/')[2]}"
    info = api.create_commit(repo_id, operations, commit_message=MESSAGE, create_pr=True)
    return str(info.pr_url)


def _commit(
    api: HfApi,
    repo_id: str,
    revision: str | None,
    head: str,
    operations: list[Operation],
    *,
    done: bool,
    asked: str | None,
    default: str,
) -> str:
    """Commit unless the branch holds all of it, and tag; a tag that stands elsewhere is not moved. The address."""
    tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id).tags}
    if asked in tags and not (done and tags[asked] == head):
        raise HubError(f"{repo_id}: the tag {asked} stands at another commit already; choose another --tag.")
    if done:
        say(f"{repo_id}: has all of this already.")
    else:
        head = api.create_commit(
            repo_id, operations, commit_message=MESSAGE, revision=revision, parent_commit=head
        ).oid
    if (asked or default) not in tags:
        api.create_tag(repo_id, tag=asked or default, revision=head)
    return f"{api.endpoint}/{repo_id}/commit/{head}"
