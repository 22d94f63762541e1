"""Training is repeatable, resumable, never looks at the test slices, and never overwrites another run."""

import hashlib
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stroke_hub import (
    PRESETS,
    DatasetError,
    ModelFormatError,
    Records,
    ResNetViT,
    RunError,
    TrainConfig,
    fit,
)
from stroke_hub.data.loader import AugmentedSlices, build_loader, decode_squares
from stroke_hub.evaluation.evaluate import evaluate_run
from stroke_hub.inference.predict import to_float_pixels
from stroke_hub.runs.command import build_command
from stroke_hub.runs.report import read_report
from stroke_hub.runs.run_folder import find_best_epoch, read_split
from stroke_hub.training import fit as train_module
from stroke_hub.training.checkpoint import warm_start
from stroke_hub.training.fit import shuffle_labels

CONFIG = TrainConfig(
    preset="tiny",
    recipe="plain",
    image_size=64,
    epochs=3,
    limit=40,
    validation_fraction=0.3,
    operating_point="half",
)


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


def test_a_finished_run_is_not_trained_again(whole: Path, sample: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "train_epochs", None)
    assert fit(CONFIG, sample, whole) == whole


def test_a_run_of_an_earlier_version_is_still_known(whole: Path, sample: Records, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    described = json.loads((run / "train_config.json").read_text())
    for name in ("augmentation", "init_from", "cnn_stages", "vit_blocks", "vit_patches", "operating_point"):
        del described[name]
    gone = {"dropout": 0.3, "ema_decay": 0.0, "schedule": "constant", "probe": False, "weight_decay": 1e-4}
    (run / "train_config.json").write_text(json.dumps(described | gone))
    assert fit(CONFIG, sample, run) == run
    with pytest.raises(RunError, match=r"holds a run of other settings \(operating_point: half -> youden\)"):
        fit(replace(CONFIG, operating_point="youden"), sample, run)
    with pytest.raises(RunError, match=r"recipe: plain -> scratch.* cnn_stages: 0 -> 3.* hidden: 512 -> 0"):
        fit(replace(CONFIG, recipe=None), sample, run)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ({"ema_decay": 0.9}, r"other settings \(ema_decay: 0\.9 -> 0\.0\)"),
        ({"probe": True}, r"other settings \(probe: True -> False\)"),
        ({"recipe": "robust", "freeze_batch_norm": True, "augmentation": "mild"}, r"recipe: robust -> plain"),
    ],
)
def test_what_is_no_more_is_another_setting_and_the_finished_run_is_still_read(
    before: dict[str, object], words: str, run_dir: Path, sample: Records, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    described = json.loads((run / "train_config.json").read_text())
    (run / "train_config.json").write_text(json.dumps(described | before))
    names = {field.name for field in fields(TrainConfig)}
    config = TrainConfig(**{key: value for key, value in described.items() if key in names})
    with pytest.raises(RunError, match=words):
        fit(config, sample, run)
    evaluate_run(run, sample, name="sample")
    report = read_report(run)
    assert report.training is not None
    assert {key: report.training[key] for key in before} == before
    assert "stroke-hub train" in " ".join(build_command(report))


def test_plain_is_the_textbook_loop_to_the_bit(whole: Path, sample: Records) -> None:
    config, split = CONFIG.resolve(), read_split(whole)
    torch.manual_seed(config.seed)
    model = ResNetViT(**PRESETS["tiny"] | {"image_size": config.image_size})
    train = split[split["split"] == "train"]
    squares, labels = decode_squares(model, sample.root, train), torch.tensor(train["label"].to_numpy())
    dataset = AugmentedSlices(squares, labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=1e-4)
    states = []
    for epoch in (1, 2, 3):
        torch.manual_seed(epoch)
        model.train()
        for batch, answers, _ in build_loader(dataset, batch_size=32, seed=epoch):
            loss = nn.functional.cross_entropy(model(to_float_pixels(batch, "cpu")), answers)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        states.append({key: value.clone() for key, value in model.state_dict().items()})
    best = states[find_best_epoch(pd.read_csv(whole / "history.csv")) - 1]
    found = load_weights(whole)
    afterwards = {"feature_mean", "feature_distance_limit", "temperature", "threshold"}
    measured = afterwards | {f"head.{len(model.head) - 1}.bias"}
    assert all(torch.equal(best[key], found[key]) for key in best.keys() - measured)


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
    config = TrainConfig(preset="tiny", recipe="plain", cnn="swin_tiny_patch4_window7_224", image_size=224, limit=8)
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


def test_the_baselines_are_the_seeds() -> None:
    config = TrainConfig(recipe="plain").resolve()
    assert (config.cnn, config.vit, config.image_size) == ("resnet50", "vit_base_patch16_224", 224)
    assert (config.epochs, config.batch_size, config.learning_rate) == (35, 32, 3e-4)
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


def test_damaged_settings_of_a_run_are_named(sample: Records, tmp_path: Path) -> None:
    (tmp_path / "train_config.json").write_text("[]")
    with pytest.raises(RunError, match=r"train_config\.json: is damaged"):
        fit(CONFIG, sample, tmp_path)


def test_what_a_process_killed_at_its_first_file_leaves_is_no_other_folder(sample: Records, tmp_path: Path) -> None:
    (tmp_path / ".train_config.json.partial").write_text("{")
    assert (fit(replace(CONFIG, epochs=1), sample, tmp_path) / "model.safetensors").is_file()
    assert not list(tmp_path.rglob(".*"))


def test_a_run_starts_from_another_at_another_size(whole: Path, sample: Records, tmp_path: Path) -> None:
    config = replace(CONFIG, init_from=str(whole), image_size=96, epochs=1)
    run = fit(config, sample, tmp_path / "run")
    described = json.loads((run / "train_config.json").read_text())
    assert described["init_from_sha256"] == hashlib.sha256((whole / "model.safetensors").read_bytes()).hexdigest()
    before, after = load_weights(whole), load_weights(run)
    assert not torch.equal(before["head.0.weight"], after["head.0.weight"])
    assert after["vit.pos_embed"].shape[1] > before["vit.pos_embed"].shape[1]


def test_a_warm_start_takes_the_weights_and_resamples_the_positions(whole: Path) -> None:
    source = ResNetViT.from_pretrained(whole)
    same, larger = ResNetViT(**PRESETS["tiny"] | {"image_size": 64}), ResNetViT(**PRESETS["tiny"])
    for model in (same, larger):
        warm_start(model, str(whole))
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(same.eval()(x), source(x))
    position = source.state_dict()["vit.pos_embed"]
    prefix, grid = position[:, :1], position[:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=(8, 8), mode="bicubic", antialias=True)
    expected = torch.cat([prefix, grid.flatten(2).transpose(1, 2)], dim=1)
    torch.testing.assert_close(larger.state_dict()["vit.pos_embed"], expected)
    assert larger.feature_mean.abs().max() == 0
    assert larger.feature_distance_limit == float("inf")
    assert larger.feature_scale is None
    assert source.feature_distance_limit < 10


def test_a_warm_start_that_does_not_fit_is_named(whole: Path, sample: Records, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has test_resnet, not resnet18; give --cnn test_resnet"):
        fit(replace(CONFIG, cnn="resnet18", init_from=str(whole)), sample, tmp_path / "run")
    with pytest.raises(RunError, match="not the folder of a finished run"):
        fit(replace(CONFIG, init_from=str(tmp_path)), sample, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_shuffled_labels_are_the_groups_own_dealt_out_anew(sample: Records, whole: Path) -> None:
    table = read_split(whole)
    shuffled = shuffle_labels(table, seed=1)
    for split in ("train", "val"):
        part = shuffled[shuffled["split"] == split]
        assert part.groupby("group")["shuffled_label"].nunique().max() == 1
        counts = (part.groupby("group")[name].first().sum() for name in ("label", "shuffled_label"))
        assert len(set(counts)) == 1
    test = shuffled[shuffled["split"] == "test"]
    assert test["shuffled_label"].equals(test["label"])
    assert not shuffled["shuffled_label"].equals(shuffled["label"])
    assert shuffle_labels(table, seed=1).equals(shuffled)
    assert not shuffle_labels(table, seed=2).equals(shuffled)


def test_runs_that_are_no_model_say_so(sample: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = replace(CONFIG, epochs=1, branches="vit", shuffle_labels=True)
    run = fit(config, sample, tmp_path / "run")
    words = "ablation: ViT branch only; control: trained on shuffled labels"
    assert words in capsys.readouterr().err
    described = json.loads((run / "train_config.json").read_text())
    assert (described["branches"], described["shuffle_labels"]) == ("vit", True)
    assert "shuffled_label" in read_split(run)
    first = load_weights(run)["head.0.weight"]
    assert first[:, : ResNetViT.from_pretrained(run).cnn_features].abs().max() == 0
