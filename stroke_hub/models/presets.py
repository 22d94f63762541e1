"""The classes, and the presets of backbones and image size."""

from typing import Any

__all__ = ["CLASSES", "PRESETS"]

PRESETS: dict[str, dict[str, Any]] = {
    "full": {"cnn": "resnet50", "vit": "vit_base_patch16_224", "image_size": 224},
    "compact": {"cnn": "resnet18", "vit": "vit_tiny_patch16_224", "image_size": 224},
    "tiny": {"cnn": "test_resnet", "vit": "test_vit", "image_size": 128},
}

CLASSES = ("Normal", "Stroke")
