"""The classes, the presets of backbones and image size, and the names of what contributions are compared with."""

from collections.abc import Sequence
from typing import Any

__all__ = ["CLASSES", "PRESETS", "find_baseline", "name_baselines"]

PRESETS: dict[str, dict[str, Any]] = {
    "full": {"cnn": "resnet50", "vit": "vit_base_patch16_224", "image_size": 224},
    "compact": {"cnn": "resnet18", "vit": "vit_tiny_patch16_224", "image_size": 224},
    "tiny": {"cnn": "test_resnet", "vit": "test_vit", "image_size": 128},
}

CLASSES = ("Normal", "Stroke")


def name_baselines(modalities: Sequence[str], *, has_normal: bool) -> tuple[str, ...]:
    """Name the baselines of a model of these modalities, in their order.

    Parameters
    ----------
    has_normal : whether the model stores the mean of its normal training slices; older models do not.
    """
    if not has_normal:
        return ("mean of all training slices",)
    if not modalities:
        return ("mean of the normal training slices",)
    own = tuple(f"mean of the normal {modality} training slices" for modality in modalities)
    return own if len(own) == 1 else (*own, "mean of the normal training slices of both modalities")


def find_baseline(modalities: Sequence[str], modality: str | None, *, count: int) -> int:
    """Find the number of a slice's baseline, of `count`: its modality's, or the last where nobody says more."""
    known = count > 1 and modality is not None and modality in modalities
    return list(modalities).index(str(modality)) if known else count - 1
