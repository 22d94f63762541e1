"""The batches of an epoch follow from its seed, wherever it begins; augmented slices are what was promised."""

from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from stroke_hub import DatasetError, Records, ResNetViT, load_slices
from stroke_hub.data.loader import (
    AugmentedSlices,
    _AugmentedBatches,
    _draw_order,
    _warp,
    augment_batch,
    build_loader,
    decode_squares,
)
from stroke_hub.inference.predict import to_pixels

COUNT, SIZE, BATCH = 70, 48, 8
AUGMENTATIONS = ["seed", "none"]


@pytest.fixture(scope="module")
def squares() -> Tensor:
    """Smooth pictures with a bright disc off the centre; the margins are black."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(COUNT, 1, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(noise, SIZE, mode="bicubic")[:, 0].clamp(0, 1)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    head = ((x - SIZE / 2) ** 2 + (y - SIZE / 2) ** 2) < (0.38 * SIZE) ** 2
    disc = ((x - 0.35 * SIZE) ** 2 + (y - 0.4 * SIZE) ** 2) < (0.1 * SIZE) ** 2
    return ((120 * smooth + 100 * disc) * head).round().to(torch.uint8)


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return torch.arange(COUNT) % 2


def collect(loader: Any) -> list[tuple[Tensor, Tensor]]:
    found = []
    for pictures, truth, *shares in loader:
        assert all(one.numel() == 0 for one in shares)  # there are no masks here
        found.append((pictures.clone(), truth.clone()))
    return found


def assert_equal(found: list[tuple[Tensor, Tensor]], expected: list[tuple[Tensor, Tensor]]) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(mine, theirs, strict=True))


class FirstSlices(torch.utils.data.Dataset[Any]):
    """What the package did first: the stream that published figures came from."""

    def __init__(self, squares: Tensor, labels: Tensor) -> None:
        self.squares, self.labels = squares.numpy(), labels.tolist()
        steps = [albumentations.HorizontalFlip(p=0.5), albumentations.Rotate(limit=10, p=0.5)]
        self.augment = albumentations.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        square = self.augment(image=self.squares[index][..., None])["image"]
        return np.ascontiguousarray(square[..., 0]), self.labels[index]


@pytest.mark.parametrize("seed", [0, 100_003])
def test_the_stream_is_the_one_it_was(squares: Tensor, labels: Tensor, seed: int) -> None:
    before = FirstSlices(squares, labels)
    before.augment.set_random_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    expected = collect(DataLoader(before, batch_size=BATCH, shuffle=True, generator=generator))
    dataset = AugmentedSlices(squares, labels, augmentation="seed")
    assert_equal(collect(build_loader(dataset, batch_size=BATCH, seed=seed)), expected)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
@pytest.mark.parametrize("start", [0, 1, 5, 8, 9])
def test_an_epoch_goes_on_where_it_stopped(squares: Tensor, labels: Tensor, augmentation: Any, start: int) -> None:
    dataset = AugmentedSlices(squares, labels, augmentation=augmentation)
    whole = collect(build_loader(dataset, batch_size=BATCH, seed=3))
    fresh = AugmentedSlices(squares, labels, augmentation=augmentation)
    loader = build_loader(fresh, batch_size=BATCH, seed=3, start=start)
    assert len(loader) == len(whole) - start
    assert_equal(collect(loader), whole[start:])


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_batches_made_whole_go_on_too(squares: Tensor, labels: Tensor, augmentation: Any) -> None:
    dataset = AugmentedSlices(squares, labels, augmentation=augmentation)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1)).tolist()
    batches = _AugmentedBatches(dataset, order, BATCH, seed=3)
    whole = collect(batches[i] for i in range(len(batches)))
    again = _AugmentedBatches(dataset, order, BATCH, seed=3)
    assert_equal(collect(again[i] for i in (8, 2)), [whole[8], whole[2]])
    assert torch.equal(torch.cat([truth for _, truth in whole]), labels[order])
    assert all(pictures.dtype == torch.uint8 for pictures, _ in whole)
    if augmentation != "none":
        other = _AugmentedBatches(dataset, order, BATCH, seed=4)
        assert not torch.equal(other[0][0], whole[0][0])
        assert not torch.equal(whole[0][0], squares[order[:BATCH]])


def test_squares_on_a_device_come_in_the_same_order(
    squares: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu = build_loader(AugmentedSlices(squares, labels, augmentation="none"), batch_size=BATCH, seed=5)
    expected = collect(on_cpu)

    class Elsewhere(torch.Tensor):
        """A tensor that says it lies on a GPU; everything else is torch's."""

        @property
        def device(self) -> torch.device:  # type: ignore[override]
            return torch.device("cuda")

    dataset = AugmentedSlices(squares.as_subclass(Elsewhere), labels, augmentation="none")
    built: list[_AugmentedBatches] = []

    def keep(dataset: AugmentedSlices, *args: Any) -> _AugmentedBatches:
        dataset.squares = squares
        built.append(_AugmentedBatches(dataset, *args))
        return built[0]

    monkeypatch.setattr("stroke_hub.data.loader._AugmentedBatches", keep)
    loader = build_loader(dataset, batch_size=BATCH, seed=5, start=2)
    assert built
    assert len(loader) == len(expected) - 2
    assert_equal(collect(loader), expected[2:])


