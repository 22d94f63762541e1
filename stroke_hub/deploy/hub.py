"""What a push to the Hub asks first, and what can go wrong on the way, in a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of the client that it uses
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, not marked so

from stroke_hub.errors import HubError, StrokeHubError

__all__ = ["check_access", "check_name", "explain_hub_errors"]

REASONS = {
    400: "the Hub takes a name or a file here for invalid",
    401: "the Hub did not accept your token; run `hf auth login` again",
    403: "your Hub token may not write there; make one that may",
    404: "there is no such repository or revision, or you may not see it",
    409: "the name is taken by something else",
    412: "the repository changed while this was under way; repeat the command",
    429: "the Hub had too many requests from you; wait some minutes",
}


def check_name(repo_id: str) -> None:
    """See that a text can be the name of a repository.

    Raises
    ------
    HubError : it cannot.
    """
    try:
        validate_repo_id(repo_id)
        fine = repo_id.count("/") == 1
    except HFValidationError:
        fine = False
    if not fine:
        raise HubError(f"{repo_id[:200]}: is not a repository name; give owner/name.")


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
    check_name(repo_id)
    owner = repo_id.partition("/")[0]
    with explain_hub_errors(repo_id):
        user = HfApi().whoami()
    token = user.get("auth", {}).get("accessToken", {})
    if token.get("role") == "read":
        raise HubError("Your Hub token may only read; make one that may write, then run `hf auth login` again.")
    owners = {user["name"], *(org["name"] for org in user.get("orgs", []) if org.get("roleInOrg") != "read")}
    if create_pr and owner not in owners:
        with explain_hub_errors(repo_id):
            HfApi().model_info(repo_id)
        return
    if owner not in owners:
        raise HubError(
            f"{repo_id}: you are {user['name']} on the Hub and cannot write to {owner}; give your own name, or ask "
            "for a pull request."
        )
    scopes = token.get("fineGrained", {}).get("scoped", [])
    narrow = token.get("role") == "fineGrained"
    if narrow and not create_pr and not any(_may_write(scope, owner, repo_id) for scope in scopes):
        raise HubError(f"{repo_id}: your Hub token is not allowed to write there; give it the right repo.write.")


def _may_write(scope: dict[str, Any], owner: str, repo_id: str) -> bool:
    return scope["entity"].get("name") in (owner, repo_id) and "repo.write" in scope["permissions"]


@contextmanager
def explain_hub_errors(repo_id: str, run: Path | None = None) -> Iterator[None]:
    """What can go wrong on the way to the Hub, in a sentence; errors of files on this machine pass."""
    kept = f"; the run is kept in {run}, and the same command goes on" if run else ""
    try:
        yield
    except StrokeHubError:
        raise
    except LocalTokenNotFoundError:
        raise HubError("No Hub token is stored; run `hf auth login`, or set HF_TOKEN.") from None
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        # an upload that fails is a RuntimeError about what went wrong
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        if isinstance(cause, OSError) and cause.errno is not None:
            raise
        response = getattr(cause, "response", None)
        if isinstance(cause, RepositoryNotFoundError):
            reason = REASONS[404]
        elif response is not None:
            reason = (
                REASONS.get(response.status_code)
                or f"the Hub answered with status {response.status_code}; try later"
            )
        elif isinstance(cause, HTTPError | OSError):
            raise HubError(
                f"The Hub cannot be reached ({type(cause).__name__}); check the connection{kept}."
            ) from error
        else:
            reason = " ".join(str(error).split())[:200].rstrip(".")
        raise HubError(f"{repo_id}: {reason}{kept}.") from error
