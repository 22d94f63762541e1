"""fit(): train a model on a table of slices and write its run folder. The test slices do not influence it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

from stroke_hub.data.loader import decode_squares
from stroke_hub.data.masks import has_masks, read_masks
from stroke_hub.data.records import Records, hash_records, list_modalities
from stroke_hub.data.splits import assign_validation
from stroke_hub.errors import DatasetError, RunError
from stroke_hub.files import hash_file, write_text
from stroke_hub.inference.ood import store_limit
from stroke_hub.inference.predict import compute_features, compute_textures
from stroke_hub.io.rendering import Rendering
from stroke_hub.io.windowing import Modality
from stroke_hub.metrics.calibration import (
    Calibration,
    OperatingPoint,
    choose_operating_points,
    fit_calibration,
)
from stroke_hub.metrics.classification import Labels
from stroke_hub.models.backbones import load_backbone
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.models.weights import WEIGHTS_FILE
from stroke_hub.progress import is_first, say
from stroke_hub.runs.run_folder import (
    CALIBRATION_FILE,
    LEFT_OUT_FILE,
    SCAN_RULE_FILE,
    TRAIN_CONFIG_FILE,
    find_best_epoch,
    is_trained,
)
from stroke_hub.runs.train_config import ResolvedConfig, Tracker, TrainConfig, describe_variant
from stroke_hub.training.baseline import store_baseline
from stroke_hub.training.checkpoint import save_model, tidy, warm_start
from stroke_hub.training.distributed import start_accelerator
from stroke_hub.training.lesions import fit_bleeding, fit_scores, start_scores
from stroke_hub.training.loop import Parts, measure_epoch, train_epochs
from stroke_hub.training.probe import fit_head
from stroke_hub.training.scans import fit_scan_rule

__all__ = ["build_model", "calibrate", "fit", "shuffle_labels"]

RENDERING: Rendering = "canonical"  # of every model that is trained today
DROPOUT = 0.3  # behind a hidden layer, as in the notebook
# what runs did whose train_config.json does not say it
BEFORE = {"rendering": "legacy", "framing": "whole", "operating_point": "half", "recipe": "plain"}
# settings that there are no more, with what plain and seed do still
GONE: dict[str, Any] = {
    "weight_decay": 1e-4,
    "decay_norms": True,
    "head_epochs": 0,
    "cnn_layer_decay": 1.0,
    "vit_layer_decay": 1.0,
    "schedule": "constant",
    "warmup_epochs": 0.0,
    "clip_norm": 0.0,
    "freeze_batch_norm": False,
    "ema_decay": 0.0,
    "class_weights": False,
    "dropout": DROPOUT,
    "compile": False,
    "channels_last": False,
    "fused": False,
    "probe": False,
}


def fit(
    config: TrainConfig,
    records: Records,
    run_dir: str | Path,
    *,
    tracker: Tracker | None = None,
    checkpoint_minutes: float = 10.0,
) -> Path:
    """Train a model into a run folder, continue an interrupted run, or leave a finished one as it is.

    On the CPU, a run that was interrupted at whatever moment ends with the weights, to the bit, of one that was
    not. Started by torchrun, several processes share every batch; they all need to see the run folder.

    Parameters
    ----------
    records : as `read_records` gives them; validation groups are taken from their training part, unless it has
        rows of the split "val" already.
    run_dir : the run folder; made here.
    tracker : passes the figures of every epoch on, besides history.csv; kept in the run folder.
    checkpoint_minutes : how much work a crash may cost; there is a checkpoint after every epoch too.

    Returns
    -------
    The run folder with config.json, model.safetensors (the best epoch by validation AUROC), train_config.json,
    split.csv, left_out.json, history.csv and checkpoints/model_epoch_*.pth (state dictionaries); where the
    validation slices are of enough scans, scan_rule.json. A probe has one epoch.

    Raises
    ------
    RunError : the folder holds a run of other settings or other data, or something else; or no room is left.
    DatasetError : a slice cannot be read, or a class is missing in a part.
    """
    run_dir, training = Path(run_dir), records.table[records.table["split"] == "train"]
    resolved = config.resolve(masks=has_masks(training), modalities=list_modalities(training))
    described = _describe(resolved) | {"data_sha256": hash_records(records)}
    _check_folder(run_dir, described)
    if is_trained(run_dir):
        if is_first():
            tidy(run_dir)
        say(f"{run_dir}: training is finished already.")
        return run_dir
    accelerator = start_accelerator(tracker, run_dir / "tracker" if tracker else None)
    _check_processes(resolved, accelerator.num_processes)
    torch.manual_seed(resolved.seed)
    table = records.table
    if not (table["split"] == "val").any():
        table = assign_validation(table, fraction=resolved.validation_fraction, seed=resolved.seed)
    records = _take(replace(records, table=table), resolved)
    table = records.table
    if resolved.shuffle_labels:
        table = shuffle_labels(table, seed=resolved.seed)
    model = build_model(resolved, table[table["split"] != "test"])
    parts = _decode_parts(model, records.root, table)
    accelerator.wait_for_everyone()  # all have looked at the folder before the first fills it
    if is_first():
        run_dir.mkdir(parents=True, exist_ok=True)
        tidy(run_dir)
        known = described | {"threads": torch.get_num_threads()}  # sums are rounded in their order
        write_text(run_dir / TRAIN_CONFIG_FILE, json.dumps(known, indent=2, sort_keys=True) + "\n")
        write_text(run_dir / "split.csv", table.to_csv(index=False))
        left_out = [count._asdict() for count in records.left_out]
        write_text(run_dir / LEFT_OUT_FILE, json.dumps(left_out, indent=2) + "\n")
        (run_dir / "checkpoints").mkdir(exist_ok=True)
    if words := describe_variant(resolved):
        say(f"note: {words}")
    model.to(accelerator.device)
    learned = table[table["split"] == "train"]
    masks = read_masks(model, records.root, learned) if resolved.lesions == "masks" else None
    if resolved.recipe == "probe":
        if masks is not None:
            fit_scores(model, parts["train"][0], masks)
        elif resolved.lesions == "bleeding":
            fit_bleeding(model, *parts["train"], list_modalities(learned), seed=resolved.seed)
        features = _compute_features(model, parts)
        history, logits = _fit_probe(resolved, model, parts, features)
    else:
        with _tracking(accelerator, tracker, resolved, run_dir):
            history, logits = train_epochs(
                resolved,
                accelerator,
                model,
                parts,
                run_dir,
                masks=masks,
                checkpoint_minutes=checkpoint_minutes,
            )
        features = _compute_features(model, parts) if is_first() else {}
    if is_first():
        _describe_features(model, parts, features)
        store_baseline(model.eval(), *parts["train"], list_modalities(learned))
        _finish(resolved, model, history, logits, table[table["split"] == "val"], parts["val"][1], run_dir)
    accelerator.wait_for_everyone()
    return run_dir


def _fit_probe(
    config: ResolvedConfig, model: ResNetViT, parts: Parts, features: dict[str, Tensor]
) -> tuple[pd.DataFrame, Tensor]:
    """Fit the head to still features; where masks taught lesion scores it is their sum already."""
    labels = {name: learned for name, (_, learned) in parts.items()}
    if config.lesions != "masks":
        # mirrored slices are as good a lesson: 0.903 against 0.900 in cross-validation over 62 real CT scans
        mirrored = compute_features(model, parts["train"][0].flip(2), name="mirrored slices")
        fit_head(config, model, torch.cat([features["train"], mirrored]), labels["train"].repeat(2))
    logits = {name: model.head.cpu()(one).detach() for name, one in features.items()}
    model.head.to(model.temperature.device)
    loss = float(torch.nn.functional.cross_entropy(logits["train"], labels["train"]))
    row = {"epoch": 1, "train_loss": loss} | measure_epoch(logits["val"], labels["val"])
    return pd.DataFrame([row]), logits["val"]


def shuffle_labels(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Add a column "shuffled_label", in which the labels of train and val are permuted among the groups.

    Each group counts with the label of most of its slices (of equals, stroke); within train and within val,
    these are permuted among the groups, and all slices of a group get what it drew. So the number of stroke groups
    stays as it is, that of stroke slices nearly, and nothing that slices of one patient share tells their label.
    Slices of test keep theirs.

    Raises
    ------
    DatasetError : a part is left with one class.
    """
    generator = np.random.default_rng(seed)
    shuffled = table["label"].copy()
    for split in ("train", "val"):
        part = table[table["split"] == split]
        labels = (part.groupby("group")["label"].mean() >= 0.5).astype(int).sort_index()
        dealt = pd.Series(generator.permutation(labels.to_numpy()), index=labels.index)
        shuffled[part.index] = part["group"].map(dealt)
        if labels.nunique() < 2:
            raise DatasetError(f"The {split} split has groups of one class only, so there is nothing to shuffle.")
    return table.assign(shuffled_label=shuffled)


