"""From a table of files to batches: every slice decoded once into uint8 squares, augmented on the way out."""

import math
import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from stroke_hub.data.cache import read_squares
from stroke_hub.data.records import list_modalities
from stroke_hub.models.resnet_vit import LESION_GRID, ResNetViT

__all__ = ["Augmentation", "AugmentedSlices", "augment_batch", "build_loader", "decode_squares"]

Augmentation: TypeAlias = Literal["seed", "none"]

ANGLE = 10.0  # degrees, to either side, as in the seed notebook


def decode_squares(model: ResNetViT, root: Path, table: pd.DataFrame) -> Tensor:
    """Decode the slices of a table into the model's squares, uint8 (N, S, S), or find them again by `cache`.

    Parameters
    ----------
    table : path (relative to `root`), and modality ("BT", "MR" or missing) where there is such a column.

    Raises
    ------
    DatasetError : a file cannot be read; it is named.
    """
    return read_squares(model, [root / path for path in table["path"]], list_modalities(table))


class AugmentedSlices(Dataset[Any]):
    """uint8 squares and their labels, another picture of each at every turn.

    Parameters
    ----------
    squares : uint8 (N, S, S). Where they lie on a GPU, whole batches are augmented there by `augment_batch`,
        otherwise slice by slice with albumentations.
    labels : int64 (N,).
    augmentation : "seed": flipped left-right (half of them) and rotated by up to 10 degrees (half), as in the seed
        notebook; "none": as they are.
    masks : uint8 (N, S, S), 255 in a lesion, augmented like the squares; what comes out is the share of each cell
        of a grid of 16 x 16 that a lesion covers.
    """

    def __init__(
        self, squares: Tensor, labels: Tensor, *, augmentation: Augmentation = "seed", masks: Tensor | None = None
    ) -> None:
        self.squares, self.labels, self.augmentation, self.masks = squares, labels, augmentation, masks
        self.augment = _compose(augmentation)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int, NDArray[np.float32]]:
        given = {"image": self.squares[index].numpy()[..., None]}
        if self.masks is not None:
            given["mask"] = self.masks[index].numpy()
        found = self.augment(**given)
        shares = _share_cells(found["mask"]) if self.masks is not None else np.zeros((0, 0), np.float32)
        return np.ascontiguousarray(found["image"][..., 0]), int(self.labels[index]), shares


def _compose(augmentation: Augmentation) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks a server for its newest version
    import albumentations

    if augmentation == "none":
        return albumentations.Compose([])
    if augmentation != "seed":
        raise ValueError(f'augmentation is {augmentation!r}; pass "seed" or "none".')
    return albumentations.Compose([albumentations.HorizontalFlip(p=0.5), albumentations.Rotate(limit=ANGLE, p=0.5)])


def build_loader(
    dataset: AugmentedSlices, *, batch_size: int, seed: int, start: int = 0
) -> DataLoader[tuple[Tensor, Tensor, Tensor]]:
    """One epoch's batches of squares uint8 (B, S, S), labels int64 (B,) and shares, on the squares' device.

    The shares of lesions are float32 (B, 16, 16), or (B, 0, 0) without masks. The last batch may be smaller.

    Parameters
    ----------
    seed : decides the order and every augmentation.
    start : leave out so many batches; those that follow are bit for bit those of the whole epoch.
    """
    order = _draw_order(len(dataset), seed)
    # torch's own generator stays untouched: it is the training's, for dropout
    generator = torch.Generator().manual_seed(seed)
    if dataset.squares.device.type != "cpu":
        batches = _AugmentedBatches(dataset, order, batch_size, seed)
        return DataLoader(batches, batch_size=None, sampler=range(start, len(batches)), generator=generator)
    dataset.augment.set_random_seed(seed)
    for index in order[: start * batch_size]:  # one stream of draws: those left out are drawn too, 0.1 ms each
        dataset[index]
    rest = order[start * batch_size :]
    return DataLoader(dataset, batch_size=batch_size, sampler=rest, generator=generator, collate_fn=_stack)


