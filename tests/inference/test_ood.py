"""What is not a brain slice is called unlike the training slices, and what is like them hardly ever."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from safetensors.torch import load_file, save_file
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from sklearn.datasets import load_sample_image

from stroke_hub import (
    PRESETS,
    ModelFormatError,
    Records,
    ResNetViT,
    Slice,
    TrainConfig,
    explain,
    fit,
    load_slices,
    predict,
    read_records,
    write_sample,
)
from stroke_hub.batch.pipeline import PredictSettings, predict_paths
from stroke_hub.data.loader import decode_squares
from stroke_hub.files import hash_file
from stroke_hub.inference.ood import TEXTURE_SIZE as OOD_SIZE
from stroke_hub.inference.ood import describe_unusual, find_unusual, measure_distance, measure_texture
from stroke_hub.inference.predict import compute_features, compute_textures, to_float_pixels, to_pixels
from stroke_hub.models.resnet_vit import TEXTURE_SIZE, hash_weights
from stroke_hub.report.sentences import describe, warn
from stroke_hub.runs.report import Report
from stroke_hub.runs.run_folder import read_split
from tests.conftest import randomise
from tests.inference.other_organs import list_other_organs

Grey = NDArray[np.uint8]
LEVEL = 0.995  # the quantile that sets the limit


def finish(grey: NDArray[np.float64], seed: int) -> Grey:
    noise = np.random.default_rng(seed).normal(0, 5, grey.shape)
    return (grey + noise).clip(0, 255).astype(np.uint8)


def draw_text(seed: int) -> Grey:
    """A scanned page."""
    page = Image.new("L", (620, 877), 245)
    words = ["the", "patient", "was", "seen", "in", "clinic", "on", "day", "three", "and", "reported", "no", "pain"]
    rng = np.random.default_rng(seed)
    for y in range(40, 820, 26 + seed):
        line = " ".join(rng.choice(words, size=int(rng.integers(3, 9))))
        ImageDraw.Draw(page).text((45, y), line, fill=30, font=ImageFont.load_default(16 + seed))
    return finish(np.asarray(page, np.float64), seed)


def draw_chest(seed: int) -> Grey:
    """The shape of a chest X-ray: a bright trunk, two dark lungs, ribs, a heart."""
    size, rng = 512, np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    body = (np.abs(x / rng.uniform(0.40, 0.48)) ** 4 + np.abs((y - 0.08) / 0.6) ** 4 < 1) | (
        (np.abs(x) < 0.12) & (y < -0.3)
    )
    grey = np.where(body, rng.uniform(150, 180), 10.0)
    for side in (-1, 1):
        grey[((x - side * 0.19) / 0.145) ** 2 + ((y + 0.02) / rng.uniform(0.30, 0.37)) ** 2 < 1] = 60
    grey[((x - 0.07) / 0.15) ** 2 + ((y - 0.18) / 0.16) ** 2 < 1] = 175
    for rib in np.arange(-0.32, 0.4, 0.08):
        grey[(np.abs(y - rib - 0.35 * x**2) < 0.012) & body] += 25
    picture = Image.fromarray(grey.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(4))
    return finish(np.asarray(picture, np.float64), seed)


def take_photo(seed: int) -> Grey:
    """A part of scikit-learn's photographs, the first two whole."""
    grey = np.asarray(Image.fromarray(load_sample_image(("china.jpg", "flower.jpg")[seed % 2])).convert("L"))
    if seed < 2:
        return grey
    rng = np.random.default_rng(seed)
    side = int(rng.integers(300, 420))
    top, left = (int(rng.integers(0, whole - side)) for whole in grey.shape)
    return grey[top : top + side, left : left + side]


