"""Claims of stroke_hub.audit.duplicates: a copy is recognised in its disguises, a resembling brain is not one."""

import io
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy import fft

from stroke_hub import Records, load_slices
from stroke_hub.audit.duplicates import (
    ORIENTATIONS,
    SIDE,
    Sketches,
    _hash_views,
    align,
    calibrate_threshold,
    collect_sketches,
    compare_candidates,
    propose_pairs,
    sketch,
    turn,
)

Grey = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pixels(sample: Records) -> list[Grey]:
    """One slice of each patient."""
    paths = sample.table.drop_duplicates("group")["path"]
    return [load_slices(sample.root / path)[0].pixels for path in paths]


def reencode(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("L")


def crop(image: Image.Image, left: int, top: int, right: int, bottom: int) -> Image.Image:
    """Without so many hundredths of its width at each side."""
    part = image.width / 100
    box = (left * part, top * part, image.width - right * part, image.height - bottom * part)
    return image.crop(tuple(round(edge) for edge in box))


DISGUISES = {
    "quality 90": lambda image: reencode(image, 90),
    "quality 50": lambda image: reencode(image, 50),
    "larger": lambda image: image.resize((500, 500), Image.Resampling.BICUBIC),
    "smaller": lambda image: image.resize((128, 128), Image.Resampling.BILINEAR),
    "another aspect": lambda image: image.resize((200, 240), Image.Resampling.BILINEAR),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "lying": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "transposed": lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    "cropped all round": lambda image: crop(image, 3, 3, 3, 3),
    "cropped at a corner": lambda image: crop(image, 3, 3, 0, 0),
    "cropped at a side": lambda image: crop(image, 0, 0, 0, 3),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.3),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "lifted": lambda image: image.point(lambda grey: min(grey + 40, 255)),
    "all at once": lambda image: reencode(
        ImageEnhance.Brightness(crop(image, 3, 0, 0, 3).transpose(Image.Transpose.FLIP_LEFT_RIGHT)).enhance(1.2), 70
    ),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_copy_is_recognised(disguise: str, pixels: list[Grey]) -> None:
    disguised = [np.asarray(DISGUISES[disguise](Image.fromarray(picture))) for picture in pixels]
    n = len(pixels)
    sketches = collect_sketches([sketch(picture) for picture in (*pixels, *disguised)])
    rows = np.arange(2 * n)
    proposed = propose_pairs(sketches, part=rows // n, apart=rows, picture=rows)
    missed = {(i, n + i) for i in range(n)} - set(map(tuple, proposed.tolist()))
    assert len(missed) == 0
    similarity = compare_candidates(sketches, np.stack([rows[:n], rows[n:]], axis=1))
    others = compare_candidates(
        sketches, np.array([pair for pair in proposed.tolist() if pair[1] % n != pair[0] % n])
    )
    assert similarity.min() > 0.9  # the highest threshold that is ever set
    assert others.max() < 0.8  # and the lowest


def test_aligned_copies_coincide(pixels: list[Grey]) -> None:
    picture = Image.fromarray(pixels[0])
    turned = crop(picture, 2, 0, 3, 1).transpose(Image.Transpose.ROTATE_270)
    similarity, first, second = align(collect_sketches([sketch(pixels[0]), sketch(np.asarray(turned))]), 0, 1)
    assert similarity > 0.9
    assert first.shape == second.shape == (64, 64)
    assert np.corrcoef(first[8:-8, 8:-8].ravel(), second[8:-8, 8:-8].ravel())[0, 1] > 0.99


def test_the_same_picture_has_similarity_one(pixels: list[Grey]) -> None:
    sketches = collect_sketches([sketch(pixels[0])] * 2)
    assert abs(align(sketches, 0, 1)[0] - 1) < 1e-6


def test_eight_orientations_are_eight_and_hashes_follow_them(pixels: list[Grey]) -> None:
    square = sketch(pixels[0])
    turned = [np.ascontiguousarray(turn(square, orientation)) for orientation in range(ORIENTATIONS)]
    assert len({picture.tobytes() for picture in turned}) == 8
    whole = collect_sketches(turned).hashes[0]
    for orientation in range(ORIENTATIONS):
        np.testing.assert_array_equal(whole[orientation, 0], whole[0, orientation])


def test_hashes_are_the_published_ones(pixels: list[Grey]) -> None:
    views = [sketch(picture)[::2, ::2] for picture in pixels[:5]]
    hashes = _hash_views(views) > 0
    for orientation, (n, view) in itertools.product(range(ORIENTATIONS), enumerate(views)):
        turned = turn(view.astype(float), orientation)
        waves = fft.dct(fft.dct(turned, axis=0), axis=1)[:16, :16]  # as imagehash.phash(image, hash_size=16) does
        np.testing.assert_array_equal(hashes[orientation, n].reshape(16, 16), waves > np.median(waves))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_pairs_are_those_of_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    base = rng.choice([-1, 1], (2, 1, 1, 256))
    noise = rng.choice([-1, 1], (2, 8, n, 256), p=[0.12, 0.88])
    hashes = (base * noise).astype(np.int8)
    sketches = Sketches(np.zeros((n, SIDE, SIDE), np.uint8), np.zeros((n, 2, 2)), hashes)
    part, apart, picture = rng.integers(0, 3, n), rng.integers(0, n, n), rng.integers(0, n, n)
    found = set(map(tuple, propose_pairs(sketches, part, apart, picture).tolist()))
    for view, i, code in itertools.product(range(2), range(n), range(3)):
        allowed = [j for j in range(n) if part[j] == code and apart[i] != apart[j] and picture[i] != picture[j]]
        agree = {j: max(hashes[view, :, j].astype(int) @ hashes[view, 0, i].astype(int)) for j in allowed}
        near = sorted((a for a in agree.values() if a >= 128), reverse=True)[:2]
        paired = sorted((agree[j] for j in allowed if (min(i, j), max(i, j)) in found), reverse=True)
        assert paired[: len(near)] == near
    for i, j in found:
        assert i < j
        assert apart[i] != apart[j]
        assert picture[i] != picture[j]


def test_pictures_of_nothing_resemble_nothing() -> None:
    flat = [np.full((50, 70), level, np.uint8) for level in (0, 128, 255)]
    dot = np.zeros((1, 1), np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (300, 20), dtype=np.uint8)
    sketches = collect_sketches([sketch(picture) for picture in (*flat, dot, noise)])
    for i, j in itertools.combinations(range(5), 2):
        assert abs(align(sketches, i, j)[0]) < 0.5


# --- the threshold ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [0.0, 0.1])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_threshold_keeps_false_alarms_rare(copies: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mode, scale = 0.45, 0.11  # of Fisher's z, much as between CT slices of different patients
    others = np.tanh(rng.gumbel(mode, scale, 1500))
    copied = rng.uniform(0.97, 1.0, round(1500 * copies))
    calibration = calibrate_threshold(np.concatenate([others, copied]))
    assert 0.8 < calibration.threshold < 0.9
    fresh = np.tanh(rng.gumbel(mode, scale, 400_000))
    assert (fresh >= calibration.threshold).mean() < 0.004
    assert abs(calibration.false_alarm_rate - 0.001) < 0.0005


def test_threshold_stays_within_its_bounds_and_says_what_that_costs() -> None:
    rng = np.random.default_rng(0)
    unlike, alike = (calibrate_threshold(np.tanh(rng.gumbel(mode, 0.1, 500))) for mode in (0.0, 1.2))
    assert unlike.threshold == 0.8
    assert unlike.false_alarm_rate < 0.001
    assert alike.threshold == 0.9
    assert alike.false_alarm_rate > 0.01


def test_few_slices_calibrate_nothing() -> None:
    for nearest in (np.empty(0), np.full(29, 0.3)):
        calibration = calibrate_threshold(nearest)
        assert calibration.threshold == 0.9
        assert np.isnan(calibration.false_alarm_rate)
    assert 0.8 <= calibrate_threshold(np.ones(40)).threshold <= 0.9
