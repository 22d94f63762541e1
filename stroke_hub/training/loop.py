"""The training loop: epochs, steps and checkpoints, in one process or several."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from stroke_hub.data.loader import AugmentedSlices, build_loader
from stroke_hub.data.masks import Masks
from stroke_hub.errors import RunError
from stroke_hub.files import write_text
from stroke_hub.inference.predict import predict, to_float_pixels
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.progress import is_first, say, track
from stroke_hub.runs.run_folder import find_best_epoch
from stroke_hub.runs.train_config import ResolvedConfig
from stroke_hub.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from stroke_hub.training.distributed import gather_rows, share_buffers
from stroke_hub.training.lesions import UNKNOWN, ScoredView, mark_unknown, measure_scores
from stroke_hub.training.optim import BranchView, build_optimizer, build_schedule, set_training, silence_branch

__all__ = ["Parts", "measure_epoch", "prepare_run", "train_epoch", "train_epochs"]

Parts = dict[str, tuple[Tensor, Tensor]]


@dataclass
class _Run:
    """Hold the state of a training; a checkpoint stores all of it that steps change."""

    config: ResolvedConfig
    accelerator: Any
    model: ResNetViT
    view: nn.Module
    optimizer: torch.optim.Optimizer
    set_rates: Callable[[int], None]
    steps: int
    folder: Path
    seconds: float
    forward: Any = None  # `view`, wrapped for several processes
    saved: float = field(default_factory=time.monotonic)
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_logits: Tensor = field(default_factory=lambda: torch.empty(0, 2))
    step: int = 0  # of the epoch on its way
    total: float = 0.0  # its loss so far, times `seen`
    seen: int = 0
    random: Tensor | None = None  # (processes, bytes): where every process's generators stand


def train_epochs(
    config: ResolvedConfig,
    accelerator: Any,
    model: ResNetViT,
    parts: Parts,
    run_dir: Path,
    *,
    masks: Masks | None = None,
    checkpoint_minutes: float = 10.0,
) -> tuple[pd.DataFrame, Tensor]:
    """Train `model` in place, from the run folder's last checkpoint on where it has one.

    What is drawn at random follows from the seed, the epoch, and the step in it.

    Parameters
    ----------
    accelerator : of `start_accelerator`; the model is on its device.
    parts : "train" and "val", each with uint8 squares (N, S, S) and labels (N,).
    masks : lesions of the training slices, for a model with lesion scores.
    run_dir : where checkpoints/ and history.csv are written.

    Returns
    -------
    A row an epoch, and the validation logits (N, 2) of the best epoch, whose weights the model then has.

    Raises
    ------
    RunError : the loss is not finite, a checkpoint cannot be read or written.
    """
    run = prepare_run(config, accelerator, model, parts["train"][1], run_dir / "checkpoints", checkpoint_minutes)
    if load_checkpoint(run.folder, lambda state: _restore(run, state)):
        say(f"{run_dir}: going on {_say_place(run)}.")
    accelerator.wait_for_everyone()  # all have read the checkpoint before the first writes the next
    squares, labels = parts["train"]
    # a whole dataset is small beside a GPU's memory (150 MB for Kaggle's), and there it is augmented in batches
    dataset = AugmentedSlices(
        squares.to(accelerator.device),
        labels if masks is None else mark_unknown(labels, masks),
        augmentation=config.augmentation,
        masks=None if masks is None else masks.squares,
    )
    for epoch in range(len(run.history) + 1, config.epochs + 1):
        loss = train_epoch(run, dataset, epoch)
        _end_epoch(run, parts["val"], epoch, loss, run_dir / "history.csv")
    model.load_state_dict(run.best)
    return pd.DataFrame(run.history), run.best_logits


def prepare_run(
    config: ResolvedConfig, accelerator: Any, model: ResNetViT, labels: Tensor, folder: Path, minutes: float
) -> _Run:
    """Prepare a training on labels (N,) for its first step; checkpoints go to `folder` every `minutes`."""
    view: nn.Module = model
    if config.branches != "both":
        silence_branch(model, "vit" if config.branches == "cnn" else "cnn")
        view = BranchView(model, config.branches)
    elif model.lesion_cells:
        view = ScoredView(model)
    optimizer = build_optimizer(model, config)
    steps = -(-len(labels) // config.batch_size)
    return _Run(
        config=config,
        accelerator=accelerator,
        model=model,
        view=view,
        optimizer=optimizer,
        set_rates=build_schedule(optimizer, config, steps),
        steps=steps,
        folder=folder,
        seconds=minutes * 60,
    )


def train_epoch(run: _Run, dataset: AugmentedSlices, epoch: int) -> float:
    """Train for one epoch and give the mean loss of its slices."""
    config, accelerator = run.config, run.accelerator
    seed = config.seed * 100_003 + epoch
    set_training(run.model, config)
    if run.forward is None:
        run.forward = accelerator.prepare_model(run.view)
    # one seed an epoch, so that a continued run draws what an uninterrupted one would have drawn
    torch.manual_seed(seed + (accelerator.process_index << 32))
    if run.step:
        _set_random(run)
    # every process has the whole batch and takes its share: what is drawn does not depend on how many there are
    loader = build_loader(dataset, batch_size=config.batch_size, seed=seed, start=run.step)
    begin, before = time.monotonic(), run.seen

    def tell() -> str:
        rate = (run.seen - before) / max(time.monotonic() - begin, 1e-9)
        return f"loss {run.total / max(run.seen, 1):.4f}, {rate:.0f} images/s"

    for squares, labels, shares in track(loader, f"epoch {epoch}/{config.epochs}", status=tell):
        due = _take_step(run, squares, labels, shares, epoch)
        run.step += 1
        if due and run.step < run.steps:
            _save(run)
    if not math.isfinite(run.total):
        raise RunError(f"The loss of epoch {epoch} is not finite; try a lower learning rate.")
    return run.total / max(run.seen, 1)


def _take_step(run: _Run, squares: Tensor, labels: Tensor, shares: Tensor, epoch: int) -> bool:
    """Update once with a batch of all processes, and tell whether it is time for a checkpoint."""
    config, accelerator = run.config, run.accelerator
    count, device = accelerator.num_processes, accelerator.device
    if len(labels) < 2 * count:
        return False  # batch normalisation has no variance of one slice
    own = slice(accelerator.process_index, None, count)
    mine, mass = labels[own].to(device), len(labels) / count  # processes are averaged
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        found = run.forward(to_float_pixels(squares[own], device))
    logits, scores = found if isinstance(found, tuple) else (found, None)
    loss = nn.functional.cross_entropy(logits.float(), mine % UNKNOWN, reduction="sum") / mass
    if scores is not None:
        loss = loss + measure_scores(scores.float(), shares[own].to(device), mine < UNKNOWN) / mass
    run.optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    run.set_rates((epoch - 1) * run.steps + run.step)
    run.optimizer.step()
    due = float(time.monotonic() - run.saved >= run.seconds)
    value = loss.item()
    if count > 1:  # the first process's clock counts, for a checkpoint takes all of them
        told = torch.stack([loss.detach(), loss.new_tensor(due if is_first() else 0.0)])
        total, due = accelerator.reduce(told, "sum").tolist()
        value = total / count
    run.total, run.seen = run.total + value * len(labels), run.seen + len(labels)
    return due > 0


def _end_epoch(run: _Run, val: tuple[Tensor, Tensor], epoch: int, loss: float, file: Path) -> None:
    """Validate the model, add a row to history.csv and write a checkpoint."""
    config, accelerator = run.config, run.accelerator
    squares, labels = val
    share_buffers(accelerator, run.model)
    own = squares[accelerator.process_index :: accelerator.num_processes]
    logits = torch.from_numpy(predict(run.model.eval(), own).logits)
    logits = gather_rows(accelerator, logits, len(squares))
    row = {"epoch": epoch, "train_loss": loss} | measure_epoch(logits, labels)
    if not math.isfinite(row["val_loss"]):
        raise RunError(f"The validation loss of epoch {epoch} is not finite; try a lower learning rate.")
    run.history.append(row)
    accelerator.log(row, step=epoch)
    say(
        f"epoch {epoch}/{config.epochs}: train loss {loss:.4f}, validation loss {row['val_loss']:.4f}, "
        f"accuracy {row['val_accuracy']:.4f}, AUROC {row['val_auroc']:.4f}"
    )
    if find_best_epoch(pd.DataFrame(run.history)) == epoch:
        run.best, run.best_logits = _copy_state(run.model), logits
    if is_first():
        if epoch % 10 == 0:
            save_weights(_copy_state(run.model), run.folder / f"model_epoch_{epoch:03d}.pth")
        write_text(file, pd.DataFrame(run.history).to_csv(index=False))
    run.step, run.total, run.seen = 0, 0.0, 0
    _save(run)


def _copy_state(model: ResNetViT) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}


# --- checkpoints --------------------------------------------------------------------------------------------

KEPT = ("history", "best", "best_logits", "step", "total", "seen")


def _save(run: _Run) -> None:
    random = torch.get_rng_state()
    if run.accelerator.device.type == "cuda":
        random = torch.cat([random, torch.cuda.get_rng_state(run.accelerator.device)])
    everyones = run.accelerator.gather(random[None].to(run.accelerator.device)).cpu()
    if is_first():
        state = {name: getattr(run, name) for name in KEPT} | {
            "random": everyones,
            "model": run.model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
        }
        save_checkpoint(state, run.folder)
    run.saved = time.monotonic()


def _restore(run: _Run, state: dict[str, Any]) -> None:
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    for name in (*KEPT, "random"):
        setattr(run, name, state[name])


def _set_random(run: _Run) -> None:
    """Set this process's random generators to their state at the checkpoint."""
    if run.random is None or len(run.random) != run.accelerator.num_processes:
        say("note: another number of processes than before, so the rest of this epoch draws other numbers.")
        return
    own = run.random[run.accelerator.process_index]
    size = len(torch.get_rng_state())
    torch.set_rng_state(own[:size])
    if run.accelerator.device.type == "cuda" and len(own) > size:
        torch.cuda.set_rng_state(own[size:], run.accelerator.device)


def _say_place(run: _Run) -> str:
    after = f"after epoch {len(run.history)}"
    return f"{after} and {run.step} of {run.steps} steps" if run.step else after


def measure_epoch(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Measure loss, accuracy and AUROC of the validation slices, from logits (N, 2) and labels (N,)."""
    probability = logits.softmax(1)[:, 1]
    return {
        "val_loss": float(nn.functional.cross_entropy(logits, labels)),
        "val_accuracy": float(BinaryAccuracy()(probability, labels)),
        "val_auroc": float(BinaryAUROC()(probability, labels)),
    }
