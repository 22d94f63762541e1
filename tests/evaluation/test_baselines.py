"""Simple things reach what hand-made data let them reach, and the control knows nothing of the labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import expit, logit
from scipy.stats import ttest_1samp
from torch import Tensor

from stroke_hub import PRESETS, DatasetError, Records, ResNetViT
from stroke_hub.data.loader import decode_squares
from stroke_hub.data.records import read_slice_numbers
from stroke_hub.evaluation import baselines as module
from stroke_hub.evaluation.baselines import control_random_labels, measure_trivial_features, score_baselines
from stroke_hub.inference.predict import predict, to_float_pixels
from stroke_hub.inference.relevance import _weigh, compute_relevance
from stroke_hub.metrics.classification import auroc
from stroke_hub.runs.run_folder import read_split
from tests.conftest import randomise

NAMES = [
    "majority", "modality", "trivial_place", "trivial_logistic", "trivial_boosted", "cnn_alone", "vit_alone",
    "probe",
]  # fmt: skip
FITTED = [name for name in NAMES if not name.endswith("_alone")]
SIDE = 128


def draw_head(grey: float, *, radius: int = 40, seed: int = 0) -> np.ndarray:
    """A noisy disc of soft tissue in a ring of bone, and the arc of a headrest."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    distance = np.hypot(x, y)
    noise = np.random.default_rng(seed).normal(0, 4, (SIDE, SIDE))
    picture = np.where(distance < radius, grey + noise, 0)
    picture[(distance >= radius) & (distance < radius + 5)] = 255
    picture[(distance >= 58) & (distance < 60) & (y > 30)] = 255
    return picture.clip(0, 255).astype(np.uint8)


def make_table(root: Path, *, giveaway: bool, patients: int = 75) -> pd.DataFrame:
    """Two slices a patient, of which a fifth are tests; the label is seen in the grey level, or nowhere."""
    rows = []
    for i in range(2 * patients):
        label, patient = i // 2 % 2, f"p{i // 2:03d}"
        grey = 90 + 40 * label if giveaway else 110
        path = f"{patient}_{'ab'[i % 2]}.png"
        Image.fromarray(draw_head(grey, seed=i)).save(root / path)
        split = ("train", "train", "train", "val", "test")[i // 2 % 5]
        rows.append({"path": path, "label": label, "modality": "BT", "group": patient, "split": split})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def easy(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path]:
    root = tmp_path_factory.mktemp("easy")
    return make_table(root, giveaway=True), root


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Path]:
    root = tmp_path_factory.mktemp("alike")
    return make_table(root, giveaway=False), root


def score(found: dict, name: str, table: pd.DataFrame) -> float | None:
    test = table[table["split"] == "test"]
    assert found[name].probability.shape == (len(test),)
    return auroc(test["label"].to_numpy(), found[name].probability)


def test_intensity_that_gives_the_class_away_is_found(untrained: ResNetViT, easy: tuple) -> None:
    table, root = easy
    found = score_baselines(untrained, table, root, shuffles=2)
    assert list(found) == NAMES
    assert score(found, "trivial_logistic", table) == score(found, "trivial_boosted", table) == 1
    training = table[table["split"] == "train"]  # what the model learned from, without validation
    assert (found["majority"].probability == training["label"].mean()).all()
    assert "slice number" not in found["trivial_logistic"].words  # nothing tells it here
    assert "90 training slices" in found["trivial_logistic"].words
    assert "one modality only" in found["modality"].words


def test_slices_that_are_alike_give_nothing_away(untrained: ResNetViT, alike: tuple) -> None:
    table, root = alike
    found = score_baselines(untrained, table, root, shuffles=0)
    for name in ("trivial_logistic", "trivial_boosted"):
        assert 0.2 < score(found, name, table) < 0.8
    assert found["probe"].control is None


