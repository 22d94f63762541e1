"""Training is repeatable, resumable, never looks at the test slices, and never overwrites another run."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from stroke_hub import DatasetError, ModelFormatError, Records, ResNetViT, RunError, TrainConfig, fit
from stroke_hub import train as train_module
from stroke_hub.train import find_best_epoch, read_split

CONFIG = TrainConfig(preset="tiny", image_size=64, epochs=3, limit=40, validation_fraction=0.3)


def load_weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


@pytest.fixture(scope="module")
def whole(sample: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(CONFIG, sample, tmp_path_factory.mktemp("whole") / "run")


def test_run_folder_holds_what_it_promises(whole: Path) -> None:
    names = {"config.json", "train_config.json", "model.safetensors", "history.csv", "split.csv", "checkpoints"}
    assert names <= {path.name for path in whole.iterdir()}
    history = pd.read_csv(whole / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert list(history.columns) == ["epoch", "train_loss", "val_loss", "val_accuracy", "val_auroc"]
    assert not list(whole.rglob("*.partial"))
    assert ResNetViT.from_pretrained(whole).feature_mean.abs().max() > 0


def test_no_group_stands_in_two_splits(whole: Path, run_dir: Path) -> None:
    for run in (whole, run_dir):
        split = read_split(run)
        assert set(split["split"]) == {"train", "val", "test"}
        assert split.groupby("group")["split"].nunique().max() == 1


def test_an_interrupted_run_goes_on_to_the_same_weights(
    whole: Path, sample: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = train_module._train_epoch, []

    def interrupt(*args: object) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(train_module, "_train_epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(CONFIG, sample, tmp_path / "run")
    assert not (tmp_path / "run" / "model.safetensors").exists()
    fit(CONFIG, sample, tmp_path / "run")
    assert len(calls) == 4  # one epoch was whole, one was lost, two more followed
    expected, found = load_weights(whole), load_weights(tmp_path / "run")
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_a_finished_run_is_not_trained_again(whole: Path, sample: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "_run_epochs", None)
    assert fit(CONFIG, sample, whole) == whole


def test_other_settings_or_other_data_are_refused(whole: Path, sample: Records) -> None:
    with pytest.raises(RunError, match=r"other settings \(epochs: 3 -> 4\)"):
        fit(TrainConfig(**json.loads(json.dumps(CONFIG.__dict__)) | {"epochs": 4}), sample, whole)
    fewer = Records(sample.root, sample.table.iloc[:-1], ())
    with pytest.raises(RunError, match="data_sha256"):
        fit(CONFIG, fewer, whole)


def test_a_folder_of_something_else_is_left_alone(sample: Records, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="not a run folder"):
        fit(CONFIG, sample, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_backbone_that_does_not_fit_is_named_before_anything_is_written(sample: Records, tmp_path: Path) -> None:
    config = TrainConfig(preset="tiny", cnn="swin_tiny_patch4_window7_224", image_size=224, limit=8)
    with pytest.raises(ModelFormatError, match="not a spatial map"):
        fit(config, sample, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unreadable_slice_is_named_before_anything_is_written(sample: Records, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    table = sample.table.copy()
    table.loc[table.index[table["split"] == "test"][0], "path"] = str(broken)
    with pytest.raises(DatasetError, match=r"broken\.png"):
        fit(CONFIG, Records(sample.root, table, ()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_checkpoints_every_ten_epochs_load_without_pickle(sample: Records, tmp_path: Path) -> None:
    config = TrainConfig(preset="tiny", image_size=32, epochs=10, limit=12, validation_fraction=0.3)
    run = fit(config, sample, tmp_path / "run")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["model_epoch_010.pth"]
    state = torch.load(run / "checkpoints" / "model_epoch_010.pth", weights_only=True)
    ResNetViT(**json.loads((run / "config.json").read_text())).load_state_dict(state, strict=True)


def test_the_seed_recipe_is_the_notebooks_preprocessing(sample: Records, tmp_path: Path) -> None:
    config = TrainConfig(
        cnn="resnet18",
        vit="test_vit",
        image_size=32,
        epochs=1,
        limit=12,
        recipe="seed",
        validation_fraction=0.3,
        cnn_weights="random",
        vit_weights="random",
    )
    model = ResNetViT.from_pretrained(fit(config, sample, tmp_path / "run"))
    assert model.resize == "stretch"
    assert model.cnn_mean.unique().tolist() == model.cnn_std.unique().tolist() == [0.5]


def test_defaults_are_the_seeds() -> None:
    config = TrainConfig().resolve()
    assert (config.cnn, config.vit, config.image_size) == ("resnet50", "vit_base_patch16_224", 224)
    assert (config.epochs, config.batch_size, config.learning_rate, config.weight_decay) == (35, 32, 3e-4, 1e-4)
    assert config.cnn_weights == config.vit_weights == "imagenet"
    assert TrainConfig(preset="tiny").resolve().cnn_weights == "random"


def test_of_epochs_with_one_auroc_the_lowest_loss_is_best() -> None:
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "val_auroc": [0.9, 1, 1, 1], "val_loss": [0.1, 0.6, 0.2, 0.3]})
    assert find_best_epoch(history) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"seed": -1},
        {"image_size": 0},
        {"limit": -1},
        {"validation_fraction": 1.0},
        {"learning_rate": 0.0},
    ],
)
def test_impossible_settings_are_named_before_anything_is_written(
    wrong: dict[str, float], sample: Records, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=next(iter(wrong))):
        fit(TrainConfig(preset="tiny", **wrong), sample, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_damaged_files_of_a_run_are_named(sample: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(train_module, "_train_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(CONFIG, sample, run)
    (run / "checkpoints" / "last.pth").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(RunError, match=r"last\.pth: is damaged; delete it"):
        fit(CONFIG, sample, run)
    (run / "train_config.json").write_text("[]")
    with pytest.raises(RunError, match=r"train_config\.json: is damaged"):
        fit(CONFIG, sample, run)
