"""Claims of evaluation.localisation: where maps lie is measured on lesions, beside maps that know no model."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from stroke_hub import ResNetViT
from stroke_hub.evaluation import localisation
from stroke_hub.evaluation.localisation import bound_mean, measure_localisation
from stroke_hub.inference.explain import explain

REPEATED = 3  # slices of each of two patients


def write_slices(root: Path, model: ResNetViT) -> tuple[pd.DataFrame, torch.Tensor]:
    """Squares as the model sees them, with a lesion where its fused map is strongest, and some without a mask."""
    rng = np.random.default_rng(0)
    size = model.image_size
    squares = torch.from_numpy(rng.integers(0, 256, (2 * REPEATED, size, size), dtype=np.uint8))
    rows = []
    for number, (square, found) in enumerate(zip(squares, explain(model, squares), strict=True)):
        Image.fromarray(square.numpy()).save(root / f"{number}.png")
        strongest = found.fused_map >= np.quantile(found.fused_map, 0.99)  # a map may have several
        Image.fromarray(strongest.astype(np.uint8) * np.uint8(255)).save(root / f"mask{number}.png")
        rows.append({"path": f"{number}.png", "mask": f"mask{number}.png", "group": f"p{number // REPEATED}"})
    return pd.DataFrame(rows).assign(label=1, modality="MR"), squares


@pytest.fixture
def unframed(untrained: ResNetViT) -> ResNetViT:
    """A model that sees the whole picture, so that squares of noise are seen as they are."""
    untrained.framing, untrained.rendering = "whole", "legacy"
    return untrained


def test_a_map_that_points_at_the_lesions_is_found_to(tmp_path: Path, unframed: ResNetViT) -> None:
    table, squares = write_slices(tmp_path, unframed)
    found = measure_localisation(unframed, table, squares, tmp_path)
    assert found is not None
    assert (found["n_stroke"], found["n"], found["groups"]) == (len(table), len(table), 2)
    points = np.mean([e.fused_map.max() > 0 for e in explain(unframed, squares)])  # a map below 0 points nowhere
    assert found["measures"]["pointing_inside"]["fused"]["value"] == pytest.approx(points)
    assert points > found["measures"]["pointing_inside"]["control"]["value"]
    masks = [np.asarray(Image.open(tmp_path / name)) > 127 for name in table["mask"]]
    explanations = explain(unframed, squares)
    for name in ("cnn", "vit", "fused"):
        maps = [np.clip(getattr(e, f"{name}_map"), 0, None) for e in explanations]
        inside = np.array([one[mask].sum() / max(one.sum(), 1e-30) for one, mask in zip(maps, masks, strict=True)])
        same = bound_mean(inside, table["group"].to_numpy(str))
        assert same is not None
        mass = found["measures"]["mass"][name]
        for key, other in (("value", "mean"), ("low", "low"), ("high", "high")):
            assert mass[key] == pytest.approx(same[other], rel=1e-5)


def test_slices_without_a_lesion_in_their_mask_are_not_judged(tmp_path: Path, unframed: ResNetViT) -> None:
    table, squares = write_slices(tmp_path, unframed)
    Image.fromarray(np.zeros(squares.shape[1:], np.uint8)).save(tmp_path / "mask0.png")
    table.loc[1, "mask"] = ""
    table.loc[2, "label"] = 0
    found = measure_localisation(unframed, table, squares, tmp_path)
    assert found is not None
    assert (found["n_stroke"], found["n"], found["groups"]) == (len(table) - 1, REPEATED, 1)
    assert measure_localisation(unframed, table.assign(mask=""), squares, tmp_path) is None
    assert measure_localisation(unframed, table.drop(columns="mask"), squares, tmp_path) is None


def test_of_many_slices_some_are_taken_evenly(
    tmp_path: Path, unframed: ResNetViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, squares = write_slices(tmp_path, unframed)
    monkeypatch.setattr(localisation, "MOST", 2)
    found = measure_localisation(unframed, table, squares, tmp_path)
    assert found is not None
    assert (found["n_stroke"], found["n"], found["groups"]) == (len(table), 2, 2)  # the first and the last