@pytest.mark.parametrize("column", ["slice", "slice_number", None])
def test_slice_number_is_read_from_a_column_or_a_name(
    column: str | None, untrained: ResNetViT, alike: tuple, tmp_path: Path
) -> None:
    table, root = alike
    number = 10 * table["label"] + np.arange(len(table)) % 5
    if column:
        table = table.assign(**{column: [str(n) if i % 9 else "" for i, n in enumerate(number)]})
    else:
        name = [f"P0{i}_S{n:02d}_simulated.png" for i, n in enumerate(number)]
        for old, new in zip(table["path"], name, strict=True):
            (tmp_path / new).symlink_to(root / old)
        table, root = table.assign(path=name), tmp_path
    found = score_baselines(untrained, table, root, shuffles=0)
    used = table["split"] != "val"
    known = (used & (table[column] != "")).sum() if column else used.sum()
    for name in ("trivial_place", "trivial_logistic", "trivial_boosted"):
        assert score(found, name, table) > 0.8
    for name in ("trivial_logistic", "trivial_boosted"):
        assert f"known for {known} of 120 slices" in found[name].words


def test_a_column_is_believed_before_the_name() -> None:
    table = pd.DataFrame(
        {"path": ["a/p1_s03.png", "p2_s04x.png", "s05.png", "p3_s6.png"], "slice": ["7", "", "1e300", "x"]}
    )
    assert read_slice_numbers(table).tolist()[:2] == [7, 4]
    assert np.isnan(read_slice_numbers(table)[2])
    assert read_slice_numbers(table)[3] == 6


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_modality_that_is_the_class_is_found(nothing: object, untrained: ResNetViT, easy: tuple) -> None:
    table, root = easy
    table = table.assign(modality=pd.Series([nothing if label else "MR" for label in table["label"]], dtype=object))
    found = score_baselines(untrained, table, root, shuffles=0)
    assert score(found, "modality", table) == 1
    assert "MR 0.0%, unknown 100.0%" in found["modality"].words
    tests = table["split"] == "test"
    table.loc[tests, "modality"] = "BT"  # which no training slice is
    found = score_baselines(untrained, table, root, shuffles=0)
    assert (found["modality"].probability == table.loc[table["split"] == "train", "label"].mean()).all()
    assert "30 test slices of a modality that they do not have" in found["modality"].words


def test_trivial_features_are_what_they_say() -> None:
    picture = draw_head(100)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    distance = np.hypot(x, y)
    expected = []
    for part in (distance < 45, distance < 40):  # without the headrest; without the bone
        expected += [part.mean(), picture[part].mean(), picture[part].std()]
    found = measure_trivial_features(torch.from_numpy(np.stack([picture, np.zeros_like(picture)])))
    assert found[0, :3] == pytest.approx(expected[:3], rel=1e-12)
    assert found[0, 3:] == pytest.approx(expected[3:], rel=5e-3)  # the erosion rounds the edge of the disc
    assert (found[1] == 0).all()


@pytest.fixture
def head_that_mixes() -> ResNetViT:
    """A head whose hidden units hear both branches."""
    torch.manual_seed(0)
    model = randomise(ResNetViT(**PRESETS["tiny"], hidden=16))
    with torch.no_grad():  # an untrained CNN's features hardly vary: without this it would say nothing here
        model.head[0].weight[:, : model.cnn.num_features] *= 100
    return model


def test_a_branch_alone_is_explained_with_the_other_at_its_mean(head_that_mixes: ResNetViT, easy: tuple) -> None:
    table, root = easy
    found = score_baselines(head_that_mixes, table.drop(columns="split"), root)
    squares = decode_squares(head_that_mixes, root, table)
    told = compute_relevance(head_that_mixes, to_float_pixels(squares, "cpu"), torch.ones(len(table)))
    split, mean = head_that_mixes.cnn.num_features, head_that_mixes.feature_mean.expand_as(told.features)
    with torch.no_grad():
        alone_parts = {
            name: _weigh(head_that_mixes, torch.cat(parts, 1), mean, torch.ones(len(table)))
            for name, parts in (
                ("cnn_alone", [told.features[:, :split], mean[:, split:]]),
                ("vit_alone", [mean[:, :split], told.features[:, split:]]),
            )
        }
    for name, absent in (("cnn_alone", 1), ("vit_alone", 0)):
        parts = alone_parts[name].contributions
        assert (parts[:, absent] == 0).all()
        assert parts.sum(1).numpy() == pytest.approx(logit(found[name].probability), abs=1e-5)
    edited = told.features.clone()
    edited[:, head_that_mixes.cnn.num_features :] = head_that_mixes.feature_mean[head_that_mixes.cnn.num_features :]
    with torch.no_grad():
        logits = head_that_mixes.head(edited).double().numpy()
    alone = expit((logits[:, 1] - logits[:, 0]) / 1.7)
    assert found["cnn_alone"].probability == pytest.approx(alone, abs=1e-6)
    assert np.ptp(found["cnn_alone"].probability) > 1e-4