def _finish(
    config: ResolvedConfig,
    model: ResNetViT,
    history: pd.DataFrame,
    logits: Tensor,
    validation: pd.DataFrame,
    labels: Tensor,
    run_dir: Path,
) -> None:
    """Calibrate a model and write its files.

    Parameters
    ----------
    logits, validation, labels : (N, 2), N rows and (N,), of the validation slices.
    """
    write_text(run_dir / "history.csv", history.to_csv(index=False))
    found = calibrate(
        model,
        logits.float().cpu().numpy(),
        labels.numpy(),
        method=config.calibration,
        operating_point=config.operating_point,
    )
    write_text(run_dir / CALIBRATION_FILE, json.dumps({"method": config.calibration} | found, indent=2) + "\n")
    log_odds = np.diff(logits.double().cpu().numpy(), axis=1)[:, 0] + found["shift"]
    scans = fit_scan_rule(
        validation,
        log_odds / float(model.temperature),
        labels.numpy(),
        method=config.calibration,
        operating_point=config.operating_point,
    )
    if scans is not None:
        model.store_scan_rule(scans.rule)
        write_text(run_dir / SCAN_RULE_FILE, json.dumps(scans.describe(), indent=2) + "\n")
        say(f"scans are judged by {scans.rule.words}")
    say(f"best epoch {find_best_epoch(history)}: validation AUROC {measure_epoch(logits, labels)['val_auroc']:.4f}")
    save_model(model.cpu().eval(), run_dir)
    tidy(run_dir)


