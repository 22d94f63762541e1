"""From a table of files to batches: every slice decoded once into uint8 squares, augmented on the way out."""

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stroke_hub.errors import DatasetError, UnreadableImage
from stroke_hub.inference import to_pixels
from stroke_hub.model import ResNetViT
from stroke_hub.pixels import load_slices
from stroke_hub.progress import track

__all__ = ["AugmentedSlices", "build_loader", "decode_squares"]


def decode_squares(model: ResNetViT, root: Path, paths: Iterable[str]) -> Tensor:
    """Decode the files `paths` below `root` into the model's squares, uint8 (N, S, S).

    Raises
    ------
    DatasetError : a file cannot be read; it is named.
    """
    squares = []
    for path in track(list(paths), "reading slices"):
        try:
            squares.append(to_pixels(model, load_slices(root / path)[:1]))
        except UnreadableImage as error:
            raise DatasetError(f"{(root / path).parent}/{error}") from error
    return torch.cat(squares)


class AugmentedSlices(Dataset[Any]):
    """uint8 squares and labels, flipped (0.5) and rotated (up to 10 degrees) as in the seed notebook."""

    def __init__(
        self, squares: Tensor, labels: Tensor, *, augmentation: Literal["seed", "mild", "none"] = "seed"
    ) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks a server for its newest version
        import albumentations

        self.squares, self.labels = squares.numpy(), labels.tolist()
        steps = {
            "none": [],
            "seed": [albumentations.HorizontalFlip(p=0.5), albumentations.Rotate(limit=10, p=0.5)],
            "mild": [
                albumentations.HorizontalFlip(p=0.5),
                albumentations.Affine(scale=(0.9, 1.1), translate_percent=(-0.05, 0.05), rotate=(-10, 10), p=0.8),
                albumentations.RandomGamma(gamma_limit=(80, 125), p=0.5),
            ],
        }
        self.augment: Any = albumentations.Compose(steps[augmentation])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        square = self.augment(image=self.squares[index][..., None])["image"]
        return np.ascontiguousarray(square[..., 0]), self.labels[index]


class _Later:
    """A loader without its first batches, which are drawn all the same, so that the rest is what it would be."""

    def __init__(self, loader: DataLoader[Any], start: int) -> None:
        self.loader, self.start = loader, start

    def __len__(self) -> int:
        return len(self.loader) - self.start

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return itertools.islice(self.loader, self.start, None)


def build_loader(dataset: AugmentedSlices, *, batch_size: int, seed: int, start: int = 0) -> _Later:
    """One epoch's batches of (uint8 (N, S, S), int64 (N,)): the order and every augmentation follow from `seed`."""
    dataset.augment.set_random_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    return _Later(DataLoader(dataset, batch_size=batch_size, shuffle=True, generator=generator), start)
