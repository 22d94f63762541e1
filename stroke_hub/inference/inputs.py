"""What people have in hand becomes slices: paths, folders, bytes, pictures, arrays, and lists of these."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard, Union

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.sight import FramedSlice
from stroke_hub.io.slices import Slice, load_slices
from stroke_hub.io.sources import LoadedFile, holds_many, load_files

if TYPE_CHECKING:  # torch is imported where it is used: an exported model answers without it
    from torch import Tensor

__all__ = ["Given", "One", "Taken", "find_squares", "is_one", "to_slices"]

One: TypeAlias = Slice | FramedSlice | Image.Image
Given: TypeAlias = Union[
    One, LoadedFile, str, os.PathLike[str], bytes, BinaryIO, NDArray[Any], "Tensor", Iterable["Given"]
]
Taken: TypeAlias = Iterable[Slice | FramedSlice] | NDArray[np.uint8]
"""What a backend takes: slices, or squares (N, S, S) of its model."""

PICTURE_CHANNELS = (1, 3, 4)


def find_squares(given: Given, size: int) -> NDArray[np.uint8] | None:
    """Find a model's squares in what was given, uint8 (N, S, S); None where it is anything else.

    Parameters
    ----------
    given : any object; an array or tensor of 3 dimensions or more must be squares, or a picture with
        1, 3 or 4 channels last.
    size : the model's S, in pixels.

    Raises
    ------
    ValueError : an array is neither a picture nor of the shape of squares.
    TypeError : squares are not uint8: nobody could tell 0..1 from a dark slice.
    """
    if not _is_array(given) or given.ndim < 2 or _is_picture(given):
        return None
    shape = tuple(given.shape)
    kind = str(given.dtype).removeprefix("torch.")
    if shape[1:] != (size, size):
        raise ValueError(
            f"An array of shape {shape} is neither a picture (H, W) or (H, W, 3) nor squares of this model, "
            f"(N, {size}, {size}); pass a list of pictures."
        )
    if kind != "uint8":
        raise TypeError(
            f"The squares are {kind}, but must be uint8, 0 to 255; multiply values from 0 to 1 by 255 and round."
        )
    return np.require(_to_array(given), requirements="W")  # torch takes no read-only memory


def to_slices(given: Given) -> Iterator[Slice | FramedSlice]:
    """Turn what was given into slices, one file after another.

    Parameters
    ----------
    given : a slice, a path, a folder, a zip archive, bytes, a binary stream, a PIL picture, an array (H, W) or
        (H, W, channels), what `load_files` gives, or any iterable of these. A folder gives its slices in order.

    Raises
    ------
    UnreadableImage : a file cannot be read, in a folder or archive too; it is named.
    TypeError : something else was given.
    """
    if isinstance(given, Slice | FramedSlice):
        yield given
    elif isinstance(given, LoadedFile):
        if given.error:
            raise UnreadableImage(given.error)
        yield from given.slices
    elif isinstance(given, Image.Image):
        yield from load_slices(given)
    elif _is_file(given):
        yield from to_slices(load_files(given))
    elif _is_array(given) and not _is_list(given):
        yield from load_slices(_to_array(given))
    elif isinstance(given, Iterable) and not isinstance(given, Mapping):
        one: Any
        for one in given:
            yield from to_slices(one)
    else:
        name = "None" if given is None else f"A {type(given).__name__}"
        raise TypeError(
            f"{name} is no slice; pass a path, a folder, bytes, a picture, an array (H, W), or a list of these."
        )


def is_one(given: Given) -> bool:
    """Tell whether one thing was given: a slice, picture or file, no list, folder or zip archive."""
    if _is_file(given):
        return not holds_many(given)
    return isinstance(given, One) or (_is_array(given) and _is_picture(given))


def _is_file(given: Any) -> TypeGuard[str | Path | bytes | BinaryIO]:
    """Tell whether something is a path, or a file's bytes or stream."""
    is_path_or_bytes = isinstance(given, str | os.PathLike | bytes | bytearray | memoryview)
    return is_path_or_bytes or (hasattr(given, "read") and not isinstance(given, Image.Image))


def _is_array(given: Any) -> TypeGuard[NDArray[Any]]:
    """Tell whether something is an array of any library, or a tensor."""
    return all(hasattr(given, name) for name in ("__array__", "shape", "dtype"))


def _is_picture(array: NDArray[Any]) -> bool:
    """Tell whether an array has the shape of one picture."""
    return array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in PICTURE_CHANNELS)


def _is_list(array: NDArray[Any]) -> bool:
    """Tell whether an array is a list of things, as of paths."""
    return array.ndim == 1 and getattr(array.dtype, "kind", None) in ("O", "U")


def _to_array(given: Any) -> NDArray[Any]:
    if hasattr(given, "detach"):  # a tensor
        given = given.detach().cpu()
        given = given.float() if str(given.dtype) == "torch.bfloat16" else given  # numpy has no such type
    return np.asarray(given)
