"""The colours of the maps, the same in Python and in the browser: matplotlib's, without matplotlib."""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import printable
from stroke_hub.extras import name_extras

__all__ = ["FILE", "colour"]

FILE = Path(__file__).parent / "colormaps.json"  # scripts/make_colormaps.py writes it


def colour(position: NDArray[np.floating[Any]], name: str) -> NDArray[np.uint8]:
    """Colour values between 0 and 1, for a picture.

    Parameters
    ----------
    position : (H, W), 0 to 1.
    name : "inferno", "viridis", "cividis" or "RdBu_r"; with matplotlib installed any name of its colormaps.

    Returns
    -------
    uint8 (H, W, 3), red, green and blue.

    Raises
    ------
    MissingExtra : it is another name, and matplotlib is not installed.
    ValueError : there is no such colormap.
    """
    if (table := _read_tables().get(name)) is not None:
        return table[np.minimum((position * len(table)).astype(np.intp), len(table) - 1)]
    with name_extras(f"The colormap {printable(name)}"):
        import matplotlib
    if name not in matplotlib.colormaps:
        raise ValueError(f"colormap is {name!r}, but must be one of matplotlib's, such as 'viridis'.")
    return np.asarray(matplotlib.colormaps[name](position, bytes=True)[..., :3], np.uint8)


@cache
def _read_tables() -> dict[str, NDArray[np.uint8]]:
    tables = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: np.frombuffer(base64.b64decode(text), np.uint8).reshape(-1, 3) for name, text in tables.items()}
