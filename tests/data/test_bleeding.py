"""Claims of data.bleeding: it lies in the brain, is as bright as blood, and leaves the rest as it was."""

import numpy as np
import pytest
from scipy import ndimage

from stroke_hub.data.bleeding import lay_bleeding
from stroke_hub.io.windowing import Grey, Window


def draw_head(side: int, *, brain: float = 110.0) -> Grey:
    """A skull around a noisy brain with two dark ventricles."""
    rng = np.random.default_rng(3)
    down, right = (np.indices((side, side)) - side / 2) / side
    radius = np.hypot(down / 0.46, right / 0.38)
    head = np.where(radius < 1, 255.0, 0.0)
    head[radius < 0.9] = brain
    head[np.hypot(down / 0.12, (np.abs(right) - 0.05) / 0.03) < 1] = brain - 40
    noisy = head + (radius < 0.9) * rng.normal(0, 5, head.shape)
    return np.asarray(noisy.clip(0, 255), np.uint8)


@pytest.mark.parametrize("side", [128, 224])
def test_bleeding_lies_in_the_brain_and_is_brighter_than_it(side: int) -> None:
    square, rng = draw_head(side), np.random.default_rng(0)
    laid = [found for _ in range(40) if (found := lay_bleeding(square, rng, window="brain"))]
    assert len(laid) >= 30
    skull = square == 255
    near_skull = ndimage.binary_dilation(skull, iterations=2)
    for one in laid:
        assert not (one.mask & skull).any()
        assert (one.square[square == 0] == 0).all()
        core = ndimage.binary_erosion(one.mask) & ~near_skull
        if core.sum() > 50:
            rise = one.square[core].mean() - 110
            assert 10 < rise < 130  # 8 to 31 HU at 3.2 grey levels each, less the soft edge
    areas = np.array([one.mask.mean() for one in laid])
    assert areas.max() > 5 * areas.min()


def test_the_same_seed_lays_the_same_bleeding() -> None:
    square = draw_head(128)
    first, second = (lay_bleeding(square, np.random.default_rng(4), window="brain") for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.square == second.square).all()
    assert (first.mask == second.mask).all()


@pytest.mark.parametrize("square", [np.zeros((128, 128), np.uint8), np.full((128, 128), 90, np.uint8)])
def test_a_slice_without_a_skull_gets_none(square: Grey) -> None:
    assert lay_bleeding(square, np.random.default_rng(0), window="brain") is None


def measure_rise(square: Grey, seed: int, window: Window) -> float:
    """The mean rise in grey levels within the brain's tissue; NaN where no bleeding lies there."""
    one = lay_bleeding(square, np.random.default_rng(seed), window=window)
    core = one.mask & (square > 90) if one else np.zeros(square.shape, bool)
    return float((one.square.astype(float) - square)[core].mean()) if one and core.any() else np.nan


def test_the_rise_in_grey_levels_follows_the_window() -> None:
    square = draw_head(224)
    brain, subdural = (
        np.array([measure_rise(square, seed, window) for seed in range(20)]) for window in ("brain", "subdural")
    )
    assert np.isfinite(brain).sum() >= 10
    assert np.nanmean(brain) > 2 * np.nanmean(subdural) > 0  # 80 HU wide against 200
