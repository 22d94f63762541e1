"""Checkpoints of a training: written whole, the one before kept, read without executing pickle."""

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed  # type: ignore[attr-defined]
from torch import Tensor

from stroke_hub.errors import RunError
from stroke_hub.files import atomic_write
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.models.weights import WEIGHTS_FILE
from stroke_hub.progress import say
from stroke_hub.runs.run_folder import is_trained

__all__ = ["load_checkpoint", "save_checkpoint", "save_model", "save_weights", "tidy", "warm_start"]

LAST, BEFORE = "last.pth", "before_last.pth"


def save_weights(weights: dict[str, Tensor], file: Path) -> None:
    """Write a state dictionary to the disk; it has been synced when this returns.

    Raises
    ------
    RunError : it could not be written; what stood there before still does.
    """
    _save(weights, file)


def save_checkpoint(state: dict[str, Any], folder: Path) -> None:
    """Write a new last checkpoint, and keep the one before it.

    Raises
    ------
    RunError : it could not be written; the last one still stands.
    """
    _save(state, folder / LAST, keep=folder / BEFORE)


def load_checkpoint(folder: Path, restore: Callable[[dict[str, Any]], None]) -> bool:
    """Load the last whole checkpoint in `folder` into `restore`; False where there is none.

    If the last one is damaged, this says so, removes it and takes the one before it.

    Raises
    ------
    RunError : there are checkpoints, and none of them is whole.
    """
    files = [file for name in (LAST, BEFORE) if (file := folder / name).is_file()]
    for file in files:
        try:
            with zipfile.ZipFile(file) as archive:  # torch does not look at its own checksums
                if archive.testzip() is not None:
                    raise zipfile.BadZipFile
            restore(torch.load(file, map_location="cpu", weights_only=True))
        except (RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile):
            continue
        if file != files[0]:
            say(f"{files[0]}: is damaged; going on from the checkpoint before it.")
            files[0].unlink(missing_ok=True)
        return True
    if files:
        names = " and ".join(str(file) for file in files)
        words = "is damaged; delete it" if len(files) == 1 else "are damaged; delete them"
        raise RunError(f"{names}: {words} to train this run from its beginning.")
    return False


def save_model(model: ResNetViT, run_dir: Path) -> None:
    """Write a finished model's files, the weights last: a run folder that holds them is finished."""
    staging = run_dir / ".model.partial"
    shutil.rmtree(staging, ignore_errors=True)
    model.save_pretrained(staging)
    (staging / WEIGHTS_FILE).rename(staging / "weights")
    for file in staging.iterdir():
        if file.name != "weights":
            _sync(file)
            os.replace(file, run_dir / file.name)
    _sync(staging / "weights")
    os.replace(staging / "weights", run_dir / WEIGHTS_FILE)
    _sync(run_dir)
    staging.rmdir()


def tidy(run_dir: Path) -> None:
    """Remove the checkpoints of a finished run, and the half-written files of a killed one."""
    if is_trained(run_dir):
        for name in (LAST, BEFORE):
            (run_dir / "checkpoints" / name).unlink(missing_ok=True)
    for partial in run_dir.rglob(".*.partial"):
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


HEAD = ("head.", "lesion.")  # what stands above the backbones


def warm_start(model: ResNetViT, run: str, *, head: bool = True) -> None:
    """Give `model` the weights of a finished run, in place: all but what is measured or set anew.

    Without `head`, or where one of both has other lesion scores, head and scores stay as they are. The position
    embedding is resampled (timm's bicubic) where the image size differs. Normalisation statistics stay the model's
    own; calibration, mean features and distances are measured again when this training ends.

    Raises
    ------
    RunError : the run has other backbones or widths, or none of ours.
    ModelFormatError : its files are damaged.
    """
    if not is_trained(Path(run)):
        raise RunError(f"--init-from {run}: is not the folder of a finished run.")
    source = ResNetViT.from_pretrained(run)
    for branch in ("cnn", "vit"):
        ours, theirs = (getattr(m, branch).pretrained_cfg["architecture"] for m in (model, source))
        if ours != theirs:
            raise RunError(f"--init-from {run}: has {theirs}, not {ours}; give --{branch} {theirs}.")
    own = {name for name, _ in model.named_buffers(recurse=False)}
    measured = {name for name, _ in source.named_buffers(recurse=False)}
    weights = {name: value for name, value in source.state_dict().items() if name not in measured}
    if not head or model.lesion_cells != source.lesion_cells:
        own |= {name for name in model.state_dict() if name.startswith(HEAD)}
        weights = {name: value for name, value in weights.items() if not name.startswith(HEAD)}
    position = weights.get("vit.pos_embed")
    if position is not None:
        vit: Any = model.vit
        prefix = 0 if getattr(vit, "no_embed_class", False) else vit.num_prefix_tokens
        weights["vit.pos_embed"] = resample_abs_pos_embed(
            position, list(vit.patch_embed.grid_size), num_prefix_tokens=prefix
        )
    try:
        missing = set(model.load_state_dict(weights, strict=False).missing_keys) - own
    except RuntimeError:
        missing = {"of other shapes"}
    if missing:
        raise RunError(
            f"--init-from {run}: its weights do not fit this model; give the image size, --cnn-stages, "
            "--vit-blocks, --vit-patches and --hidden that it was trained with."
        )


def _save(state: dict[str, Any], file: Path, keep: Path | None = None) -> None:
    try:
        with atomic_write(file) as partial:
            torch.save(state, partial)
            _sync(partial)
            if keep is not None and file.exists():
                os.replace(file, keep)
        _sync(file.parent)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError of a full disk
        raise RunError(
            f"{file}: cannot be written ({str(error).splitlines()[0][:80]}); make room and give the same command "
            "again, the checkpoint before it is still good."
        ) from error


def _sync(path: Path) -> None:
    """Sync a file's bytes, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
