"""StrokeHubImageProcessor: slices become the pixels that a model sees, as in `predict`."""

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from stroke_hub.errors import ModelFormatError
from stroke_hub.inference.inputs import Given, to_slices
from stroke_hub.inference.results import to_squares
from stroke_hub.io.rendering import Rendering
from stroke_hub.io.sight import FramedSlice, Framing, Sight
from stroke_hub.io.slices import Slice, check_modality
from stroke_hub.io.windowing import Modality, Window
from stroke_hub.models.download import download
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.models.sample import locate_model
from stroke_hub.models.weights import CONFIG_FILE, PREPROCESSOR, read_config
from stroke_hub.transformers.options import refuse_options

__all__ = ["StrokeHubImageProcessor"]


class StrokeHubImageProcessor(BaseImageProcessor):  # type: ignore[misc]
    """Render, crop and resize slices as a model was trained, float32 (N, 3, S, S) in [0, 1].

    Attributes
    ----------
    image_size, resize, rendering, window, framing, modalities : what the model sees of a slice, as of `Sight`. They
        come from the model's config.json; preprocessor_config.json only names this class.
    modality : of slices that do not say theirs, "BT" or "MR". Where it is None, they are treated as `predict` does:
        as of the model's own modality if it was trained on one only, else as of no known one.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012
    image_size: int
    resize: Literal["pad", "stretch"]
    rendering: Rendering
    window: Window
    framing: Framing
    modalities: tuple[Modality, ...]

    def __init__(self, sight: Sight, *, modality: Modality | Literal["CT"] | None = None) -> None:
        """Take what a model sees of a slice; `from_pretrained` finds it.

        Raises
        ------
        ValueError : there is no such modality.
        """
        super().__init__()
        self.image_size, self.resize, self.framing = sight.image_size, sight.resize, sight.framing
        self.rendering, self.window, self.modalities = sight.rendering, sight.window, sight.modalities
        self.modality = check_modality(modality)

    def __repr__(self) -> str:
        size = f"{self.image_size} x {self.image_size}"
        return f"StrokeHubImageProcessor({size}, modality={self.modality!r})"

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        modality: Modality | Literal["CT"] | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        dtype: object = None,
        **options: Any,
    ) -> Self:
        """Read from a model's config.json what it sees of a slice.

        Parameters
        ----------
        pretrained_model_name_or_path, revision, token, cache_dir, force_download, local_files_only : as of
            `ResNetViT.from_pretrained`.
        modality : as of this class.
        dtype : of the model; a pipeline passes it here, too.
        options : of transformers. Those that would change nothing are accepted.

        Raises
        ------
        ModelFormatError, HubError : as there.
        ValueError : there is no such modality, or an option asks for what cannot be done.
        """
        refuse_options(options)
        name = locate_model(str(pretrained_model_name_or_path))
        where = {
            "token": token,
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
        }
        folder = Path(name)
        file = folder / CONFIG_FILE if folder.is_dir() else download(name, CONFIG_FILE, revision, where)
        if not file.is_file():
            raise ModelFormatError(f"{name}: has no {CONFIG_FILE}, so it is not a saved ResNetViT.")
        return cls(ResNetViT.outline(read_config(file, name), name), modality=modality)

    def to_dict(self) -> dict[str, Any]:
        """Give what preprocessor_config.json holds: the name of this class."""
        return dict(PREPROCESSOR)

    def __call__(
        self,
        images: Given,
        *,
        modality: Modality | Literal["CT"] | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Make pixel_values, float32 (N, 3, S, S) in [0, 1], of N slices.

        Parameters
        ----------
        images : what holds slices, as `predict` takes it, but for squares that are framed already.
        modality : of slices that do not say theirs; None is the processor's own.
        return_tensors : "pt" for a torch tensor; numpy otherwise.

        Raises
        ------
        UnreadableImage, TypeError : as of `predict`.
        ValueError : there is no such modality, or there are no slices.
        """
        asked = check_modality(modality) or self.modality
        slices = (assign_modality(one, asked) for one in to_slices(images))
        squares = to_squares(self, slices).squares
        if not len(squares):
            raise ValueError("There are no slices in what was given; pass at least one.")
        grey = squares.astype(np.float32) / 255
        pixels = np.repeat(grey[:, None], 3, axis=1)
        return BatchFeature({"pixel_values": pixels}, tensor_type=return_tensors)

    preprocess = __call__


def assign_modality(one: Slice | FramedSlice, modality: Modality | None) -> Slice | FramedSlice:
    """Give a slice a modality where it says none."""
    return replace(one, modality=modality) if isinstance(one, Slice) and one.modality is None else one
