"""The optimiser: parameter groups, learning rates, frozen parts and the average of the weights."""

from collections.abc import Callable, Collection
from typing import Any, Literal, cast

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay  # type: ignore[attr-defined]
from timm.scheduler import CosineLRScheduler  # type: ignore[attr-defined]
from timm.utils import ModelEmaV3  # type: ignore[attr-defined]
from torch import Tensor, nn

from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.runs.train_config import ResolvedConfig

__all__ = [
    "BranchView",
    "build_average",
    "build_optimizer",
    "build_schedule",
    "hold_still",
    "silence_branch",
    "weigh_classes",
]

BRANCHES: tuple[Literal["cnn", "vit"], ...] = ("cnn", "vit")


def build_optimizer(model: ResNetViT, config: ResolvedConfig) -> torch.optim.AdamW:
    """Build AdamW over the parameters of the model that require gradients now.

    Without layer decay, and with weight decay on every parameter, there is one group; otherwise timm's: each
    backbone by its own `group_matcher`, with "lr_scale" = layer_decay^(layers above it), the head at 1.
    """
    rate, decay = config.learning_rate, config.weight_decay
    scales = {"cnn": config.cnn_layer_decay, "vit": config.vit_layer_decay}
    groups: list[Any] = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not config.decay_norms or set(scales.values()) != {1.0}:
        groups = []
        for branch, scale in scales.items():
            backbone = getattr(model, branch)
            spared: Collection[str] = () if config.decay_norms else getattr(backbone, "no_weight_decay", tuple)()
            groups += param_groups_layer_decay(
                backbone,
                weight_decay=decay,
                weight_decay_exclude_1d=not config.decay_norms,
                no_weight_decay_list=spared,
                layer_decay=scale,
            )
        groups += (
            [{"params": list(model.head.parameters()), "weight_decay": decay}]
            if config.decay_norms
            else param_groups_weight_decay(model.head, decay)
        )
        for group in groups:
            group["lr"] = rate * group.setdefault("lr_scale", 1.0)
    return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=config.fused or None)


def build_schedule(optimizer: torch.optim.Optimizer, config: ResolvedConfig, steps: int) -> Callable[[int], None]:
    """Build a function that sets the optimiser's learning rates for update number `step`, from 0.

    They follow from `step` alone: a constant, or (Loshchilov and Hutter, 2017) a linear warm-up from a hundredth
    and half a cosine down to 0, both behind the head's epochs, which have the constant.

    Parameters
    ----------
    steps : updates in one epoch.
    """
    if config.schedule != "cosine":
        return lambda step: None
    rate = config.learning_rate
    head, warmup = config.head_epochs * steps, round(config.warmup_epochs * steps)
    for group in optimizer.param_groups:
        group["lr"] = rate  # what timm takes as the highest, and scales by each group's lr_scale
    cosine = CosineLRScheduler(
        optimizer,
        t_initial=max(config.epochs * steps - head - warmup, 2),
        warmup_t=warmup,
        warmup_lr_init=rate / 100,
        warmup_prefix=True,
        t_in_epochs=False,
    )

    def set_rates(step: int) -> None:
        if step < head:
            cosine.update_groups(rate)
        else:
            cosine.step_update(step - head)

    return set_rates


def hold_still(model: ResNetViT, optimizer: torch.optim.Optimizer, config: ResolvedConfig, epoch: int) -> None:
    """Put the model into training mode for an epoch (from 1), but for the parts that this epoch freezes.

    Backbones of given weights in the head's epochs, and a branch that an ablation does without, get no
    gradients and are in evaluation mode; frozen BatchNorm layers are in evaluation mode.
    """
    model.train()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.requires_grad_(True)
    for branch in BRANCHES:
        absent = config.branches not in ("both", branch)
        if absent or (epoch <= config.head_epochs and config.is_given(branch)):
            getattr(model, branch).eval().requires_grad_(False)
    if config.freeze_batch_norm:
        for module in model.cnn.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def silence_branch(model: ResNetViT, branch: Literal["cnn", "vit"]) -> None:
    """Silence one branch, in place: the head's weights for its features are 0 and will stay so.

    The saved model then is a usual one whose other branch alone decides; `BranchView` trains it, where the
    features are zeros, so that the gradient of these weights is 0 too.
    """
    first, split = cast(nn.Linear, model.head[0]), model.cnn_features
    columns = slice(0, split) if branch == "cnn" else slice(split, None)
    with torch.no_grad():
        first.weight[:, columns] = 0
    getattr(model, branch).requires_grad_(False)


class BranchView(nn.Module):
    """Show the model with zeros in place of one branch's features, which are not computed."""

    def __init__(self, model: ResNetViT, branch: Literal["cnn", "vit"]) -> None:
        super().__init__()
        self.model, self.branch = model, branch

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (N, 2) of float pixels (N, 3, S, S) in [0, 1]."""
        model = self.model
        split = model.cnn_features
        features = x.new_zeros(len(x), len(model.feature_mean))
        if self.branch == "cnn":
            features = torch.cat([model.pool_maps(model.map_stages(x)), features[:, split:]], 1)
        else:
            tokens = model.vit.forward_features(model.normalise_vit(x))
            features = torch.cat([features[:, :split], model.pool_tokens(tokens)], 1)
        return cast(Tensor, model.head(features))


def build_average(model: ResNetViT, config: ResolvedConfig) -> Any:
    """Build timm's moving average of the weights (buffers are copied), or None where the configuration has none."""
    if not config.ema_decay:
        return None
    return ModelEmaV3(model, decay=config.ema_decay, use_warmup=True, exclude_buffers=True)


def weigh_classes(labels: Tensor) -> Tensor:
    """Compute the weight of each class in the loss, float32 (2,): N / (2 N_class), for labels (N,) of 0 and 1."""
    counts = torch.bincount(labels, minlength=2).float()
    return len(labels) / (2 * counts)
