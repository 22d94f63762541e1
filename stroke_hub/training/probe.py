"""A linear probe: the head is fitted, as a logistic regression, to features that the backbones compute once."""

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.runs.train_config import ResolvedConfig

__all__ = ["fit_head"]

Floats = NDArray[np.float64]

# scikit-learn's C, the inverse of the L2 penalty; chosen by cross-validation over the patients of 62 training scans
INVERSE_PENALTY = 0.003
ITERATIONS = 1000  # at most
DEVIATION_FLOOR = 0.1  # of the branch's mean deviation


def fit_head(config: ResolvedConfig, model: ResNetViT, features: Tensor, labels: Tensor) -> None:
    """Fit the linear head of `model`, in place, to features of training slices.

    A logistic regression with an L2 penalty and balanced classes learns on standardised features. Mean and
    deviation then go into the head, so that the model is a usual one. The two logits share the log-odds, half each.

    Parameters
    ----------
    features : float32 (N, F) on the CPU. An ablation learns on those of its branch; the others have weights of 0.
    labels : (N,).
    """
    split = model.cnn_features
    heard = {"both": slice(None), "cnn": slice(0, split), "vit": slice(split, None)}[config.branches]
    train = features.double().numpy()
    mean, deviation = train.mean(0), _floor_deviation(train.std(0), split)
    regression = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=ITERATIONS)
    regression.fit(((train - mean) / deviation)[:, heard], labels.numpy())
    weight = np.zeros_like(mean)
    weight[heard] = regression.coef_[0] / deviation[heard]
    bias = float(regression.intercept_[0]) - float(weight @ mean)
    head, halves = cast(nn.Linear, model.head[-1]), torch.tensor([-0.5, 0.5], dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(halves[:, None] * torch.from_numpy(weight))
        head.bias.copy_(halves * bias)


def _floor_deviation(deviation: Floats, split: int) -> Floats:
    """Floor deviations (F,): a feature that hardly stirs in training must not shout where it does stir."""
    parts = [part.clip(DEVIATION_FLOOR * part.mean() + 1e-6) for part in (deviation[:split], deviation[split:])]
    return np.concatenate(parts)
