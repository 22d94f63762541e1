"""publish(): a finished run goes to the Hub in one commit, with its report, its card and all that reproduces it."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile, hf_hub_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of the client that it uses
    HfHubHTTPError,
    HTTPError,
    LocalTokenNotFoundError,
)
from huggingface_hub.utils.sha import git_hash
from safetensors.torch import load_file, save_file

from stroke_hub.card import is_untouched, render_card, renew_card
from stroke_hub.errors import HubError, RunError
from stroke_hub.progress import say
from stroke_hub.report import read_report
from stroke_hub.storage import WEIGHTS_FILE, halve_weights
from stroke_hub.train import is_trained

__all__ = ["check_access", "explain_hub_errors", "publish"]

CARD_FILE = "README.md"
MESSAGE = "Model, report and card"
FILES = (
    "config.json",
    "report.json",
    "report.html",
    "stroke_classification_results.csv",
    "summary_statistics.csv",
    "split.csv",
    "history.csv",
    "train_config.json",
    "calibration.json",
    "audit.json",
    "audit.csv",
    "faithfulness.json",
)
NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9])?")  # either half of owner/name


def check_access(repo_id: str, *, create_pr: bool = False) -> None:
    """See, before hours of training, that a run can be published under this name.

    Parameters
    ----------
    create_pr : a pull request is meant, which anyone may make who has a token that writes.

    Raises
    ------
    HubError : the name cannot be one, nobody is logged in, the token may not write there, or the Hub cannot be
        reached.
    """
    owner, _, name = repo_id.partition("/")
    if not (NAME.fullmatch(owner) and NAME.fullmatch(name)) or re.search(r"--|\.\.", repo_id):
        raise HubError(f"{repo_id[:200]}: is not a repository name; give owner/name.")
    with explain_hub_errors(repo_id):
        user = HfApi().whoami()
    token = user.get("auth", {}).get("accessToken", {})
    if token.get("role") == "read":
        raise HubError("Your Hub token may only read; make one that may write, then run `hf auth login` again.")
    owners = {user["name"], *(org["name"] for org in user.get("orgs", []))}
    if owner not in owners and not create_pr:
        raise HubError(
            f"{repo_id}: you are {user['name']} on the Hub and cannot write to {owner}; give your own name, or ask "
            "for a pull request."
        )
    scopes = token.get("fineGrained", {}).get("scoped", [])
    if (
        token.get("role") == "fineGrained"
        and not create_pr
        and not any(_may_write(s, owner, repo_id) for s in scopes)
    ):
        raise HubError(f"{repo_id}: your Hub token is not allowed to write there; give it the right repo.write.")


def _may_write(scope: dict[str, Any], owner: str, repo_id: str) -> bool:
    return scope["entity"].get("name") in (owner, repo_id) and "repo.write" in scope["permissions"]


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
    dry_run: bool = False,
) -> str:
    """Put a finished, evaluated run on the Hub in one commit, then tag it.

    Nothing lands before everything is there. An interrupted publish is repeated by the same call, and an unchanged
    run makes no commit. The run folder is only read.

    Parameters
    ----------
    private : of a repository that is made here.
    create_pr : open a pull request instead of committing to the branch.
    revision : the branch, "main" by default; made where there is none.
    tag : the tag's name; by default "weights-" and the first 8 digits of the weights' SHA-256. Pull requests get
        none.
    update_card : renew the generated sections of a card that was edited on the Hub; without it such a card stays
        as it is.
    half : store the weights as float16: half the download, loaded back as float32.
    with_checkpoints, with_onnx : put the folders checkpoints/ and onnx/ of the run there too.
    dry_run : only say what would be uploaded.

    Returns
    -------
    The address of the commit or pull request; "" for a dry run.

    Raises
    ------
    RunError : the run is not finished or not evaluated, or lacks what was asked for.
    HubError : the Hub refused or cannot be reached; the run folder stays as it is.
    """
    run = Path(run)
    report = read_report(run) if is_trained(run) else None
    if report is None:
        raise RunError(f"{run}: is not a finished run; train it to its end first.")
    extra = [name for name, wanted in (("checkpoints", with_checkpoints), ("onnx", with_onnx)) if wanted]
    api = HfApi()
    with tempfile.TemporaryDirectory() as workplace:
        files = _collect(run, Path(workplace), half=half, extra=extra)
        if dry_run:
            for name, path in [*files.items(), (CARD_FILE, None)]:
                say(f"would upload {name}" + (f" ({path.stat().st_size:,} bytes)" if path else ""))
            return ""
        with explain_hub_errors(repo_id, run):
            if not (create_pr and api.repo_exists(repo_id)):
                api.create_repo(repo_id, private=private, exist_ok=True)
            if revision and not create_pr:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            card = render_card(report, repo_id=repo_id, run=run)
            head = api.repo_info(repo_id, revision=revision).sha
            operations = _plan(api, repo_id, head, files, card, update_card=update_card)
            commit, address = _commit(api, repo_id, revision, operations, head=head, create_pr=create_pr)
            if not create_pr:
                _tag(api, repo_id, tag, f"weights-{report['model']['weights_sha256'][:8]}", commit)
    return address


def _collect(run: Path, workplace: Path, *, half: bool, extra: list[str]) -> dict[str, Path]:
    """What goes to the Hub besides the card: names there, and files here."""
    files = {name: run / name for name in FILES if (run / name).is_file()}
    for folder in ("figures", *extra):
        found = sorted(path for path in (run / folder).rglob("*") if path.is_file() and path.name[0] != ".")
        if not found:
            raise RunError(f"{run}: has no {folder} to publish; evaluate the run, or leave that out.")
        files |= {path.relative_to(run).as_posix(): path for path in found}
    files[WEIGHTS_FILE] = run / WEIGHTS_FILE
    if half:
        files[WEIGHTS_FILE] = workplace / WEIGHTS_FILE
        save_file(halve_weights(load_file(run / WEIGHTS_FILE)), files[WEIGHTS_FILE], metadata={"format": "pt"})
    return files


def _plan(
    api: HfApi, repo_id: str, head: str | None, files: dict[str, Path], card: str, *, update_card: bool
) -> list[CommitOperationAdd | CommitOperationDelete]:
    """The operations of the one commit; figures there that this run does not have go."""
    operations: list[CommitOperationAdd | CommitOperationDelete]
    operations = [CommitOperationAdd(name, path) for name, path in files.items()]
    there = api.list_repo_files(repo_id, revision=head)
    if CARD_FILE in there:
        with open(hf_hub_download(repo_id, CARD_FILE, revision=head), encoding="utf-8", newline="") as file:
            existing = file.read()
        if not is_untouched(existing) and not update_card:
            say(f"{repo_id}: its card was edited on the Hub and stays; --update-card renews the numbers in it.")
            card = existing
        else:
            card = renew_card(existing, card)
    operations.append(CommitOperationAdd(CARD_FILE, card.encode()))
    stale = [name for name in there if name.startswith("figures/") and name not in files]
    return operations + [CommitOperationDelete(name) for name in stale]


def _commit(
    api: HfApi,
    repo_id: str,
    revision: str | None,
    operations: list[CommitOperationAdd | CommitOperationDelete],
    *,
    head: str | None,
    create_pr: bool,
) -> tuple[str, str]:
    """Commit unless the branch, or a pull request, holds all of it already; the commit and its address."""
    if create_pr:  # the client leaves out only what main has: a second attempt would open a second request
        refs = api.list_repo_refs(repo_id, include_pull_requests=True)
        for ref in refs.pull_requests or []:
            if _holds(api, repo_id, ref.ref, operations):
                return ref.target_commit, f"{api.endpoint}/{repo_id}/discussions/{ref.ref.rpartition('/')[2]}"
    info = api.create_commit(
        repo_id,
        operations,
        commit_message=MESSAGE,
        revision=revision,
        create_pr=create_pr,
        parent_commit=None if create_pr else head,
    )
    return info.oid, info.pr_url or info.commit_url


def _tag(api: HfApi, repo_id: str, asked: str | None, default: str, commit: str) -> None:
    """Tag the commit; a tag that stands elsewhere is not moved."""
    tag = asked or default
    tags = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id).tags}
    if tag not in tags:
        api.create_tag(repo_id, tag=tag, revision=commit)
    elif asked and tags[tag] != commit:
        raise HubError(f"{repo_id}: the tag {tag} stands at another commit already; choose another --tag.")


def _holds(
    api: HfApi, repo_id: str, revision: str, operations: list[CommitOperationAdd | CommitOperationDelete]
) -> bool:
    """Whether a revision has every file of the operations, with the same content."""
    added = {op.path_in_repo: op for op in operations if isinstance(op, CommitOperationAdd)}
    there = {
        item.path: item.lfs.sha256 if item.lfs else item.blob_id
        for item in api.get_paths_info(repo_id, list(added), revision=revision)
        if isinstance(item, RepoFile)
    }
    for path, operation in added.items():
        with operation.as_file() as file:
            if there.get(path) not in (operation.upload_info.sha256.hex(), git_hash(file.read())):
                return False
    return True


@contextmanager
def explain_hub_errors(repo_id: str, run: Path | None = None) -> Iterator[None]:
    """What can go wrong on the way to the Hub, in a sentence."""
    kept = f"; the run is kept in {run}, and the same command goes on" if run else ""
    try:
        yield
    except LocalTokenNotFoundError:
        raise HubError("No Hub token is stored; run `hf auth login`, or set HF_TOKEN.") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        reasons = {
            401: "the Hub did not accept your token; run `hf auth login` again",
            403: "your Hub token may not write there; make one that may",
            404: "there is no such repository or revision, or you may not see it",
            409: "the name is taken by something else",
            412: "the repository changed while this was under way; repeat the command",
        }
        reason = reasons.get(status or 0, f"the Hub answered with status {status}; try again later")
        raise HubError(f"{repo_id}: {reason}{kept}.") from error
    except (HTTPError, OSError) as error:
        raise HubError(
            f"{repo_id}: The Hub cannot be reached ({type(error).__name__}); check the connection{kept}."
        ) from error
