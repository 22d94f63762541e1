"""Parameter groups, learning rates, what is held still, and the ablations: each against what it promises."""

import copy
import math
from dataclasses import asdict, fields

import pytest
import torch
from torch import Tensor, nn

from stroke_hub import PRESETS, ResNetViT, RunError, TrainConfig
from stroke_hub.training.optim import (
    BranchView,
    build_average,
    build_optimizer,
    build_schedule,
    hold_still,
    silence_branch,
    weigh_classes,
)

ROBUST = TrainConfig(
    preset="tiny", recipe="robust", cnn_weights="imagenet", vit_weights="imagenet", epochs=10
).resolve()


def name_rates(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_every_parameter_is_in_one_group_and_deeper_layers_learn_slower() -> None:
    model = ResNetViT(cnn="resnet18", vit="vit_tiny_patch16_224", image_size=32)
    rates = name_rates(model, build_optimizer(model, ROBUST))
    assert rates.keys() == dict(model.named_parameters()).keys()
    blocks = [rates[f"vit.blocks.{block}.attn.qkv.weight"][0] for block in range(12)]
    assert blocks == pytest.approx([3e-4 * 0.75 ** (11 - block) for block in range(12)])
    assert rates["vit.patch_embed.proj.weight"][0] == pytest.approx(3e-4 * 0.75**12)
    stages = [rates[f"cnn.layer{stage}.{block}.conv1.weight"][0] for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert stages == pytest.approx([3e-4 * 0.75 ** (7 - place) for place in range(8)])
    assert rates["head.0.weight"] == (3e-4, 0.05)
    assert rates["head.0.bias"][1] == rates["cnn.bn1.weight"][1] == rates["vit.pos_embed"][1] == 0


def test_a_random_branch_is_neither_slowed_down_nor_held_still() -> None:
    config = TrainConfig(preset="tiny", recipe="robust", cnn_weights="imagenet").resolve()
    assert (config.cnn_layer_decay, config.vit_layer_decay) == (0.75, 1.0)
    model = ResNetViT(**PRESETS["tiny"])
    optimizer = build_optimizer(model, config)
    hold_still(model, optimizer, config, epoch=1)
    assert not any(parameter.requires_grad for parameter in model.cnn.parameters())
    assert all(parameter.requires_grad for parameter in (*model.vit.parameters(), *model.head.parameters()))
    hold_still(model, optimizer, config, epoch=2)
    assert all(parameter.requires_grad for parameter in model.parameters())
    nothing_given = TrainConfig(preset="tiny", recipe="robust").resolve()
    assert (nothing_given.head_epochs, nothing_given.freeze_batch_norm) == (0, False)


def test_plain_is_one_group_as_torch_makes_it() -> None:
    model = ResNetViT(**PRESETS["tiny"])
    optimizer = build_optimizer(model, TrainConfig(preset="tiny").resolve())
    assert [len(group["params"]) for group in optimizer.param_groups] == [len(list(model.parameters()))]
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (3e-4, 1e-4)


def test_the_learning_rate_warms_up_and_falls_by_half_a_cosine() -> None:
    model = ResNetViT(**PRESETS["tiny"])
    optimizer = build_optimizer(model, ROBUST)
    set_rates = build_schedule(optimizer, ROBUST, steps=20)
    head = next(group for group in optimizer.param_groups if group["lr_scale"] == 1.0)
    deep = min(optimizer.param_groups, key=lambda group: group["lr_scale"])
    found = []
    for step in range(200):
        set_rates(step)
        found.append(head["lr"])
        assert deep["lr"] == pytest.approx(head["lr"] * deep["lr_scale"])
    warm = [3e-6 + step * (3e-4 - 3e-6) / 20 for step in range(20)]
    cosine = [3e-4 * (1 + math.cos(math.pi * step / 160)) / 2 for step in range(160)]
    assert found == pytest.approx([3e-4] * 20 + warm + cosine)


def test_frozen_batch_norm_keeps_its_statistics_and_learns_its_weights() -> None:
    config = TrainConfig(preset="tiny", freeze_batch_norm=True).resolve()
    model = ResNetViT(**PRESETS["tiny"])
    before = {name: value.clone() for name, value in model.named_buffers()}
    optimizer = build_optimizer(model, config)
    hold_still(model, optimizer, config, epoch=1)
    model(torch.rand(4, 3, 128, 128)).square().sum().backward()
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())
    assert model.cnn.bn1.weight.grad is not None
    assert model.head.training
    hold_still(model, optimizer, TrainConfig(preset="tiny").resolve(), epoch=1)
    model(torch.rand(4, 3, 128, 128))
    assert not torch.equal(before["cnn.bn1.running_mean"], model.cnn.bn1.running_mean)


@pytest.mark.parametrize("branch", ["cnn", "vit"])
def test_a_silenced_branch_stays_silent_and_the_saved_model_says_the_same(branch: str) -> None:
    torch.manual_seed(0)
    other = "vit" if branch == "cnn" else "cnn"
    config = TrainConfig(preset="tiny", branches=branch, recipe="robust", dropout=0.0).resolve()
    model = ResNetViT(**PRESETS["tiny"], dropout=0.0)
    silence_branch(model, other)
    view, optimizer = BranchView(model, branch), build_optimizer(model, config)
    average, asleep = build_average(model, config), copy.deepcopy(getattr(model, other).state_dict())
    x, labels = torch.rand(4, 3, 128, 128), torch.tensor([0, 1, 0, 1])
    for step in range(3):
        hold_still(model, optimizer, config, epoch=1)
        nn.functional.cross_entropy(view(x), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(model, step=step + 1)
    split = model.cnn.num_features
    for judged in (model.eval(), average.module):
        silent = judged.head[0].weight[:, split:] if branch == "cnn" else judged.head[0].weight[:, :split]
        assert silent.abs().max() == 0
        torch.testing.assert_close(judged(x), BranchView(judged, branch).eval()(x))
    assert all(torch.equal(asleep[name], value) for name, value in getattr(model, other).state_dict().items())


def test_the_average_follows_its_formula_and_copies_buffers() -> None:
    model = ResNetViT(**PRESETS["tiny"])
    average = build_average(model, ROBUST)
    weight: Tensor = model.head[0].bias
    expected = weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            weight.add_(1.0)
        model.feature_mean.fill_(step)
        average.update(model, step=step)
        # the first update copies; from then on decay is 1 - (1 + step)^(-2/3), below its limit here
        decay = 0.0 if step == 1 else 1 - step ** (-2 / 3)
        expected = decay * expected + (1 - decay) * weight.detach()
    torch.testing.assert_close(average.module.head[0].bias, expected)
    assert average.module.feature_mean.unique().tolist() == [5.0]
    assert average.module.feature_distance_limit == math.inf


def test_class_weights_make_both_classes_weigh_the_same() -> None:
    labels = torch.tensor([0] * 9 + [1])
    weights = weigh_classes(labels)
    assert weights[labels][labels == 0].sum() == pytest.approx(float(weights[labels][labels == 1].sum()))
    assert weights[labels].sum() == pytest.approx(10)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"head_epochs": 1}, "random weights"),
        ({"head_epochs": -1}, "head_epochs is -1"),
        ({"warmup_epochs": 1.0}, "goes with --schedule cosine"),
        ({"recipe": "robust", "warmup_epochs": 9.0, "epochs": 5}, "of 5 epochs"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"cnn_layer_decay": 0.0}, "cnn_layer_decay is 0.0"),
        ({"clip_norm": float("nan")}, "clip_norm is nan"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"probe": True, "ema_decay": 0.9}, "ema_decay means nothing to a probe"),
        ({"probe": True, "compile": True}, "compile means nothing to a probe"),
        ({"init_from": "run", "cnn_weights": "random"}, "leave --cnn-weights"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(RunError, match=words):
        TrainConfig(**{"preset": "tiny", **wrong}).resolve()


def test_a_resolved_configuration_resolves_to_itself() -> None:
    for config in (ROBUST, TrainConfig().resolve(), TrainConfig(recipe="seed", probe=True).resolve()):
        assert config.resolve() == config
        assert [field.name for field in fields(config)] == [field.name for field in fields(TrainConfig)]
        assert {name for name, value in asdict(config).items() if value is None} == {"init_from", "limit"}
        assert None not in (config.learning_rate, config.ema_decay, config.augmentation, config.fused)
