"""A probe is scikit-learn's logistic regression on the backbones' features, written as a usual model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stroke_hub import Records, ResNetViT, RunError, TrainConfig, fit, predict
from stroke_hub.data.loader import decode_squares
from stroke_hub.inference.predict import compute_features
from stroke_hub.runs.run_folder import read_split
from stroke_hub.training.loop import measure_epoch
from stroke_hub.training.probe import DEVIATION_FLOOR, INVERSE_PENALTY, fit_head

CONFIG = TrainConfig(
    preset="tiny", recipe="probe", image_size=64, limit=60, validation_fraction=0.3, lesion_cells=0
)


@pytest.fixture(scope="module", params=["both", "cnn", "vit"])
def probed(request: pytest.FixtureRequest, sample: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = replace(CONFIG, branches=request.param)
    return fit(config, sample, tmp_path_factory.mktemp(request.param) / "run")


def read_part(run: Path, records: Records, part: str) -> tuple[ResNetViT, torch.Tensor, NDArray[np.int64]]:
    """The model, and the squares and labels of a part of its split."""
    model, table = ResNetViT.from_pretrained(run), read_split(run)
    table = table[table["split"] == part]
    return model, decode_squares(model, records.root, table), table["label"].to_numpy(copy=True)


def read_log_odds(run: Path, model: ResNetViT, squares: torch.Tensor) -> NDArray[np.float64]:
    """The log-odds before the calibration."""
    shift = json.loads((run / "calibration.json").read_text())["shift"]
    found: NDArray[np.float64] = np.diff(predict(model, squares).logits.astype(np.float64), axis=1)[:, 0] - shift
    return found


def test_it_answers_as_scikit_learns_own_pipeline(probed: Path, sample: Records) -> None:
    branch = json.loads((probed / "train_config.json").read_text())["branches"]
    model, squares, labels = read_part(probed, sample, "train")
    split = model.cnn_features
    heard = {"both": slice(None), "cnn": slice(0, split), "vit": slice(split, None)}[branch]
    taught = torch.cat([squares, squares.flip(2)])  # mirrored slices too
    features, labels = compute_features(model, taught).double().numpy()[:, heard], np.tile(labels, 2)
    regression = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    pipeline = make_pipeline(StandardScaler(), regression).fit(features, labels)
    # the floor of a feature that hardly stirs is the one thing that scikit-learn's scaler has not
    scaler, known = pipeline[0], compute_features(model, taught).double().numpy().std(0)
    parts = [part.clip(DEVIATION_FLOOR * part.mean() + 1e-6) for part in (known[:split], known[split:])]
    scaler.scale_ = np.concatenate(parts)[heard]
    regression.fit(scaler.transform(features), labels)
    for part in ("train", "val", "test"):
        model, squares, _ = read_part(probed, sample, part)
        expected = pipeline.decision_function(compute_features(model, squares).double().numpy()[:, heard])
        assert read_log_odds(probed, model, squares) == pytest.approx(expected, abs=1e-3)


def test_without_a_floor_it_is_the_pipeline_as_it_comes() -> None:
    generator = np.random.default_rng(0)
    config = replace(CONFIG, image_size=32).resolve()
    model = ResNetViT(cnn=config.cnn, vit=config.vit, image_size=32, hidden=0, cnn_stages=3, vit_patches=True)
    size = len(model.feature_mean)
    labels = {"train": np.arange(90) % 3 // 2, "val": np.arange(30) % 2}
    features = {
        name: generator.normal(size=(len(label), size)) * generator.uniform(0.5, 2, size) + label[:, None] * 0.3 + 5
        for name, label in labels.items()
    }
    fit_head(config, model, torch.from_numpy(features["train"]).float(), torch.from_numpy(labels["train"]))
    logits = model.head(torch.from_numpy(features["val"]).float()).detach()
    regression = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    pipeline = make_pipeline(StandardScaler(), regression).fit(features["train"], labels["train"])
    expected = pipeline.decision_function(features["val"])
    assert (logits[:, 1] - logits[:, 0]).numpy() == pytest.approx(expected, abs=1e-3)
    assert torch.allclose(logits.sum(1), torch.zeros(30), atol=1e-3)  # half of it in each


def test_the_branch_that_is_not_asked_has_weights_of_0(probed: Path) -> None:
    branch = json.loads((probed / "train_config.json").read_text())["branches"]
    model, weight = ResNetViT.from_pretrained(probed), load_file(probed / "model.safetensors")["head.0.weight"]
    assert weight.shape == (2, len(model.feature_mean))
    assert torch.equal(weight[0], -weight[1])
    parts = {"cnn": weight[:, : model.cnn_features], "vit": weight[:, model.cnn_features :]}
    for name, part in parts.items():
        assert bool((part != 0).any()) == (branch in ("both", name))


def test_the_history_is_one_row_and_its_figures_are_the_models(probed: Path, sample: Records) -> None:
    history = pd.read_csv(probed / "history.csv")
    assert list(history.columns) == ["epoch", "train_loss", "val_loss", "val_accuracy", "val_auroc"]
    assert history["epoch"].tolist() == [1]
    model, squares, labels = read_part(probed, sample, "val")
    half = torch.from_numpy(read_log_odds(probed, model, squares)).float() / 2
    expected = measure_epoch(torch.stack([-half, half], 1), torch.from_numpy(labels))
    for name, value in expected.items():
        assert history[name].iloc[0] == pytest.approx(value, rel=1e-3)
    assert expected["val_auroc"] == pytest.approx(roc_auc_score(labels, half))


def test_the_backbones_stay_as_they_were_given(sample: Records, tmp_path: Path) -> None:
    """Also those of a run with another head, of which a probe takes two thirds of the transformer."""
    config = TrainConfig(preset="tiny", recipe="plain", image_size=64, epochs=1, limit=40, validation_fraction=0.3)
    start = fit(config, sample, tmp_path / "start")
    run = fit(replace(config, recipe=None, epochs=None, init_from=str(start)), sample, tmp_path / "run")
    before, after = load_file(start / "model.safetensors"), load_file(run / "model.safetensors")
    kept = [key for key in after if key.startswith(("cnn.", "vit."))]
    assert all(torch.equal(before[key], after[key]) for key in kept)
    assert {key.split(".")[2] for key in kept if key.startswith("vit.blocks.")} == set("0123")
    described = json.loads((run / "train_config.json").read_text())
    assert (described["recipe"], described["vit_blocks"], described["epochs"]) == ("probe", 4, 1)
    assert ResNetViT.from_pretrained(run).feature_distance_limit < 10
    with pytest.raises(RunError, match="its weights do not fit this model; give the image size, --cnn-stages"):
        fit(replace(config, recipe="scratch", init_from=str(start), lesion_cells=0), sample, tmp_path / "other")
