"""A probe, for a fast first look: the head is trained on features that the backbones compute once."""

import math
from typing import cast

import pandas as pd
import torch
from torch import Tensor, nn

from stroke_hub.errors import RunError
from stroke_hub.inference.ood import store_limit
from stroke_hub.inference.predict import compute_features, compute_textures
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.progress import track
from stroke_hub.runs.run_folder import find_best_epoch
from stroke_hub.runs.train_config import ResolvedConfig
from stroke_hub.training.loop import measure_epoch
from stroke_hub.training.optim import silence_branch, weigh_classes

__all__ = ["train_probe"]


def train_probe(
    config: ResolvedConfig, model: ResNetViT, parts: dict[str, tuple[Tensor, Tensor]]
) -> tuple[pd.DataFrame, Tensor]:
    """Train the head of `model`, in place, on its backbones' features of slices that are not augmented.

    The head learns on standardised features; mean and deviation then go into its first layer, so that the model
    is a usual one. The best epoch by validation AUROC is kept; `feature_mean` and the limit of distances are set.

    Parameters
    ----------
    parts : "train" and "val", each with uint8 squares (N, S, S) and labels (N,).

    Returns
    -------
    A row an epoch, as in history.csv, and the validation logits (N, 2) of the best one.

    Raises
    ------
    RunError : the loss is not finite.
    """
    if config.branches != "both":
        silence_branch(model, "vit" if config.branches == "cnn" else "cnn")
    train, val = (compute_features(model, parts[name][0], name=f"{name} slices") for name in ("train", "val"))
    labels, val_labels = parts["train"][1], parts["val"][1]
    model.feature_mean.copy_(train.mean(0))
    textures = (compute_textures(parts["train"][0]), compute_textures(parts["val"][0]))
    store_limit(model, train, labels, val, textures)
    first = cast(nn.Linear, model.head[0])
    heard = first.weight.ne(0).any(0).cpu()  # what a silenced branch says must not reach the gradient
    mean, deviation = train.mean(0), train.std(0, correction=0)
    # a feature that hardly ever stirs in training must not shout at a slice that it does stir at
    deviation = deviation.clamp_min(0.1 * float(deviation.mean()) + 1e-6)
    train, val = (torch.where(heard, (x - mean) / deviation, 0.0) for x in (train, val))
    head = model.head.cpu()
    weights = weigh_classes(labels) if config.class_weights else None
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    history: list[dict[str, float]] = []
    best: tuple[dict[str, Tensor], Tensor] = ({}, torch.empty(0, 2))
    for epoch in track(range(1, config.epochs + 1), "training the head"):
        torch.manual_seed(config.seed * 100_003 + epoch)
        total = 0.0
        head.train()
        for members in torch.randperm(len(train)).split(config.batch_size):
            loss = nn.functional.cross_entropy(head(train[members]), labels[members], weight=weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(members)
        with torch.inference_mode():
            logits = head.eval()(val)
        history.append({"epoch": epoch, "train_loss": total / len(train)} | measure_epoch(logits, val_labels))
        if not math.isfinite(total + history[-1]["val_loss"]):
            raise RunError(f"The loss of epoch {epoch} is not finite; try a lower learning rate.")
        if find_best_epoch(pd.DataFrame(history)) == epoch:
            best = ({key: value.clone() for key, value in head.state_dict().items()}, logits.clone())
    head.load_state_dict(best[0])
    _unstandardise(first, mean, deviation)
    head.to(model.temperature.device)
    return pd.DataFrame(history), best[1]


def _unstandardise(layer: nn.Linear, mean: Tensor, deviation: Tensor) -> None:
    """Fold (x - mean) / deviation into a layer that learned on it, in place, so that it takes x."""
    with torch.no_grad():
        layer.weight.div_(deviation)
        layer.bias.sub_(layer.weight @ mean)
