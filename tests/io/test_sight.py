"""Claims of stroke_hub.io.sight: a model sees every slice as it was trained to, and maps find their way back."""

import io
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
from PIL import Image

from stroke_hub import Slice, load_slices
from stroke_hub.io.framing import NO_HEAD, Box
from stroke_hub.io.rendering import CT_PICTURE, MR_WINDOW, NO_HU_WINDOW, UNKNOWN_PICTURE, Rendering
from stroke_hub.io.sight import FramedSlice, Framing, frame_slice, frame_square
from stroke_hub.io.slices import fit_square
from stroke_hub.io.windowing import Modality, Window
from tests.io.synth import dcm, head
from tests.io.test_framing import draw_head, outline

SIDE = 96


class Seen(NamedTuple):
    """What a model sees of a slice, as new models do."""

    image_size: int = SIDE
    resize: Literal["pad", "stretch"] = "pad"
    rendering: Rendering = "canonical"
    window: Window = "brain"
    framing: Framing = "head"
    modalities: tuple[Modality, ...] = ()


OLD = Seen(rendering="legacy", framing="whole")


def load_ct(**options: Any) -> Slice:
    buffer = io.BytesIO()
    dcm(head()[6] + 1024).save_as(buffer, enforce_file_format=True)
    return load_slices(buffer, **options)[0]


@pytest.mark.parametrize("resize", ["pad", "stretch"])
def test_the_square_is_the_head_alone(resize: Literal["pad", "stretch"]) -> None:
    picture = draw_head("CT", axes=(80, 140))
    framed = frame_slice(Seen(resize=resize), Slice(picture, "BT"))
    expected = outline("CT", axes=(80, 140))
    np.testing.assert_allclose(framed.box, expected, atol=8)
    top, left, height, width = framed.box
    inside = picture[top : top + height, left : left + width]
    np.testing.assert_array_equal(framed.square, fit_square(inside, SIDE, resize=resize))
    np.testing.assert_array_equal(framed.picture, picture)
    assert framed.remarks == (CT_PICTURE,)


def test_where_there_is_no_head_the_whole_picture_is_seen_and_said() -> None:
    dark = Slice(np.zeros((50, 80), np.uint8), "BT")
    framed = frame_slice(Seen(), dark)
    assert framed.box == (0, 0, 50, 80)
    assert framed.remarks == (CT_PICTURE, NO_HEAD)
    assert NO_HEAD not in frame_slice(Seen(framing="whole"), dark).remarks


def test_two_places_of_one_head_in_the_frame_are_one_square() -> None:
    squares = [
        frame_slice(Seen(), Slice(draw_head("CT", centre=centre), "BT")).square
        for centre in ((140, 160), (240, 200))
    ]
    assert np.abs(squares[0].astype(int) - squares[1]).mean() < 8


def test_a_model_sees_its_own_window_and_the_reader_the_one_asked_for() -> None:
    plain, other = load_ct(), load_ct(window="subdural")
    assert (plain.pixels != other.pixels).any()
    for window in ("brain", "stroke", "subdural"):
        expected = frame_slice(Seen(window=window), plain)
        found = frame_slice(Seen(window=window), other)
        np.testing.assert_array_equal(found.square, expected.square)
        np.testing.assert_array_equal(found.picture, other.pixels)
        np.testing.assert_array_equal(expected.picture, load_ct(window=window).pixels)
        said = f"The model was trained with the window {window} and sees that; the window subdural is for display "
        assert found.remarks == (() if window == "subdural" else (f"{said}only.",))
        assert expected.remarks == ()


def test_a_window_that_nobody_asked_for_is_not_missed() -> None:
    """MR and pictures have no window; a model of another window than the usual one says nothing of it."""
    mr = load_slices(draw_head("MR"), modality="MR")[0]
    assert frame_slice(Seen(window="stroke"), mr).remarks == ()
    asked = load_slices(draw_head("MR"), modality="MR", window="stroke")[0]
    assert frame_slice(Seen(), asked).remarks == (MR_WINDOW,)
    unknown = load_slices(draw_head("MR"), window="stroke")[0]
    assert frame_slice(Seen(), unknown).remarks == (NO_HU_WINDOW, UNKNOWN_PICTURE)


