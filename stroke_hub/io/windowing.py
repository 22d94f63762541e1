"""Values -> 8-bit grey: windows, stretching, rescaling, luminance. What all decoders and renderings share."""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stroke_hub.errors import UnreadableImage

__all__ = [
    "AIR",
    "PERCENTILES",
    "WINDOWS",
    "Grey",
    "Modality",
    "Window",
    "apply_window",
    "find_modality",
    "look_up",
    "rescale",
    "stretch",
    "to_luminance",
    "weigh_colours",
]

Modality: TypeAlias = Literal["BT", "MR"]
Window: TypeAlias = Literal["brain", "stroke", "subdural"]
Grey: TypeAlias = NDArray[np.uint8]

WINDOWS: dict[Window, tuple[float, float]] = {"brain": (40, 80), "stroke": (40, 40), "subdural": (75, 200)}
"""Centre and width in HU. "brain" is what the simulated slices were written with, and most CT datasets."""

MODALITY_NAMES: dict[str, Modality] = {
    **dict.fromkeys(("bt", "ct", "ncct", "cect"), "BT"),
    **dict.fromkeys(("mr", "mri", "flair", "dwi", "adc", "swi", "t1", "t1w", "t2", "t2w"), "MR"),
}
"""What datasets call the modalities, in lower case; "CT" is the word of DICOM, "BT" that of the Kaggle dataset."""

AIR = -500.0  # HU: what reaches below without saying its units is CT in HU; no MR is that negative
PERCENTILES = (1.0, 99.0)  # a few hot pixels or a bright vessel shall not darken the brain


def find_modality(name: str) -> Modality | None:
    """Find the modality of a name in any case: "CT" and "NCCT" are "BT", "FLAIR" is "MR"; None of other names."""
    return MODALITY_NAMES.get(name.strip().lower())


def apply_window(
    values: NDArray[Any],
    centre: float,
    width: float,
    *,
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"] = "LINEAR",
) -> Grey:
    """Values in a window to 0..255, by the VOI LUT functions of DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.

    Parameters
    ----------
    values : any shape, real; what is not finite becomes 0 or 255 (infinite), or 0 (NaN).
    centre, width : finite, in the units of the values; width at least 1 for LINEAR, else above 0.
    function : LINEAR maps centre - 0.5 ± (width - 1) / 2 to 0 and 255, LINEAR_EXACT centre ± width / 2.
    """
    scaled = values.astype(np.float64)
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            shares = 1 / (1 + np.exp(-4 * (scaled - centre) / width))
    elif function == "LINEAR" and width == 1:
        shares = (scaled > centre - 0.5).astype(np.float64)
    else:
        if function == "LINEAR":
            centre, width = centre - 0.5, width - 1
        shares = np.clip((scaled - centre) / width + 0.5, 0.0, 1.0)
    return np.rint(np.nan_to_num(shares, nan=0.0) * 255).astype(np.uint8)


def stretch(values: NDArray[Any], low: float, high: float) -> Grey:
    """Values from `low`..`high` to 0..255, clipped; all 0 where low = high. What is not finite counts as `low`."""
    if not high > low:
        return np.zeros(values.shape, np.uint8)

    def stretch_all(values: NDArray[Any]) -> Grey:
        scaled = values.astype(np.float64)
        scaled[~np.isfinite(scaled)] = low
        return np.rint((np.clip(scaled, low, high) - low) / (high - low) * 255).astype(np.uint8)

    return look_up(values, stretch_all)


def look_up(values: NDArray[Any], show: Callable[[NDArray[Any]], Grey]) -> Grey:
    """Show values as grey levels by a function of each alone; each level of int16 is computed once, and looked up.

    Parameters
    ----------
    values : any shape. show : takes values of the same type, of any shape.
    """
    if values.dtype != np.int16 or not values.size:
        return show(values)
    least, most = int(values.min()), int(values.max())
    if most - least >= values.size:
        return show(values)
    table = show(np.arange(least, most + 1, dtype=np.int16))
    return np.take(table, values.astype(np.intp) - least)


def rescale(values: NDArray[Any]) -> Grey:
    """Values from their own finite minimum..maximum to 0..255; what is not finite counts as the minimum.

    Raises
    ------
    UnreadableImage : nothing is finite, or the values span more than a float holds.
    """
    scaled = values.astype(np.float64)
    finite = np.isfinite(scaled)
    if not finite.any():
        raise UnreadableImage("holds no finite pixel; export the slice again.")
    low = float(scaled.min(where=finite, initial=np.inf))
    high = float(scaled.max(where=finite, initial=-np.inf))
    span = high - low
    if span == 0:
        return np.zeros(values.shape, np.uint8)
    if not np.isfinite(span):
        raise UnreadableImage("spans more than a float can hold; rescale the slice and try again.")
    scaled[~finite] = low
    scaled -= low
    scaled /= span
    scaled *= 255
    return np.rint(scaled).astype(np.uint8)


def to_luminance(image: Image.Image) -> Image.Image:
    """A PIL picture of at most 8 bits a channel as mode L (ITU-R 601), transparency laid on black."""
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        black = Image.new("L", image.size)
        return Image.composite(layered.convert("L"), black, layered.getchannel("A"))
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB").convert("L")


def weigh_colours(colours: NDArray[Any]) -> NDArray[np.float64]:
    """(H, W, 3 or more) red, green, blue as luminance (H, W), in their own units (ITU-R 601)."""
    return np.asarray(colours[..., :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114]))