def test_a_branch_alone_does_not_know_the_other(head_that_mixes: ResNetViT, easy: tuple) -> None:
    table, root = easy
    table = table.drop(columns="split")
    before = score_baselines(head_that_mixes, table, root)
    with torch.no_grad():
        for parameter in head_that_mixes.vit.parameters():
            parameter.mul_(1.5)
    after = score_baselines(head_that_mixes, table, root)
    assert (before["cnn_alone"].probability == after["cnn_alone"].probability).all()
    assert (before["vit_alone"].probability != after["vit_alone"].probability).any()


def test_a_run_is_scored_the_same_in_any_order(run_dir: Path, trained: ResNetViT, sample: Records) -> None:
    table = read_split(run_dir)
    mixed = table.sample(frac=1, random_state=3)
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    found, again, turned = (score_baselines(trained, rows, sample.root) for rows in (table, table, mixed))
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())
    order = mixed.loc[mixed["split"] == "test", "path"]
    for name in NAMES:
        one, words = found[name].probability, found[name].words
        assert one.dtype == np.float64
        assert ((one >= 0) & (one <= 1)).all()
        assert words == again[name].words == turned[name].words
        assert words.endswith(".")
        assert (one == again[name].probability).all()
        by_path = dict(zip(table.loc[table["split"] == "test", "path"], one, strict=True))
        assert [by_path[path] for path in order] == turned[name].probability.tolist()
    assert (found["probe"].control.shuffled == turned["probe"].control.shuffled).all()
    assert len(found["probe"].control.shuffled) == 20
    test = decode_squares(trained, sample.root, table[table["split"] == "test"])
    whole = predict(trained, test).probability  # both branches together are neither alone
    assert (np.abs(whole - found["cnn_alone"].probability) > 1e-6).any()


