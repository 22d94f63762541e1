"""The demo that the tests of this folder share: one process a session and worker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stroke_hub import Records
from tests.fakes.demo_server import serve


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's working folder, home and place for temporary files; its log lies in `folder`/log."""
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="session")
def app(run_dir: Path, sample: Records, folder: Path) -> Iterator[str]:
    """The address of the demo of the trained model."""
    homes = {name: str(folder / name.lower()) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    for home in homes.values():
        Path(home).mkdir()
    named = {"STROKE_HUB_MODEL": str(run_dir), "STROKE_HUB_EXAMPLES": str(sample.root)}
    with serve(folder, **named, **homes) as url:
        yield url


@pytest.fixture(scope="session")
def scan(sample: Records) -> Path:
    """A test slice."""
    return sample.root / sample.part("test")["path"].iloc[0]
