"""Measured values -> grey levels of 8 bits, by one rule for all kinds of files.

A slice keeps what was measured (`Measured`) beside the grey levels that were made of it. So the same slice can be
shown to two models that were trained with different renderings or windows, without reading the file twice, and no
decoder has to know of renderings. It costs 2 bytes a pixel for integers (4 for others) and 1 for the file's own
display.

The rendering "canonical" depends on values, modality and window alone, never on the kind of file:

- CT in Hounsfield units (HU) is shown in the window that is asked for; the file's own window is ignored. The
  window is plain arithmetic (what DICOM calls LINEAR_EXACT), as the simulated slices and most exported pictures
  were written: DICOM's LINEAR is up to 3 grey levels off, and one level was seen to change an answer.
- CT that is a picture already is shown as it is.
- MR, also of 8 bits, is stretched from the 1st to the 99th percentile inside the head, slice by slice.
- Where nobody says the modality, values that are plainly CT in HU are shown as such, pictures as they are, and
  others are stretched as MR.

The rendering "legacy" is what models of config format 1 were trained with: CT in HU in the window, everything else
by the file's own window, or by percentiles of the slice or the volume, or from its minimum to its maximum.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.framing import find_head_mask
from stroke_hub.io.geometry import Plane, View, make_square, turn_upright
from stroke_hub.io.windowing import PERCENTILES, WINDOWS, Grey, Modality, Window, apply_window, stretch

__all__ = [
    "CT_SMALLEST",
    "NO_WINDOW",
    "SHIFTED",
    "Display",
    "Hounsfield",
    "Levels",
    "Measured",
    "Rendering",
    "choose_display",
    "compact",
    "count_levels",
    "find_hounsfield",
    "find_step",
    "lay_out",
    "render",
    "sample",
    "to_hounsfield",
]

Rendering: TypeAlias = Literal["canonical", "legacy"]

SAMPLED = 250_000  # values that are looked at to tell units: of more, every k-th
FEW = 20_000  # values that are enough for a rough scale, and to find the most frequent one
LARGEST = 1e30  # beyond it squares and differences leave float32
CT_AIR = (-1100.0, -900.0)  # HU: air as CT measures it
CT_LARGEST = 31_000.0  # HU: no metal on an extended scale reaches it, only wrapped or padded values do
CT_SMALLEST = -1024.0  # HU: what lies below is padding, and is air
TISSUE = (-20.0, 100.0)  # HU of brain, fluid and fresh blood
MIN_AIR = 0.05  # share of air in a picture of a head: in CT the corners alone are a fifth
MAX_STRANGE = 0.02  # share of different values below air: an MR phase map has a third
MIN_TISSUE = 0.2  # share of what is no air: a picture stretched over 12 bits has 3 % in these 120 values

COARSE = (
    "The pixels are more than twice as long as wide; the slice was resampled to squares and is coarse in one "
    "direction."
)
SHIFTED = "The values are Hounsfield units stored with 1024 added; 1024 was subtracted."
CT_PICTURE = (
    "This CT slice is a picture, not Hounsfield units; it is shown as it is, and no window (brain, stroke, "
    "subdural) was applied."
)
CT_UNITS = (
    "The values of this CT slice are not Hounsfield units; they are shown from their minimum to their maximum, "
    "and no window was applied."
)
MR_WINDOW = "The window was not applied: windows are for CT, and this slice is read as MR."
NO_HU_WINDOW = "The window was not applied: the values are not Hounsfield units."
NO_WINDOW = frozenset({CT_PICTURE, CT_UNITS, MR_WINDOW, NO_HU_WINDOW})  # of a slice that shows no window
UNKNOWN_PICTURE = (
    "Nothing says whether this is CT or MR, so it is shown as it is, which misleads if it is MR; "
    "give the modality, BT (CT) or MR."
)
UNKNOWN_VALUES = "Nothing says whether this is CT or MR; it is scaled as MR is. Give the modality, BT (CT) or MR."


class Hounsfield(NamedTuple):
    """How stored values become HU, if they are CT.

    offset : to add. wrapped : whether negative values were stored with 4096 added.
    evidence : "plain" where the values are CT also if nobody says so; "likely" where they are if somebody asks for
        a window; "possible" where they are if somebody says that this is CT.
    """

    offset: float = 0.0
    wrapped: bool = False
    evidence: Literal["plain", "likely", "possible"] = "possible"


@dataclass(frozen=True, eq=False)
class Measured:
    """What a file holds of one slice, before grey levels are chosen.

    Parameters
    ----------
    values : (H, W) int16 or float32, finite; uint8 where the file holds a picture of 8 bits.
    own : (H, W) uint8, as the file itself asks to be shown; None where that is a CT window.
    hounsfield : how the values become HU if they are CT; None where they cannot be HU.
    is_picture : whether the values are grey levels that somebody chose already.
    plane, spacing : as `Slice` has them.
    remarks : what reading found, one sentence each.
    """

    values: NDArray[Any]
    own: Grey | None
    hounsfield: Hounsfield | None = None
    is_picture: bool = False
    plane: Plane | None = None
    spacing: float | None = None
    remarks: tuple[str, ...] = ()

    @cached_property
    def head_range(self) -> tuple[float, float]:
        """The 1st and the 99th percentile inside the head, which MR is shown between; found once."""
        return _find_head_range(self.values)


class Levels(NamedTuple):
    """Hold the values of a file, counted.

    values : (N,), finite, each once; or as they come. counts : (N,), how often each is there; None where each is
    there once. few : about 20,000 of all values, every k-th.
    """

    values: NDArray[Any]
    counts: NDArray[np.int64] | None
    few: NDArray[Any]

    def count(self, chosen: NDArray[np.bool_]) -> int:
        """Count the values of the file that are among the chosen ones, (N,) bool."""
        return int(np.count_nonzero(chosen) if self.counts is None else self.counts[chosen].sum())


def count_levels(values: NDArray[Any], slope: float = 1.0, intercept: float = 0.0) -> Levels:
    """Count the finite values of a file; integers of 16 bits each once: ten times as fast to look at.

    Parameters
    ----------
    values : as they are stored, any shape. slope, intercept : what makes measured values of them.
    """
    stored = values.ravel()
    if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
        step = max(1, stored.size // FEW)
        few = stored[::step].astype(np.float64) * slope + intercept
        native = stored.astype(np.int16 if stored.dtype.kind == "i" else np.uint16)
        every = np.bincount(native.view(np.uint16), minlength=1 << 16)
        found = np.flatnonzero(every)
        levels = found.astype(np.uint16).view(native.dtype).astype(np.float64) * slope + intercept
        return Levels(levels, every[found], few)
    real = stored if (slope, intercept) == (1.0, 0.0) else stored.astype(np.float64) * slope + intercept
    if real.dtype.kind == "f":
        real = real[np.isfinite(real)]
    return Levels(real, None, real[:: max(1, real.size // FEW)])


class Display(NamedTuple):
    """How measured values are shown: `low` is black and `high` is white.

    values : (H, W), int16, float32 or uint8. unit : "HU", or "" where the values have none.
    remarks : what could not be done as asked or was guessed, one sentence each.
    """

    values: NDArray[Any]
    low: float
    high: float
    unit: str = ""
    remarks: tuple[str, ...] = ()


def compact(values: NDArray[Any]) -> NDArray[Any]:
    """Store measured values as int16 where that is exact, else as float32.

    What is not finite becomes the minimum. Values beyond 1e30 are divided by their largest: they have no unit.

    Raises
    ------
    UnreadableImage : nothing is finite, or the values span more than a float holds.
    """
    if values.dtype in (np.int16, np.int8, np.uint8):
        return values.astype(np.int16)
    real = values.astype(np.float64)
    finite = np.isfinite(real)
    if not finite.any():
        raise UnreadableImage("holds no finite pixel; export the slice again.")
    low = float(real.min(where=finite, initial=np.inf))
    high = float(real.max(where=finite, initial=-np.inf))
    if not np.isfinite(high - low):
        raise UnreadableImage("spans more than a float can hold; rescale the slice and try again.")
    real[~finite] = low
    if low >= -32768 and high <= 32767 and (np.rint(real) == real).all():
        return real.astype(np.int16)
    largest = max(abs(low), abs(high))
    return (real / largest if largest > LARGEST else real).astype(np.float32)


def lay_out(
    measured: Measured, view: View | None, spacing: tuple[float, float] | None, max_pixels: int
) -> Measured:
    """Turn a slice upright and make its pixels squares.

    Parameters
    ----------
    view : how it lies in the patient, or None where nobody says.
    spacing : the height and the width of a stored pixel, in mm or any one unit; None where nobody says.

    Raises
    ------
    UnreadableImage : the slice would be larger than `max_pixels`.
    """
    height, width = spacing or (1.0, 1.0)
    if view is not None and view.is_transposed:
        height, width = width, height
    values, resampled = make_square(turn_upright(measured.values, view), height, width, max_pixels)
    own = measured.own
    if own is not None:
        own = make_square(turn_upright(own, view), height, width, max_pixels)[0]
    is_coarse = resampled and not 0.5 <= height / width <= 2
    return replace(
        measured,
        remarks=(*measured.remarks, COARSE) if is_coarse else measured.remarks,
        values=values,
        own=own,
        plane=view.plane if view else measured.plane,
        spacing=min(height, width) if spacing and (resampled or abs(height / width - 1) < 0.02) else None,
    )


def find_step(size: int) -> int:
    """Find k so that every k-th of so many values tells their units."""
    return max(1, size // SAMPLED)


def sample(values: NDArray[Any]) -> Levels:
    """Take some values of a page, to tell their units."""
    return count_levels(values.ravel()[:: find_step(values.size)])


def find_hounsfield(levels: Levels) -> Hounsfield | None:
    """Tell whether values can be CT in HU, and how they are stored.

    Parameters
    ----------
    levels : of a whole file, or a sample of it.

    Returns
    -------
    None where they cannot be HU. Full-range HU is told by its air, as a peak near -1000: MR with a few negative
    values, field maps and phase maps have none. Also told: HU with 1024 added, HU whose negative values wrapped
    at 12 bits, and HU that was clipped or whose skull was stripped.
    """
    real = _unwrap(levels.values)
    floor, largest = float(real.min()), float(real.max())
    every, above = levels.count(np.ones(real.shape, bool)), levels.count(real > floor)
    if not above:
        return None
    # Padding is one value (scanners write -2000, -3024 or -32768): others below air are strange.
    strange = levels.count((real > floor) & (real < CT_AIR[0])) / above
    air = levels.count(levels.values <= CT_AIR[1]) / every
    if air >= MIN_AIR and strange <= MAX_STRANGE and ((real > floor) & _is_between(real, -300.0, 300.0)).any():
        return Hounsfield(evidence="plain")
    if strange > MAX_STRANGE:
        return None
    wrapped = levels.count(_is_between(real, 4096 + CT_AIR[0], 4096 + CT_AIR[1])) / every
    if floor >= 0 and wrapped >= MIN_AIR and largest <= 4095:
        return Hounsfield(wrapped=True, evidence="likely")
    if floor < -150:
        return Hounsfield()
    solid = levels.count(real > 200)
    tissue = levels.count((real > 200) & _is_between(real, 1024 + TISSUE[0], 1024 + TISSUE[1]))
    if solid and tissue / solid >= MIN_TISSUE:
        return Hounsfield(offset=-1024.0, evidence="likely")
    is_picture = largest == 255 or largest <= 1.5
    few = _unwrap(levels.few)
    kinds, counts = np.unique(few, return_counts=True)
    brain = few[(few > floor) & (few != kinds[counts.argmax()])]  # what is cut away has one value
    if is_picture or not brain.size:
        return None
    is_brain = float(_is_between(brain, *TISSUE).mean()) >= 0.5 and 10 <= float(np.median(brain)) <= 80
    return Hounsfield() if is_brain else None


def _unwrap(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values as float32; those that were stored as unsigned are negative again."""
    real = values.astype(np.float32)
    return np.where(real > CT_LARGEST, real - np.float32(65536), real)