def test_a_model_of_one_modality_knows_what_nobody_says() -> None:
    picture = draw_head("MR") // 2
    unknown, known = load_slices(picture)[0], load_slices(picture, modality="MR")[0]
    seen = frame_slice(Seen(modalities=("MR",)), unknown)
    np.testing.assert_array_equal(seen.square, frame_slice(Seen(), known).square)
    assert seen.remarks == ()
    both = frame_slice(Seen(modalities=("BT", "MR")), unknown)
    np.testing.assert_array_equal(both.picture, picture)
    assert both.remarks == (UNKNOWN_PICTURE,)
    ct = frame_slice(Seen(modalities=("MR",)), load_slices(picture, modality="BT")[0])
    np.testing.assert_array_equal(ct.picture, picture)


def test_models_of_format_1_see_what_their_training_saw() -> None:
    """Of a picture its grey levels, though the slice shows MR stretched; of CT the window that was asked for."""
    dark = (np.arange(3000).reshape(50, 60) // 24).astype(np.uint8)
    for modality in (None, "BT", "MR"):
        framed = frame_slice(OLD, load_slices(dark, modality=modality)[0])  # type: ignore[arg-type]
        np.testing.assert_array_equal(framed.square, fit_square(dark, SIDE))
        assert framed.remarks == ()
    windows: tuple[Window, ...] = ("brain", "stroke", "subdural")
    assert len({int(frame_slice(OLD, load_ct(window=window)).square[48, 48]) for window in windows}) == 3


def test_remarks_of_a_slice_made_by_hand_stay() -> None:
    one = Slice(draw_head("CT"), "BT", remarks=("It was cut out of a film.",))
    assert frame_slice(Seen(), one).remarks == ("It was cut out of a film.", CT_PICTURE)


@pytest.mark.parametrize("resize", ["pad", "stretch"])
@pytest.mark.parametrize("shape", [(400, 400), (400, 250), (100, 400), (1, 1)])
def test_a_map_lies_over_what_it_is_of(resize: Literal["pad", "stretch"], shape: tuple[int, int]) -> None:
    """Lifting what `fit` made gives the picture back inside the box, and nothing outside it."""
    picture = np.asarray(Image.fromarray(draw_head("CT")).resize(shape[::-1]))
    framed = frame_slice(Seen(resize=resize), Slice(picture, "BT"))
    np.testing.assert_array_equal(framed.fit(picture), framed.square)
    lifted = framed.lift(framed.square.astype(np.float32))
    assert lifted.shape == picture.shape
    top, left, height, width = framed.box
    inside = np.zeros(shape, bool)
    inside[top : top + height, left : left + width] = True
    assert (lifted[~inside] == 0).all()
    assert np.abs(lifted - picture)[inside].mean() < 12


def test_a_lesion_is_lifted_to_its_own_place() -> None:
    picture = draw_head("CT")
    spot = np.zeros_like(picture)
    spot[150:170, 230:260] = 255
    framed = frame_slice(Seen(), Slice(picture, "BT"))
    found = framed.lift(framed.fit(spot).astype(np.float32)) > 127
    assert (found & (spot > 0)).sum() / (found | (spot > 0)).sum() > 0.85


def test_a_mask_of_another_size_is_brought_to_the_pictures() -> None:
    picture = draw_head("CT")
    framed = frame_slice(Seen(), Slice(picture, "BT"))
    half = np.asarray(Image.fromarray(picture).resize((200, 200)))
    assert framed.match(half).shape == picture.shape
    assert np.abs(framed.fit(half).astype(int) - framed.square).mean() < 5


def test_a_square_is_its_own_picture() -> None:
    square = np.arange(64, dtype=np.uint8).reshape(8, 8)
    framed = frame_square(square)
    assert isinstance(framed, FramedSlice)
    assert framed.box == framed.place == Box(0, 0, 8, 8)
    np.testing.assert_array_equal(framed.lift(square.astype(np.float32)), square)
