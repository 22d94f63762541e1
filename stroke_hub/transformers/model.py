"""StrokeHubForImageClassification: a ResNetViT as a model of transformers, with calibrated logits."""

from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutput

from stroke_hub.inference.predict import check_precision
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.transformers.configuration import StrokeHubConfig
from stroke_hub.transformers.options import refuse_options

__all__ = ["StrokeHubForImageClassification"]


class StrokeHubForImageClassification(PreTrainedModel):  # type: ignore[misc]
    """Classify slices by a loaded `ResNetViT`.

    Attributes
    ----------
    network : the `ResNetViT`, which `predict` and `explain` take.
    """

    config_class = StrokeHubConfig
    config: StrokeHubConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: StrokeHubConfig, network: ResNetViT | None = None) -> None:
        """Take a network; without one, one with random weights is made of the configuration."""
        super().__init__(config)
        self.network = network or ResNetViT(**config.get_arguments())
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave the weights as they are: the network initialises its own, or brings them."""

    def forward(self, pixel_values: Tensor) -> ImageClassifierOutput:
        """Compute logits (N, 2), divided by the model's temperature: their softmax is calibrated.

        Parameters
        ----------
        pixel_values : float32 (N, 3, S, S) in [0, 1], as `StrokeHubImageProcessor` makes them.

        Raises
        ------
        ModelFormatError : the model is in half precision.
        """
        check_precision(self.network)
        return ImageClassifierOutput(logits=self.network(pixel_values) / self.network.temperature)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        config: StrokeHubConfig | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        dtype: str | torch.dtype | None = None,
        **options: Any,
    ) -> Self:
        """Load a model as `ResNetViT.from_pretrained` does, from the very file that was published.

        Parameters
        ----------
        pretrained_model_name_or_path, revision, token, cache_dir, force_download, local_files_only : as there.
        config : of the same model, where it is read already.
        dtype : "auto" or float32; the model answers in no other.
        options : of transformers. Those that would change nothing are accepted.

        Raises
        ------
        ModelFormatError, HubError : as there.
        ValueError : an option asks for what the model cannot do.
        """
        if dtype not in (None, "auto", "float32", torch.float32):
            raise ValueError(f"dtype is {str(dtype)!r}, but the model answers in float32 only; leave dtype out.")
        refuse_options(options)
        where: dict[str, Any] = {
            "revision": revision,
            "token": token,
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
        }
        network = ResNetViT.from_pretrained(str(pretrained_model_name_or_path), **where)
        own = StrokeHubConfig(**network.get_config(), name_or_path=str(pretrained_model_name_or_path))
        if config is not None and config.get_arguments() != own.get_arguments():
            raise ValueError("config is of another model, or was changed; leave it out.")
        model = cls(config or own, network)
        model.eval()
        return model

    def save_pretrained(self, save_directory: str | PathLike[str], **options: Any) -> None:
        """Write the files that `ResNetViT.save_pretrained` writes.

        Raises
        ------
        ModelFormatError : the model is in half precision.
        ValueError : an option asks for what cannot be done.
        """
        refuse_options(options)
        self.network.save_pretrained(Path(save_directory))
