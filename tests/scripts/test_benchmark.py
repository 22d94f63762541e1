"""The benchmark's notebook trains the model that the package trains; one run of all outlives what fails in it."""

import json
import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from stroke_hub.data.loader import AugmentedSlices
from stroke_hub.inference.predict import to_float_pixels

SCRIPTS = Path(__file__).parents[2] / "scripts"


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


@pytest.mark.parametrize(
    ("value", "bar", "met"),
    [
        (1.5, "<= 1.50", True),
        (1.51, "<= 1.50", False),
        (5, "< 5", False),
        (10, ">= 10", True),
        (9.99, ">= 10", False),
        (3, "> 3", False),
        (0, "0", True),
        (1, "0", False),
        (0.00005, "<= 0.0001", True),
        (7, "none", None),
    ],
)
def test_bars_are_read(monkeypatch: pytest.MonkeyPatch, value: float, bar: str, met: bool | None) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.timing import meets_bar

    assert meets_bar(value, bar) is met


@pytest.mark.parametrize("bar", ["", "-", "about 3", "<= much", "<=3", "<= 1 2"])
def test_what_is_no_bar_is_refused(monkeypatch: pytest.MonkeyPatch, bar: str) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.timing import meets_bar

    with pytest.raises(ValueError, match="is no bar"):
        meets_bar(1.0, bar)


# what a benchmark prints, of each kind: the name of the benchmark decides
STAND_IN = """
import json, sys
name = sys.argv[1]
print("timing: 3/5", file=sys.stderr)
if name == "report":
    import a_package_that_nobody_has
if name == "explain":
    sys.exit("error: the model is not there.")
rows = [{"row": "predict_int8", "value": 0.2, "low": 0.1, "high": 0.3, "bar": "<= 0.15", "floor": 0.125}]
print(json.dumps({"benchmark": name, "machine": {"load": 2.5, "given": sys.argv[2:]}, "rows": rows}))
print("{ a library says goodbye }")
"""


def test_all_goes_on_after_what_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks import all as everything

    stand_in = tmp_path / "benchmark.py"
    stand_in.write_text(STAND_IN)
    monkeypatch.setattr(everything, "PROGRAM", stand_in)
    rows = everything.benchmark_all(only=("explain", "report", "runtime"), out=tmp_path / "out")

    found = {row["benchmark"]: row for row in rows}
    assert list(found) == ["machine", "report", "explain", "runtime"]
    assert found["report"]["error"].endswith("No module named 'a_package_that_nobody_has'")
    assert found["explain"]["error"] == "exit status 1: error: the model is not there."
    assert found["runtime"]["value"] == 0.2
    assert found["runtime"]["load"] == 2.5
    assert "timing: 3/5" in capsys.readouterr().err  # progress is seen while it runs

    document = json.loads((tmp_path / "out" / everything.NUMBERS_FILE).read_text())
    assert document["runtime.predict_int8"] == 0.2
    assert [row.get("met") for row in document["rows"]] == [False, None, None, False]
    assert document["machine"]["cores"] == len(os.sched_getaffinity(0))
    table = (tmp_path / "out" / everything.TABLE_FILE).read_text()
    assert "`python scripts/benchmark.py runtime --threads 1`" in table
    assert "| predict int8 | 0.2 [0.1, 0.3] | <= 0.15 | **no** | 0.125 |" in table
    assert "| failed | exit status 1: error: the model is not there. |  |  |  |" in table


@pytest.mark.parametrize(
    ("lines", "status", "error"),
    [
        ([], -9, "exit status -9: not a word"),
        (["timing: 1/5", ""], 0, "exit status 0: timing: 1/5"),
        (
            ['{"machine": {"load": 1}, "rows": []}', "Segmentation fault"],
            139,
            "exit status 139: Segmentation fault",
        ),
        (['{"rows": 3}'], 0, 'exit status 0: {"rows": 3}'),
    ],
)
def test_without_a_document_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], status: int, error: str
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.all import read_rows

    assert [row["error"] for row in read_rows(lines, status)] == [error]


def test_a_document_holds_values_by_their_rows_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.all import make_document

    names = ("predict_fp32", "predict_int8", "explain_fp32", "explain_int8")
    rows = [{"row": name, "value": 0.5, "bar": "none"} for name in names]
    document = make_document("runtime", {"load": 1.0}, rows)
    assert {name: document[name] for name in names} == dict.fromkeys(names, 0.5)
    assert document["rows"][0]["met"] is None


def test_operations_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks.machine import count_flops, count_flops_apart

    layer, kernel = nn.Linear(32, 16, bias=False), nn.Conv2d(3, 8, 5, bias=False)
    x, picture = torch.zeros(4, 32), torch.zeros(1, 3, 12, 12)
    products, convolutions = 2 * 4 * 32 * 16, 2 * 8 * 8 * 8 * 3 * 5 * 5
    assert count_flops_apart(lambda: (layer(x), kernel(picture))) == (convolutions, products)
    # backward of a product whose input needs no gradient is one more of the same size
    assert count_flops(lambda: layer(x).sum().backward()) == 2 * products


def test_rates_are_those_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from benchmarks import machine

    monkeypatch.setattr(machine, "SIDE", 128)
    monkeypatch.setattr(machine, "BYTES", 2**20)
    machine.measure_torch_rate.cache_clear()
    ticks = iter(range(100))
    # a clock that advances by one second a look: every call takes one second
    assert machine.measure_torch_rate(1, lambda: next(ticks)) == 2 * 128**3
    assert machine.measure_onnx_rate(1, lambda: next(ticks), "int8") == 2 * 128**3
    assert machine.measure_read_rate(lambda: next(ticks)) == 2**20
    assert machine.measure_copy_rate() > 0
    assert torch.get_num_threads() >= 1
    assert machine.measure_shortest(lambda: time.sleep(0.001), time.perf_counter) >= 0.001
