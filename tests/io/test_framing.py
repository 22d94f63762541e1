"""Claims of stroke_hub.io.framing: the head is found beside tables and pillows, and none where there is none."""

import cv2
import numpy as np
import pytest

from stroke_hub.io.framing import SIDE, Box, crop, find_head, find_head_mask

KINDS = ("CT", "MR", "stripped")


def draw_head(
    kind: str,
    *,
    size: int = 400,
    centre: tuple[int, int] = (190, 200),
    axes: tuple[int, int] = (110, 140),
    tilt: int = 0,
) -> np.ndarray:
    """An ellipse of `axes` (half width, half height), turned by `tilt` degrees, as the modality shows it."""
    picture = np.zeros((size, size), np.uint8)
    layers = {
        "CT": [(0, 90), (4, 255), (14, 112)],  # scalp, bone, brain in the brain window
        "MR": [(0, 150), (8, 5), (16, 120)],  # bone is black in MR
        "stripped": [(16, 120)],
    }
    for inset, level in layers[kind]:
        cv2.ellipse(picture, centre, (axes[0] - inset, axes[1] - inset), tilt, 0, 360, level, -1)
    cv2.ellipse(picture, centre, (axes[0] // 6, axes[1] // 3), tilt, 0, 360, 15, -1)  # a ventricle is a hole
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def outline(kind: str, **options: object) -> Box:
    """The box of what was drawn, from its own pixels."""
    rows, columns = (np.flatnonzero((draw_head(kind, **options) > 60).any(axis=axis)) for axis in (1, 0))
    return Box(rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)


def check(found: Box | None, expected: Box, *, tolerance: int) -> None:
    assert found is not None
    ends = [(box.top, box.left, box.top + box.height, box.left + box.width) for box in (found, expected)]
    np.testing.assert_allclose(*ends, atol=tolerance)


def add_table(picture: np.ndarray, *, gap: int) -> np.ndarray:
    cv2.ellipse(picture, (190, 120), (185, 222 + gap), 0, 20, 160, 230, 7)  # a shell beneath and around the head
    return picture


def add_pillow(picture: np.ndarray) -> np.ndarray:
    cv2.rectangle(picture, (20, 352), (370, 372), 60, -1)  # a slab that is as wide as the picture
    return picture


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tilt", [0, 25, -40])
def test_the_box_is_that_of_the_head(kind: str, tilt: int) -> None:
    check(find_head(draw_head(kind, tilt=tilt)), outline(kind, tilt=tilt), tolerance=8)


@pytest.mark.parametrize("gap", [0, 12, 40])
@pytest.mark.parametrize("tilt", [0, 20])
def test_tables_and_pillows_are_left_out(gap: int, tilt: int) -> None:
    expected = outline("CT", tilt=tilt)
    table = add_table(draw_head("CT", tilt=tilt), gap=gap)
    assert np.flatnonzero((table > 60).any(axis=0))[0] < expected.left - 50  # the threshold alone would fail
    check(find_head(table), expected, tolerance=16)
    check(find_head(add_pillow(draw_head("CT", tilt=tilt))), expected, tolerance=16)


def test_text_and_a_small_thing_beside_the_head_are_left_out() -> None:
    picture = draw_head("MR")
    cv2.putText(picture, "R 12/07", (2, 30), cv2.FONT_HERSHEY_SIMPLEX, 1, 255, 2)
    cv2.circle(picture, (385, 385), 10, 255, -1)
    check(find_head(picture), outline("MR"), tolerance=8)


def test_both_lobes_of_a_stripped_brain_are_kept() -> None:
    picture = np.zeros((300, 300), np.uint8)
    for centre in ((90, 150), (210, 150)):
        cv2.ellipse(picture, centre, (40, 60), 0, 0, 360, 120, -1)
    check(find_head(picture), Box(90, 50, 121, 201), tolerance=5)


@pytest.mark.parametrize("name", ["black", "text", "noise", "line", "dot"])
def test_no_head_is_said_so(name: str) -> None:
    picture = np.zeros((300, 400), np.uint8)
    if name == "text":
        cv2.putText(picture, "DOSE 12 mGy", (10, 150), cv2.FONT_HERSHEY_SIMPLEX, 2, 255, 3)
    elif name == "noise":
        picture = np.random.default_rng(0).integers(0, 15, picture.shape).astype(np.uint8)
    elif name == "line":
        picture[100:108] = 255
    elif name == "dot":
        cv2.circle(picture, (200, 150), 10, 255, -1)
    assert find_head(picture) is None
    assert crop(picture, None) is picture


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (700, 3), (40, 60), (128, 128), (2000, 1000)])
def test_boxes_lie_in_pictures_of_every_shape(shape: tuple[int, int]) -> None:
    picture = np.full(shape, 200, np.uint8)
    box = find_head(picture)
    if box is not None:
        cut = crop(picture, box)
        assert cut.shape == (box.height, box.width)
        assert 0 <= box.top < box.top + box.height <= shape[0]
        assert 0 <= box.left < box.left + box.width <= shape[1]
    if min(shape) > 20:
        assert box == (0, 0, *shape)


def test_the_box_scales_with_the_picture() -> None:
    small = draw_head("CT")
    large = cv2.resize(small, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    box = find_head(small)
    check(find_head(large), Box(*(3 * side for side in box)), tolerance=12)
    assert max(find_head_mask(large).shape) <= SIDE


@pytest.mark.parametrize("sequence", ["CT", "FLAIR", "DWI"])
def test_the_brain_of_every_simulated_slice_is_in_the_box(sequence: str) -> None:
    from stroke_hub.data.simulated import simulate_patient

    for seed in range(6):
        for one in simulate_patient(seed, sequence, "infarct" if seed % 2 else "none", size=160):
            box = find_head(one.pixels)
            assert box is not None
            inside = one.brain[box.top : box.top + box.height, box.left : box.left + box.width]
            assert inside.sum() == one.brain.sum()
            assert box.height * box.width < 0.75 * one.pixels.size  # and the black around it is gone


@pytest.mark.parametrize("sequence", ["FLAIR", "DWI"])
def test_rounding_to_8_bits_moves_neither_box_nor_grey_levels(sequence: str) -> None:
    from stroke_hub.data.simulated import simulate_patient
    from stroke_hub.io.slices import load_slices

    rng = np.random.default_rng(0)
    for seed in range(10):
        for one in simulate_patient((7, seed), sequence, "infarct" if seed % 2 else "none", slices=2, size=256):
            values = np.abs(one.clean + rng.normal(0, 0.02, one.clean.shape))
            shown = [
                load_slices(np.rint(values / values.max() * levels).astype(np.uint16), modality="MR")[0].pixels
                for levels in (4095, 255)
            ]
            boxes = [np.array(find_head(picture)) for picture in shown]
            assert np.abs(boxes[0] - boxes[1]).max() <= 4  # a cell of the small copy is 2 pixels, on either side
            head = shown[0] > 0
            assert abs(shown[0][head].mean(dtype=float) - shown[1][head].mean(dtype=float)) <= 0.5
