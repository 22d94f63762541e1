"""Fixtures of several rooms: a small simulated dataset and a run trained on it, made once for all workers."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before anything imports it
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # else every worker starts threads for all cores, and they wait
    SHARE = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(SHARE))

import pandas as pd
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from filelock import FileLock
from playwright.sync_api import Browser, Page, sync_playwright
from xdist.scheduler import LoadFileScheduling

from stroke_hub import (
    PRESETS,
    Records,
    ResNetViT,
    Slice,
    TrainConfig,
    fit,
    load_slices,
    read_records,
    write_sample,
)
from stroke_hub.cli.main import main
from stroke_hub.data.records import list_modalities
from stroke_hub.evaluation.evaluate import evaluate_run
from stroke_hub.runs.report import REPORT_FILE

DEMO = "tests/demo/"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


class _Scheduling(LoadFileScheduling):
    """Whole files for each worker, and all of tests/demo for one: a server of the demo costs 15 s of its core."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return DEMO if file.startswith(DEMO) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling:
    """Let xdist deal out the tests so."""
    return _Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the demo's tests first: they last longest, and much of that is waiting."""
    items.sort(key=lambda item: not item.nodeid.startswith(DEMO))


class Done(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run ``stroke-hub`` in this process: an interpreter that imports torch takes seconds."""

    def run(*words: object) -> Done:
        capsys.readouterr()
        status, last = 0, ""
        try:
            main([str(word) for word in words])
        except SystemExit as left:  # a text as its code is printed behind the rest, with status 1
            status = left.code if isinstance(left.code, int) else int(left.code is not None)
            last = f"{left.code}\n" if isinstance(left.code, str) else ""
        said = capsys.readouterr()
        return Done(status, said.out, said.err + last)

    return run


@pytest.fixture(scope="session", autouse=True)
def squares_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Decoded slices go into a folder of the tests, not into the user's."""
    folder = tmp_path_factory.mktemp("cache") / "squares"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("STROKE_HUB_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; without one the test is skipped, or fails where REQUIRE_BROWSER is 1."""
    if CHROMIUM is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER is 1, but there is no Chromium.")
        pytest.skip("there is no Chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> Callable[[Page], list[str]]:
    """List what axe-core holds against a page as it stands: each rule, and the first elements that break it.

    Every rule is asked, those of good practice too. The script is the package's own: nothing is fetched.
    """

    def axe(page: Page) -> list[str]:
        found = Axe().run(page).response["violations"]
        return [
            f"{rule['id']} ({rule['impact']}), {len(rule['nodes'])} times: {rule['help']}: "
            f"{[[node['target'], node['html'][:120]] for node in rule['nodes'][:3]]}"
            for rule in found
        ]

    return axe


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def sample(shared_folder: Path) -> Records:
    """Simulated slices of 36 patients; no test writes into their folder."""
    with FileLock(shared_folder / "sample.lock"):  # the first worker makes it
        return read_records(write_sample(shared_folder / "sample", patients=36))


@pytest.fixture(scope="session")
def run_dir(sample: Records, shared_folder: Path) -> Path:
    """A tiny model trained for two epochs, and evaluated; no test writes into its folder."""
    run = shared_folder / "tiny"
    with FileLock(shared_folder / "tiny.lock"):
        if not (run / REPORT_FILE).is_file():
            # a hidden layer and a threshold of 0.5: formulas of a linear head hold less
            plain: dict[str, Any] = {"recipe": "plain", "operating_point": "half"}
            fit(TrainConfig(preset="tiny", epochs=2, validation_fraction=0.3, **plain), sample, run)
            evaluate_run(run, sample, name="sample", note="simulated slices, not patients")
    return run


@pytest.fixture(scope="session")
def exported_run(run_dir: Path, sample: Records, shared_folder: Path) -> Path:
    """A copy of that run with its export; no test writes into it either."""
    from stroke_hub.deploy.export import export

    run = shared_folder / "exported"
    with FileLock(shared_folder / "exported.lock"):
        if not run.is_dir():
            export(shutil.copytree(run_dir, shared_folder / "exporting"), records=sample, name="sample")
            (shared_folder / "exporting").rename(run)
    return run


@pytest.fixture(scope="session")
def trained(run_dir: Path) -> ResNetViT:
    return ResNetViT.from_pretrained(run_dir)


@pytest.fixture
def untrained() -> ResNetViT:
    """A tiny model with random weights, larger than usual so that every term of a formula counts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomise(ResNetViT(**PRESETS["tiny"]))


def load_rows(root: Path, table: pd.DataFrame) -> list[Slice]:
    """The slices of a table, each as the modality that the table names: as training reads them."""
    rows = zip(table["path"], list_modalities(table), strict=True)
    return [load_slices(root / path, modality=modality)[0] for path, modality in rows]


def randomise(model: ResNetViT, *, seed: int = 0) -> ResNetViT:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.03)
        model.feature_mean.copy_(torch.randn(model.feature_mean.shape, generator=generator) * 0.1)
        model.temperature.fill_(1.7)
    return model.eval()
