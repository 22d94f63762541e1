"""The benchmark's notebook trains the model that the package trains."""

from pathlib import Path

import pytest
import torch

from stroke_hub.inference import to_float_pixels
from stroke_hub.loader import AugmentedSlices

SCRIPTS = Path(__file__).parent.parent / "scripts"


def test_the_notebooks_model_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.train import DEVICE, Contest

    contest = Contest("tiny", batch_size=8)
    generator = torch.Generator().manual_seed(0)
    squares = torch.randint(0, 256, (8, 128, 128), dtype=torch.uint8, generator=generator)
    labels = torch.arange(8) % 2
    x = (to_float_pixels(squares, DEVICE) - 0.5) / 0.5
    contest.check(squares, x)
    for model in (contest.ours, contest.theirs):
        model.head[2].p = 0.0
    dataset = AugmentedSlices(squares, labels, augmentation="none")
    # the second loss is that of the weights which the first step made
    ours = [contest.train_ours(dataset) for _ in range(2)]
    theirs = [contest.train_theirs([(x, labels)]) for _ in range(2)]
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert ours[1] != pytest.approx(ours[0], rel=1e-2)
    with torch.no_grad():
        contest.theirs.head[3].bias.add_(1)
        contest.theirs.head[3].bias[0].add_(1)
    with pytest.raises(RuntimeError, match="the models differ"):
        contest.check(squares, x)
