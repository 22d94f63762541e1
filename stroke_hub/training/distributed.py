"""Training in one process or several, through Accelerate."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stroke_hub.errors import RunError
from stroke_hub.runs.train_config import Tracker

__all__ = ["first_goes_first", "gather_rows", "share_buffers", "start_accelerator"]


@contextmanager
def first_goes_first() -> Iterator[None]:
    """Let the first of several processes through before the others, for example to write what they then read."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    with start_accelerator().main_process_first():
        yield


def start_accelerator(tracker: Tracker | None = None, folder: Path | None = None) -> Any:
    """Start Accelerate's `Accelerator`, on CUDA or the CPU.

    Parameters
    ----------
    tracker : what the figures of every epoch are passed on to. Nothing leaves the machine unless the tracker's own
        settings (WANDB_MODE, trackio's Space) say so.
    folder : where the tracker writes.

    Raises
    ------
    RunError : the tracker is not installed, or torchrun started more processes than came together.
    """
    if tracker and importlib.util.find_spec(tracker) is None:
        raise RunError(f"--tracker {tracker} needs a package: pip install {tracker}, or leave --tracker out.")
    from accelerate import Accelerator

    if folder is not None:
        for name, value in (
            ("WANDB_MODE", "offline"),
            ("WANDB_DIR", str(folder)),
            ("TRACKIO_DIR", str(folder)),
        ):
            os.environ.setdefault(name, value)
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), log_with=tracker, project_dir=folder)
    expected = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != expected:
        raise RunError(
            f"WORLD_SIZE is {expected}, but there are {accelerator.num_processes} processes; start with torchrun."
        )
    return accelerator


def gather_rows(accelerator: Any, rows: Tensor, total: int) -> Tensor:
    """Gather all rows (total, K) on the CPU, of which process r of W holds numbers r, r + W, r + 2W, ..."""
    count = accelerator.num_processes
    if count == 1:
        return rows.cpu()
    padded = accelerator.pad_across_processes(rows.to(accelerator.device))
    # gather_for_metrics knows the order of a prepared DataLoader only; here the rows are interleaved
    by_process: Tensor = accelerator.gather(padded).unflatten(0, (count, len(padded)))
    return by_process.transpose(0, 1).flatten(0, 1)[:total].cpu()


def share_buffers(accelerator: Any, model: nn.Module) -> None:
    """Give every process the first one's buffers: each saw other slices, so BatchNorm statistics differ."""
    if accelerator.num_processes > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)
