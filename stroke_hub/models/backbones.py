"""Pretrained weights for one branch of a model."""

from pathlib import Path
from typing import Any, Literal

import timm
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import nn

from stroke_hub.errors import HubError, ModelFormatError
from stroke_hub.models.download import download
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.models.weights import WEIGHTS_FILE

__all__ = ["load_backbone"]

HUB = "hf-hub:"  # timm's own prefix


def load_backbone(model: ResNetViT, branch: Literal["cnn", "vit"], source: str) -> None:
    """Give one branch pretrained weights, in place.

    Parameters
    ----------
    branch : "cnn" or "vit".
    source : "random" leaves it as it is, "imagenet" fetches timm's own weights, ``hf-hub:owner/name`` (or
        ``hf-hub:owner/name@revision``) those of that repository's model.safetensors; anything else is the path of a
        safetensors file with them.

    Raises
    ------
    HubError : the download failed.
    ModelFormatError : the file is missing, not safetensors, or of another architecture.
    """
    if source == "random":
        return
    backbone = getattr(model, branch)
    architecture = backbone.pretrained_cfg["architecture"]
    tag = backbone.pretrained_cfg.get("tag")
    options: dict[str, Any] = {"num_classes": 0, "pretrained": True}
    if branch == "vit":
        options |= {"img_size": model.image_size, "global_pool": "token"}
    if source == "imagenet":
        name = f"{architecture}.{tag}" if tag else architecture
    else:
        file = source
        if source.startswith(HUB):
            repo, _, revision = source.removeprefix(HUB).partition("@")
            file = str(download(repo, WEIGHTS_FILE, revision or "main", {}))
        elif Path(source).suffix != ".safetensors" or not Path(source).is_file():
            raise ModelFormatError(
                f"{source}: is not a safetensors file; give imagenet, random, {HUB}owner/name or such a file."
            )
        _check_backbone_file(backbone, file, source, architecture)
        name, options["pretrained_cfg_overlay"] = architecture, {"file": file}
    try:
        pretrained = timm.create_model(name, **options)
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise HubError(
            f"The pretrained weights of {name} could not be downloaded ({type(error).__name__}); give "
            f"--{branch}-weights a safetensors file, or random to train from nothing."
        ) from error
    except (RuntimeError, KeyError, SafetensorError) as error:
        raise ModelFormatError(f"{source}: does not hold the weights of {architecture}.") from error
    whole = pretrained.state_dict()  # the branch may be cut to fewer stages or blocks
    backbone.load_state_dict({key: whole[key] for key in backbone.state_dict()})


def _check_backbone_file(backbone: nn.Module, path: str, source: str, architecture: str) -> None:
    """Refuse a file of another architecture: timm loads what fits and is silent about the rest."""
    try:
        with safe_open(path, framework="pt") as file:
            missing = {key for key, _ in backbone.named_parameters()} - set(file.keys())
    except (SafetensorError, OSError) as error:
        raise ModelFormatError(f"{source}: is damaged or not safetensors.") from error
    if missing:
        raise ModelFormatError(f"{source}: does not hold the weights of {architecture} (no {min(missing)} in it).")