def _share_cells(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute the share of each cell of the lesion grid that a mask (S, S) of 0 and 255 covers."""
    import cv2

    side = (LESION_GRID, LESION_GRID)
    return np.asarray(cv2.resize(mask.astype(np.float32), side, interpolation=cv2.INTER_AREA) / 255, np.float32)


def _stack(items: list[tuple[NDArray[np.uint8], int, NDArray[np.float32]]]) -> tuple[Tensor, Tensor, Tensor]:
    # torch's own stacking waits for all its threads: 20 times as slow where another process has the cores
    squares, labels, shares = zip(*items, strict=True)
    return torch.from_numpy(np.stack(squares)), torch.tensor(labels), torch.from_numpy(np.stack(shares))


def _draw_order(count: int, seed: int) -> list[int]:
    """The order that a shuffling DataLoader with a generator of this seed takes."""
    indices: Any = range(count)
    generator = torch.Generator().manual_seed(seed)
    loader = DataLoader(indices, batch_size=max(count, 1), shuffle=True, generator=generator)
    return [int(index) for batch in loader for index in batch]


class _AugmentedBatches(Dataset[Any]):
    """Whole batches by their number, each with draws of its own."""

    def __init__(self, dataset: AugmentedSlices, order: list[int], batch_size: int, seed: int) -> None:
        self.squares, self.augmentation, self.seed = dataset.squares, dataset.augmentation, seed
        self.masks = dataset.masks
        self.labels = dataset.labels.to(self.squares.device)
        self.parts = torch.tensor(order, device=self.squares.device).split(batch_size)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = self.parts[number]
        mixed = np.random.SeedSequence([self.seed, number]).generate_state(1)[0]  # seeds of epochs are neighbours
        first, second = (torch.Generator().manual_seed(int(mixed)) for _ in range(2))
        squares = augment_batch(self.squares[rows], first, augmentation=self.augmentation)
        if self.masks is None:
            return squares, self.labels[rows], squares.new_zeros(len(rows), 0, 0, dtype=torch.float32)
        masks = self.masks[rows.to(self.masks.device)].to(squares.device)
        masks = augment_batch(masks, second, augmentation=self.augmentation)
        return squares, self.labels[rows], F.adaptive_avg_pool2d(masks.float() / 255, LESION_GRID)


def augment_batch(squares: Tensor, generator: torch.Generator, *, augmentation: Augmentation = "seed") -> Tensor:
    """Augment a whole batch at once, on whatever device it lies.

    Parameters
    ----------
    squares : uint8 (B, S, S).
    generator : of the CPU; the draws are made there, so that every device makes the same.
    augmentation : the distributions of `AugmentedSlices`, not its stream.

    Returns
    -------
    uint8 (B, S, S) on the same device, black where nothing was.
    """

    if augmentation == "none":
        return squares

    def draw() -> Tensor:
        return torch.rand(len(squares), generator=generator)

    flip, still, angle = draw() < 0.5, draw() < 0.5, 2 * ANGLE * draw() - ANGLE
    return _warp(squares, flip, angle.masked_fill(still, 0))


def _warp(squares: Tensor, flip: Tensor, angle: Tensor) -> Tensor:
    """Flip (B,) and rotate (B,; degrees, clockwise) uint8 squares (B, S, S) about their centre."""
    radians = angle * (math.pi / 180)
    cosine, sine = torch.cos(radians), torch.sin(radians)
    # grid_sample asks where each new pixel comes from, about the centre: the inverse of the way there
    back = torch.stack([torch.stack([cosine, sine], 1), torch.stack([-sine, cosine], 1)], 1)
    back[:, 0] *= (1 - 2 * flip.float())[:, None]
    theta = torch.cat([back, back.new_zeros(len(squares), 2, 1)], 2).to(squares.device)
    grid = F.affine_grid(theta, [len(squares), 1, *squares.shape[1:]], align_corners=False)
    grey = F.grid_sample(squares[:, None].float(), grid, align_corners=False)[:, 0]
    return grey.round().to(torch.uint8)
