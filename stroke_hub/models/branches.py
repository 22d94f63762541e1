"""The two branches of a model: timm's backbones, cut to what gives features."""

from typing import Any

import timm

from stroke_hub.errors import ModelFormatError

__all__ = ["create_cnn", "create_vit"]


def create_cnn(name: str, *, output_stride: int = 32, stages: int = 0) -> tuple[Any, list[int]]:
    """Create a CNN of random weights; also give the channels of each map that gives features.

    Parameters
    ----------
    output_stride : pixels a cell of the last map; below 32 the last stages are dilated.
    stages : how many of the last stages give maps; 0 is the final map alone.

    Raises
    ------
    ModelFormatError : timm cannot build this CNN so.
    """
    options: dict[str, Any] = (
        {} if output_stride == 32 else {"output_stride": output_stride}
    )  # not every CNN has the option
    try:
        cnn: Any = timm.create_model(name, pretrained=False, num_classes=0, **options)
    except (TypeError, NotImplementedError, AssertionError, ValueError):
        raise ModelFormatError(
            f"{name} cannot be built with cnn_output_stride {output_stride}; leave it at 32, or choose another CNN."
        ) from None
    if not stages:
        return cnn, [cnn.num_features]
    if not hasattr(cnn, "forward_intermediates") or len(cnn.feature_info) < stages:
        raise ModelFormatError(f"{name} does not give the maps of {stages} stages; choose fewer, or another CNN.")
    # what follows the last stage gives no feature then
    cnn.prune_intermediate_layers(len(cnn.feature_info) - 1, prune_norm=True, prune_head=True)
    return cnn, [int(one["num_chs"]) for one in list(cnn.feature_info)[-stages:]]


def create_vit(name: str, image_size: int, *, blocks: int = 0) -> Any:
    """Create a vision transformer of random weights with a CLS token.

    Parameters
    ----------
    blocks : how many of its first blocks are kept, before the final norm; 0 keeps all.

    Raises
    ------
    ModelFormatError : timm cannot build it so, or it has no CLS token.
    """
    try:
        vit: Any = timm.create_model(
            name, pretrained=False, num_classes=0, img_size=image_size, global_pool="token"
        )
    except (TypeError, AssertionError, ValueError) as error:
        raise ModelFormatError(
            f"{name} cannot be built for {image_size} pixels with a CLS token; choose another timm ViT or size."
        ) from error
    if getattr(vit, "cls_token", None) is None or not hasattr(vit, "blocks"):
        raise ModelFormatError(f"{name} has no CLS token; choose a timm ViT that has one.")
    patch = vit.patch_embed.patch_size[0]
    if image_size % patch:
        raise ModelFormatError(
            f"image_size is {image_size}, but must be a multiple of {name}'s patches of {patch}."
        )
    if blocks > len(vit.blocks):
        raise ModelFormatError(f"vit_blocks is {blocks}, but {name} has {len(vit.blocks)} blocks.")
    if blocks:
        vit.blocks = vit.blocks[:blocks]
    return vit
