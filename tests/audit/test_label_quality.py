"""Claims of audit.label_quality: the published formula, flipped labels first, nothing from what was learned."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stroke_hub import Records, read_records
from stroke_hub.audit.label_quality import check_draft, count_joint, find_doubts, write_draft
from stroke_hub.data.layout import read_index
from stroke_hub.errors import DatasetError
from stroke_hub.metrics.classification import auroc
from tests.conftest import Done


def make_records(root: Path, label: np.ndarray, *, per_patient: int = 4) -> Records:
    """A dataset as a table alone: find_doubts opens no picture."""
    n = len(label)
    table = pd.DataFrame(
        {
            "path": [f"train/s{row:04}.png" for row in range(n)],
            "label": label.astype(np.int64),
            "modality": pd.Series(["BT", None] * n, dtype=object)[:n],
            "group": [f"p{row // per_patient:03}" for row in range(n)],
            "split": "train",
            "site": "=A",
        }
    )
    return Records(root, table, ())


def simulate(n: int, flipped: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True labels, probabilities of a good model that never saw them, and which labels are then flipped."""
    draw = np.random.default_rng(seed)
    true = np.arange(n) // 2 % 2
    probability = 1 / (1 + np.exp(-draw.normal(np.where(true == 1, 4.0, -4.0), 1.0)))
    wrong = np.zeros(n, bool)
    wrong[draw.choice(n, flipped, replace=False)] = True
    return np.where(wrong, 1 - true, true), probability, wrong


def write_out_of_fold(records: Records, probability: np.ndarray, folder: Path, *, with_split: bool = True) -> Path:
    fold = np.arange(len(records.table)) // 4 % 5
    rows = records.table[["path", "label", "group", "split"]].assign(fold=fold)
    if with_split:
        rows.to_csv(folder / "split.csv", index=False)
    file = folder / "out_of_fold.csv"
    rows.drop(columns="split").assign(stroke_probability=probability).to_csv(file, index=False)
    return file


# --- the formula --------------------------------------------------------------------------------------------


def test_the_confident_joint_is_that_of_the_paper_by_hand() -> None:
    """Thresholds are the mean self-confidence: (0.9 + 0.8 + 0.1) / 3 = 0.6 and (0.7 + 0.9 + 0.2) / 3 = 0.6."""
    label = np.array([0, 0, 0, 1, 1, 1])
    probability = np.array([0.1, 0.2, 0.9, 0.7, 0.9, 0.2])
    thresholds, joint, doubtful = count_joint(label, probability)
    np.testing.assert_allclose(thresholds, [0.6, 0.6])
    np.testing.assert_array_equal(joint, [[2, 1], [1, 2]])
    assert doubtful.tolist() == [False, False, True, False, False, True]


def test_a_slice_below_both_thresholds_counts_nowhere_and_above_both_for_the_likelier() -> None:
    """Thresholds 0.7 of class 0, from (0.95, 0.7, 0.45), and 0.8 of class 1: the third slice reaches neither."""
    _, joint, doubtful = count_joint(np.array([0, 0, 0, 1]), np.array([0.05, 0.3, 0.55, 0.8]))
    np.testing.assert_array_equal(joint, [[2, 0], [0, 1]])
    assert not doubtful.any()
    # thresholds 0.375 and 0.5: the first reaches both with 0.45 and 0.55, and the likelier counts
    thresholds, joint, _ = count_joint(np.array([0, 0, 1, 1]), np.array([0.55, 0.7, 0.4, 0.6]))
    np.testing.assert_allclose(thresholds, [0.375, 0.5])
    np.testing.assert_array_equal(joint, [[0, 2], [1, 1]])


@pytest.mark.parametrize("seed", range(5))
def test_flipped_labels_come_first(tmp_path: Path, seed: int) -> None:
    label, probability, wrong = simulate(400, 20, seed)
    records = make_records(tmp_path, label)
    found = find_doubts(records, write_out_of_fold(records, probability, tmp_path))
    flipped = set(records.table.loc[wrong, "path"])
    by_slice = found.slices.sort_values("self_confidence")["path"].tolist()
    assert len(flipped & set(by_slice)) >= 14  # doubt needs a probability of at least the mean, about 0.93
    assert set(by_slice[:14]) <= flipped
    patients = records.table.set_index("path")["group"]
    first = {one["patient"] for one in found.summary["patients"][:10]}
    assert first <= {patients[path] for path in flipped}
    ranked = found.summary["patients"]
    assert found.summary["auroc"] == pytest.approx(auroc(label, probability), abs=1e-4)
    own = [abs(one["stroke_probability"] - (one["label"] == "normal")) for one in ranked]
    assert own == sorted(own)