def to_hounsfield(values: NDArray[Any], how: Hounsfield) -> NDArray[Any]:
    """Turn stored values into HU; padding and what wrapped become air.

    Returns
    -------
    float32; int16 where the values are such and none has wrapped, for levels of int16 are looked up (`stretch`).
    """
    if values.dtype == np.int16 and values.size and not how.wrapped and how.offset == round(how.offset):
        offset = round(how.offset)
        if int(values.max()) + offset <= CT_LARGEST:
            return np.asarray(np.maximum(values, np.int16(CT_SMALLEST - offset)) + np.int16(offset))
    real = values.astype(np.float32) + np.float32(how.offset)
    if how.wrapped:
        real = np.where(real >= 4096 + CT_AIR[0], real - 4096, real)
    real = np.where(real > CT_LARGEST, real - 65536, real)
    return np.asarray(np.maximum(real, CT_SMALLEST), np.float32)


def render(
    measured: Measured,
    *,
    modality: Modality | None = None,
    window: Window | None = None,
    default: Window = "brain",
    rendering: Rendering = "canonical",
) -> tuple[Grey, tuple[str, ...]]:
    """Show measured values as 8-bit grey.

    Parameters
    ----------
    modality : of the slice; None where nobody says.
    window : that was asked for, of CT in HU. default : the window where none was.

    Returns
    -------
    Grey levels (H, W) uint8, a copy; and what could not be done as asked or was guessed, one sentence each.
    """
    if rendering == "legacy":
        if measured.own is not None:
            return measured.own.copy(), ()
        hu = to_hounsfield(measured.values, measured.hounsfield or Hounsfield())
        return apply_window(hu, *WINDOWS[window or default]), ()
    values, low, high, _, remarks = choose_display(measured, modality=modality, window=window, default=default)
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return values.copy(), remarks
    return stretch(values, low, high), remarks


