"""Claims of stroke_hub.io.morphology: what numpy computes is what OpenCV computes."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from stroke_hub.io.morphology import close_gaps, fill_holes, find_otsu, label_parts, measure_distance


def draw_masks() -> Iterator[np.ndarray]:
    """Noise, blobs and ellipses of many sizes, one pixel included."""
    rng = np.random.default_rng(0)
    for number in range(120):
        height, width = rng.integers(1, 140, 2) if number else (1, 1)
        noise = rng.random((height, width)).astype(np.float32)
        if number % 3 == 0:
            yield noise < rng.random()
        elif number % 3 == 1:
            yield cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.5, 4)) > 0.51
        else:
            drawn = np.zeros((height, width), np.uint8)
            cv2.ellipse(drawn, (width // 2, height // 2), (width // 3, height // 4), 30, 0, 360, 1, -1)
            yield (drawn > 0) & (noise > 0.05)


MASKS = list(draw_masks())


@pytest.mark.parametrize("blur", [0, 1, 4])
def test_the_threshold_is_that_of_opencv(blur: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        picture = rng.integers(0, rng.integers(2, 256), rng.integers(1, 140, 2)).astype(np.uint8)
        picture = cv2.GaussianBlur(picture, (0, 0), blur) if blur else picture
        expected, _ = cv2.threshold(picture, 0, 255, cv2.THRESH_OTSU)
        assert find_otsu(picture) == expected


def test_closing_is_that_of_opencv() -> None:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    for mask in MASKS:
        expected = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, disc)
        np.testing.assert_array_equal(close_gaps(mask), expected > 0)


def test_holes_are_what_opencv_does_not_reach_from_the_corner() -> None:
    for mask in MASKS:
        framed = np.pad(mask, 1).astype(np.uint8)
        outside = framed.copy()
        cv2.floodFill(outside, None, (0, 0), 1)
        np.testing.assert_array_equal(fill_holes(framed > 0), (framed > 0) | (outside == 0))


def test_distances_are_those_of_opencv() -> None:
    for mask in MASKS:
        framed = np.pad(mask, 1)
        expected = cv2.distanceTransform(framed.astype(np.uint8), cv2.DIST_L2, 3)
        np.testing.assert_allclose(measure_distance(framed), expected, rtol=0, atol=1e-4)


def test_parts_are_those_of_opencv() -> None:
    for mask in MASKS:
        for connectivity, diagonal in ((4, False), (8, True)):
            count, expected = cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)
            labels = label_parts(mask, diagonal=diagonal)
            pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
            assert labels.max() + 1 == count
            assert len(pairs.T) == len(np.unique(expected))  # one number of ours for one of theirs
            np.testing.assert_array_equal(labels > 0, mask)
