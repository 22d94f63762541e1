"""Lesion masks: found beside the slices of a dataset, and laid into the squares that a model sees."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from stroke_hub.data.contents import load_first, load_lesion
from stroke_hub.data.records import list_modalities
from stroke_hub.errors import DatasetError
from stroke_hub.io.sight import Sight, frame_slice
from stroke_hub.progress import track

__all__ = ["Masks", "find_mask", "find_masked", "has_masks", "read_masks"]


class Masks:
    """Hold the lesions of N slices in the squares that a model sees.

    squares : uint8 (N, S, S), 255 in a lesion.
    known : bool (N,); False for strokes without a mask, of which nothing is known.
    """

    def __init__(self, squares: Tensor, known: NDArray[np.bool_]) -> None:
        self.squares, self.known = squares, known


def find_mask(table: pd.DataFrame, root: Path, path: str) -> NDArray[np.bool_] | None:
    """Find the lesion mask (H, W) of a slice, where the dataset has one.

    Raises
    ------
    DatasetError : the mask cannot be read.
    """
    if "mask" not in table:
        return None
    return _read_mask(root, table.loc[table["path"] == path, "mask"].iloc[0], path)


def find_masked(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Find which slices of a table name a lesion mask, bool (N,)."""
    if "mask" not in table:
        return np.zeros(len(table), bool)
    return table["mask"].map(_is_named).to_numpy(bool)


def has_masks(table: pd.DataFrame) -> bool:
    """Tell whether most strokes of a table have a lesion mask."""
    strokes = table.loc[table["label"] == 1]
    return 2 * int(find_masked(strokes).sum()) > len(strokes)


def read_masks(sight: Sight, root: Path, table: pd.DataFrame) -> Masks:
    """Read the masks of a table's slices; those of normal slices are empty.

    Raises
    ------
    DatasetError : a slice or a mask cannot be read.
    """
    size = sight.image_size
    squares = torch.zeros((len(table), size, size), dtype=torch.uint8)
    known = (table["label"] == 0).to_numpy().copy()
    named = np.flatnonzero(find_masked(table)).tolist()
    modalities = list_modalities(table)
    for number in track(named, "lesion masks"):
        path = table["path"].iloc[number]
        mask = _read_mask(root, table["mask"].iloc[number], path)
        if mask is not None:
            framed = frame_slice(sight, load_first(root / path, modality=modalities[number])[0])
            squares[number] = torch.from_numpy(framed.fit(mask.astype(np.uint8) * np.uint8(255)))
            known[number] = True
    return Masks(squares, known)


def _is_named(mask: Any) -> bool:
    return isinstance(mask, str) and bool(mask)


def _read_mask(root: Path, mask: Any, path: str) -> NDArray[np.bool_] | None:
    if not _is_named(mask):
        return None
    try:
        return load_lesion(root / mask)
    except DatasetError as error:
        raise DatasetError(f"{error} It is the lesion mask of {path}.") from error
