"""Claims of models.download: what keeps the Hub away is named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
from stroke_hub.errors import HubError
from stroke_hub.models.download import download
try:
    download("owner/none", "config.json", None, {"local_files_only": %s})
except HubError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("HF_HUB_OFFLINE", "1", "is not in the cache while HF_HUB_OFFLINE forbids the download; unset"),
        ("local_files_only", "", "is not in the cache while local_files_only forbids the download; unset"),
        ("HF_ENDPOINT", "hub.example.org", "HF_ENDPOINT is 'hub.example.org', but must begin with https:// or"),
    ],
)
def test_settings_that_keep_the_hub_away_are_named(tmp_path: Path, name: str, value: str, words: str) -> None:
    own = {key: text for key, text in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", CODE % (name == "local_files_only")],
        env=own | {"HF_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path), name: value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("owner/none: ")
    assert words in done.stdout
    assert done.stdout.count("\n") == 1
