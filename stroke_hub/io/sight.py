"""What a model sees of a slice: rendered, cropped to the head and made a square by one function, for all rooms."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stroke_hub.io.framing import NO_HEAD, Box, crop, find_head, find_head_mask
from stroke_hub.io.geometry import undo_square
from stroke_hub.io.rendering import NO_WINDOW, Rendering
from stroke_hub.io.slices import Slice, fill_square, find_place, render_slice
from stroke_hub.io.windowing import Grey, Modality, Window

__all__ = ["FramedSlice", "Framing", "Sight", "frame_slice", "frame_square", "get_own_modality"]

Framing: TypeAlias = Literal["head", "whole"]


class Sight(Protocol):
    """What a model wants a slice to look like; models and their exports have these attributes.

    image_size : side of the square in pixels.
    resize : how the part that is seen becomes a square, by black margins ("pad") or distortion ("stretch").
    rendering : how measured values become grey levels.
    window : in which CT in Hounsfield units is seen.
    framing : "head" crops to the head; "whole" takes the whole picture.
    modalities : that the model was trained on; empty where unknown.
    """

    image_size: int
    resize: Literal["pad", "stretch"]
    rendering: Rendering
    window: Window
    framing: Framing
    modalities: tuple[Modality, ...]


@dataclass(frozen=True, eq=False)
class FramedSlice:
    """Hold what a model sees of a slice, and where in the slice that lies.

    Parameters
    ----------
    square : (S, S) uint8, what the model sees.
    picture : (H, W) uint8, the whole slice in the window that was asked for, else as the model sees it.
    box : the part of the picture that is in the square.
    place : where in the square that part lies; around it are black margins.
    remarks : what the reader of an answer must know, one plain sentence each.
    modality : that the slice was rendered as; None where nobody said.
    """

    square: Grey
    picture: Grey
    box: Box
    place: Box
    remarks: tuple[str, ...] = ()
    modality: Modality | None = None

    @cached_property
    def head(self) -> NDArray[np.bool_]:
        """The pixels of the square that belong to the head, (S, S) bool; all of them where no head is found."""
        mask = find_head_mask(self.square)
        if mask is None:
            return np.ones(self.square.shape, bool)
        size = self.square.shape[::-1]
        return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))

    def match(self, other: Grey) -> Grey:
        """Resize another picture of the same field of view, as a lesion mask, to the picture's (H, W)."""
        height, width = self.picture.shape
        if other.shape == (height, width):
            return other
        return np.asarray(Image.fromarray(other).resize((width, height), Image.Resampling.BILINEAR))

    def fit(self, other: Grey) -> Grey:
        """Fit another picture of the same field of view into the square, (S, S) uint8."""
        return fill_square(crop(self.match(other), self.box), len(self.square), self.place)

    def lift(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lay a map (S, S) of the square over the picture, float32 (H, W); it is 0 outside the box.

        Values are resampled, not summed: a map of sums keeps its sums in the square alone.
        """
        place, box = self.place, self.box
        inside = values[place.top : place.top + place.height, place.left : place.left + place.width]
        if inside.shape != (box.height, box.width):
            image = Image.fromarray(np.ascontiguousarray(inside, np.float32))
            inside = np.asarray(image.resize((box.width, box.height), Image.Resampling.BILINEAR))
        lifted = np.zeros(self.picture.shape, np.float32)
        lifted[box.top : box.top + box.height, box.left : box.left + box.width] = inside
        return lifted

    def give_back(self, shares: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give shares of a sum (S, S), as evidence is, back to the pixels of the picture, float32 (H, W).

        A pixel gets of each share as much as it had in the making of that pixel of the square, so that the sum is
        kept. What lies in the black margins around the picture belongs to no pixel and is left out.
        """
        place, box = self.place, self.box
        inside = shares[place.top : place.top + place.height, place.left : place.left + place.width]
        given = np.zeros(self.picture.shape, np.float32)
        given[box.top : box.top + box.height, box.left : box.left + box.width] = undo_square(
            inside, box.height, box.width
        )
        return given


def frame_slice(sight: Sight, one: Slice) -> FramedSlice:
    """Make the square that a model sees of a slice; training, prediction, explanation and export all come here.

    The model sees its own rendering and window, whatever the slice's `pixels` show. Where nobody says the slice's
    modality, it is the model's, if that was trained on one only. A window that was asked for is for display: the
    picture shows it, the square does not. A model of the rendering "legacy" sees it, as such models always did.
    """
    is_legacy = sight.rendering == "legacy"
    asked = one.window if is_legacy else one.window and sight.window
    modality = get_own_modality(sight)
    shown = render_slice(one, rendering=sight.rendering, modality=modality, window=asked, default=sight.window)
    remarks, picture = shown.remarks, shown.pixels
    if not is_legacy and one.window not in (None, sight.window) and NO_WINDOW.isdisjoint(remarks):
        remarks += (
            f"The model was trained with the window {sight.window} and sees that; the window {one.window} is for "
            "display only.",
        )
        picture = render_slice(one, modality=modality, window=one.window).pixels
    box = None
    if sight.framing == "head":
        box = find_head(shown.pixels)
        remarks += () if box else (NO_HEAD,)
    box = box or Box(0, 0, *shown.pixels.shape)
    place = find_place(box.height, box.width, sight.image_size, resize=sight.resize)
    square = fill_square(crop(shown.pixels, box), sight.image_size, place)
    return FramedSlice(square, picture, box, place, remarks, shown.modality)


def frame_square(square: Grey) -> FramedSlice:
    """Take a square (S, S) that was made already for what the model sees; it is its own picture."""
    whole = Box(0, 0, *square.shape)
    return FramedSlice(square, square, whole, whole)


def get_own_modality(sight: Sight) -> Modality | None:
    """Give the modality of a model that was trained on one only; None of others."""
    return sight.modalities[0] if len(sight.modalities) == 1 else None
