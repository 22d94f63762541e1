"""The Kaggle "Multimodal Stroke Image Dataset": fetched once, found again without the network, counted."""

import os
from pathlib import Path

import pandas as pd

from stroke_hub.errors import DatasetError
from stroke_hub.progress import say

os.environ.setdefault("KAGGLEHUB_VERBOSITY", "error")  # its own hints would bury our one line

__all__ = ["HANDLE", "check_counts", "download_kaggle"]

HANDLE = "turkertuncer/multimodal-stroke-image-dataset"
# printed by the notebook that introduced this model: (split, label) -> slices
EXPECTED = {("train", 1): 393, ("train", 0): 1984, ("test", 1): 119, ("test", 0): 657}
BY_HAND = f"or download kaggle.com/datasets/{HANDLE} in a browser and give its folder as --data-dir"


def download_kaggle() -> Path:
    """The dataset's folder: from kagglehub's cache, else downloaded through kagglehub.

    Raises
    ------
    DatasetError : the download failed; the sentence says what to do.
    """
    cached = find_cached()
    if cached is not None:
        return cached
    import kagglehub
    import requests
    from kagglehub.exceptions import DataCorruptionError, UnauthenticatedError

    say(f"fetching {HANDLE} from Kaggle")
    try:
        return Path(kagglehub.dataset_download(HANDLE))
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise DatasetError(_explain_status(status)) from error
    except UnauthenticatedError as error:
        raise DatasetError(_explain_status(401)) from error
    except requests.RequestException as error:
        raise DatasetError(
            f"Kaggle cannot be reached ({type(error).__name__}); check the connection, {BY_HAND}."
        ) from error
    except DataCorruptionError as error:
        raise DatasetError(f"The download from Kaggle arrived damaged; try again, {BY_HAND}.") from error
    except OSError as error:
        raise DatasetError(
            f"The Kaggle dataset could not be stored ({error.strerror or type(error).__name__}); make room or "
            "point KAGGLEHUB_CACHE elsewhere."
        ) from error


def find_cached() -> Path | None:
    """The newest complete copy in kagglehub's cache; asking kagglehub itself would call the network."""
    from kagglehub.config import get_cache_folder

    versions = Path(get_cache_folder()) / "datasets" / HANDLE / "versions"
    markers = versions.parent.glob("*.complete")
    numbers = sorted((int(marker.stem) for marker in markers if marker.stem.isdigit()), reverse=True)
    return next((versions / str(n) for n in numbers if (versions / str(n)).is_dir()), None)


def check_counts(table: pd.DataFrame) -> str | None:
    """A sentence where the number of slices differs from what the dataset had when it was described."""
    found = table.groupby(["split", "label"]).size().to_dict()
    if found == EXPECTED:
        return None
    words = ", ".join(
        f"{split} {('normal', 'stroke')[label]} {found.get((split, label), 0)} instead of {count}"
        for (split, label), count in EXPECTED.items()
        if found.get((split, label), 0) != count
    )
    return f"The Kaggle dataset differs from the published counts: {words}."


def _explain_status(status: int) -> str:
    advice = {
        401: "Kaggle did not accept your token; renew it on kaggle.com/settings and store it in KAGGLE_API_TOKEN",
        403: f"Kaggle wants you to sign in and accept the terms on kaggle.com/datasets/{HANDLE} first",
        404: f"Kaggle has no dataset {HANDLE} any more",
        429: "Kaggle has had too many requests from here; wait a few minutes and run the same command again",
    }
    return f"{advice.get(status, f'Kaggle answered with status {status}; try again later')}, {BY_HAND}."
