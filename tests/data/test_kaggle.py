"""The Kaggle dataset: found in kagglehub's own cache, and its failures said in one line."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from kagglesdk import kaggle_env
from PIL import Image

from stroke_hub import DatasetError, read_records
from stroke_hub.data.kaggle import EXPECTED, HANDLE, check_counts, download_kaggle


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty kagglehub cache, and nobody logged in."""
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "nobody"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasets" / HANDLE


def put_version(cache: Path, number: int, *, complete: bool = True) -> Path:
    """A version laid out as kagglehub does it."""
    version = cache / "versions" / str(number)
    folders = ["train/1- Stroke/StrokeBT", "train/2- Control/NormalMR", "test/strokeBT", "test/normalMR"]
    for folder in folders:
        (version / "deep" / folder).mkdir(parents=True)
        Image.new("L", (8, 8)).save(version / "deep" / folder / "a.PNG")
    if complete:
        (cache / f"{number}.complete").touch()
    return version


def test_the_newest_complete_copy_is_found_without_the_network(cache: Path) -> None:
    put_version(cache, 2)
    newest = put_version(cache, 10)
    put_version(cache, 11, complete=False)
    assert download_kaggle() == newest
    assert len(read_records(newest).table) == 4


def test_the_cache_is_kagglehubs_own(cache: Path) -> None:
    import kagglehub

    version = put_version(cache, 3)
    assert Path(kagglehub.dataset_download(f"{HANDLE}/versions/3")) == version == download_kaggle()


def test_other_counts_are_a_sentence() -> None:
    rows = [(split, label) for (split, label), count in EXPECTED.items() for _ in range(count)]
    table = pd.DataFrame(rows, columns=["split", "label"])
    assert check_counts(table) is None
    sentence = check_counts(table.iloc[1:])
    assert sentence == "The Kaggle dataset differs from the published counts: train stroke 392 instead of 393."


@pytest.fixture
def answer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """A server on loopback in Kaggle's place, answering every request with one status."""
    state = {"status": 500}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(state["status"])
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
        monkeypatch.setitem(
            kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, f"http://127.0.0.1:{server.server_port}"
        )
        yield state
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "renew it on kaggle.com/settings"),
        (403, "accept the terms"),
        (404, "has no dataset"),
        (429, "wait a few minutes"),
        (503, "status 503"),
    ],
)
def test_refusals_say_what_to_do(answer: dict[str, int], status: int, words: str) -> None:
    answer["status"] = status
    with pytest.raises(DatasetError, match=words) as caught:
        download_kaggle()
    assert "--data-dir" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_no_network_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(DatasetError, match="cannot be reached"):
        download_kaggle()
