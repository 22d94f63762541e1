"""Several processes train what one trains, look at every image once, and only the first writes and prints."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch

from stroke_hub import Records, ResNetViT, RunError, TrainConfig, fit, predict
from stroke_hub.data.loader import decode_squares
from stroke_hub.training.distributed import Tracker, start_accelerator

SCRIPTS = Path(__file__).parents[2] / "scripts"

# batches of 11 of 34 slices: shares of 6 and 5, and a last slice that is left out. Nothing hangs on the share:
# no batch normalisation, no dropout
CONFIG = TrainConfig(
    preset="tiny",
    cnn="test_convnext",
    image_size=64,
    limit=40,
    batch_size=11,
    validation_fraction=0.3,
    epochs=2,
    augmentation="none",
)

WORKER = """
import json, os, sys, torch, zlib
from pathlib import Path
from stroke_hub import TrainConfig, fit, read_records
from stroke_hub.training import loop as epochs

torch.set_num_threads(1)
real, seen = epochs.predict, []
def watched(model, squares):
    seen.append([zlib.crc32(square.numpy().tobytes()) for square in squares])
    return real(model, squares)
epochs.predict = watched
config, root, run = sys.argv[1:]
fit(TrainConfig(**json.loads(config)), read_records(root), run)
Path(run + os.environ["RANK"] + ".json").write_text(json.dumps([os.environ["WORLD_SIZE"], seen]))
"""


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


def compare(one: Path, two: Path, sample: Records) -> float:
    """The largest difference of the two runs' logits of the test slices."""
    table = sample.part("test")
    models = [ResNetViT.from_pretrained(run) for run in (one, two)]
    logits = [predict(model, decode_squares(model, sample.root, table)).logits for model in models]
    return float(abs(logits[0] - logits[1]).max())


@pytest.mark.parametrize("branches", ["both", pytest.param("cnn", marks=pytest.mark.slow)])
def test_two_processes_train_what_one_trains(branches: str, sample: Records, tmp_path: Path) -> None:
    config = replace(CONFIG, branches=branches)
    one = fit(config, sample, tmp_path / "one")
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    done = torchrun(worker, json.dumps(asdict(config)), sample.root, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    # sums of two halves round otherwise than sums of the whole; measured 2.4e-7
    assert compare(one, tmp_path / "two", sample) < 1e-5
    assert done.stderr.count(f"epoch {config.epochs}/{config.epochs}: train loss") == 1
    pd.testing.assert_frame_equal(*(pd.read_csv(run / "history.csv") for run in (one, tmp_path / "two")), rtol=1e-5)
    (world, first), (_, second) = (json.loads((tmp_path / f"two{rank}.json").read_text()) for rank in (0, 1))
    assert world == "2"
    table = pd.read_csv(one / "split.csv")
    val = decode_squares(ResNetViT.from_pretrained(one), sample.root, table[table["split"] == "val"])
    for epoch in range(config.epochs):
        assert len(first[epoch]) + len(second[epoch]) == len(val)
        assert len({*first[epoch], *second[epoch]}) == len(torch.unique(val, dim=0))


@pytest.mark.slow
def test_the_command_under_torchrun_goes_the_whole_way_once(sample: Records, tmp_path: Path) -> None:
    arguments = ["--data-dir", sample.root, "--preset", "tiny", "--epochs", 1, "--image-size", 64, "--limit", 60,
                 "--run-dir", tmp_path / "run"]  # fmt: skip
    done = torchrun(SCRIPTS / "train_and_push.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("run folder: ") == done.stderr.count("epoch 1/1: train loss") == 1
    assert (tmp_path / "run" / "report.json").is_file()
    others = ["--data-dir", sample.root, "--preset", "tiny", "--recipe", "probe", "--run-dir", tmp_path / "probe"]
    done = torchrun(SCRIPTS / "train_and_push.py", *others)
    assert "error: The recipe probe takes one process; start it without torchrun, or" in done.stderr


def test_processes_that_did_not_come_together_are_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RunError, match="WORLD_SIZE is 2, but there are 1 processes"):
        start_accelerator()


@pytest.mark.parametrize("tracker", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_is_told_every_epoch_and_writes_into_the_run(
    tracker: Tracker, sample: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec(tracker) is None:  # importorskip would import it, and trackio reads its folder then
        pytest.skip(f"{tracker} is not installed")
    for name in ("TRACKIO_DIR", "WANDB_DIR", "WANDB_MODE"):
        monkeypatch.setenv(name, "restored afterwards")
        monkeypatch.delenv(name)
    run = fit(CONFIG, sample, tmp_path / "run", tracker=tracker)
    written = b"".join(path.read_bytes() for path in (run / "tracker").rglob("*") if path.is_file())
    assert b"val_auroc" in written


def test_a_tracker_that_is_not_installed_is_one_sentence() -> None:
    with pytest.raises(RunError, match="pip install no_such_tracker, or leave --tracker out"):
        start_accelerator("no_such_tracker")  # type: ignore[arg-type]
