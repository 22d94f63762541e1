"""The examples are what a rule names, with truth and outline, and the page says how they were chosen."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stroke_hub import Predictor, Records, Slice
from stroke_hub.models.sample import EXAMPLES, SAMPLE
from tests.conftest import load_rows
from tests.fakes.demo_server import ROOT


@pytest.fixture(autouse=True, scope="module")
def _space() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(ROOT / "space")
        yield


@given(st.data(), st.integers(1, 30))
def test_the_rule_names_medians_and_ends_and_asked_again_names_the_same(data: st.DataObject, count: int) -> None:
    from examples import pick_kinds

    probability = data.draw(hnp.arrays(float, count, elements=st.floats(0, 1)))
    is_stroke = data.draw(hnp.arrays(bool, count))
    is_called = probability >= data.draw(st.floats(0, 1))
    picked = pick_kinds(probability, is_stroke=is_stroke, is_called=is_called)
    cells = {
        "clear hit": np.median, "subtle stroke": min, "miss": np.median, "false alarm": max, "normal": np.median
    }  # fmt: skip
    for kind, rule in cells.items():
        truth, called = kind in ("clear hit", "subtle stroke", "miss"), kind not in ("miss", "normal")
        those = probability[(is_stroke == truth) & (is_called == called)]
        if len(those) < (2 if kind == "subtle stroke" else 1):
            assert kind not in picked
        elif rule is np.median:
            assert probability[picked[kind]] == sorted(those)[len(those) // 2]
        else:
            assert probability[picked[kind]] == rule(those)
    kept = sorted(picked.values())
    assert len(set(kept)) == len(kept)
    again = pick_kinds(probability[kept], is_stroke=is_stroke[kept], is_called=is_called[kept])
    assert {kind: kept[place] for kind, place in again.items()} == picked


def test_examples_of_a_dataset_have_truth_outline_and_the_kind_of_their_answer(
    run_dir: Path, sample: Records
) -> None:
    from examples import find_examples

    predictor, table = Predictor.from_pretrained(run_dir), sample.part("test")
    choice = find_examples(sample.root, predictor)
    assert choice.is_own
    assert {name: one.slices for name, one in choice.asked.items()} == dict(table["modality"].value_counts())
    assert choice.examples
    for caption, one in choice.examples.items():
        modality = {"CT": "BT", "MR": "MR"}[caption.split(",")[0]]
        rows = table.query(f"modality == '{modality}' and label == {int(one.truth == 'Stroke')}")
        told, own = predictor.predict(load_rows(sample.root, rows)), predictor.predict(one.slice)
        cell = sorted(p for p, label, odd in zip(told.probability, told.label, told.unusual, strict=True)
                      if label == own.label[0] and not odd)  # fmt: skip
        place = {"subtle stroke": 0, "false alarm": -1}.get(one.kind, len(cell) // 2)
        assert own.probability[0] == pytest.approx(cell[place], abs=1e-6)
        right = own.label[0] == one.truth
        assert right == (one.kind in ("clear hit", "subtle stroke", "normal"))
        assert caption.endswith(one.kind)
        if one.truth == "Normal":
            assert one.outline is None
        else:
            assert one.outline is not None
            assert one.outline.shape == one.slice.pixels.shape
            assert one.outline.any()


def test_of_many_slices_some_are_asked_evenly(sample: Records) -> None:
    from examples import choose_rows

    asked: list[str] = []

    def predict(slices: list[Slice], *, batch_size: int) -> Mock:
        asked.extend(Path(one.source).name for one in slices)
        count = len(slices)
        return Mock(probability=np.zeros(count), label=["Normal"] * count, unusual=np.zeros(count, bool))

    _, counts = choose_rows(sample, Mock(predict=predict), most=2)
    cells = [rows["path"].tolist() for _, rows in sample.part("test").groupby(["modality", "label"])]
    assert max(map(len, cells)) > 4
    spread = [[cell[len(cell) // 4], cell[3 * len(cell) // 4]] if len(cell) > 2 else cell for cell in cells]
    wanted = [path for cell in spread for path in cell]
    assert asked == [Path(path).name for path in wanted]
    assert {name: one.slices for name, one in counts.items()} == {"BT": 4, "MR": 4}


def test_the_packaged_selection_keeps_its_kinds_and_says_which_do_not_occur() -> None:
    from demo_model import DemoModel
    from examples_panel import render_examples

    model = DemoModel(SAMPLE, None, EXAMPLES)
    assert model.threshold < 0.5
    index = (EXAMPLES / "index.csv").read_text().splitlines()[1:]
    kinds = {Path(line.split(",")[0]).name: line.rsplit(",", 1)[1] for line in index}
    assert {one.source: one.kind for one in model.examples.values()} == kinds
    words = " ".join(render_examples(model).split())
    assert "among 280 CT and 280 MR test slices" in words
    assert "There were none of these: CT miss, CT false alarm, MR false alarm." in words
    assert "Truth: Stroke" in words


def test_a_selection_for_another_model_is_not_called_its_test_slices(run_dir: Path, tmp_path: Path) -> None:
    from demo_model import DemoModel
    from examples_panel import render_examples

    folder = shutil.copytree(EXAMPLES, tmp_path / "examples")
    selection = json.loads((folder / "selection.json").read_text()) | {"weights_sha256": "0" * 64}
    (folder / "selection.json").write_text(json.dumps(selection))
    model = DemoModel(SAMPLE, None, folder)
    assert model.predictor
    words = " ".join(render_examples(model).split())
    assert "no test slices of this model" in words
    assert "280" not in words
    assert "There were none of these" not in words


def test_without_examples_nothing_is_said(run_dir: Path) -> None:
    from demo_model import DemoModel
    from examples_panel import render_examples

    assert render_examples(DemoModel(str(run_dir))) == ""