def test_the_training_keeps_its_own_random_numbers(squares: Tensor, labels: Tensor) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    collect(build_loader(AugmentedSlices(squares, labels), batch_size=BATCH, seed=9, start=1))
    augment_batch(squares, torch.Generator().manual_seed(0))
    assert torch.equal(torch.rand(3), expected)


def test_none_leaves_the_slices_as_they_are(squares: Tensor, labels: Tensor) -> None:
    loader = build_loader(AugmentedSlices(squares, labels, augmentation="none"), batch_size=COUNT, seed=2)
    ((pictures, truth),) = collect(loader)
    order = [int((squares == picture).all((1, 2)).nonzero()[0]) for picture in pictures]
    assert sorted(order) == list(range(COUNT))
    assert torch.equal(truth, labels[order])
    assert augment_batch(squares, torch.Generator(), augmentation="none") is squares


def test_an_unknown_augmentation_is_named(squares: Tensor, labels: Tensor) -> None:
    with pytest.raises(ValueError, match="augmentation is 'wild'"):
        AugmentedSlices(squares, labels, augmentation="wild")  # type: ignore[arg-type]


@pytest.mark.parametrize("angle", [-10.0, 0.0, 7.3])
@pytest.mark.parametrize("flip", [False, True])
def test_warping_is_torchvisions(squares: Tensor, angle: float, flip: bool) -> None:
    expected = (reference.horizontal_flip(squares) if flip else squares)[:, None].float() / 255
    expected = reference.affine(
        expected,
        angle=angle,
        translate=[0, 0],
        scale=1.0,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )
    expected = expected.clamp(0, 1)[:, 0] * 255
    found = _warp(squares, torch.full((COUNT,), flip), torch.full((COUNT,), angle))
    assert found.dtype == torch.uint8
    # half a level from rounding, the rest from single precision
    assert (found.float() - expected).abs().max() <= 0.51


def test_each_slice_has_draws_of_its_own(squares: Tensor) -> None:
    same = squares[:1].expand(COUNT, -1, -1)
    found = augment_batch(same, torch.Generator().manual_seed(0))
    assert len(found.flatten(1).unique(dim=0)) >= COUNT // 3


def test_both_ways_draw_from_the_same_distributions() -> None:
    """Centre, spread and mean of a bright disc, moved by albumentations and by `augment_batch`."""
    count = 800
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="ij")
    disc = (200 * torch.exp(-((x - 55) ** 2 + (y - 65) ** 2) / 200)).to(torch.uint8).expand(count, -1, -1)
    dataset = AugmentedSlices(disc, torch.zeros(count, dtype=torch.long))
    ((one, _),) = collect(build_loader(dataset, batch_size=count, seed=0))
    other = augment_batch(disc, torch.Generator().manual_seed(0))

    def measure(pictures: Tensor) -> Tensor:
        weight = pictures.double()
        total = weight.sum((1, 2))
        centre_x, centre_y = (weight * x).sum((1, 2)) / total, (weight * y).sum((1, 2)) / total
        return torch.stack([centre_x, centre_y, total.sqrt(), weight.amax((1, 2))], 1)

    first, second = measure(one), measure(other)
    noise = first.std(0) / count**0.5
    assert ((first.mean(0) - second.mean(0)).abs() < 4 * 2**0.5 * noise + 0.1).all()
    # 5 % is the noise of a spread of 800
    assert ((first.std(0) / second.std(0)).log().abs() < 0.15).all()


def test_squares_are_the_models(sample: Records, untrained: ResNetViT) -> None:
    table = sample.table[::12]
    assert set(table["modality"]) == {"BT", "MR"}
    rows = zip(table["path"], table["modality"], strict=True)
    slices = [load_slices(sample.root / path, modality=modality)[0] for path, modality in rows]
    for _ in range(2):
        assert torch.equal(decode_squares(untrained, sample.root, table), to_pixels(untrained, slices))


def test_a_slice_that_cannot_be_read_is_named(untrained: ResNetViT, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match=r"broken\.png: is not a PNG"):
        decode_squares(untrained, tmp_path, pd.DataFrame({"path": ["broken.png"]}))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_a_gpu_gives_the_cpus_batches(squares: Tensor, labels: Tensor, augmentation: Any) -> None:
    on_gpu = AugmentedSlices(squares.cuda(), labels, augmentation=augmentation)
    found = collect(build_loader(on_gpu, batch_size=BATCH, seed=6))
    order = _draw_order(COUNT, 6)
    batches = _AugmentedBatches(AugmentedSlices(squares, labels, augmentation=augmentation), order, BATCH, seed=6)
    for number, (pictures, truth) in enumerate(found):
        assert pictures.device.type == truth.device.type == "cuda"
        assert torch.equal(truth.cpu(), batches[number][1])
        assert (pictures.cpu().int() - batches[number][0].int()).abs().max() <= 1