def draw_stripes(seed: int) -> Grey:
    x = np.mgrid[0:256, 0:256][seed % 2]
    return ((x // (8, 16, 32, 64)[seed % 4]) % 2 * 255).astype(np.uint8)


KINDS = {
    "photo": take_photo,
    "text": draw_text,
    "chest": draw_chest,
    "noise": lambda seed: np.random.default_rng(seed).integers(0, 256, (256, 256), dtype=np.uint8),
    "stripes": draw_stripes,
    "blank": lambda seed: np.full((200, 200), 51 * seed, np.uint8),
}


@pytest.fixture(scope="module")
def test_squares(trained: ResNetViT, sample: Records) -> torch.Tensor:
    return decode_squares(trained, sample.root, sample.part("test"))


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of `make quickstart`: `trained` saw 34 slices for two epochs and cannot know what a head is."""
    folder = tmp_path_factory.mktemp("quickstart")
    records = read_records(write_sample(folder / "sample"))
    return fit(TrainConfig(preset="tiny", epochs=20, learning_rate=1e-3), records, folder / "run")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "photo"])  # see `quickstart`
def test_what_is_no_brain_slice_is_flagged(trained: ResNetViT, kind: str) -> None:
    slices = [Slice(KINDS[kind](seed)) for seed in range(6)]
    prediction = predict(trained, slices)
    assert prediction.unusual.all(), prediction.distance / float(trained.feature_distance_limit)
    for e, distance in zip(explain(trained, slices), prediction.distance, strict=True):
        assert e.unusual
        said = describe_unusual(e.distance, e.distance_limit)
        assert said in e.remarks
        assert e.distance == pytest.approx(distance, rel=1e-4)
        assert kind == "blank" or "unlike the training slices" in said


def test_a_slice_of_the_same_dataset_is_seldom_flagged(trained: ResNetViT, test_squares: torch.Tensor) -> None:
    prediction = predict(trained, test_squares)
    assert prediction.unusual.mean() <= 0.05
    explained = explain(trained, test_squares[:20])
    assert [e.unusual for e in explained] == prediction.unusual[:20].tolist()
    usual = next(e for e in explained if not e.unusual)
    assert not any("unlike" in remark or "blank" in remark for remark in usual.remarks)


@pytest.mark.slow
def test_pictures_of_other_kinds_are_flagged(quickstart: Path) -> None:
    model, records = ResNetViT.from_pretrained(quickstart), read_records(quickstart.parent / "sample")
    for kind, draw in KINDS.items():
        assert predict(model, [Slice(draw(seed)) for seed in range(6)]).unusual.all(), kind
    squares = decode_squares(model, records.root, records.part("test"))
    assert predict(model, 255 - squares).unusual.mean() > 0.95


@pytest.mark.slow
def test_other_organs_pass_at_most_half_as_often_as_by_z_scores(quickstart: Path, tmp_path: Path) -> None:
    model, simple = ResNetViT.from_pretrained(quickstart), ResNetViT.from_pretrained(quickstart)
    squares = to_pixels(model, list_other_organs())
    simple.feature_whitening = simple.texture_mean = None
    split, limits, root = read_split(quickstart), [], read_records(quickstart.parent / "sample").root
    for part in ("train", "val"):
        known = decode_squares(simple, root, split[split["split"] == part])
        limits.append(np.quantile(predict(simple, known).distance, LEVEL))
    simple.feature_distance_limit.fill_(max(limits))
    passed, passed_before = ((~predict(one, squares).unusual).sum() for one in (model, simple))
    assert passed_before > 0
    assert passed <= min(passed_before, len(squares) / 5) / 2  # a fifth passed before slices were cropped
    fresh = read_records(write_sample(tmp_path / "fresh", seed=1))
    unusual = predict(model, decode_squares(model, fresh.root, fresh.table)).unusual
    strokes = fresh.table["label"].to_numpy() == 1
    assert unusual.mean() <= 0.02
    assert unusual[strokes].mean() <= 3 * unusual[~strokes].mean()


def test_the_distance_of_an_older_model_is_the_standardised_euclidean_one(
    run_dir: Path, test_squares: torch.Tensor
) -> None:
    trained = ResNetViT.from_pretrained(run_dir)
    trained.feature_whitening = trained.texture_mean = None
    features = compute_features(trained, test_squares).numpy()
    assert trained.feature_scale is not None
    mean, scale = trained.feature_mean.numpy(), trained.feature_scale.numpy()
    reference = cdist(features, mean[None], "seuclidean", V=scale.astype(np.float64) ** 2)[:, 0]
    expected = reference / math.sqrt(features.shape[1])
    np.testing.assert_allclose(measure_distance(features, mean, scale), expected, rtol=1e-9)
    np.testing.assert_allclose(predict(trained, test_squares).distance, expected, rtol=1e-6)


def test_the_distance_is_mahalanobis_with_a_shrunk_covariance_where_strokes_count_twice(
    run_dir: Path, sample: Records, test_squares: torch.Tensor
) -> None:
    trained = ResNetViT.from_pretrained(run_dir)
    trained.texture_mean = None
    split = read_split(run_dir)
    train = split[split["split"] == "train"]
    assert trained.feature_scale is not None
    mean, scale = trained.feature_mean.numpy(), trained.feature_scale.numpy()
    z = (compute_features(trained, decode_squares(trained, sample.root, train)).numpy() - mean) / scale
    share = train["label"].map({0: 3.0, 1: 1.5}).to_numpy(copy=True)
    share *= train["label"].map(train["label"].value_counts()).to_numpy() / len(train)
    weighted = z.astype(np.float64) / np.sqrt(share)[:, None]
    inverse = np.linalg.inv(ledoit_wolf(weighted, assume_centered=True)[0] + 1e-6 * np.eye(z.shape[1]))
    features = compute_features(trained, test_squares).numpy()
    expected = cdist((features - mean) / scale, np.zeros((1, z.shape[1])), "mahalanobis", VI=inverse)[:, 0]
    np.testing.assert_allclose(predict(trained, test_squares).distance * math.sqrt(z.shape[1]), expected, rtol=1e-3)


def test_the_limit_is_the_greater_quantile_of_train_and_val(run_dir: Path, sample: Records) -> None:
    trained = ResNetViT.from_pretrained(run_dir)
    trained.texture_mean = None
    split = read_split(run_dir)
    quantiles = []
    for part in ("train", "val"):
        squares = decode_squares(trained, sample.root, split[split["split"] == part])
        quantiles.append(np.quantile(predict(trained, squares).distance, LEVEL))
        if part == "train":
            features = compute_features(trained, squares)
    assert float(trained.feature_distance_limit) == pytest.approx(max(quantiles), rel=1e-6)
    deviation = features.std(0, correction=0)
    assert trained.feature_scale is not None
    branches = deviation.split([trained.cnn.num_features, trained.vit.num_features])
    # those that hardly stir are held at a tenth of their branch's mean
    expected = torch.cat([part.clamp_min(0.1 * part.mean().item() + 1e-6) for part in branches])
    torch.testing.assert_close(trained.feature_scale, expected)
    assert trained.feature_scale.isclose(deviation, rtol=1e-4).float().mean() > 0.5


def test_texture_is_grey_levels_and_edges_at_four_scales() -> None:
    rng = np.random.default_rng(0)
    squares = rng.integers(0, 256, (3, 48, 48), dtype=np.uint8)
    found = measure_texture(torch.from_numpy(squares).float() / 255).numpy()
    assert found.shape == (3, OOD_SIZE) == (3, TEXTURE_SIZE)
    for one, texture in zip(squares / 255.0, found, strict=True):
        shares = np.histogram(one, np.linspace(0, 1, 17))[0] / one.size
        expected = list(np.sqrt(shares))
        for _ in range(4):
            steps = [np.diff(one, axis=1), np.diff(one, axis=0)]
            laplacian = sum(np.roll(one, shift, axis) for axis in (0, 1) for shift in (-1, 1)) - 4 * one
            for step in (*steps, laplacian[1:-1, 1:-1]):
                size = np.abs(step)
                expected += [size.mean(), np.sqrt((size**2).mean()), (size < 0.02).mean()]
            one = one.reshape(len(one) // 2, 2, len(one) // 2, 2).mean((1, 3))
        np.testing.assert_allclose(texture, expected, atol=2e-3)


def test_the_distance_is_the_larger_of_features_and_texture(
    run_dir: Path, sample: Records, test_squares: torch.Tensor
) -> None:
    both, features = ResNetViT.from_pretrained(run_dir), ResNetViT.from_pretrained(run_dir)
    features.texture_mean = None
    limit = float(both.feature_distance_limit)
    split, shares = read_split(run_dir), []
    assert both.texture_mean is not None
    assert both.texture_scale is not None
    assert both.texture_whitening is not None
    held = [value.numpy() for value in (both.texture_mean, both.texture_scale, both.texture_whitening)]
    for part in ("train", "val"):
        squares = decode_squares(both, sample.root, split[split["split"] == part])
        shares.append(np.quantile(measure_distance(compute_textures(squares).numpy(), *held), LEVEL))
    assert max(shares) == pytest.approx(1, rel=1e-4)
    own = measure_distance(compute_textures(test_squares).numpy(), *held)
    expected = np.maximum(predict(features, test_squares).distance, limit * own)
    np.testing.assert_allclose(predict(both, test_squares).distance, expected, rtol=1e-5)
    assert (expected > predict(features, test_squares).distance).any()


def test_a_texture_comes_whole_or_not_at_all(run_dir: Path, tmp_path: Path) -> None:
    weights = load_file(run_dir / "model.safetensors")
    del weights["texture_scale"]
    shutil.copy(run_dir / "config.json", tmp_path)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFormatError, match=r"lacks 1 tensors \('texture_scale'"):
        ResNetViT.from_pretrained(tmp_path)


def test_the_limit_changes_no_prediction(trained: ResNetViT, test_squares: torch.Tensor, run_dir: Path) -> None:
    unlimited = ResNetViT.from_pretrained(run_dir)
    unlimited.feature_distance_limit.fill_(math.inf)
    unlimited.feature_scale = unlimited.feature_whitening = unlimited.texture_mean = None
    with torch.inference_mode():
        logits = torch.cat([trained(to_float_pixels(batch, "cpu")) for batch in test_squares.split(32)])
    for model in (trained, unlimited):
        prediction = predict(model, test_squares)
        np.testing.assert_array_equal(prediction.logits, logits.numpy())
    one, other = explain(trained, test_squares[:2])[1], explain(unlimited, test_squares[:2])[1]
    assert one.probability == other.probability
    np.testing.assert_array_equal(one.fused_map, other.fused_map)


def test_an_older_model_loads_keeps_its_bytes_and_flags_nothing(run_dir: Path, tmp_path: Path) -> None:
    weights = load_file(run_dir / "model.safetensors")
    for name in [name for name in weights if name.startswith(("feature_scale", "feature_white", "texture"))]:
        del weights[name]
    weights["feature_distance_limit"].fill_(math.inf)
    shutil.copy(run_dir / "config.json", tmp_path)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    older = ResNetViT.from_pretrained(tmp_path)
    assert older.feature_scale is None
    assert older.feature_whitening is None
    assert hash_weights(older) == hash_file(tmp_path / "model.safetensors")
    slices = [Slice(draw(0)) for draw in KINDS.values()]
    prediction = predict(older, slices)
    assert not prediction.unusual.any()
    assert np.isfinite(prediction.distance).all()
    assert not any(e.unusual or "unlike" in " ".join(e.remarks) for e in explain(older, slices))


def test_scale_and_limit_are_saved_and_loaded(trained: ResNetViT, run_dir: Path, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path)
    again = ResNetViT.from_pretrained(tmp_path)
    assert trained.feature_scale is not None
    assert again.feature_scale is not None
    assert torch.equal(again.feature_scale, trained.feature_scale)
    assert trained.feature_whitening is not None
    assert again.feature_whitening is not None
    assert torch.equal(again.feature_whitening, trained.feature_whitening)
    assert again.feature_distance_limit == trained.feature_distance_limit < 10
    assert hash_weights(again) == hash_file(run_dir / "model.safetensors")


def test_a_transformer_with_computed_tables_keeps_them_too(tmp_path: Path) -> None:
    model = randomise(ResNetViT(**PRESETS["tiny"] | {"vit": "eva02_tiny_patch14_224", "image_size": 56}))
    model.feature_scale = torch.rand_like(model.feature_mean) + 0.5
    model.feature_whitening = torch.rand(2 * model.feature_mean.shape)
    model.save_pretrained(tmp_path)
    again = ResNetViT.from_pretrained(tmp_path)
    assert again.feature_scale is not None
    assert again.feature_whitening is not None
    assert torch.equal(again.feature_scale, model.feature_scale)
    assert torch.equal(again.feature_whitening, model.feature_whitening)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("feature_scale", torch.zeros),
        ("feature_scale", lambda shape: torch.full(shape, math.inf)),
        ("feature_scale", lambda shape: torch.ones(3)),
        ("feature_whitening", lambda shape: torch.full(shape, math.inf)),
        ("feature_whitening", lambda shape: torch.ones(3, 3)),
        ("texture_scale", torch.zeros),
        ("texture_whitening", lambda shape: torch.ones(3, 3)),
        ("feature_distance_limit", lambda shape: torch.full(shape, math.nan)),
        ("feature_distance_limit", lambda shape: torch.full(shape, -1.0)),
    ],
    ids=[
        "no scale",
        "infinite scale",
        "short scale",
        "infinite whitening",
        "small whitening",
        "no texture",
        "small texture",
        "limit NaN",
        "limit below 0",
    ],
)
def test_impossible_values_are_refused(run_dir: Path, tmp_path: Path, key: str, value: object) -> None:
    weights = load_file(run_dir / "model.safetensors")
    assert callable(value)
    weights[key] = value(weights[key].shape)
    shutil.copy(run_dir / "config.json", tmp_path)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelFormatError, match=key):
        ResNetViT.from_pretrained(tmp_path)


def test_a_probe_has_a_limit_too(sample: Records, tmp_path: Path) -> None:
    run = fit(TrainConfig(preset="tiny", recipe="probe", validation_fraction=0.3), sample, tmp_path / "run")
    model = ResNetViT.from_pretrained(run)
    assert 0 < float(model.feature_distance_limit) < 10
    assert predict(model, Slice(draw_text(0))).unusual.all()


def test_blank_is_nearly_constant_and_not_merely_dark() -> None:
    y = np.mgrid[0:64, 0:64][0]
    squares = np.stack([np.full((64, 64), 130), 130 + y % 16, 130 + y % 17]).astype(np.uint8)
    distance = np.array([0.5, 0.5, 0.5])
    assert find_unusual(distance, 1.0, squares).tolist() == [True, True, False]
    assert find_unusual(distance, math.inf, squares).tolist() == [False, False, False]
    assert "blank" in describe_unusual(0.5, 1.0)
    assert "(distance 2.50, limit 1.00)" in describe_unusual(2.5, 1.0)
    assert "little" not in describe_unusual(2.5, 1.0)  # what is flagged is often a stroke that was found


def test_nothing_and_one_slice_have_distances_too(trained: ResNetViT) -> None:
    assert predict(trained, []).distance.shape == predict(trained, []).unusual.shape == (0,)
    prediction = predict(trained, Slice(draw_chest(1)))
    assert prediction.distance.dtype == np.float64
    assert prediction.unusual.dtype == bool
    assert prediction.distance.shape == (1,)


def test_files_have_a_column_of_it(trained: ResNetViT, sample: Records, tmp_path: Path) -> None:
    Image.fromarray(draw_text(2)).save(tmp_path / "letter.png")
    (tmp_path / "bad.png").write_text("text")
    known = sample.root / sample.part("train")["path"].iloc[0]
    table = predict_paths(
        trained, [tmp_path / "letter.png", tmp_path / "bad.png", known], PredictSettings(contributions=False)
    )
    assert table["unusual"].tolist()[::2] == [True, bool(predict(trained, load_slices(known)).unusual[0])]
    assert table["unusual"].isna().tolist() == [False, True, False]


def typed(report: dict[str, Any]) -> Report:
    return Report.from_json(json.dumps(report))


def test_a_report_counts_them_and_warns_where_they_are_many(run_dir: Path) -> None:
    report = json.loads((run_dir / "report.json").read_text())
    novelty = report["novelty"]
    assert novelty["share"] == novelty["unusual"] / report["test"]["overall"]["n"] <= 0.05
    assert 0 < novelty["median"] < novelty["limit"]
    assert sum("unlike the training slices" in words for words in report["words"]) == 1
    assert not any("another kind of picture" in words for words in report["warnings"])
    report["novelty"] |= {"unusual": 40, "share": 0.4}
    assert any("40% of the slices" in words for words in warn(typed(report)))
    for missing in (report | {"novelty": None}, {k: v for k, v in report.items() if k != "novelty"}):
        assert not any("unlike" in words for words in describe(typed(missing)) + warn(typed(missing)))


@pytest.mark.slow
def test_another_seed_of_the_training_flags_the_same(sample: Records, tmp_path: Path) -> None:
    config = TrainConfig(preset="tiny", epochs=2, validation_fraction=0.3)
    for seed in (1, 2):
        model = ResNetViT.from_pretrained(fit(replace(config, seed=seed), sample, tmp_path / str(seed)))
        slices = [Slice(draw(i)) for draw in KINDS.values() for i in range(6)]
        assert predict(model, to_pixels(model, slices)).unusual.mean() > 0.95
        squares = decode_squares(model, sample.root, sample.part("test"))
        assert predict(model, squares).unusual.mean() <= 0.05
