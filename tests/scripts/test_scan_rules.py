"""The rivals of the rule for scans are what they are said to be: averages of neighbours, attention over a scan."""

from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(autouse=True)
def _reach_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)


def test_neighbours_are_those_by_number() -> None:
    from benchmarks.scan_rules import Series

    group, number = np.array(["a", "b", "a", "a", "b"]), np.array([2.0, 1.0, 0.0, 1.0, 2.0])
    series = Series(group, number)
    assert [rows.tolist() for rows in series.rows] == [[2, 3, 0], [1, 4]]
    features = torch.tensor([[6.0], [1.0], [0.0], [3.0], [5.0]])
    assert series.average(features).flatten().tolist() == [4.5, 3.0, 1.5, 3.0, 3.0]
    assert series.place.tolist() == [1.0, -1.0, -1.0, 0.0, 1.0]


def test_attention_finds_the_slice_that_tells_the_scan() -> None:
    """Strokes show in one slice of eight; every slice of a scan gets the scan's answer."""
    from benchmarks.scan_rules import Series, attend

    random = np.random.default_rng(0)
    group = np.repeat([f"s{scan:02d}" for scan in range(40)], 8)
    number = np.concatenate([random.permutation(8) for _ in range(40)]).astype(float)
    label = np.zeros(320, np.int64)
    label[np.arange(0, 320, 16) + random.integers(0, 8, 20)] = 1  # of every second scan
    values = random.normal(size=(2, 320, 12)).astype(np.float32)
    values[..., 0] += 6 * label
    features, mirrored = (torch.from_numpy(one) for one in values)
    fit = attend(features, mirrored, label, Series(group, number), split=6)
    known, asked = np.arange(240), np.arange(240, 320)
    found = fit(known, asked).reshape(10, 8)
    assert (found == found[:, :1]).all()
    stroke = label[240:].reshape(10, 8).max(1) == 1
    assert found[stroke, 0].min() > found[~stroke, 0].max()
