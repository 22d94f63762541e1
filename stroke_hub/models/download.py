"""Download one file of a Hub repository, or find it in the cache."""

import re
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: of the client that it uses
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
)

from stroke_hub.errors import HubError, ModelFormatError

__all__ = ["check_name", "download"]

REPOSITORY = re.compile(
    r"[\w-][\w.-]*/[\w-][\w.-]*"
)  # a path that is no folder here begins with . or /, or is longer
FILE_SUFFIXES = (".safetensors", ".json", ".onnx", ".pth", ".png", ".dcm", ".csv")


def check_name(repo: str, revision: str | None) -> None:
    """Check, without a request, that a name which is no folder here may be that of a Hub repository.

    Raises
    ------
    HubError : it cannot be, or it leads into a folder that is here, and no revision says that the Hub is meant.
    """
    if not REPOSITORY.fullmatch(repo) or repo.endswith(FILE_SUFFIXES):
        raise HubError(f"{repo[:200]}: is neither a folder nor a Hub repository like owner/name.")
    folder = repo.partition("/")[0]
    if revision is None and Path(folder).is_dir():
        raise HubError(
            f"{repo}: is not in the folder {folder}; check the path. If it is a Hub repository, give its revision, "
            "for example main."
        )


def download(repo: str, file: str, revision: str | None, options: dict[str, Any]) -> Path:
    """Download one file of a Hub repository and give its path in the cache; `options` as in `hf_hub_download`.

    Raises
    ------
    HubError : as `check_name`; or the repository cannot be reached or read.
    ModelFormatError : it has no such file.
    """
    check_name(repo, revision)
    try:
        return Path(hf_hub_download(repo, file, revision=revision, **options))
    except HFValidationError:
        raise HubError(f"{repo[:200]}: is neither a folder nor a Hub repository like owner/name.") from None
    except LocalEntryNotFoundError as error:
        if constants.HF_HUB_OFFLINE or options.get("local_files_only"):
            setting = "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "local_files_only"
            raise HubError(
                f"{repo}: is no folder, and its {file} is not in the cache while {setting} forbids the download; "
                f"unset {setting}, or load the model once while online."
            ) from error
        raise HubError(
            f"{repo}: is no folder, and its {file} cannot be downloaded from the Hub; check name and connection."
        ) from error
    except EntryNotFoundError as error:
        raise ModelFormatError(f"{repo}: has no {file}, so it is not a saved ResNetViT.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        raise HubError(
            f"{repo}: the Hub refused {file} (status {status}); check the name, the revision and your token."
        ) from error
    except (HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of this machine's files
        if not constants.ENDPOINT.startswith(("https://", "http://")):
            raise HubError(
                f"{repo}: HF_ENDPOINT is {constants.ENDPOINT[:100]!a}, but must begin with https:// or http://; "
                "correct or unset it."
            ) from error
        raise HubError(
            f"{repo}: {file} cannot be downloaded from the Hub ({type(error).__name__}); check the connection."
        ) from error