def draw_features(patients: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Three slices a patient, and one feature, which divides the classes: learnt ones are nearly so."""
    generator = np.random.default_rng(seed)
    label = (np.arange(patients) < share * patients).astype(np.int64)
    features = np.repeat(4 * label, 3) + generator.normal(0, 0.3, 3 * patients)
    return features[:, None], np.repeat(label, 3), [f"p{i // 3:03d}" for i in range(3 * patients)]


def test_random_labels_are_worth_half_though_classes_are_uneven() -> None:
    features, label, group = draw_features(30, 0.1, 0)
    asked, truth, _ = draw_features(30, 0.1, 1)
    probability, control = control_random_labels(features, label, group, asked, truth, shuffles=100)
    assert auroc(truth, probability) == control.auroc == 1
    assert control.sd > 0.2  # single shuffles say nothing
    assert abs(control.mean - 0.5) < 4 * control.sd / 100**0.5
    # handing on the true labels, with their imbalance, has a direction: the means of such shuffles are not 0.5
    generator, handed = np.random.default_rng(0), np.zeros(100)
    for i in range(100):
        drawn = np.repeat(generator.permutation(label[::3]), 3)
        handed[i] = auroc(truth, module._fit_logistic(features, drawn, asked))
    assert abs(handed.mean() - 0.5) > 4 * handed.std() / 100**0.5


def test_random_labels_never_see_the_true_ones() -> None:
    features, label, group = draw_features(20, 0.5, 0)
    asked, truth, _ = draw_features(20, 0.5, 1)
    one = control_random_labels(features, label, group, asked, truth)[1]
    other = control_random_labels(features, np.roll(label, 21), group, asked, truth)[1]
    assert (one.shuffled == other.shuffled).all()
    assert one.auroc != other.auroc
    reference = ttest_1samp(one.shuffled, 0.5).confidence_interval(0.95)
    assert (one.low, one.high) == pytest.approx((reference.low, reference.high), rel=1e-12)
    assert (control_random_labels(features, label, group, asked, truth, seed=1)[1].shuffled != one.shuffled).any()


@pytest.mark.parametrize("patients", [6, 7])
def test_random_labels_are_one_a_patient_and_half_and_half(patients: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, label, group = draw_features(patients, 0.5, 0)
    seen = []
    fit = module._fit_logistic

    def watch(x: np.ndarray, drawn: np.ndarray, asked: np.ndarray) -> np.ndarray:
        seen.append(drawn)
        return fit(x, drawn, asked)

    monkeypatch.setattr(module, "_fit_logistic", watch)
    control_random_labels(features, label, group, features, label, shuffles=40)
    by_patient = np.array(seen[1:]).reshape(40, patients, 3)
    assert (by_patient == by_patient[:, :, :1]).all()
    strokes = by_patient[:, :, 0].sum(1)
    assert set(strokes.tolist()) == ({3} if patients == 6 else {3, 4})


def test_few_training_slices_are_taken_evenly(
    untrained: ResNetViT, easy: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, root = easy
    monkeypatch.setattr(module, "PROBED", 20)
    counts: list[int] = []
    compute = module.compute_features

    def watch(model: ResNetViT, squares: Tensor) -> Tensor:
        counts.append(len(squares))
        return compute(model, squares)

    monkeypatch.setattr(module, "compute_features", watch)
    found = score_baselines(untrained, table, root, shuffles=1)
    assert counts == [30, 20]
    assert "20 training slices of 90, spread evenly" in found["probe"].words
    control = found["probe"].control
    assert (control.sd, control.low, control.high) == (None, None, None)


def test_what_is_undefined_says_why(untrained: ResNetViT, easy: tuple) -> None:
    table, root = easy
    tests = table["split"] == "test"

    outside = score_baselines(untrained, table[tests].drop(columns="split"), root)
    assert list(outside) == NAMES
    for name in FITTED:
        assert outside[name].probability is None
        assert outside[name].words.endswith("undefined, as there are no training slices to fit it on.")
    assert len(outside["cnn_alone"].probability) == len(outside["vit_alone"].probability) == 30

    one_class = score_baselines(untrained, table[tests | (table["label"] == 1)], root)
    assert (one_class["majority"].probability == 1).all()
    assert (one_class["modality"].probability == 1).all()
    for name in ("trivial_place", "trivial_logistic", "trivial_boosted", "probe"):
        assert one_class[name].probability is None
        assert "one class" in one_class[name].words

    strokes = score_baselines(untrained, table[~tests | (table["label"] == 1)], root)
    assert all(len(strokes[name].probability) == 14 for name in NAMES)
    assert strokes["probe"].control is None
    assert "test slices of both classes" in strokes["probe"].words

    lone = table.assign(group="p1")
    assert score_baselines(untrained, lone, root)["probe"].control is None


def test_impossible_requests_are_refused(untrained: ResNetViT, easy: tuple) -> None:
    table, root = easy
    with pytest.raises(DatasetError, match="no test slices"):
        score_baselines(untrained, table[table["split"] != "test"], root)
    with pytest.raises(ValueError, match="shuffles"):
        score_baselines(untrained, table, root, shuffles=-1)
    features, label, group = draw_features(4, 0.5, 0)
    for wrong in ({"shuffles": -1}, {"group": group[1:]}, {"label": 0 * label}):
        given = {"label": label, "group": group, "test_features": features, "test_label": label} | wrong
        with pytest.raises(ValueError, match="must be"):
            control_random_labels(features, **given)


def test_the_number_of_slices_that_gives_the_class_away_is_found_without_the_picture(
    untrained: ResNetViT, alike: tuple
) -> None:
    table, root = alike
    found = score_baselines(untrained, table, root, shuffles=0)["trivial_place"]
    assert score({"trivial_place": found}, "trivial_place", table) == 0.5  # two slices each, and no number
    assert "no slice number is known" in found.words
    first = table["path"].str.endswith("a.png")
    fewer = table[first | (table["label"] == 1)]  # of who has no stroke, one slice each
    found = score_baselines(untrained, fewer, root, shuffles=0)["trivial_place"]
    assert score({"trivial_place": found}, "trivial_place", fewer) == 1
    scanned = fewer.assign(scan=fewer["path"])  # a scan of one slice each: nothing is given away
    found = score_baselines(untrained, scanned, root, shuffles=0)["trivial_place"]
    assert score({"trivial_place": found}, "trivial_place", scanned) == 0.5
