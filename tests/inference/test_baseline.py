"""Claims of relevance about its parts: cut branches, lesion scores and baselines leave every sum exact."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stroke_hub import Slice, explain, predict
from stroke_hub.inference.relevance import compute_relevance
from stroke_hub.models.presets import PRESETS, name_baselines
from stroke_hub.models.resnet_vit import ResNetViT
from stroke_hub.training.baseline import store_baseline

KINDS = {
    "seed's": {},
    "linear": {"hidden": 0},
    "stages": {"hidden": 16, "cnn_stages": 3, "vit_patches": True},
    "blocks": {"hidden": 0, "cnn_stages": 2, "vit_blocks": 4, "cnn_output_stride": 16},
    "lesions": {"hidden": 0, "cnn_stages": 3, "vit_patches": True, "lesion_cells": 5},
    "lesions, hidden": {"hidden": 16, "vit_patches": True, "lesion_cells": 3},
}


@pytest.fixture(scope="module")
def squares() -> Tensor:
    return torch.randint(0, 256, (8, 128, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def build(kind: str, squares: Tensor | None = None) -> ResNetViT:
    torch.manual_seed(3)
    model = ResNetViT(**PRESETS["tiny"], modalities=["BT", "MR"], **KINDS[kind]).eval()
    if squares is not None:
        labels = torch.tensor([0, 0, 1, 0, 0, 1, 0, 0])
        store_baseline(model, squares, labels, ["BT", "BT", "BT", "MR", "MR", "MR", "BT", "MR"])
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("stored", [False, True])
def test_every_sum_is_exact(kind: str, depth: int, stored: bool, squares: Tensor) -> None:
    model = build(kind, squares if stored else None)
    x = (squares.float() / 255)[:, None].expand(-1, 3, -1, -1)
    rows = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]) if stored else None
    found = compute_relevance(model, x, torch.ones(8), rows=rows, depth=depth)
    with torch.no_grad():
        logits = model(x)
    z = logits[:, 1] - logits[:, 0]
    torch.testing.assert_close(found.logits, logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.contributions.sum(1), z, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.cnn_evidence.sum((1, 2)), found.contributions[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.vit_evidence.sum((1, 2)), found.contributions[:, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_answers_the_same(kind: str, squares: Tensor, tmp_path: Path) -> None:
    model = build(kind, squares)
    model.save_pretrained(tmp_path)
    loaded = ResNetViT.from_pretrained(tmp_path)
    x = (squares.float() / 255)[:, None].expand(-1, 3, -1, -1)
    rows = torch.zeros(8, dtype=torch.int64)
    for before, after in zip(*(compute_relevance(one, x, rows=rows) for one in (model, loaded)), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("kind", ["seed's", "lesions"])
def test_normal_slices_of_a_modality_average_to_nothing(kind: str, squares: Tensor) -> None:
    model = build(kind, squares)  # its head is linear but for the seed's, or nearly so close to the baseline
    normal = squares[[0, 1, 6]]  # BT
    x = (normal.float() / 255)[:, None].expand(-1, 3, -1, -1)
    found = compute_relevance(model, x, torch.ones(3), rows=torch.zeros(3, dtype=torch.int64))
    limit = 1e-5 if kind == "lesions" else 0.05
    assert found.contributions[:, :2].mean(0).abs().max() < limit


def test_the_lesion_score_lies_on_the_cells_that_it_averages(squares: Tensor) -> None:
    model = build("lesions", squares)
    with torch.no_grad():  # the head hears nothing else
        places = [model.cnn_features - 1, len(model.feature_mean) - 1]
        kept = torch.zeros_like(model.head[0].weight)
        kept[0, places], kept[1, places] = -0.5, 0.5
        model.head[0].weight.copy_(kept)
    x = (squares.float() / 255)[:, None].expand(-1, 3, -1, -1)
    found = compute_relevance(model, x, torch.ones(8), rows=torch.zeros(8, dtype=torch.int64))
    scores = model.score_cells(model.map_stages(x), model.vit.forward_features(model.normalise_vit(x))).sum(1)
    for one, evidence in zip(scores, found.cnn_evidence + found.vit_evidence, strict=True):
        highest = one.flatten().topk(5).indices
        rest = evidence.flatten().clone()
        rest[highest] = 0
        assert rest.abs().max() < 1e-6
    mean = scores.flatten(1).topk(5).values.mean(1)
    torch.testing.assert_close(
        found.log_odds, mean.detach() + (model.head[0].bias[1] - model.head[0].bias[0]).detach()
    )


def test_every_answer_names_what_it_is_compared_with(squares: Tensor) -> None:
    model = build("lesions", squares)
    names = name_baselines(["BT", "MR"], has_normal=True)
    pixels = squares[0].numpy()
    for modality, name in (("BT", names[0]), ("MR", names[1]), (None, names[2])):
        one = Slice(pixels, modality, "a.png", 0)
        assert explain(model, one).baseline == name
        assert predict(model, [one], contributions=True).to_frame()["baseline"][0] == name
    assert explain(build("lesions"), Slice(pixels, "BT", "a.png", 0)).baseline == "mean of all training slices"
