"""Claims of audit.shortcuts: what is planted into one class is found, and chance is not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from stroke_hub import Records, read_records, write_sample
from stroke_hub.audit import shortcuts
from stroke_hub.audit.shortcuts import (
    MARKS,
    Shortcut,
    correct_by_holm,
    describe_shortcuts,
    judge_mark,
    measure_marks,
    measure_shortcuts,
)
from stroke_hub.metrics.intervals import bootstrap_intervals
from stroke_hub.scan.addresses import write_address


def burn_in(image: Image.Image) -> Image.Image:
    ImageDraw.Draw(image).text((3, 2), "ER 14:02", fill=255)
    return image


def add_border(image: Image.Image) -> Image.Image:
    framed = Image.new("L", image.size, 30)
    inner = image.resize((image.width - 24, image.height - 24))
    framed.paste(inner, (12, 12))
    return framed


DISGUISES: dict[str, tuple[Callable[[Image.Image], Image.Image], str]] = {
    "text": (burn_in, ".png"),
    "margin_grey": (add_border, ".png"),
    "picture_size": (lambda image: image.resize((image.width + 8, image.height)), ".png"),
    "file_kind": (lambda image: image, ".jpg"),
}


@pytest.fixture(scope="module")
def alike(sample: Records) -> Records:
    """Simulated normal slices, every other patient called a stroke: the classes do not differ."""
    table = sample.table[sample.table["label"] == 0].reset_index(drop=True)
    number = table.groupby("modality")["group"].transform(lambda groups: pd.factorize(groups)[0])
    return Records(sample.root, table.assign(label=(number % 2).astype(np.int64)), ())


@pytest.mark.parametrize("mark", DISGUISES)
def test_what_is_planted_into_one_class_is_found(alike: Records, tmp_path: Path, mark: str) -> None:
    root = tmp_path / "deep"
    shutil.copytree(alike.root, root)
    change, suffix = DISGUISES[mark]
    table = alike.table.copy()
    for row in table.query("label == 1 and modality == 'BT'").itertuples():
        changed = change(Image.open(root / row.path).convert("L"))
        (root / row.path).unlink()
        table.loc[row.Index, "path"] = Path(row.path).with_suffix(suffix).as_posix()
        changed.save(root / table.loc[row.Index, "path"], quality=95)
    measured = measure_shortcuts(Records(root, table, ()))
    found = {one.mark: one for one in measured if one.modality == "BT"}
    assert found[mark].tells
    assert found[mark].auroc == 1
    assert found[mark].stroke != found[mark].normal
    sentences = [finding["sentence"] for finding in describe_shortcuts(measured)]
    assert any(MARKS[mark].words in words for words in sentences)
    assert all(words.startswith("In BT slices") for words in sentences)
    if mark == "file_kind":  # the others change the margin too
        assert len(sentences) == 1


def test_classes_that_do_not_differ_have_no_finding(alike: Records) -> None:
    found = measure_shortcuts(alike)
    assert {one.modality for one in found} == {"BT", "MR"}
    assert describe_shortcuts(found) == []


@pytest.mark.slow
def test_the_clean_sample_has_no_finding(tmp_path: Path) -> None:
    found = measure_shortcuts(read_records(write_sample(tmp_path / "sample", patients=160)))
    assert {one.modality for one in found} == {"BT", "MR"}
    assert describe_shortcuts(found) == []


def test_what_is_measured_of_a_picture(tmp_path: Path) -> None:
    picture = np.zeros((100, 200), np.uint8)
    picture[20:80, 60:140] = 100  # a head
    picture[2:6, 10:30] = 255
    Image.fromarray(picture).convert("RGB").save(tmp_path / "p1_s1.png")
    table = pd.DataFrame({"path": ["p1_s1.png"], "group": "p1", "label": 1, "modality": "BT", "split": "train"})
    row = measure_marks(Records(tmp_path, table, ())).iloc[0]
    assert (row["height"], row["width"], row["aspect"]) == (100, 200, 2.0)
    assert (row["extension"], row["pixel_kind"], row["margin_grey"]) == (".png", "RGB", 0)
    assert row["margin_width"] == pytest.approx(1 - 78 * 130 / 20_000)  # rows 2..79, columns 10..139
    around = 20_000 - 60 * 80
    assert 80 / 20_000 < row["text"] < 80 / (around - 3_000)  # a rim around the head is left out
    assert row["slice_number"] == 1
    assert np.isnan(row["place_in_scan"])


def test_the_kind_of_a_slice_in_a_volume_has_no_slice_number(tmp_path: Path) -> None:
    """Else the name of each slice would be a kind of its own."""
    volume = np.random.default_rng(0).integers(0, 100, (12, 12, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii.gz")
    paths = [write_address("a.nii.gz", number) for number in range(4)]
    table = pd.DataFrame({"path": paths, "group": "p1", "label": 1, "modality": "BT", "split": "train"})
    marks = measure_marks(Records(tmp_path, table, ()))
    assert marks["extension"].tolist() == [".gz"] * 4
    assert marks["pixel_kind"].tolist() == [""] * 4


# --- the judgement ------------------------------------------------------------------------------------------


def test_a_class_in_the_middle_of_scans_is_told_by_place() -> None:
    """Neither high nor low places tell it: an AUROC of the place itself would be 0.5."""
    place = np.tile(np.linspace(0, 1, 10), 30)
    group = np.repeat(np.arange(30), 10).astype(str)
    label = ((place > 0.3) & (place < 0.7)).astype(np.int64)
    auroc, low, *_ = judge_mark(pd.DataFrame({"place": place}), label, group)
    assert auroc == 1
    assert low is not None
    assert low > 0.8


def test_a_mark_of_patients_by_chance_tells_nothing() -> None:
    """Each patient has a size of its own, so that a tree can learn patients by heart, but no new one."""
    draw = np.random.default_rng(0)
    label = np.repeat(np.arange(40) % 2, 8)
    group = np.repeat(np.arange(40), 8).astype(str)
    found = [judge_mark(pd.DataFrame({"x": np.repeat(draw.normal(size=40), 8)}), label, group) for _ in range(20)]
    aurocs = [one.auroc for one in found if one.auroc is not None]
    assert np.mean(aurocs) < 0.55
    assert sum(one.low is not None and one.low > 0.5 for one in found) <= 3  # 2.5 % of 20 by design


def test_the_interval_is_that_of_the_report() -> None:
    draw = np.random.default_rng(0)
    group = draw.integers(0, 30, 300).astype(str)
    label = draw.integers(0, 2, 300)
    score = np.round(label * 0.4 + draw.normal(size=300), 1)  # with ties
    found, p = shortcuts._bound_auroc(label, score, group)
    expected = bootstrap_intervals(label, score, group, threshold=0.5)["auroc"]
    assert found["groups"] == expected["groups"]
    for name in ("value", "low", "high"):
        assert found[name] == pytest.approx(expected[name], abs=1e-12)
    assert p is not None
    assert (p < 0.05) == (found["low"] > 0.5)


def test_p_is_below_5_percent_where_the_interval_leaves_chance_out() -> None:
    draw = np.random.default_rng(1)
    seen = set()
    for _ in range(60):
        group = draw.integers(0, 30, 200).astype(str)
        label = draw.integers(0, 2, 200)
        score = label * draw.choice([0.0, 0.2, 0.4, 99.0]) + draw.normal(size=200)
        found, p = shortcuts._bound_auroc(label, score, group)
        assert p is not None
        leaves_out = not found["low"] <= 0.5 <= found["high"]
        assert (p < 0.05) == leaves_out
        seen.add(leaves_out)
    assert seen == {True, False}


def test_p_values_are_corrected_as_r_corrects_them() -> None:
    """p.adjust(c(0.01, 0.04, 0.03, 0.005, 0.8), "holm") of R."""
    found = correct_by_holm([0.01, 0.04, None, 0.03, 0.005, 0.8])
    assert found[2] is None
    assert [p for p in found if p is not None] == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.8])


@pytest.mark.parametrize(
    ("auroc", "p", "tells"), [(0.9, 0.0004, True), (0.9, 0.06, False), (0.55, 0.01, False), (0.5, None, False)]
)
def test_only_a_mark_that_tells_has_a_sentence(auroc: float, p: float | None, tells: bool) -> None:
    bounds = (None, None) if p is None else (0.51, 0.95)
    one = Shortcut("text", "BT", 100, 40, auroc, *bounds, p, "0.1", "0")
    assert one.tells == tells
    said = describe_shortcuts([one])
    assert len(said) == tells
    assert all("p < 0.001, corrected for 1 mark)" in finding["sentence"] for finding in said)


def test_few_patients_are_not_judged(sample: Records) -> None:
    strokes = sample.table[sample.table["label"] == 1]
    assert strokes.groupby("modality")["group"].nunique().max() == 3
    assert measure_shortcuts(sample) == []