def choose_display(
    measured: Measured, *, modality: Modality | None = None, window: Window | None = None, default: Window = "brain"
) -> Display:
    """Choose the values and the range that the rendering "canonical" shows, with the parameters of `render`."""
    how = measured.hounsfield
    if modality == "MR":
        return Display(measured.values, *measured.head_range, remarks=(MR_WINDOW,) if window else ())
    evidence = how.evidence if how else None
    is_hu = evidence == "plain" or (evidence == "likely" and window) or (evidence and modality == "BT")
    if how is not None and is_hu:
        centre, width = WINDOWS[window or default]
        hu = to_hounsfield(measured.values, how)
        return Display(hu, centre - width / 2, centre + width / 2, "HU", (SHIFTED,) if how.offset else ())
    if modality == "BT":
        remark = CT_PICTURE if measured.is_picture else CT_UNITS
        return Display(*_find_picture_range(measured.values), remarks=(remark,))
    remarks = (NO_HU_WINDOW,) if window else ()
    if measured.is_picture:
        return Display(*_find_picture_range(measured.values), remarks=(*remarks, UNKNOWN_PICTURE))
    return Display(measured.values, *measured.head_range, remarks=(*remarks, UNKNOWN_VALUES))


def _is_between(values: NDArray[Any], low: float, high: float) -> NDArray[np.bool_]:
    return np.asarray((values >= low) & (values <= high))


