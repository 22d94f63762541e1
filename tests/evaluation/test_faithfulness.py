"""The measures give the known answers of maps made by hand, and judge() says what it could not measure."""

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr
from scipy.stats import t as student
from torch import Tensor, nn

from stroke_hub import Records, ResNetViT, Slice, load_slices
from stroke_hub.evaluation.controls import draw_controls, find_best_control
from stroke_hub.evaluation.faithfulness import (
    MAPS,
    _compare_regions,
    _correlate,
    _perturb,
    _randomise,
    _read_cells,
    _refresh_batch_norms,
    _remove_regions,
    _resample,
    judge,
)
from stroke_hub.evaluation.imputation import impute
from stroke_hub.evaluation.localisation import bound_mean, find_grids, find_regions, localise, rank_pixels
from stroke_hub.metrics.intervals import bound_share
from stroke_hub.report.formatting import CONTROLS, LOCALISATION, MEASURES
from stroke_hub.report.heatmaps import draw_faithfulness

SIZE = 64
GRIDS = {"cnn": (2, 2), "vit": (4, 4)}
QUICK: dict[str, Any] = {"steps": 2, "randomisations": 2, "draws": 1, "replicates": 200}


class Weighted(nn.Module):
    """Log-odds that are a weighted sum of the pixels: what each pixel is worth is known."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight
        self.temperature, self.threshold = torch.tensor(1.0), torch.tensor(0.5)

    def forward(self, x: Tensor) -> Tensor:
        log_odds = (x[:, 0] * self.weight).sum((1, 2))
        return torch.stack([torch.zeros_like(log_odds), log_odds], dim=1)


def draw_squares(count: int = 1, *, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(60, 256, (count, SIZE, SIZE), dtype=np.uint8))


def shuffle(count: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(5).random((count, SIZE, SIZE))


def draw_lesion() -> NDArray[np.bool_]:
    lesion = np.zeros((1, SIZE, SIZE), bool)
    lesion[0, 20:30, 34:44] = True
    return lesion


def locate(relevance: NDArray[Any], lesion: NDArray[np.bool_] | None = None) -> dict[str, float]:
    lesions = draw_lesion() if lesion is None else lesion
    found = localise(relevance, rank_pixels(relevance, shuffle()), lesions, find_regions(lesions, GRIDS))
    return {name: float(value[0]) for name, value in found.items()}


# --- localisation -------------------------------------------------------------------------------------------


def test_a_map_that_is_the_mask_gets_full_marks() -> None:
    found = locate(draw_lesion().astype(np.float32))
    assert found == dict.fromkeys(LOCALISATION, pytest.approx(1.0))


def test_a_map_beside_the_lesion_gets_none_but_for_the_cells_that_it_shares() -> None:
    relevance = np.zeros((1, SIZE, SIZE), np.float32)
    relevance[0, 4:8, 60:64] = 1  # in the lesion's CNN cell, not in its patches
    assert locate(relevance) == dict.fromkeys(LOCALISATION, 0.0) | {"mass_cnn_cells": 1.0}


def test_half_of_the_lesion_and_as_much_outside_is_half_right() -> None:
    relevance = np.zeros((1, SIZE, SIZE), np.float32)
    relevance[0, 20:30, 39:49] = 3  # 5 of 10 columns
    found = locate(relevance)
    assert (found["mass"], found["rank"], found["dice"]) == (0.5, 0.5, 0.5)
    assert found["iou"] == pytest.approx(1 / 3)


def test_a_random_or_flat_map_finds_the_share_that_the_lesion_covers() -> None:
    lesion = np.random.default_rng(1).random((1, SIZE, SIZE)) < 0.3
    for relevance in (np.random.default_rng(2).random((1, SIZE, SIZE)), np.ones((1, SIZE, SIZE))):
        found = locate(relevance.astype(np.float32), lesion)
        assert found["mass"] == pytest.approx(0.3, abs=0.03)
        assert found["rank"] == pytest.approx(0.3, abs=0.05)


def test_a_zero_map_is_a_miss_and_no_lesion_is_undefined() -> None:
    assert locate(np.zeros((1, SIZE, SIZE), np.float32)) == dict.fromkeys(LOCALISATION, 0.0)
    nowhere = locate(np.ones((1, SIZE, SIZE), np.float32), np.zeros((1, SIZE, SIZE), bool))
    assert set(nowhere) == set(LOCALISATION)
    assert all(np.isnan(value) for value in nowhere.values())


@pytest.mark.parametrize(("column", "hit"), [(47, 1.0), (48, 0.0)])
def test_pointing_allows_fifteen_pixels_of_224(column: int, hit: float) -> None:
    relevance = np.zeros((1, SIZE, SIZE), np.float32)
    relevance[0, 25, column] = 1  # the lesion ends at column 43, and 15 / 224 of 64 px are 4.3
    assert locate(relevance)["pointing"] == hit
    assert locate(relevance)["pointing_inside"] == 0


# --- regions ------------------------------------------------------------------------------------------------


def test_a_map_that_says_what_each_region_takes_has_no_error() -> None:
    lost = [np.random.default_rng(3).normal(size=(2, 16)), np.random.default_rng(4).normal(size=(2, 16))]
    side = SIZE // 4
    told = np.repeat(np.repeat(lost[0].reshape(2, 4, 4), side, 1), side, 2) / side**2
    found = _compare_regions(told, [lost[0], lost[0]], in_log_odds=True)
    np.testing.assert_allclose(found["regions_rank"], 1)
    np.testing.assert_allclose(found["regions_error"], 0, atol=1e-12)
    opposite = _compare_regions(-told, [lost[0], lost[0]], in_log_odds=True)
    np.testing.assert_allclose(opposite["regions_rank"], -1)
    np.testing.assert_allclose(opposite["regions_error"], 2 * np.abs(lost[0]).mean(1))
    nothing = _compare_regions(np.zeros_like(told), lost, in_log_odds=True)
    np.testing.assert_allclose(nothing["regions_error"], np.mean([np.abs(one).mean(1) for one in lost], 0))
    assert np.isnan(nothing["regions_rank"]).all()
    assert np.isnan(_compare_regions(told, lost, in_log_odds=False)["regions_error"]).all()


def test_a_region_that_decides_takes_all_of_the_answer_with_it(untrained: ResNetViT) -> None:
    pixels = torch.zeros(1, untrained.image_size, untrained.image_size, dtype=torch.uint8)
    side = untrained.image_size // 4
    pixels[0, side : 2 * side, 2 * side : 3 * side] = 200  # all that there is lies in region 6
    black, blurred = _remove_regions(untrained, pixels)
    assert np.abs(black[0]).argmax() == 6
    np.testing.assert_allclose(np.delete(black[0], 6), 0, atol=1e-4)
    # the blur reaches the regions around it, and no further
    near = [1, 2, 3, 5, 6, 7, 9, 10, 11]
    np.testing.assert_allclose(np.delete(blurred[0], near), 0, atol=1e-4)
    assert abs(blurred[0, 6]) > 1e-4


def test_cells_that_touch_the_lesion_count_whole_also_where_cells_are_uneven() -> None:
    lesion = np.zeros((1, SIZE, SIZE), bool)
    lesion[0, 21, 63] = True
    cells = find_regions(lesion, {"vit": (3, 3)})["mass_vit_cells"][0]
    rows, columns = np.nonzero(cells)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 21, 43, 63)
    assert cells[:22, 43:].all()


# --- perturbation -------------------------------------------------------------------------------------------


def test_rank_orders_by_the_map_and_equals_by_chance() -> None:
    relevance = np.zeros((1, SIZE, SIZE))
    relevance[0, 3, 4], relevance[0, 5, 6], relevance[0, 0, 0] = 2, 1, -1
    ranks = rank_pixels(relevance, shuffle())
    assert (ranks[0, 3, 4], ranks[0, 5, 6], ranks[0, 0, 0]) == (0, 1, SIZE**2 - 1)
    assert sorted(ranks.ravel()) == list(range(SIZE**2))
    assert abs(np.corrcoef(ranks.ravel(), np.arange(SIZE**2))[0, 1]) < 0.05


def test_deletion_average_drop_and_increase_by_hand() -> None:
    white = torch.full((1, SIZE, SIZE), 255, dtype=torch.uint8)
    model: Any = Weighted(torch.full((SIZE, SIZE), 3 / SIZE**2))  # z is 3 times the share that is left
    flat = np.ones((1, SIZE, SIZE), np.float32)
    ramp = np.linspace(0, 2, SIZE**2, dtype=np.float32).reshape(1, SIZE, SIZE)
    found = _perturb(model, white, rank_pixels(flat, shuffle()), ramp, (0, 0), 8)
    left = 1 / (1 + np.exp(-3 * np.linspace(1, 0, 9)))
    assert found["deletion"][0] == pytest.approx(np.trapezoid(left, dx=1 / 8), abs=1e-5)
    assert found["insertion"][0] == pytest.approx(left[0], abs=1e-5)  # a blurred white square is white
    assert found["road"][0] == pytest.approx(0, abs=1e-3)  # and so is an imputed one
    assert found["average_drop"][0] == pytest.approx((left[0] - 1 / (1 + np.exp(-1.5))) / left[0], abs=1e-5)
    assert found["increase"][0] == 0


def test_the_true_map_beats_chance_and_its_opposite_loses_by_as_much() -> None:
    weight = np.random.default_rng(3).normal(size=(SIZE, SIZE)).astype(np.float32)
    weight -= weight.mean()
    pixels = draw_squares(2)
    model: Any = Weighted(torch.from_numpy(weight) / 20)
    true = pixels.numpy() * weight
    chance = shuffle(2)
    faithful, opposite, random = (
        _perturb(model, pixels, rank_pixels(values, chance), np.clip(values, 0, None).astype(np.float32), (0, 0), 6)
        for values in (true, -true, np.zeros_like(true))
    )
    assert (faithful["insertion"] > random["insertion"]).all()
    assert (random["insertion"] > faithful["deletion"]).all()
    assert (faithful["deletion"] < random["deletion"]).all()
    assert (faithful["road"] > 0.05).all()
    assert (faithful["road"] > random["road"] + 0.05).all()
    np.testing.assert_allclose(opposite["road"], -faithful["road"], atol=1e-3)
    assert faithful["increase"].all()
    assert not opposite["increase"].any()


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # NumPy 2 about the reference
@pytest.mark.parametrize(("size", "kept", "sigma"), [(64, 0.1, 8), (61, 0.5, 3), (128, 0.1, 12), (64, 0.9, 0)])
def test_imputation_solves_the_same_system_as_the_reference(size: int, kept: float, sigma: float) -> None:
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer
    from scipy import ndimage

    rng = np.random.default_rng(size)
    grey = torch.from_numpy(rng.random((2, size, size)).astype(np.float32))
    field = rng.normal(size=(2, size, size))
    field = ndimage.gaussian_filter(field, (0, sigma, sigma)) if sigma else field
    known = torch.from_numpy(field < np.quantile(field, kept, axis=(1, 2), keepdims=True))
    found = impute(grey, known)
    for image, mask, filled in zip(grey, known, found, strict=True):
        expected = NoisyLinearImputer(noise=0)(image[None], mask.float())[0]
        assert (filled - expected).abs().max() < 0.01  # the noise that ROAD adds has this standard deviation
        assert (filled - expected).square().mean().sqrt() < 0.002
        assert torch.equal(filled[mask], image[mask])


# --- controls, correlation, intervals -----------------------------------------------------------------------


def test_controls_are_deterministic_and_what_their_names_say() -> None:
    pixels = np.zeros((2, SIZE, SIZE), np.uint8)
    pixels[:, 10:50, 12:52] = 120
    pixels[:, 25:35, 25:35] = 3  # a ventricle: dark, but within
    pixels[:, 2:4, 2:4] = 200  # a letter beside the head
    controls, again, others = (draw_controls(pixels, seed) for seed in ((7, 0), (7, 0), (8, 0)))
    assert list(controls) == list(CONTROLS)
    for name, values in controls.items():
        assert (values.shape, values.dtype) == (pixels.shape, np.float32)
        np.testing.assert_array_equal(values, again[name])
        assert np.array_equal(values, others[name]) == (name not in ("random", "blurred random"))
    head = np.zeros((SIZE, SIZE))
    head[10:50, 12:52] = 1
    np.testing.assert_array_equal(controls["uniform brain"][1], head)
    assert not np.array_equal(controls["random"][0], controls["random"][1])
    assert controls["centre Gaussian"][0].argmax() in (31 * SIZE + 31, 31 * SIZE + 32, 32 * SIZE + 31)
    assert not controls["edges"][0, 15:20, 15:20].any()
    assert not draw_controls(np.zeros_like(pixels), (7, 0))["uniform brain"].any()


def test_correlation_is_spearmans_and_undefined_for_a_constant() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (3, 16)), rng.normal(size=(3, 16))
    b[2] = 1.5
    found = _correlate(a, b)
    for i in range(2):
        assert found[i] == pytest.approx(spearmanr(a[i], b[i]).statistic)
    assert np.isnan(found[2])
    np.testing.assert_allclose(_correlate(a, -a), -1)


def test_intervals_are_those_of_the_report_over_groups() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(20), 5)
    values = rng.normal(size=20)[patients] + 0.1 * rng.normal(size=100)  # slices of a patient are much alike
    columns = {("road", "cnn"): values, ("road", "vit"): np.where(np.arange(100) < 50, values, np.nan)}
    clustered = _resample(columns, patients, 0, 2000)["road", "cnn"]
    single = _resample(columns, np.arange(100), 0, 2000)["road", "cnn"]
    assert clustered is not None
    assert single is not None
    assert clustered["mean"] == pytest.approx(values.mean())
    # close to Student's t interval of the patients' means, which knows nothing of resampling
    means = values.reshape(20, 5).mean(1)
    expected = student.interval(0.95, 19, means.mean(), means.std(ddof=1) / 20**0.5)
    assert (clustered["low"], clustered["high"]) == pytest.approx(expected, abs=0.1)
    assert clustered["high"] - clustered["low"] > 1.7 * (single["high"] - single["low"])
    half = _resample(columns, patients, 0, 2000)["road", "vit"]
    assert half is not None
    assert (half["n"], half["mean"]) == (50, pytest.approx(values[:50].mean()))
    share = bound_mean(values > 0, patients)
    assert share is not None
    hits = (values > 0).reshape(20, 5).sum(1)
    assert share["low"] == bound_share(hits, np.full(20, 5))["low"]


def test_what_is_undefined_is_left_out_of_intervals_and_none_where_nothing_is_left() -> None:
    each, alone = np.arange(4), np.zeros(4)
    for estimate in (bound_mean, lambda v, names: _resample({("road", "cnn"): v}, names, 0, 300)["road", "cnn"]):
        assert estimate(np.array([np.nan, 1, 1, 0]), each)["n"] == 3
        assert estimate(np.full(4, np.nan), each) is None
        same = estimate(np.array([np.nan, 0.5, 0.5, 0.5]), each)
        assert same == {"mean": 0.5, "low": None, "high": None, "n": 3}
        assert estimate(np.arange(4) / 4, alone) == {"mean": 0.375, "low": None, "high": None, "n": 4}
        one = estimate(np.array([np.nan, 0.5, np.nan, np.nan]), each)
        assert one == {"mean": 0.5, "low": None, "high": None, "n": 1}


def test_every_slice_pointed_at_is_not_certainty() -> None:
    found = bound_mean(np.ones(30), np.arange(30) // 3)
    assert found is not None
    assert (found["low"], found["high"]) == (pytest.approx(0.025**0.1), 1)


def test_advantage_is_over_the_best_control() -> None:
    base = np.arange(6.0)
    values = dict.fromkeys(MAPS, base + 1) | dict.fromkeys(CONTROLS, base - 3) | {"edges": base}
    assert find_best_control(values, 1) == "edges"
    assert find_best_control(values, -1) == "random"
    assert find_best_control(dict.fromkeys(values, base * np.nan), 1) is None


# --- the whole suite ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strokes(sample: Records) -> tuple[list[Slice], list[NDArray[np.bool_] | None], list[str]]:
    table = sample.part("test").query("label == 1").iloc[:3]  # two of one patient and one of another
    slices = [load_slices(sample.root / path)[0] for path in table["path"]]
    masks = [load_slices(sample.root / path)[0].pixels > 127 for path in table["mask"]]
    return slices, [None, *masks[1:]], table["group"].tolist()


@pytest.fixture(scope="module")
def judged(trained: ResNetViT, strokes: Any) -> dict[str, Any]:
    slices, masks, groups = strokes
    return judge(trained, slices, masks=masks, groups=groups, **QUICK)


def test_every_map_stands_beside_every_control(judged: dict[str, Any]) -> None:
    json.dumps(judged, allow_nan=False)
    assert (judged["n"], judged["n_masks"], judged["target"]) == (3, 2, "Stroke")
    assert judged["cell_px"] == {"cnn": [32.0, 32.0], "vit": [16.0, 16.0]}
    for measure in MEASURES:
        names = MAPS if measure.startswith("randomisation") else (*MAPS, *CONTROLS)
        assert tuple(judged["measures"][measure]) == names
        for cell in judged["measures"][measure].values():
            undefined = cell is None or cell["low"] is None  # fewer than two groups with such a map
            assert undefined or cell["low"] <= cell["mean"] + 1e-9 <= cell["high"] + 2e-9
            assert cell is None or cell["n"] <= (2 if measure in LOCALISATION else 3)
    assert len(judged["randomisation_each"]["fused"]) == 2
    assert judged["groups"] == 2
    assert judged["measures"]["sensitivity"]["random"]["mean"] == 0
    assert judged["advantage"]["road"]["fused"]["control"] in CONTROLS
    assert "sensitivity" not in judged["advantage"]
    assert judged["measures"]["sensitivity"]["cnn_evidence"]["mean"] > 0


def test_contributions_and_fused_maps_are_complete(judged: dict[str, Any]) -> None:
    for error in judged["completeness"].values():
        assert error["max"] < 1e-4


@pytest.mark.slow
def test_the_same_arguments_give_the_same_result(trained: ResNetViT, strokes: Any, judged: dict[str, Any]) -> None:
    slices, masks, groups = strokes
    assert judge(trained, slices, masks=masks, groups=groups, **QUICK) == judged


def test_what_cannot_be_measured_is_none_and_a_note_says_why_and_the_model_is_left_alone(
    trained: ResNetViT,
) -> None:
    before, state = copy.deepcopy(trained.state_dict()), torch.get_rng_state()
    result = judge(trained, torch.zeros(1, 128, 128, dtype=torch.uint8), **QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert not trained.training
    for name, value in trained.state_dict().items():
        assert torch.equal(value, before[name])
    for measure in LOCALISATION:
        assert set(result["measures"][measure].values()) == {None}
        assert result["advantage"][measure] is None
    assert result["measures"]["sensitivity"]["intensity"] is None  # an all-black slice has no size to compare with
    assert result["zero_maps"]["uniform brain"] == 1
    words = "; ".join(result["notes"])
    for wanted in ("no slice has a lesion mask", "two groups or more", "sensitivity: undefined"):
        assert wanted in words
    assert isinstance(draw_faithfulness(result, measures=MEASURES, controls=CONTROLS), Figure)


def test_permuted_parameters_give_other_maps_that_are_alive(trained: ResNetViT, strokes: Any) -> None:
    from stroke_hub.evaluation.faithfulness import _draw_maps
    from stroke_hub.inference.predict import to_pixels

    pixels, grids = to_pixels(trained, strokes[0]), find_grids(trained)
    cells = _read_cells(_draw_maps(trained, pixels)[1], grids)
    assert {name: values.shape for name, values in cells.items()} == {
        name: (3, 16 if name.startswith("cnn") else 64) for name in MAPS
    }
    correlations, chance = _randomise(trained, pixels, cells, grids, 0, 2, [np.arange(3)])
    assert correlations["fused"].shape == (2, 3)
    # the level of chance is of both permuted models: given the first one's maps, the second is compared with them
    permuted = copy.deepcopy(trained)
    generator = torch.Generator().manual_seed(0)
    for parameter in permuted.parameters():
        order = torch.randperm(parameter.numel(), generator=generator)
        parameter.data = parameter.data.flatten()[order].view_as(parameter)
    _refresh_batch_norms(permuted, pixels)
    first = _read_cells(_draw_maps(permuted, pixels)[1], grids)
    again, _ = _randomise(trained, pixels, first, grids, 0, 2, [np.arange(3)])
    np.testing.assert_allclose(again["fused"][0], 1)
    np.testing.assert_allclose(again["fused"][1], chance["fused"][0])
    assert _randomise(trained, pixels, cells, grids, 0, 1, [np.arange(3)])[1]["fused"].shape == (0, 3)
    assert np.isfinite(correlations["cnn_evidence"]).all()
    assert np.abs(correlations["fused"]).max() < 0.95


def test_cells_are_read_back_from_enlarged_maps() -> None:
    grid = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    large = nn.functional.interpolate(torch.from_numpy(grid)[:, None], (128, 128), mode="bilinear")[:, 0].numpy()
    np.testing.assert_allclose(_read_cells({"vit": large}, {"vit": (8, 8)})["vit"], grid.reshape(2, 64), atol=0.06)


def test_every_panel_of_the_table_is_drawn(judged: dict[str, Any]) -> None:
    figure = draw_faithfulness(judged, measures=MEASURES, controls=CONTROLS, note="simulated slices, not patients")
    assert len(figure.axes) == len(MEASURES)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [*MAPS, *CONTROLS]


@pytest.mark.parametrize(
    "wrong",
    [{"masks": [None]}, {"groups": ["a"]}, {"steps": 1}, {"randomisations": 0}, {"draws": 0}, {"replicates": 99}],
)
def test_impossible_arguments_are_refused(trained: ResNetViT, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Give at least one|must be at least"):
        judge(trained, draw_squares(2), **wrong)
    with pytest.raises(ValueError, match="at least one slice"):
        judge(trained, [])
