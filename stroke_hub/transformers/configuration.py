"""StrokeHubConfig: config.json as transformers reads it."""

from inspect import signature
from typing import Any

from transformers import PreTrainedConfig

from stroke_hub.models.presets import CLASSES
from stroke_hub.models.resnet_vit import MODEL_TYPE, ResNetViT

__all__ = ["StrokeHubConfig"]


class StrokeHubConfig(PreTrainedConfig):  # type: ignore[misc]
    """Hold the arguments of a `ResNetViT`, as attributes, and the names of the classes.

    It is for reading: `StrokeHubForImageClassification.save_pretrained` writes the network's own config.json.
    """

    model_type = MODEL_TYPE

    def get_arguments(self) -> dict[str, Any]:
        """Get the arguments of the `ResNetViT` that the configuration names."""
        names = signature(ResNetViT).parameters
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def __post_init__(self, **kwargs: Any) -> None:
        self.id2label = dict(enumerate(CLASSES))
        self.label2id = {name: number for number, name in enumerate(CLASSES)}
        super().__post_init__(**kwargs)
