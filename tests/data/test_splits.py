"""Claims of data.splits: folds are grouped, stratified and complete; a written split comes back as it was."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stroke_hub import Records, read_records
from stroke_hub.data.splits import apply_split, assign_folds, assign_validation, select_fold, write_split
from stroke_hub.errors import DatasetError
from tests.data.test_records import PATIENTS, build, put, table_of

# --- folds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_folds_are_grouped_stratified_and_complete(folds: int, seed: int) -> None:
    table = table_of(PATIENTS)
    copy = table.copy()
    divided = assign_folds(table, folds=folds, seed=seed)
    pd.testing.assert_frame_equal(table, copy)
    pd.testing.assert_frame_equal(divided.drop(columns="fold"), table)
    assert divided["fold"].dtype == np.int64
    assert set(divided.loc[divided["split"] == "train", "fold"]) == set(range(folds))
    assert set(divided.loc[divided["split"] == "test", "fold"]) == {-1}
    assert divided.groupby("group")["fold"].nunique().max() == 1
    training = divided[divided["split"] == "train"]
    sizes = training.groupby(["label", "modality"])["fold"].value_counts(normalize=True)
    assert len(sizes) == 4 * folds
    assert (abs(sizes - 1 / folds) < 0.06).all()


def test_folds_depend_on_rows_and_seed_not_on_order() -> None:
    table = table_of(PATIENTS)
    first = assign_folds(table, seed=3)
    pd.testing.assert_frame_equal(first, assign_folds(table, seed=3))
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(first, assign_folds(shuffled, seed=3).sort_index())
    repeated = shuffled.set_axis([0] * len(shuffled), axis=0)
    assert list(assign_folds(repeated, seed=3)["fold"]) == list(assign_folds(shuffled, seed=3)["fold"])
    assert any((assign_folds(table, seed=seed)["fold"] != first["fold"]).any() for seed in range(3))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(["BT", "MR", None]),
            st.integers(1, 6),
            st.sampled_from(["train", "train", "train", "test"]),
        ),
        min_size=1,
        max_size=25,
    ),
    st.integers(2, 5),
    st.integers(0, 5),
)
def test_folds_are_sound_or_refused(
    patients: list[tuple[int, str | None, int, str]], folds: int, seed: int
) -> None:
    table = table_of(patients)
    training = table[table["split"] == "train"]
    groups = training.groupby("label")["group"].nunique().reindex([0, 1], fill_value=0).min()
    try:
        divided = assign_folds(table, folds=folds, seed=seed)
    except DatasetError as error:
        assert groups < folds
        assert f"into {folds} folds" in str(error)  # noqa: PT017
        return
    assert groups >= folds
    for fold in range(folds):
        selected = select_fold(divided, fold)
        assert set(selected.loc[selected["split"] == "val", "label"]) == {0, 1}
        assert set(selected.loc[selected["split"] == "train", "label"]) == {0, 1}
        assert selected.groupby("group")["split"].nunique().max() == 1
        assert ((selected["split"] == "test") == (table["split"] == "test")).all()


def test_groups_that_stand_in_test_too_are_never_held_out() -> None:
    table = table_of(PATIENTS)
    shared = {f"p{number}" for number in range(0, 40, 2)}
    extra = table[table["group"].isin(shared)].assign(split="test", path=lambda rows: "x" + rows["path"])
    divided = assign_folds(pd.concat([table, extra], ignore_index=True))
    assert set(divided.loc[divided["group"].isin(shared), "fold"]) == {-1}
    assert set(divided["fold"]) == {-1, 0, 1, 2, 3, 4}


def test_folds_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"pass 2 or more"):
        assign_folds(table_of(PATIENTS), folds=1)
    with pytest.raises(DatasetError, match=r"has 2 groups of its own; ask for fewer folds"):
        assign_folds(table_of([(0, "BT", 3, "train")] * 9 + [(1, "BT", 3, "train")] * 2), folds=3)
    divided = assign_folds(table_of(PATIENTS), folds=3)
    for fold in (-1, 3):
        with pytest.raises(ValueError, match=r"pass 0 to 2"):
            select_fold(divided, fold)


# --- splits as files ----------------------------------------------------------------------------------------


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return read_records(build(tmp_path / "deep", each=4))


@pytest.mark.parametrize(
    "divide",
    [
        lambda table: assign_validation(table, fraction=0.4, seed=2),
        lambda table: assign_folds(table, folds=2),
        lambda table: table.assign(group="a" + table["group"]),
    ],
)
def test_a_written_split_comes_back(
    records: Records, tmp_path: Path, divide: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    divided = divide(records.table)
    write_split(Records(records.root, divided, ()), tmp_path / "split.csv")
    written = pd.read_csv(tmp_path / "split.csv")
    assert list(written.columns) == [*divided.columns, "sha256"]
    again = apply_split(records, tmp_path / "split.csv")
    pd.testing.assert_frame_equal(again.table, divided)
    assert again.notes == records.notes


def test_a_split_may_list_less_or_move_slices_and_says_so(records: Records, tmp_path: Path) -> None:
    table = records.table[["path", "split"]].copy()
    table.loc[table["path"].str.startswith("test/normalBT/p032"), "split"] = "train"
    table.iloc[:0:-1].to_csv(tmp_path / "split.csv", index=False)  # the other way round, without its first row
    divided = apply_split(records, tmp_path / "split.csv")
    assert divided.notes[-1] == "split.csv does not list 1 of 32 images: they are left out."
    assert divided.table["path"].tolist() == records.table["path"].tolist()[1:]
    table["split"] = table["split"].replace({"train": "test", "test": "train"})
    table.to_csv(tmp_path / "split.csv", index=False)
    moved = apply_split(records, tmp_path / "split.csv")
    assert moved.notes[-1] == "split.csv moves 32 images between training and test."
    assert list(moved.table["split"]) == list(table["split"])


def test_a_split_of_other_files_is_refused(records: Records, tmp_path: Path) -> None:
    file = tmp_path / "split.csv"
    write_split(records, file)
    changed = records.root / records.table["path"][5]
    put(changed, 77)
    with pytest.raises(
        DatasetError, match=r"written for other files than the 1 here, for example test/.*; give the"
    ):
        apply_split(records, file)
    changed.unlink()
    with pytest.raises(DatasetError, match=r"lists 1 files that the dataset lacks, for example test/.*; give the"):
        apply_split(read_records(records.root), file)
    other = records.table.assign(label=1 - records.table["label"])
    other[["path", "label", "split"]].to_csv(file, index=False)
    with pytest.raises(DatasetError, match=r"written for other files than the 32 here"):
        apply_split(records, file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read as a table"),
        (b"\xff\xfe\x00\x01", "cannot be read as a table"),
        (b"a,b\n1,2\n", "has no columns path and split"),
        (b"path,split\na.png,train\na.png,test\n", "lists a.png twice"),
        (b"path,split\na.png,<b>\n", "knows a split ?b?"),
        (b"path,split,fold\na.png,train,x\n", "folds that are no whole numbers"),
    ],
)
def test_a_file_that_is_no_split_is_refused(records: Records, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "split.csv").write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        apply_split(records, tmp_path / "split.csv")
    assert words in str(caught.value)
    assert str(caught.value).startswith("split.csv: ")
    assert ";" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_split_without_a_class_is_refused(records: Records, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot be read as a table \(No such file"):
        apply_split(records, tmp_path / "absent.csv")
    table = records.table[["path", "split"]]
    table[records.table["label"] == 0].to_csv(tmp_path / "split.csv", index=False)
    with pytest.raises(DatasetError, match=r"leaves train without stroke or without normal images; add some"):
        apply_split(records, tmp_path / "split.csv")
