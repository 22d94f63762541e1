"""A linear probe: the head is fitted, as a logistic regression, to features that the backbones compute once."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.runs.train_config import ResolvedConfig

__all__ = ["fit_head", "fit_logistic"]

Floats = NDArray[np.float64]

# scikit-learn's C, the inverse of the L2 penalty; chosen by cross-validation over the patients of 62 training scans
INVERSE_PENALTY = 0.003
ITERATIONS = 1000  # at most
DEVIATION_FLOOR = 0.1  # of the branch's mean deviation
SCORE_WEIGHT = 4.0  # of a lesion score over other features, so that the penalty spares it


def fit_head(config: ResolvedConfig, model: ResNetViT, features: Tensor, labels: Tensor) -> None:
    """Fit the linear head of `model`, in place, to features of training slices.

    The two logits share the log-odds of `fit_logistic`, half each, so that the model is a usual one.

    Parameters
    ----------
    features : float32 (N, F) on the CPU. An ablation learns on those of its branch; the others have weights of 0.
    labels : (N,).
    """
    scored = bool(model.lesion_cells)
    weight, bias = fit_logistic(features, labels, split=model.cnn_features, branches=config.branches, scored=scored)
    head, halves = cast(nn.Linear, model.head[-1]), torch.tensor([-0.5, 0.5], dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(halves[:, None] * torch.from_numpy(weight))
        head.bias.copy_(halves * bias)


def fit_logistic(
    features: Tensor, labels: Tensor, *, split: int, branches: str = "both", scored: bool = False
) -> tuple[Floats, float]:
    """Fit a logistic regression with an L2 penalty and balanced classes to standardised features.

    Parameters
    ----------
    features : (N, F). labels : (N,), 1 of strokes.
    split : how many of the features are the CNN's.
    branches : "both", "cnn" or "vit": whose features count.
    scored : whether the last feature of each branch is its lesion score.

    Returns
    -------
    Weights (F,) and bias of the features as they are: mean and deviation are in them.
    """
    heard = {"both": slice(None), "cnn": slice(0, split), "vit": slice(split, None)}[branches]
    train = features.double().numpy()
    mean, deviation = train.mean(0), _floor_deviation(train.std(0), split)
    if scored:
        deviation[[split - 1, -1]] /= SCORE_WEIGHT
    regression = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=ITERATIONS)
    regression.fit(((train - mean) / deviation)[:, heard], labels.numpy())
    weight = np.zeros_like(mean)
    weight[heard] = regression.coef_[0] / deviation[heard]
    return weight, float(regression.intercept_[0]) - float(weight @ mean)


def _floor_deviation(deviation: Floats, split: int) -> Floats:
    """Floor deviations (F,): a feature that hardly stirs in training must not shout where it does stir."""
    parts = [part.clip(DEVIATION_FLOOR * part.mean() + 1e-6) for part in (deviation[:split], deviation[split:])]
    return np.concatenate(parts)
