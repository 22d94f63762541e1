"""The optimiser, its learning rates, and the branch that an ablation does without."""

from collections.abc import Callable
from typing import Literal, cast

import torch
from timm.scheduler import CosineLRScheduler  # type: ignore[attr-defined]
from torch import Tensor, nn

from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.runs.train_config import ResolvedConfig

__all__ = ["WEIGHT_DECAY", "BranchView", "build_optimizer", "build_schedule", "set_training", "silence_branch"]

BRANCHES: tuple[Literal["cnn", "vit"], ...] = ("cnn", "vit")
WEIGHT_DECAY = {"scratch": 0.05, "plain": 1e-4, "seed": 1e-4}
WARM_UP = 1 / 12  # of all steps, of the recipe scratch


def build_optimizer(model: ResNetViT, config: ResolvedConfig) -> torch.optim.AdamW:
    """Build AdamW over the parameters of the model that require gradients now, in one group."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(learned, lr=config.learning_rate, weight_decay=WEIGHT_DECAY[config.recipe])


def build_schedule(optimizer: torch.optim.Optimizer, config: ResolvedConfig, steps: int) -> Callable[[int], None]:
    """Build a function that sets the optimiser's learning rate for update number `step`, from 0.

    It follows from `step` alone: a constant (plain, seed), or (scratch; Loshchilov and Hutter, 2017) a linear
    warm-up from a hundredth, then half a cosine down to 0.

    Parameters
    ----------
    steps : updates in one epoch.
    """
    if config.recipe != "scratch":
        return lambda step: None
    total = config.epochs * steps
    warmup = max(1, round(WARM_UP * total))
    cosine = CosineLRScheduler(
        optimizer,
        t_initial=max(total - warmup, 2),
        warmup_t=warmup,
        warmup_lr_init=config.learning_rate / 100,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    return lambda step: cosine.step_update(step)


def set_training(model: ResNetViT, config: ResolvedConfig) -> None:
    """Put the model into training mode, but for a branch that an ablation does without."""
    model.train()
    for branch in BRANCHES:
        if config.branches not in ("both", branch):
            getattr(model, branch).eval()


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