def _find_picture_range(values: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Find the values of a picture of any depth, and their range: 0..255, 0..1, 257 times 0..255, or their own."""
    if values.dtype == np.uint8:
        return values, 0.0, 255.0
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return values, 0.0, 1.0
    if values.dtype.kind == "i" and low >= 0 and high <= 255:
        return values.astype(np.uint8), 0.0, 255.0
    if low >= 0 and high <= 65535 and not (values % 257).any():
        return (values // 257).astype(np.uint8), 0.0, 255.0
    return values, low, high


def _find_head_range(values: NDArray[Any]) -> tuple[float, float]:
    """Find the 1st and 99th percentile inside the head; of the slice where there is no head."""
    few = values.ravel()[:: max(1, values.size // FEW)]
    low, high = _find_percentiles(few, (0.5, 99.5))
    if high > low:
        mask = find_head_mask(stretch(values, low, high))
        if mask is not None:
            rows, columns = (
                np.arange(side) * small // side for side, small in zip(values.shape, mask.shape, strict=True)
            )
            low, high = _find_percentiles(values[mask[np.ix_(rows, columns)]], PERCENTILES)
    if not high > low:
        low, high = float(values.min()), float(values.max())
    return low, high


def _find_percentiles(values: NDArray[Any], percentages: tuple[float, float]) -> tuple[float, float]:
    """Find two percentiles of values that were rounded, (N,): each level is spread to half way to its neighbours.

    Plain percentiles of a picture of 8 bits are its own levels. They moved a slice by up to 1.2 grey levels, and
    the probability of the quickstart's model by 0.12.
    """
    if values.dtype == np.int16:  # a third of the time
        least = int(values.min())
        every = np.bincount(values.ravel().astype(np.intp) - least)
        found = np.flatnonzero(every)
        levels, counts = (found + least).astype(np.float64), every[found]
    else:
        levels, counts = np.unique(values, return_counts=True)
        levels = levels.astype(np.float64)
    edges = np.concatenate([levels[:1], (levels[1:] + levels[:-1]) / 2, levels[-1:]])
    share = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    low, high = np.interp(np.asarray(percentages) / 100, share, edges)
    return float(low), float(high)