def _check_folder(run_dir: Path, described: dict[str, Any]) -> None:
    file = run_dir / TRAIN_CONFIG_FILE
    if not file.is_file():
        # what a killed process left half written is ours
        if run_dir.exists() and (
            not run_dir.is_dir() or any(not path.name.endswith(".partial") for path in run_dir.iterdir())
        ):
            raise RunError(f"{run_dir}: exists and is not a run folder; choose another --run-dir.")
        return
    try:
        before = json.loads(file.read_text())
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise RunError(f"{file}: is damaged; choose another --run-dir, or delete this one.")
    before, described = GONE | _fill_in(before), GONE | described
    changed = [key for key in described if before.get(key) != described[key]]
    if changed:
        words = ", ".join(f"{key}: {before.get(key)} -> {described[key]}" for key in changed)
        raise RunError(
            f"{run_dir}: holds a run of other settings ({words}); choose another --run-dir, or delete this one."
        )


def _fill_in(before: dict[str, Any]) -> dict[str, Any]:
    """Fill in the settings that an earlier version did not have: it did what None means to its recipe now."""
    known = {field.name for field in fields(TrainConfig)}
    before = BEFORE | before
    try:
        resolved = TrainConfig(**{key: value for key, value in before.items() if key in known}).resolve()
    except (RunError, TypeError):
        return before
    return asdict(resolved) | before


def _check_processes(config: ResolvedConfig, count: int) -> None:
    if config.recipe == "probe":
        if count > 1:
            raise RunError(
                "The recipe probe takes one process; start it without torchrun, or give another --recipe."
            )
    elif config.batch_size < 2 * count:
        raise RunError(f"batch_size is {config.batch_size}, but must be at least 2 for each of {count} processes.")