def test_labels_that_a_model_agrees_with_are_not_in_doubt(tmp_path: Path) -> None:
    label = np.arange(80) // 2 % 2
    records = make_records(tmp_path, label)
    found = find_doubts(records, write_out_of_fold(records, np.where(label == 1, 0.9, 0.1), tmp_path))
    assert found.slices.empty
    assert [finding["level"] for finding in found.findings] == ["note"]
    assert (
        found.findings[0]["sentence"] == "No label of 80 slices is in doubt by the predictions of out_of_fold.csv."
    )


# --- which predictions count --------------------------------------------------------------------------------


def test_patients_that_the_model_was_trained_on_are_left_out_and_said(tmp_path: Path) -> None:
    label, probability, _ = simulate(80, 8, 0)
    records = make_records(tmp_path, label)
    split = records.table.assign(split=np.where(np.arange(80) < 40, "train", "test"))
    split.iloc[::2].to_csv(tmp_path / "split.csv", index=False)  # of a patient, some slices alone
    (tmp_path / "train_config.json").write_text("{}")
    file = tmp_path / "stroke_classification_results.csv"
    results = pd.DataFrame({"image_path": records.table["path"], "stroke_probability": probability})
    results.to_csv(file, index=False)
    found = find_doubts(records, file)
    assert (found.summary["slices"], found.summary["trained_on"]) == (40, 40)
    assert set(found.slices["patient"]) <= set(records.table["group"][40:])
    assert any("40 slices were not judged" in finding["sentence"] for finding in found.findings)
    results.head(40).to_csv(file, index=False)
    with pytest.raises(DatasetError, match=r"trained on the patients of all these slices.*--folds 5"):
        find_doubts(records, file)


def test_a_fold_that_the_split_contradicts_is_in_sample(tmp_path: Path) -> None:
    label, probability, _ = simulate(80, 8, 0)
    records = make_records(tmp_path, label)
    file = write_out_of_fold(records, probability, tmp_path)
    split = pd.read_csv(tmp_path / "split.csv")
    split.loc[:3, "fold"] = -1
    split.loc[4:7, "fold"] = 4
    split.to_csv(tmp_path / "split.csv", index=False)
    assert find_doubts(records, file).summary["trained_on"] == 8


def test_what_nothing_tells_is_said(tmp_path: Path) -> None:
    label, probability, _ = simulate(80, 8, 0)
    records = make_records(tmp_path, label)
    file = tmp_path / "mine.csv"
    paths = [str(tmp_path / path) for path in records.table["path"]]
    rows = pd.DataFrame({"path": paths, "probability": probability})
    rows.head(70).to_csv(file, index=False)
    found = find_doubts(records, file)
    assert found.summary["trained_on"] is None
    assert found.findings[0]["level"] == "warning"
    assert "Nothing beside mine.csv tells" in found.findings[0]["sentence"]
    assert found.summary["without_prediction"] == 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,score\ntrain/s0000.png,0.5\n", "no columns path and stroke_probability"),
        ("path,probability\ntrain/s0000.png,1.5\n", "no probability from 0 to 1 in line 2"),
        ("path,probability\ntrain/s0000.png,\n", "no probability from 0 to 1 in line 2"),
        ("path,probability\na.png,0.5\na.png,0.5\n", "lists a.png twice"),
        ("path,probability\na.png,0.5\n", "names no slice of the dataset"),
        ("path,probability\ntrain/s0000.png,0.5\n", "predicts no stroke slice"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_wrong_table_is_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    records = make_records(tmp_path, np.array([0, 1, 0, 1]))
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DatasetError, match=words):
        find_doubts(records, tmp_path / "table.csv")


# --- the draft ----------------------------------------------------------------------------------------------


