"""Claims of training.lesions: masks teach where a lesion is, from scratch and on still backbones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stroke_hub import ResNetViT, TrainConfig, fit, read_records, write_sample
from stroke_hub.data.masks import Masks
from stroke_hub.errors import RunError
from stroke_hub.models.presets import PRESETS
from stroke_hub.training.lesions import fit_scores, measure_scores, start_scores


def plant(count: int = 24) -> tuple[torch.Tensor, Masks]:
    """Grey noise with a bright blot in a different place of each, and its mask."""
    rng = np.random.default_rng(0)
    squares = rng.integers(60, 120, (count, 128, 128)).astype(np.uint8)
    masks = np.zeros_like(squares)
    for square, mask in zip(squares, masks, strict=True):
        row, column = rng.integers(1, 14, 2) * 8
        square[row : row + 16, column : column + 16] = 250
        mask[row : row + 16, column : column + 16] = 255
    return torch.from_numpy(squares), Masks(torch.from_numpy(masks), np.ones(count, bool))


def test_still_random_backbones_learn_to_point_at_a_bright_blot() -> None:
    torch.manual_seed(0)
    model = ResNetViT(**PRESETS["tiny"], hidden=0, cnn_stages=3, vit_patches=True, lesion_cells=4).eval()
    squares, masks = plant()
    fit_scores(model, squares[:16], Masks(masks.squares[:16], masks.known[:16]))
    x = (squares[16:].float() / 255)[:, None].expand(-1, 3, -1, -1)
    with torch.no_grad():
        tokens = model.vit.forward_features(model.normalise_vit(x))
        scores = model.score_cells(model.map_stages(x), tokens).sum(1)
    shares = torch.nn.functional.adaptive_avg_pool2d(masks.squares[16:].float() / 255, 16).flatten(1)
    hits = shares.gather(1, scores.flatten(1).argmax(1, keepdim=True))
    assert float((hits > 0.5).float().mean()) >= 0.75  # a cell at random: 0.016


def test_unknown_lesions_teach_nothing_and_both_branches_are_taught() -> None:
    scores = torch.zeros(2, 2, 16, 16, requires_grad=True)
    shares = torch.rand(2, 16, 16)
    measure_scores(scores, shares, torch.tensor([True, False])).backward()
    assert scores.grad is not None
    assert scores.grad[0].abs().amax((1, 2)).min() > 0
    assert scores.grad[1].abs().max() == 0


def test_a_model_starts_as_its_scores() -> None:
    model = ResNetViT(**PRESETS["tiny"], hidden=0, cnn_stages=3, lesion_cells=5).eval()
    start_scores(model)
    with torch.no_grad():
        logits = model(torch.rand(3, 3, 128, 128))
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], torch.full((3,), -4.0))


@pytest.mark.parametrize("recipe", ["scratch", "probe"])
def test_a_dataset_with_masks_gives_a_model_with_scores(recipe: str, tmp_path: Path) -> None:
    records = read_records(write_sample(tmp_path / "data", patients=24, show_progress=False))
    epochs = 1 if recipe == "scratch" else None
    config = TrainConfig(preset="tiny", recipe=recipe, epochs=epochs)  # type: ignore[arg-type]
    model = ResNetViT.from_pretrained(fit(config, records, tmp_path / "run"))
    assert model.lesion_cells == 5
    assert model.normal_scores is not None
    plain = TrainConfig(preset="tiny", recipe="scratch", epochs=1, lesion_cells=0)
    assert ResNetViT.from_pretrained(fit(plain, records, tmp_path / "plain")).lesion_cells == 0
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 1


def test_what_teaches_lesions_follows_the_data_and_the_recipe() -> None:
    scratch, probe = (TrainConfig(preset="tiny", recipe=recipe) for recipe in ("scratch", "probe"))
    assert scratch.resolve(masks=True).lesions == probe.resolve(masks=True, modalities={"BT"}).lesions == "masks"
    assert probe.resolve(masks=False, modalities={"BT"}).lesions == "bleeding"
    assert scratch.resolve(masks=False, modalities={"BT"}).lesions == "none"
    assert probe.resolve(masks=False, modalities={"BT", "MR"}).lesions == "none"
    both = TrainConfig(preset="tiny", recipe="probe", lesions="bleeding")
    assert both.resolve(masks=False, modalities={"BT", "MR"}).lesion_cells == 5
    with pytest.raises(RunError, match="need lesion masks of most training strokes"):
        both.resolve(masks=False, modalities={"MR"})


def test_lesion_cells_can_be_asked_for_where_something_teaches_them() -> None:
    asked = TrainConfig(preset="tiny", lesion_cells=7)
    assert asked.resolve().lesion_cells == asked.resolve(masks=True).lesion_cells == 7
    assert TrainConfig(preset="tiny").resolve(masks=True).lesion_cells == 5
    assert TrainConfig(preset="tiny", lesion_cells=0).resolve(masks=True).lesions == "none"
    assert TrainConfig(preset="tiny").resolve().lesion_cells == 0
    with pytest.raises(RunError, match="need lesion masks of most training strokes"):
        asked.resolve(masks=False)
    with pytest.raises(RunError, match="need lesion masks of most training strokes"):
        TrainConfig(preset="tiny", recipe="plain", lesion_cells=7).resolve(masks=True)
    with pytest.raises(RunError, match="leave one of them out"):
        TrainConfig(preset="tiny", lesions="none", lesion_cells=7).resolve(masks=True)


def test_simulated_bleeding_teaches_a_probe_of_ct_without_masks(tmp_path: Path) -> None:
    records = read_records(write_sample(tmp_path / "data", patients=40, show_progress=False))
    table = records.table[records.table["modality"] == "BT"].drop(columns="mask")
    config = TrainConfig(preset="tiny", recipe="probe")
    model = ResNetViT.from_pretrained(fit(config, replace(records, table=table), tmp_path / "run"))
    assert model.lesion_cells == 5
    assert float(model.lesion.weight.detach().abs().max()) > 0
    assert float((model.head[-1].weight[1] != 0).float().mean()) > 0.5  # pooled features count beside the scores
    table = table.assign(modality="MR")
    config = TrainConfig(preset="tiny", recipe="probe", lesions="bleeding")
    with pytest.raises(RunError, match="need lesion masks"):
        fit(config, replace(records, table=table), tmp_path / "other")