def _take(records: Records, config: ResolvedConfig) -> Records:
    """Take `limit` slices of each split, spread evenly over each class, so that no class is lost."""
    if config.limit is None:
        return records
    taken: list[str] = []
    for split, part in records.table.groupby("split", sort=True):
        share = min(1.0, config.limit / len(part))
        for _, members in part.groupby("label", sort=True):
            count = max(1, round(share * len(members)))
            taken += members["path"].iloc[[i * len(members) // count for i in range(count)]].tolist()
        if len(part["label"].unique()) < 2:
            raise DatasetError(f"The {split} split holds one class only; give more slices.")
    reason = f"slices beyond {config.limit:,} of a part (--limit)"
    return records.leave_out(~records.table["path"].isin(taken), reason)


def _decode_parts(model: ResNetViT, root: Path, table: pd.DataFrame) -> Parts:
    """Decode the squares of train and val, and give the labels that are learned."""
    column = "shuffled_label" if "shuffled_label" in table else "label"
    parts = {}
    for split in ("train", "val"):
        part = table[table["split"] == split]
        parts[split] = (decode_squares(model, root, part), torch.tensor(part[column].to_numpy()))
    # a broken test slice must show now, not after the training
    decode_squares(model, root, table[table["split"] == "test"])
    return parts


def build_model(config: ResolvedConfig, training: pd.DataFrame) -> ResNetViT:
    """Build the model to be trained on the slices of a table, with the weights that it starts from."""
    model = ResNetViT(
        cnn=config.cnn,
        vit=config.vit,
        image_size=config.image_size,
        hidden=config.hidden,
        cnn_output_stride=config.cnn_output_stride,
        cnn_stages=config.cnn_stages,
        vit_blocks=config.vit_blocks,
        vit_patches=config.vit_patches,
        lesion_cells=config.lesion_cells,
        dropout=DROPOUT,
        resize="stretch" if config.recipe == "seed" else "pad",
        rendering=RENDERING,
        window=config.window,
        framing=config.framing,
        modalities=_list_modalities(training),
    )
    if config.lesion_cells:
        start_scores(model)
    if config.init_from:
        warm_start(model, config.init_from, head=config.recipe != "probe")
    else:
        load_backbone(model, "cnn", config.cnn_weights)
        load_backbone(model, "vit", config.vit_weights)
    if config.recipe == "seed":
        for name in ("cnn_mean", "cnn_std", "vit_mean", "vit_std"):
            getattr(model, name).fill_(0.5)
    with torch.no_grad():  # backbones that do not fit must show now, before anything is written
        model.eval()(torch.zeros(1, 3, model.image_size, model.image_size))
    return model


def _list_modalities(training: pd.DataFrame) -> list[Modality]:
    """List the modalities of the training slices; none where one is unknown, for it may be of any."""
    known = list_modalities(training)
    return [one for one in get_args(Modality) if one in known] if None not in known else []


def _compute_features(model: ResNetViT, parts: Parts) -> dict[str, Tensor]:
    """Compute the features, float32 (N, F) on the CPU, of the slices of train and val."""
    return {name: compute_features(model, squares, name=f"{name} slices") for name, (squares, _) in parts.items()}


def _describe_features(model: ResNetViT, parts: Parts, features: dict[str, Tensor]) -> None:
    """Store what the model was trained on, as features: their mean (contributions' baseline), scale and limit."""
    train, val = features["train"], features["val"]
    total = sum(batch.double().sum(0) for batch in train.split(32))  # in doubles, but never all of them at once
    model.feature_mean.copy_(total / len(train))
    textures = (compute_textures(parts["train"][0]), compute_textures(parts["val"][0]))
    store_limit(model, train, parts["train"][1], val, textures)


def _describe(config: ResolvedConfig) -> dict[str, Any]:
    """Describe the configuration for the run folder: files by name and SHA-256, as a path is of one machine."""
    described: dict[str, Any] = asdict(config) | {"rendering": RENDERING}
    for name in ("cnn_weights", "vit_weights", "init_from"):
        value = described[name]
        file = Path(value or "") / WEIGHTS_FILE if name == "init_from" else Path(value or "")
        if value and file.is_file():
            described |= {name: Path(value).name, f"{name}_sha256": hash_file(file)}
        elif value and name == "init_from":
            raise RunError(f"--init-from {value}: is not the folder of a finished run.")
    return described


@contextmanager
def _tracking(accelerator: Any, tracker: Tracker | None, config: ResolvedConfig, run_dir: Path) -> Iterator[None]:
    if tracker is None:
        yield
        return
    settings = {key: value for key, value in asdict(config).items() if value is not None}
    named = {} if tracker == "tensorboard" else {tracker: {"name": run_dir.name}}
    accelerator.init_trackers("stroke_hub", config=settings, init_kwargs=named)
    try:
        yield
    finally:
        for one in accelerator.trackers:
            one.finish()


def calibrate(
    model: ResNetViT,
    logits: NDArray[np.float32],
    label: Labels,
    *,
    method: Calibration = "platt",
    operating_point: OperatingPoint = "youden",
) -> dict[str, float]:
    """Calibrate a model on validation logits (N, 2), in place.

    The temperature and the threshold go into their buffers, the shift into the bias of the head's last layer, half
    to each class: the probability stays the sigmoid of the difference of the logits over the temperature. Where the
    labels give none (one class), the model keeps what it has.

    Returns
    -------
    "temperature" and "shift", in log-odds.
    """
    log_odds = np.diff(logits.astype(np.float64), axis=1)[:, 0]
    temperature, shift = fit_calibration(log_odds, label, method=method) or (float(model.temperature), 0.0)
    model.temperature.fill_(temperature)
    last: Any = model.head[-1]
    with torch.no_grad():
        last.bias += torch.tensor([-shift / 2, shift / 2]).to(last.bias)
    probability = expit((log_odds + shift) / float(model.temperature))
    threshold = choose_operating_points(label, probability)[operating_point]["threshold"]
    if threshold is not None:
        model.threshold.fill_(threshold)
    return {"temperature": float(model.temperature), "shift": shift}
