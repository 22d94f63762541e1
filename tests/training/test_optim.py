"""Recipes, learning rates and the ablations: each against what it promises."""

import copy
import math
from dataclasses import asdict, fields, replace

import pytest
import torch
import tyro
from torch import nn

from stroke_hub import PRESETS, ResNetViT, RunError, TrainConfig
from stroke_hub.runs.train_config import ResolvedConfig
from stroke_hub.training.optim import BranchView, build_optimizer, build_schedule, set_training, silence_branch

TINY = TrainConfig(preset="tiny")
GONE = [
    "weight-decay", "decay-norms", "head-epochs", "cnn-layer-decay", "vit-layer-decay", "schedule", "warmup-epochs",
    "clip-norm", "freeze-batch-norm", "ema-decay", "class-weights", "dropout", "channels-last", "fused", "compile",
    "probe",
]  # fmt: skip


def build(config: ResolvedConfig) -> ResNetViT:
    names = ("cnn", "vit", "image_size", "hidden", "cnn_stages", "vit_blocks", "vit_patches")
    return ResNetViT(**{name: getattr(config, name) for name in names})


# --- recipes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "recipe"),
    [
        (TrainConfig(), "probe"),
        (TrainConfig(init_from="run", preset="tiny"), "probe"),
        (TrainConfig(cnn_weights="cnn.safetensors", vit_weights="hf-hub:timm/vit_tiny_patch16_224"), "probe"),
        (TINY, "scratch"),
        (TrainConfig(vit_weights="random"), "scratch"),
        (TrainConfig(preset="tiny", cnn_weights="imagenet"), "scratch"),
        (TrainConfig(preset="tiny", recipe="probe"), "probe"),
        (TrainConfig(recipe="seed"), "seed"),
    ],
)
def test_the_default_recipe_is_a_probe_where_both_branches_have_weights(config: TrainConfig, recipe: str) -> None:
    assert config.resolve().recipe == recipe


def test_a_recipe_decides_what_the_head_sees() -> None:
    def tell(config: TrainConfig) -> tuple[int, int, bool, int]:
        found = config.resolve()
        return found.cnn_stages, found.vit_blocks, found.vit_patches, found.hidden

    assert tell(TrainConfig()) == (3, 8, True, 0)
    assert tell(replace(TINY, recipe="probe")) == (3, 4, True, 0)
    assert tell(TINY) == (3, 0, True, 0)
    assert tell(TrainConfig(recipe="plain")) == tell(TrainConfig(recipe="seed")) == (0, 0, False, 512)
    assert tell(TrainConfig(cnn_stages=1, vit_blocks=5, vit_patches=False)) == (1, 5, False, 0)