def test_a_draft_changes_what_is_in_doubt_and_says_so(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    label, probability, _ = simulate(80, 8, 0)
    records = make_records(data, label)
    doubts = find_doubts(records, write_out_of_fold(records, probability, tmp_path))
    file = tmp_path / "index.csv"
    write_draft(records, doubts, file, data)
    names, rows = read_index(file)
    assert names == ["path", "patient", "label", "modality", "split", "site", "changed"]
    changed = {row["path"]: row for row in rows if row["changed"]}
    assert set(changed) == set(doubts.slices["path"])
    given = dict(zip(records.table["path"], records.table["label"], strict=True))
    for row in rows:
        assert (row["label"] == "Stroke") == ((given[row["path"]] == 1) != (row["path"] in changed))
    path, row = next(iter(changed.items()))
    words = ("Normal", "Stroke")
    before, after = words[given[path]], words[1 - given[path]]
    assert row["changed"].startswith(f"label {before} -> {after} (probability of stroke 0.")


def test_a_draft_replaces_nothing_and_lies_outside_the_dataset(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "index.csv").write_text("mine")
    with pytest.raises(DatasetError, match="is there already"):
        check_draft(tmp_path / "index.csv", data)
    assert (tmp_path / "index.csv").read_text() == "mine"
    with pytest.raises(DatasetError, match="lies in the dataset"):
        check_draft(data / "index.csv", data)
    with pytest.raises(DatasetError, match="folder does not exist"):
        check_draft(tmp_path / "none" / "index.csv", data)


def test_the_folders_decide_until_a_picture_is_moved(sample: Records, tmp_path: Path) -> None:
    """A draft put in place is refused where it contradicts the folders, and read when the picture lies right."""
    root = tmp_path / "data"
    shutil.copytree(sample.root.parent, root)
    records = read_records(root)
    table = records.table
    row = table[(table["label"] == 1) & (table["split"] == "train")].iloc[0]
    rows = table[["path"]].assign(fold=0, stroke_probability=np.where(table["label"] == 1, 0.9, 0.1))
    rows.loc[row.name, "stroke_probability"] = 0.02
    rows.to_csv(tmp_path / "out_of_fold.csv", index=False)
    draft = tmp_path / "draft.csv"
    doubts = find_doubts(records, tmp_path / "out_of_fold.csv")
    assert doubts.slices["path"].tolist() == [row["path"]]
    write_draft(records, doubts, draft, root)
    shutil.copy(draft, root / "index.csv")
    with pytest.raises(DatasetError, match="its folders another"):
        read_records(root)
    other = table[(table["label"] == 0) & (table["modality"] == row["modality"]) & (table["split"] == "train")]
    moved = f"{Path(other['path'].iloc[0]).parent.as_posix()}/{Path(row['path']).name}"
    shutil.move(records.root / row["path"], records.root / moved)
    (root / "index.csv").write_text(draft.read_text().replace(row["path"], moved, 1))
    corrected = read_records(root).table.set_index("path")
    assert corrected.loc[moved, "label"] == 0
    assert corrected.loc[moved, "group"] == row["group"]
    assert len(corrected) == len(table)
    kept = corrected.index.intersection(table["path"])
    pd.testing.assert_frame_equal(
        corrected.loc[kept, [*table.columns.drop("path")]], table.set_index("path").loc[kept]
    )


# --- the command --------------------------------------------------------------------------------------------


def test_the_command_ranks_the_labels_of_a_run(
    sample: Records, run_dir: Path, tmp_path: Path, run: Callable[..., Done]
) -> None:
    out, draft = tmp_path / "audit", tmp_path / "draft.csv"
    table = run_dir / "stroke_classification_results.csv"
    words = ("audit", "--data-dir", sample.root, "--predictions", table, "--draft", draft)
    done = run(*words, "--out", out)
    assert done.status == 0, done.err
    found = json.loads((out / "audit.json").read_text())
    assert found["labels"]["slices"] == len(sample.part("test"))
    assert found["labels"]["trained_on"] == 0  # as split.csv beside it tells
    assert found["labels"]["without_prediction"] == len(sample.table) - len(sample.part("test"))
    assert all(finding["sentence"] in done.err for finding in found["findings"])
    assert (out / "shortcuts.csv").is_file()
    doubtful = pd.read_csv(out / "label_doubts.csv")
    changed = pd.read_csv(draft, keep_default_na=False)["changed"]
    assert len(doubtful) == (changed != "").sum()
    again = run(*words, "--out", tmp_path / "second")
    assert again.status == 1
    assert "is there already, and a draft replaces nothing" in again.err
    assert not (tmp_path / "second").exists()


def test_a_draft_without_predictions_is_refused(sample: Records, tmp_path: Path, run: Callable[..., Done]) -> None:
    done = run("audit", "--data-dir", sample.root, "--draft", tmp_path / "a.csv", "--out", tmp_path / "audit")
    assert done.status == 1
    assert done.err == "error: --draft: needs --predictions, the table that it is drawn from.\n"
