"""A training that is killed at whatever moment ends with the bits of one that was not; what is torn is told of."""

import hashlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stroke_hub import Records, RunError, TrainConfig, fit
from stroke_hub.training.checkpoint import save_checkpoint

SCRATCH = TrainConfig(preset="tiny", image_size=64, epochs=3, limit=40, batch_size=8, validation_fraction=0.3)
PLAIN = replace(SCRATCH, recipe="plain", epochs=2)
FILES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "open")  # what Python reports before it does it


def hash_weights(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def train(config: TrainConfig, sample: Records, run: Path, kill_at: int, room: int, told: Path) -> None:
    """In a process of its own: train, be killed before the `kill_at`-th change of a file, or have little room."""
    import torch

    torch.set_num_threads(1)
    sys.stderr = told.open("a")
    count = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        reads = event == "open" and not set("wax+") & set(str(arguments[1]))
        if event in FILES and str(arguments[0]).startswith(str(run)) and not reads:
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    if room:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        fit(config, sample, run, checkpoint_minutes=0)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    print(f"changes: {count}", file=sys.stderr, flush=True)


class Trainer:
    """Starts trainings as processes that have their imports behind them."""

    def __init__(self, sample: Records, folder: Path) -> None:
        self.sample, self.told = sample, folder / "told.txt"
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            ["stroke_hub.training.fit", "albumentations", "accelerate", "sklearn.model_selection"]
        )

    def __call__(
        self, config: TrainConfig, run: Path, *, kill_at: int = 0, kill_after: float | None = None, room: int = 0
    ) -> int:
        """The exit code, -9 for a killed process."""
        self.told.write_text("")
        process = self.context.Process(target=train, args=(config, self.sample, run, kill_at, room, self.told))
        process.start()
        if kill_after is not None:
            time.sleep(kill_after)
            process.kill()
        process.join()
        assert process.exitcode is not None
        return process.exitcode

    @property
    def words(self) -> str:
        return self.told.read_text()


@pytest.fixture(scope="module")
def trainer(sample: Records, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return Trainer(sample, tmp_path_factory.mktemp("trainer"))


Whole = Callable[[TrainConfig], tuple[str, int, float]]


@pytest.fixture(scope="module")
def whole(trainer: Trainer, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Of a configuration: the hash of uninterrupted weights, how often files changed, and the seconds it took."""
    known: dict[TrainConfig, tuple[str, int, float]] = {}

    def find(config: TrainConfig) -> tuple[str, int, float]:
        if config not in known:
            run, begin = tmp_path_factory.mktemp("whole") / "run", time.monotonic()
            assert trainer(config, run) == 0, trainer.words
            changes = int(trainer.words.rpartition("changes: ")[2])
            known[config] = (hash_weights(run), changes, time.monotonic() - begin)
        return known[config]

    return find


def end(trainer: Trainer, config: TrainConfig, run: Path) -> str:
    """Give the same command again and look at what a finished run leaves."""
    assert trainer(config, run) == 0, trainer.words
    assert not list(run.rglob(".*")), "leftovers"
    assert not list(run.rglob("*last.pth"))
    return hash_weights(run)


@pytest.mark.parametrize("config", [SCRATCH, pytest.param(PLAIN, marks=pytest.mark.slow)], ids=["scratch", "plain"])
def test_killed_at_any_change_of_a_file_a_run_ends_with_the_same_bits(
    config: TrainConfig, trainer: Trainer, whole: Whole, tmp_path: Path
) -> None:
    expected, changes, _ = whole(config)
    moment = random.Random(config.recipe or "")  # noqa: S311
    for _ in range(2):  # somewhere, and among the last changes, which make a run look finished
        kill_at = moment.choice([moment.randrange(1, changes - 12), moment.randrange(changes - 12, changes)])
        run = tmp_path / str(kill_at)
        assert trainer(config, run, kill_at=kill_at) == -signal.SIGKILL
        assert end(trainer, config, run) == expected


@pytest.mark.slow
def test_of_20_kills_at_random_moments_20_end_with_the_same_bits(
    trainer: Trainer, whole: Whole, tmp_path: Path
) -> None:
    moment = random.Random(20)  # noqa: S311
    begin = time.monotonic()  # of a training whose server of processes is there already
    assert trainer(SCRATCH, tmp_path / "timed") == 0
    seconds = time.monotonic() - begin
    for number in range(20):
        config, run = (SCRATCH, PLAIN)[number % 2], tmp_path / str(number)
        while trainer(config, run, kill_after=moment.uniform(0, seconds)) != -signal.SIGKILL:
            shutil.rmtree(run)  # it had ended before: a kill that comes too late is none
        assert end(trainer, config, run) == whole(config)[0]


@pytest.mark.slow
@pytest.mark.parametrize("config", [SCRATCH, PLAIN], ids=["scratch", "plain"])
def test_killed_before_each_of_the_last_changes_and_the_first(
    config: TrainConfig, trainer: Trainer, whole: Whole, tmp_path: Path
) -> None:
    expected, changes, _ = whole(config)
    for kill_at in (*range(1, 12), *range(changes - 24, changes + 1)):
        run = tmp_path / str(kill_at)
        assert trainer(config, run, kill_at=kill_at) == -signal.SIGKILL
        assert end(trainer, config, run) == expected, kill_at


@pytest.mark.parametrize("tear", ["cut", "zeros"])
def test_a_torn_checkpoint_is_told_of_and_the_one_before_it_taken(
    tear: str, trainer: Trainer, whole: Whole, tmp_path: Path
) -> None:
    expected, changes, _ = whole(SCRATCH)
    run = tmp_path / "run"
    assert trainer(SCRATCH, run, kill_at=changes // 2) == -signal.SIGKILL
    last = run / "checkpoints" / "last.pth"
    content = last.read_bytes()
    middle = len(content) // 2
    last.write_bytes(content[:middle] + (b"" if tear == "cut" else bytes(4096) + content[middle + 4096 :]))
    assert end(trainer, SCRATCH, run) == expected
    assert "last.pth: is damaged; going on from the checkpoint before it" in trainer.words


def test_where_no_checkpoint_is_whole_the_run_is_refused(trainer: Trainer, whole: Whole, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert trainer(SCRATCH, run, kill_at=whole(SCRATCH)[1] // 2) == -signal.SIGKILL
    for file in (run / "checkpoints").glob("*last.pth"):
        file.write_bytes(b"PK\x03\x04 torn")
    assert trainer(SCRATCH, run) == 1
    assert "last.pth: are damaged; delete them to train this run from its beginning." in trainer.words
    assert trainer.words.count("error: ") == 1


def test_a_full_disk_is_one_sentence_and_costs_nothing(trainer: Trainer, whole: Whole, tmp_path: Path) -> None:
    expected, changes, _ = whole(SCRATCH)
    run = tmp_path / "run"
    assert trainer(SCRATCH, run, kill_at=changes // 2) == -signal.SIGKILL
    before = (run / "checkpoints" / "last.pth").read_bytes()
    assert trainer(SCRATCH, run, room=100_000) == 1  # what is smaller than that can still be written
    assert "last.pth: cannot be written" in trainer.words
    assert (run / "checkpoints" / "last.pth").read_bytes() == before
    assert end(trainer, SCRATCH, run) == expected


def test_a_checkpoint_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    save_checkpoint({"step": 1}, tmp_path)
    before = (tmp_path / "last.pth").read_bytes()
    with pytest.raises(AttributeError):
        save_checkpoint({"step": lambda: None}, tmp_path)
    assert (tmp_path / "last.pth").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.pth"]
