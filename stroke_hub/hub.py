"""publish(): a finished run folder goes to the Hub."""

import json
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of the client that it uses
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
)
from huggingface_hub.utils._validators import validate_repo_id

from stroke_hub.errors import HubError, RunError
from stroke_hub.model import ResNetViT
from stroke_hub.train import is_trained

__all__ = ["check_access", "publish"]


def check_access(repo_id: str) -> None:
    """See, before hours of training, that the name is possible and that a token is there and valid.

    Raises
    ------
    HubError : the name cannot be one, or nobody is logged in, or the Hub cannot be reached.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise HubError(f"{repo_id[:200]}: is not a repository name; give owner/name.") from None
    try:
        HfApi().whoami()
    except LocalTokenNotFoundError:
        raise HubError("No Hub token is stored; run `hf auth login`, or set HF_TOKEN.") from None
    except HfHubHTTPError as error:
        raise HubError("The Hub did not accept your token; run `hf auth login` again.") from error
    except (HTTPError, OSError) as error:
        raise HubError(f"The Hub cannot be reached ({type(error).__name__}); check the connection.") from error


def publish(run: str | Path, repo_id: str, *, private: bool = False) -> str:
    """Push the model of a finished run folder; returns the address of its page.

    Raises
    ------
    RunError : the run is not finished.
    HubError : the Hub refused or cannot be reached; the run folder stays as it is.
    """
    if not is_trained(Path(run)):
        raise RunError(f"{run}: is not a finished run; train it to its end first.")
    model = ResNetViT.from_pretrained(run)
    report = Path(run) / "report.json"
    note = json.loads(report.read_text())["data"]["note"] if report.is_file() else ""
    try:
        return str(
            model.push_to_hub(repo_id, private=private, model_card_kwargs={"note": note, "repo_id": repo_id})
        )
    except (HTTPError, OSError) as error:
        raise HubError(
            f"{repo_id}: could not be pushed ({type(error).__name__}); the run is kept in {run}."
        ) from error
