"""The table of a training's epochs: what stands in a row, and which row is best."""

import pandas as pd
from torch import Tensor, nn
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

__all__ = ["find_best_epoch", "measure_epoch"]


def measure_epoch(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Loss, accuracy and AUROC of the validation slices, from logits (N, 2) and labels (N,)."""
    probability = logits.softmax(1)[:, 1]
    return {
        "val_loss": float(nn.functional.cross_entropy(logits, labels)),
        "val_accuracy": float(BinaryAccuracy()(probability, labels)),
        "val_auroc": float(BinaryAUROC()(probability, labels)),
    }


def find_best_epoch(history: pd.DataFrame) -> int:
    """The epoch (from 1) of the highest validation AUROC in a history; of equals, that of the lowest loss.

    On easy data many epochs reach an AUROC of 1, the first of them with probabilities that are still poor.
    """
    return int(history.sort_values(["val_auroc", "val_loss"], ascending=[False, True])["epoch"].iloc[0])
