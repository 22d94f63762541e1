"""Claims of data.masks: lesions lie in the squares where the model sees them, and augmentation moves both alike."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from stroke_hub.data.loader import AugmentedSlices, build_loader, decode_squares
from stroke_hub.data.masks import has_masks, read_masks
from stroke_hub.data.records import read_records
from stroke_hub.data.simulated import write_sample
from stroke_hub.models.presets import PRESETS
from stroke_hub.models.resnet_vit import ResNetViT


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("masks") / "sample", patients=24, show_progress=False)


def test_a_bright_lesion_lies_under_its_mask(root: Path) -> None:
    records = read_records(root)
    table = records.table[records.table["modality"] == "MR"].reset_index(drop=True)
    model = ResNetViT(**PRESETS["tiny"], modalities=["MR"])
    masks = read_masks(model, records.root, table)
    squares = decode_squares(model, records.root, table)
    strokes = np.flatnonzero(table["label"] == 1)
    assert masks.known.all()
    assert not masks.squares[np.flatnonzero(table["label"] == 0)].any()
    for number in strokes:
        lesion, head = masks.squares[number] > 127, squares[number] > 60
        assert lesion.any()
        grey = squares[number].float()
        assert grey[lesion].mean() > 1.4 * grey[head & ~lesion].mean()


def test_strokes_without_a_mask_are_unknown(root: Path) -> None:
    table = read_records(root).table
    assert has_masks(table)
    assert not has_masks(table.drop(columns="mask"))
    assert not has_masks(table.assign(mask=""))
    first = table.index[table["label"] == 1][0]
    table.loc[first, "mask"] = ""
    model = ResNetViT(**PRESETS["tiny"])
    assert np.flatnonzero(~read_masks(model, read_records(root).root, table).known).tolist() == [first]


def test_masks_are_augmented_like_their_slices() -> None:
    squares = torch.zeros(16, 128, 128, dtype=torch.uint8)
    squares[:, 20:60, 70:100] = 255
    dataset = AugmentedSlices(squares, torch.zeros(16, dtype=torch.int64), augmentation="seed", masks=squares)
    moved = 0
    for pictures, _, shares in build_loader(dataset, batch_size=8, seed=1):
        assert shares.shape[1:] == (16, 16)
        expected = torch.nn.functional.adaptive_avg_pool2d(pictures.float() / 255, 16)
        # the mask turns by nearest pixels, the picture by linear interpolation
        assert (shares - expected).abs().mean() < 0.005
        moved += int((shares - shares[0]).abs().sum((1, 2)).gt(1).sum())
    assert moved > 4


def test_a_table_without_any_mask_asks_for_none(root: Path) -> None:
    assert not has_masks(pd.DataFrame({"label": [0, 1], "path": ["a.png", "b.png"]}))