def test_a_resolved_configuration_resolves_to_itself() -> None:
    for config in (TrainConfig(), TINY, TrainConfig(recipe="seed"), TrainConfig(recipe="plain", epochs=3)):
        resolved = config.resolve()
        assert resolved.resolve() == resolved
        assert [field.name for field in fields(resolved)] == [field.name for field in fields(TrainConfig)]
        assert {name for name, value in asdict(resolved).items() if value is None} == {"init_from", "limit"}
        assert resolved.operating_point == "youden"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"recipe": "probe", "epochs": 5}, "epochs means nothing to the recipe probe"),
        ({"recipe": "probe", "batch_size": 8}, "batch_size means nothing to the recipe probe"),
        ({"recipe": "probe", "learning_rate": 1e-3}, "learning_rate means nothing to the recipe probe"),
        ({"recipe": "probe", "hidden": 512}, "hidden means nothing to the recipe probe"),
        ({"recipe": "probe", "augmentation": "seed"}, "augmentation means nothing to the recipe probe"),
        ({"recipe": "probe", "precision": "bf16"}, "precision means nothing to the recipe probe"),
        ({"preset": "full", "epochs": 5}, "epochs means nothing to the recipe probe"),
        ({"init_from": "run", "cnn_weights": "random"}, "leave --cnn-weights"),
        ({"recipe": "robust"}, "recipe is robust, but must be probe, scratch, plain or seed"),
        ({"augmentation": "mild"}, "augmentation is mild, but must be none or seed"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(RunError, match=words):
        TrainConfig(**{"preset": "tiny", **wrong}).resolve()


@pytest.mark.parametrize("option", GONE)
def test_options_that_there_are_no_more_are_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(TrainConfig, args=[f"--{option}", "1"])
    assert f"--{option}" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--recipe", "robust"], ["--augmentation", "mild"]])
def test_choices_that_there_are_no_more_are_refused(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(TrainConfig, args=given)
    assert given[1] in capsys.readouterr().err


# --- steps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "rate", "decay"), [("plain", 3e-4, 1e-4), ("seed", 3e-4, 1e-4), ("scratch", 1e-3, 0.05)]
)
def test_every_parameter_is_in_one_group(recipe: str, rate: float, decay: float) -> None:
    model = ResNetViT(**PRESETS["tiny"])
    optimizer = build_optimizer(model, replace(TINY, recipe=recipe).resolve())
    assert [len(group["params"]) for group in optimizer.param_groups] == [len(list(model.parameters()))]
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (rate, decay)


def test_the_learning_rate_warms_up_and_falls_by_half_a_cosine() -> None:
    config = replace(TINY, epochs=12).resolve()
    optimizer = build_optimizer(ResNetViT(**PRESETS["tiny"]), config)
    set_rates = build_schedule(optimizer, config, steps=20)
    found = []
    for step in range(240):
        set_rates(step)
        found.append(optimizer.param_groups[0]["lr"])
    warm = [1e-5 + step * (1e-3 - 1e-5) / 20 for step in range(20)]
    cosine = [1e-3 * (1 + math.cos(math.pi * step / 220)) / 2 for step in range(220)]
    assert found == pytest.approx(warm + cosine)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (1, 3), (2, 1), (3, 5)])
def test_a_short_training_has_a_step_to_warm_up_and_never_stands_still(epochs: int, steps: int) -> None:
    config = replace(TINY, epochs=epochs).resolve()
    optimizer = build_optimizer(ResNetViT(**PRESETS["tiny"]), config)
    set_rates = build_schedule(optimizer, config, steps=steps)
    for step in range(epochs * steps):
        set_rates(step)
        rate = optimizer.param_groups[0]["lr"]
        assert (rate == pytest.approx(1e-5)) if step == 0 else (0 < rate <= 1e-3)


def test_the_baselines_have_a_constant_rate() -> None:
    config = replace(TINY, recipe="plain").resolve()
    optimizer = build_optimizer(ResNetViT(**PRESETS["tiny"]), config)
    set_rates = build_schedule(optimizer, config, steps=20)
    for step in (0, 1, 699):
        set_rates(step)
        assert optimizer.param_groups[0]["lr"] == 3e-4


# --- ablations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["scratch", "plain"])
@pytest.mark.parametrize("branch", ["cnn", "vit"])
def test_a_silenced_branch_stays_silent_and_the_saved_model_says_the_same(branch: str, recipe: str) -> None:
    torch.manual_seed(0)
    other = "vit" if branch == "cnn" else "cnn"
    config = replace(TINY, branches=branch, recipe=recipe).resolve()
    model = build(config)
    silence_branch(model, other)
    view, optimizer = BranchView(model, branch), build_optimizer(model, config)
    asleep = copy.deepcopy(getattr(model, other).state_dict())
    x, labels = torch.rand(4, 3, 128, 128), torch.tensor([0, 1, 0, 1])
    for _ in range(3):
        set_training(model, config)
        assert [getattr(model, name).training for name in (branch, other)] == [True, False]
        nn.functional.cross_entropy(view(x), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    weight, split = model.head[0].weight, model.cnn_features
    silent, heard = (
        (weight[:, split:], weight[:, :split]) if branch == "cnn" else (weight[:, :split], weight[:, split:])
    )
    assert silent.abs().max() == 0
    assert heard.abs().min() > 0
    torch.testing.assert_close(model.eval()(x), BranchView(model, branch).eval()(x))
    assert all(torch.equal(asleep[name], value) for name, value in getattr(model, other).state_dict().items())
