"""fit(config, records): a table of slices becomes a run folder. The test slices are not looked at here."""

import json
import math
import pickle
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import torch
import tyro
from torch import Tensor, nn
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from stroke_hub.calibration import OperatingPoint, calibrate
from stroke_hub.errors import DatasetError, RunError
from stroke_hub.files import replacing, write_text
from stroke_hub.inference import predict, to_float_pixels
from stroke_hub.loader import AugmentedSlices, build_loader, decode_squares
from stroke_hub.model import PRESETS, ResNetViT, load_backbone
from stroke_hub.progress import say, track
from stroke_hub.records import Records, assign_validation, hash_records
from stroke_hub.storage import CONFIG_FILE, WEIGHTS_FILE

__all__ = ["TrainConfig", "find_best_epoch", "fit", "is_trained", "read_split"]

TRAIN_CONFIG_FILE = "train_config.json"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what training gives; written beside the weights as train_config.json."""

    preset: Literal["full", "compact", "tiny"] = "full"
    """full: ResNet50 + ViT-B/16, the seed's model; compact: for small GPUs; tiny: seconds on two cores."""
    recipe: Literal["plain", "seed"] = "plain"
    """plain: padded squares, each branch's own statistics; seed: the notebook's (stretched, mean = std = 0.5)."""
    cnn: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """timm name of the CNN, instead of the preset's."""
    vit: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """timm name of the vision transformer, instead of the preset's."""
    cnn_weights: Annotated[str | None, tyro.conf.arg(metavar="imagenet|random|FILE")] = None
    """imagenet (the default; random for tiny), random, or a safetensors file."""
    vit_weights: Annotated[str | None, tyro.conf.arg(metavar="imagenet|random|FILE")] = None
    """The same for the transformer."""
    image_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Side of the square input in pixels, instead of the preset's."""
    epochs: int = 35
    """Times that every training slice is seen."""
    batch_size: int = 32
    """Slices a step."""
    learning_rate: float = 3e-4
    """AdamW's, constant."""
    weight_decay: float = 1e-4
    """AdamW's."""
    validation_fraction: float = 0.2
    """Share of the training slices that chooses the best epoch, whole groups at a time."""
    operating_point: OperatingPoint = "half"
    """What the model's threshold is: a probability of 0.5, or chosen on the validation slices (see the report)."""
    seed: int = 0
    """Decides the validation split, the first weights, the order and the augmentation. The same seed gives the same
    model on the same machine with the same number of threads (OMP_NUM_THREADS): sums are rounded in their order."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Take only this many slices of each split, spread evenly: for a quick try."""

    def resolve(self) -> "TrainConfig":
        """The same with every default that hangs on the preset filled in.

        Raises
        ------
        RunError : a number that no training can have.
        """
        # batch normalisation has no variance of one slice, so a batch is two at least
        for name, least in (("epochs", 1), ("batch_size", 2), ("limit", 1), ("image_size", 32), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and not least <= value < 2**31:
                raise RunError(f"{name} is {value}, but must be at least {least} and below 2^31.")
        if not 0 < self.validation_fraction <= 0.5:
            raise RunError(
                f"validation_fraction is {self.validation_fraction}, but must be above 0 and at most 0.5."
            )
        if not (self.learning_rate > 0 and self.weight_decay >= 0):
            raise RunError("learning_rate must be above 0 and weight_decay at least 0.")
        preset = PRESETS[self.preset]
        weights = "random" if self.preset == "tiny" else "imagenet"
        return replace(
            self,
            cnn=self.cnn or preset["cnn"],
            vit=self.vit or preset["vit"],
            image_size=self.image_size or preset["image_size"],
            cnn_weights=self.cnn_weights or weights,
            vit_weights=self.vit_weights or weights,
        )


def is_trained(run_dir: Path) -> bool:
    """Whether training in this run folder came to its end."""
    return (run_dir / WEIGHTS_FILE).is_file() and (run_dir / CONFIG_FILE).is_file()


def read_split(run_dir: Path) -> pd.DataFrame:
    """The table that the run was trained on: path, label, modality, group, split (train, val, test)."""
    table = pd.read_csv(run_dir / "split.csv", dtype=str, keep_default_na=False).astype({"label": "int64"})
    return table.assign(modality=table["modality"].where(table["modality"] != "", None).astype(object))


def find_best_epoch(history: pd.DataFrame) -> int:
    """The epoch (from 1) of the highest validation AUROC in a history; of equals, that of the lowest loss.

    On easy data many epochs reach an AUROC of 1, the first of them with probabilities that are still poor.
    """
    return int(history.sort_values(["val_auroc", "val_loss"], ascending=[False, True])["epoch"].iloc[0])


def fit(config: TrainConfig, records: Records, run_dir: str | Path) -> Path:
    """Train, or go on with a run that was interrupted, or leave a finished one as it is.

    Parameters
    ----------
    records : as `read_records` gives them; validation groups are taken from their training part.
    run_dir : the run folder; made here.

    Returns
    -------
    The run folder with config.json, model.safetensors (the best epoch by validation AUROC), train_config.json,
    split.csv, history.csv and checkpoints/model_epoch_*.pth (state dictionaries).

    Raises
    ------
    RunError : the folder holds a run of other settings or other data, or something else.
    DatasetError : a slice cannot be read, or a class is missing in a part.
    """
    run_dir, config = Path(run_dir), config.resolve()
    described = asdict(config) | {"data_sha256": hash_records(records)}
    _check_folder(run_dir, described)
    if is_trained(run_dir):
        say(f"{run_dir}: training is finished already.")
        return run_dir
    torch.manual_seed(config.seed)
    table = _take(assign_validation(records.table, fraction=config.validation_fraction, seed=config.seed), config)
    model = _build_model(config)
    parts = {}
    for split in ("train", "val"):
        part = table[table["split"] == split]
        labels = torch.tensor(part["label"].to_numpy())
        parts[split] = (decode_squares(model, records.root, part["path"]), labels)
    # a broken test slice must show now, not after the training
    decode_squares(model, records.root, table.loc[table["split"] == "test", "path"])
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(run_dir / TRAIN_CONFIG_FILE, json.dumps(described, indent=2, sort_keys=True) + "\n")
    write_text(run_dir / "split.csv", table.to_csv(index=False))
    (run_dir / "checkpoints").mkdir(exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _run_epochs(config, model.to(device), parts, run_dir)
    return run_dir


def _check_folder(run_dir: Path, described: dict[str, Any]) -> None:
    file = run_dir / TRAIN_CONFIG_FILE
    if not file.is_file():
        if run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
            raise RunError(f"{run_dir}: exists and is not a run folder; choose another --run-dir.")
        return
    try:
        before = json.loads(file.read_text())
    except ValueError:
        before = None
    if not isinstance(before, dict):
        raise RunError(f"{file}: is damaged; choose another --run-dir, or delete this one.")
    changed = [key for key in described if before.get(key) != described[key]]
    if changed:
        words = ", ".join(f"{key}: {before.get(key)} -> {described[key]}" for key in changed)
        raise RunError(
            f"{run_dir}: holds a run of other settings ({words}); choose another --run-dir, or delete this one."
        )


def _take(table: pd.DataFrame, config: TrainConfig) -> pd.DataFrame:
    """`limit` slices of each split, spread evenly over each class, so that none is lost."""
    if config.limit is None:
        return table
    taken = []
    for split, part in table.groupby("split", sort=True):
        share = min(1.0, config.limit / len(part))
        for _, members in part.groupby("label", sort=True):
            count = max(1, round(share * len(members)))
            taken.append(members.iloc[[i * len(members) // count for i in range(count)]])
        if len(part["label"].unique()) < 2:
            raise DatasetError(f"The {split} split holds one class only; give more slices.")
    return pd.concat(taken).sort_values("path", ignore_index=True)


def _build_model(config: TrainConfig) -> ResNetViT:
    preset = PRESETS[config.preset]
    model = ResNetViT(
        cnn=config.cnn or preset["cnn"],
        vit=config.vit or preset["vit"],
        image_size=config.image_size or preset["image_size"],
        resize="stretch" if config.recipe == "seed" else "pad",
    )
    load_backbone(model, "cnn", config.cnn_weights or "random")
    load_backbone(model, "vit", config.vit_weights or "random")
    if config.recipe == "seed":
        for name in ("cnn_mean", "cnn_std", "vit_mean", "vit_std"):
            getattr(model, name).fill_(0.5)
    with torch.no_grad():  # backbones that do not fit must show now, before anything is written
        model.eval()(torch.zeros(1, 3, model.image_size, model.image_size))
    return model


def _run_epochs(
    config: TrainConfig, model: ResNetViT, parts: dict[str, tuple[Tensor, Tensor]], run_dir: Path
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    checkpoints = run_dir / "checkpoints"
    state = _resume(checkpoints / "last.pth", model, optimizer)
    dataset = AugmentedSlices(*parts["train"])
    for epoch in range(len(state["history"]) + 1, config.epochs + 1):
        # one seed an epoch, so that a continued run draws what an uninterrupted one would have drawn
        torch.manual_seed(config.seed * 100_003 + epoch)
        loss = _train_epoch(config, model, optimizer, dataset, epoch)
        row = {"epoch": epoch, "train_loss": loss} | _validate(model, *parts["val"])
        if not math.isfinite(row["val_loss"]):
            raise RunError(f"The validation loss of epoch {epoch} is not finite; try a lower learning rate.")
        state["history"].append(row)
        say(
            f"epoch {epoch}/{config.epochs}: train loss {loss:.4f}, validation loss {row['val_loss']:.4f}, "
            f"accuracy {row['val_accuracy']:.4f}, AUROC {row['val_auroc']:.4f}"
        )
        if find_best_epoch(pd.DataFrame(state["history"])) == epoch:
            state["best"] = _copy_state(model)
        if epoch % 10 == 0:
            _save(_copy_state(model), checkpoints / f"model_epoch_{epoch:03d}.pth")
        write_text(run_dir / "history.csv", pd.DataFrame(state["history"]).to_csv(index=False))
        _save(
            state | {"model": model.state_dict(), "optimizer": optimizer.state_dict()},
            checkpoints / "last.pth",
        )
    model.load_state_dict(state["best"])
    _describe_features(model, parts["train"][0])
    squares, labels = parts["val"]
    calibrate(model, predict(model.eval(), squares).logits, labels.numpy(), operating_point=config.operating_point)
    best = find_best_epoch(pd.DataFrame(state["history"]))
    say(f"best epoch {best}: validation AUROC {state['history'][best - 1]['val_auroc']:.4f}")
    model.cpu().eval().save_pretrained(run_dir)
    (checkpoints / "last.pth").unlink()


def _train_epoch(
    config: TrainConfig,
    model: ResNetViT,
    optimizer: torch.optim.Optimizer,
    dataset: AugmentedSlices,
    epoch: int,
) -> float:
    device = model.temperature.device
    loader = build_loader(dataset, batch_size=config.batch_size, seed=config.seed * 100_003 + epoch)
    total, seen = 0.0, 0
    model.train()
    steps = track(loader, f"epoch {epoch}/{config.epochs}", status=lambda: f"loss {total / max(seen, 1):.4f}")
    for squares, labels in steps:
        if len(labels) == 1 and len(dataset) > 1:
            continue  # batch normalisation has no variance of one slice
        logits = model(to_float_pixels(squares, device))
        loss = nn.functional.cross_entropy(logits, labels.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total, seen = total + loss.item() * len(labels), seen + len(labels)
    if not math.isfinite(total):
        raise RunError(f"The loss of epoch {epoch} is not finite; try a lower learning rate.")
    return total / max(seen, 1)


def _validate(model: ResNetViT, squares: Tensor, labels: Tensor) -> dict[str, float]:
    logits = torch.from_numpy(predict(model.eval(), squares).logits)
    probability = logits.softmax(1)[:, 1]
    return {
        "val_loss": float(nn.functional.cross_entropy(logits, labels)),
        "val_accuracy": float(BinaryAccuracy()(probability, labels)),
        "val_auroc": float(BinaryAUROC()(probability, labels)),
    }


def _describe_features(model: ResNetViT, squares: Tensor) -> None:
    """Store the training set's mean features, the baseline that contributions are measured from."""
    model.eval()
    device = model.temperature.device
    total = torch.zeros_like(model.feature_mean, dtype=torch.float64)
    with torch.inference_mode():
        for batch in track(torch.split(squares, 32), "mean features"):
            total += model.features(to_float_pixels(batch, device)).double().sum(0)
    model.feature_mean.copy_((total / len(squares)).float())


def _copy_state(model: ResNetViT) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}


def _resume(file: Path, model: ResNetViT, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    if not file.is_file():
        return {"history": [], "best": {}}
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state.pop("model"))
        optimizer.load_state_dict(state.pop("optimizer"))
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise RunError(f"{file}: is damaged; delete it to train this run from its beginning.") from error
    say(f"{file.parent.parent}: going on after epoch {len(state['history'])}.")
    return state


def _save(state: dict[str, Any], file: Path) -> None:
    with replacing(file) as partial:
        torch.save(state, partial)
