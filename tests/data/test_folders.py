"""Claims of data.folders: any folder is read as meant or refused in one sentence, then really evaluated."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stroke_hub import DatasetError, Records, RunError, load_slices
from stroke_hub.cli.evaluate import _read_any
from stroke_hub.data.folders import has_labels, has_splits, read_folder
from stroke_hub.data.records import hash_records
from stroke_hub.datasets.slice_rules import SliceRules
from stroke_hub.io.images import IMAGE_SUFFIXES
from tests.conftest import Done

Evaluate: TypeAlias = Callable[[Path, Path, Path], Done]

CASE_COLUMNS = ["path", "label", "modality", "group", "split"]


def put(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number).save(path)
    return root


def index(root: Path, *lines: str) -> Path:
    (root / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def refusal(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        read_folder(root)
    message = str(caught.value)
    assert message.isprintable()
    assert ";" in message  # what is wrong; what to do
    assert message.endswith(".")
    return message


def rows(records: Records, *columns: str) -> list[list[object]]:
    return records.table[list(columns)].to_numpy().tolist()


# --- folders ------------------------------------------------------------------------------------------------


def test_class_folders_are_read_as_read_records_reads_them(sample: Records) -> None:
    """The same slices, read as a Kaggle test split and as a folder of its own."""
    records = read_folder(sample.root / "test")
    expected = sample.part("test")[CASE_COLUMNS]
    expected["path"] = expected["path"].str.removeprefix("test/")
    pd.testing.assert_frame_equal(records.table, expected)
    assert has_labels(records)
    assert records.notes == ()
    assert hash_records(records) == hash_records(read_folder(str(sample.root / "test")))


def test_any_depth_and_the_nearest_folder_decides(tmp_path: Path) -> None:
    put(
        tmp_path / "stroke CT",
        "hospitalA/normal/CT/x.png",
        "hospitalA/normal/MRI/stroke/P7_x.png",
        "StrokeBT/y.png",
    )
    records = read_folder(tmp_path / "stroke CT")
    assert rows(records, *CASE_COLUMNS) == [
        ["StrokeBT/y.png", 1, "BT", "StrokeBT/y.png", "test"],
        ["hospitalA/normal/CT/x.png", 0, "BT", "hospitalA/normal/CT/x.png", "test"],
        ["hospitalA/normal/MRI/stroke/P7_x.png", 1, "MR", "p7", "test"],
    ]
    assert records.table["label"].dtype == np.int64
    assert records.table.index.equals(pd.RangeIndex(3))
    assert records.notes == (
        "There are no MR images of normal: such figures mislead.",
        "2 of 3 images have no patient id: each counts as a patient of its own, so intervals may be too narrow.",
    )


def test_only_both_splits_make_the_kaggle_layout(sample: Records, tmp_path: Path) -> None:
    assert has_splits(sample.root)
    assert has_splits(sample.root.parent)
    assert not has_splits(sample.root / "test")
    assert not has_splits(put(tmp_path, "train/Stroke/a.png", "train/Normal/b.png"))
    assert not has_splits(tmp_path / "absent")
    assert rows(read_folder(tmp_path), "split") == [["test"], ["test"]]


def test_every_kind_of_image_is_taken_and_others_are_noted(tmp_path: Path) -> None:
    names = [f"{folder}/p1_{suffix[1:]}{suffix}" for folder in ("Stroke", "Normal") for suffix in IMAGE_SUFFIXES]
    put(tmp_path, *names)
    put(tmp_path, *(upper := ["Normal/p2_x.PNG", "Stroke/p2_x.Jpeg"]))
    put(tmp_path, "Stroke/.hidden.png", "__MACOSX/Stroke/x.png")
    (tmp_path / "Stroke" / "scan.dcm").write_text("x")
    (tmp_path / "Stroke" / "new\nline.png").write_text("x")
    records = read_folder(tmp_path)
    assert sorted(records.table["path"]) == sorted(names + upper)
    assert all(load_slices(tmp_path / path) for path in records.table["path"])
    assert set(records.notes[1:]) == {
        "1 file was passed over, not named as a picture (DICOM and NIfTI are read by `stroke-hub predict`), "
        "for example Stroke/scan.dcm.",
        "1 file was passed over, with unprintable characters in the name, for example Stroke/new?line.png.",
    }


def test_unlabelled_images_beside_labelled_ones_are_left_out_and_counted(tmp_path: Path) -> None:
    put(tmp_path, "Stroke/p1_a.png", "Normal/p2_b.png", "healthy/p3_c.png", "p4_d.png")
    records = read_folder(tmp_path)
    assert rows(records, "path", "label") == [["Normal/p2_b.png", 0], ["Stroke/p1_a.png", 1]]
    assert has_labels(records)
    assert records.notes[0] == "2 of 4 images have no label and are left out, for example healthy/p3_c.png."


def test_without_any_label_all_images_remain(tmp_path: Path) -> None:
    records = read_folder(put(tmp_path / "stroke", "a.png", "scans MR/b.tif"))
    assert rows(records, *CASE_COLUMNS) == [
        ["a.png", None, None, "a.png", "test"],
        ["scans MR/b.tif", None, "MR", "scans MR/b.tif", "test"],
    ]
    assert not has_labels(records)
    (note,) = records.notes
    assert note.startswith("No image has a label, so all can be predicted and nothing measured; ")


def test_one_class_is_noted(tmp_path: Path) -> None:
    records = read_folder(put(tmp_path, "StrokeBT/p1_a.png", "StrokeMR/p2_b.png"))
    assert has_labels(records)
    assert records.notes == (
        "There are no images of normal, so AUROC and all that compares the classes are undefined.",
    )


# --- index.csv ----------------------------------------------------------------------------------------------


def test_index_gives_everything_that_folders_leave_open(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b/c.png", "b/d.png", "p5_e.png", "f.png", "masks/a.png")
    index(
        tmp_path,
        "\ufeffpath, label,modality,patient,split,scanner,mask",
        "a.png,Stroke,CT,Ann,train,Siemens,./masks/a.png",
        "./b/c.png,0,mri,Ben,val,,",
        "b\\d.png,control,,Ben,,GE,",
        f"{tmp_path / 'p5_e.png'},1.0,,,TEST,,",
        "",
        ",,,,,,",
    )
    records = read_folder(tmp_path)
    assert list(records.table.columns) == [*CASE_COLUMNS, "scanner", "mask"]
    assert rows(records, *records.table.columns) == [
        ["a.png", 1, "BT", "Ann", "test", "Siemens", "masks/a.png"],
        ["b/c.png", 0, "MR", "Ben", "test", "", ""],
        ["b/d.png", 0, None, "Ben", "test", "GE", ""],
        ["p5_e.png", 1, None, "p5", "test", "", ""],
    ]
    assert records.notes == (
        "1 of 5 images have no label and are left out, for example f.png.",
        "2 of 4 images have no modality: no folder's name ends in BT or MR, and no index.csv gives it.",
        "There are no BT images of normal: such figures mislead.",
        "There are no MR images of stroke: such figures mislead.",
        "index.csv does not list 1 of 5 images.",
        "index.csv assigns 1 to test, 1 to train, 1 to val, but all images count as test here.",
    )


def test_an_index_without_labels_leaves_them_to_the_folders(tmp_path: Path) -> None:
    put(tmp_path, "Stroke/a.png", "Normal/b.png")
    index(tmp_path, "path,group,split", "Stroke/a.png,G,test", "Normal/b.png,G,")
    records = read_folder(tmp_path)
    assert rows(records, "label", "group") == [[0, "G"], [1, "G"]]
    assert not any("index.csv assigns" in note for note in records.notes)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text("ab Ä,'\"#%;0_", min_size=1, max_size=6), st.booleans(), min_size=1, max_size=6))
def test_a_table_written_by_pandas_is_read_as_it_was_meant(
    tmp_path_factory: pytest.TempPathFactory, labels: dict[str, bool]
) -> None:
    """Whatever the files are called, each keeps its own label."""
    root = tmp_path_factory.mktemp("any")
    names = {f"x{name}x.png": int(label) for name, label in labels.items()}
    put(root, *names)
    pd.DataFrame({"path": list(names), "label": list(names.values())}).to_csv(root / "index.csv", index=False)
    assert dict(rows(read_folder(root), "path", "label")) == names


def test_folders_of_a_training_set_are_noted(tmp_path: Path) -> None:
    put(tmp_path, "train/Stroke/a.png", "train/Normal/b.png", "Validation/Normal/c.png", "Normal/d.png")
    assert (
        "Folder names assign 2 to train, 1 to val, but all images count as test here."
        in read_folder(tmp_path).notes
    )
    put(tmp_path / "test", "Stroke/a.png", "Normal/b.png")
    assert not any("Folder names" in note for note in read_folder(tmp_path / "test").notes)
    (tmp_path / "flat").mkdir()
    put(tmp_path / "flat", "test/Stroke/a.png", "test/Normal/b.png")
    assert not any("Folder names" in note for note in read_folder(tmp_path / "flat").notes)


# --- refusals -----------------------------------------------------------------------------------------------


def test_folders_without_images(tmp_path: Path) -> None:
    assert "absent: is not a folder" in refusal(tmp_path / "absent")
    assert "holds no images; pass a folder with files named .bmp, .jpeg, .jpg, .png, " in refusal(tmp_path)
    (tmp_path / "scan.dcm").write_text("x")
    assert "holds no images" in refusal(tmp_path)
    assert "holds no images" in refusal(index(tmp_path, "path,label"))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("path,label", "Stroke/b.png,1"), "index.csv: lists Stroke/b.png, but there is no such image; "),
        (("path", "x/Stroke/a.png", "../a.png"), "lists x/Stroke/a.png and 1 more, but there is no such image; "),
        (("path,label", "c.dcm,1"), "lists c.dcm, but there is no such image; "),
        (("path,label", "Stroke/a.png,1", "./Stroke/a.png,1"), "Stroke/a.png: stands twice in "),
        (("path,label", "b.png,tumour"), "b.png: has the label tumour in index.csv; use Stroke or Normal."),
        (("path,label", "b.png,abnormal"), "abnormal: may mean stroke or normal; "),
        (("path,label", "Stroke/a.png,0"), "Stroke/a.png: index.csv gives the label 0, its folders another; "),
        (("path,modality", "Stroke/MR/c.png,BT"), "gives the modality BT, its folders another; "),
        (("path,mask", "b.png,../b.png"), "b.png: has a mask outside the dataset in index.csv; "),
        (("file,label", "b.png,1"), "index.csv: needs a column path"),
    ],
)
def test_an_index_that_cannot_be_meant(tmp_path: Path, lines: tuple[str, ...], words: str) -> None:
    put(tmp_path, "Stroke/a.png", "Stroke/MR/c.png", "b.png")
    (tmp_path / "c.dcm").write_text("x")
    assert words in refusal(index(tmp_path, *lines))


@pytest.mark.parametrize("name", ["Abnormal", "no stroke", "NormalAndStroke"])
def test_a_folder_that_may_mean_either_class(tmp_path: Path, name: str) -> None:
    assert "may mean stroke or normal" in refusal(put(tmp_path, f"{name}/a.png"))


def test_an_empty_labelled_file_is_named_and_an_unlabelled_one_left_to_the_prediction(
    tmp_path: Path,
) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "empty.png").touch()
    assert len(read_folder(tmp_path).table) == 2
    assert "empty.png: is empty or no file; " in refusal(index(tmp_path, "path,label", "empty.png,1"))


# --- the command --------------------------------------------------------------------------------------------


@pytest.fixture
def evaluate(run: Callable[..., Done]) -> Evaluate:
    return lambda model, data, out: run("evaluate", "--model", model, "--data-dir", data, "--out", out)


def flatten(sample: Records, folder: Path) -> pd.DataFrame:
    """The test slices under names that tell nothing, and the table that tells what they are."""
    folder.mkdir()
    table = sample.part("test").assign(name=lambda table: [f"scan{number}.png" for number in range(len(table))])
    for path, name in zip(table["path"], table["name"], strict=True):
        shutil.copy(sample.root / path, folder / name)
    return table


def read_own_results(run_dir: Path, table: pd.DataFrame) -> pd.DataFrame:
    """What the run's own evaluation said of the slices of `flatten`, in the order of their new names."""
    own = pd.read_csv(run_dir / "stroke_classification_results.csv").rename(columns={"image_path": "path"})
    return table.merge(own, on="path").sort_values("name").reset_index(drop=True)


def test_a_flat_folder_with_an_index_is_measured_as_the_same_slices_in_folders(
    run_dir: Path, sample: Records, tmp_path: Path, evaluate: Evaluate
) -> None:
    table = flatten(sample, tmp_path / "flat")
    put(tmp_path / "flat", "unknown.png")
    listed = table.assign(path=table["name"], patient=table["group"])[["path", "label", "modality", "patient"]]
    listed.to_csv(tmp_path / "flat" / "index.csv", index=False)
    done = evaluate(run_dir, tmp_path / "flat", tmp_path / "out")
    assert done.status == 0, done.err
    assert f"note: 1 of {len(table) + 1} images have no label and are left out" in done.err
    own = read_own_results(run_dir, table)
    again = pd.read_csv(tmp_path / "out" / "stroke_classification_results.csv").sort_values("image_path")
    assert list(again["image_path"]) == list(own["name"])
    assert list(again["true_label"]) == list(own["label"])
    np.testing.assert_allclose(again["stroke_probability"], own["stroke_probability"], atol=1e-6)
    assert f"test overall: {len(table)} slices of {table['group'].nunique()} groups" in done.err


def test_an_unlabelled_folder_is_predicted_and_not_measured(
    run_dir: Path, sample: Records, tmp_path: Path, evaluate: Evaluate
) -> None:
    table = flatten(sample, tmp_path / "flat")
    (tmp_path / "flat" / "bad.png").write_text("text")
    done = evaluate(run_dir, tmp_path / "flat", tmp_path / "out")
    assert done.status == 0, done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.csv"]
    assert done.err.splitlines()[-1] == (
        f"predictions only: {tmp_path / 'out' / 'predictions.csv'}, {len(table) + 1} rows, 1 with an error"
    )
    assert "note: No image has a label" in done.err
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert list(predictions.columns) == [
        *("path", "index", "label", "stroke_probability", "unusual", "error", "remarks")
    ]
    assert list(predictions.loc[predictions["error"].notna(), "path"]) == ["bad.png"]
    good = predictions[predictions["error"].isna()]
    own = read_own_results(run_dir, table)
    assert list(good["path"]) == list(own["name"])
    known = (own["image_type"] == "BT").to_numpy()  # MR is scaled, but nobody says here that it is MR
    # batches of other sizes round otherwise: 1.2e-6 was seen
    np.testing.assert_allclose(good["stroke_probability"][known], own["stroke_probability"][known], atol=5e-6)
    assert good["remarks"].str.contains("Nothing says whether this is CT or MR").all()


def test_an_unlabelled_folder_is_predicted_by_the_modalities_of_its_index(
    run_dir: Path, sample: Records, tmp_path: Path, evaluate: Evaluate
) -> None:
    table = flatten(sample, tmp_path / "flat")
    table.assign(path=table["name"])[["path", "modality"]].to_csv(tmp_path / "flat" / "index.csv", index=False)
    assert evaluate(run_dir, tmp_path / "flat", tmp_path / "out").status == 0
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv")
    own = read_own_results(run_dir, table)
    assert list(predictions["path"]) == list(own["name"])
    assert list(predictions["label"]) == list(own["predicted_class"])
    np.testing.assert_allclose(predictions["stroke_probability"], own["stroke_probability"], atol=1e-6)


def test_one_class_is_measured_as_far_as_it_goes(
    run_dir: Path, sample: Records, tmp_path: Path, evaluate: Evaluate
) -> None:
    strokes = sample.root / "test" / "strokeBT"
    shutil.copytree(strokes, tmp_path / "external" / "strokeBT")
    done = evaluate(run_dir, tmp_path / "external", tmp_path / "out")
    assert done.status == 0, done.err
    assert "note: There are no images of normal, so AUROC" in done.err
    assert "AUROC not defined" in done.err
    assert len(pd.read_csv(tmp_path / "out" / "stroke_classification_results.csv")) == len(list(strokes.iterdir()))


def test_there_is_no_train_split_to_ask_for(tmp_path: Path) -> None:
    put(tmp_path, "Stroke/a.png", "Normal/b.png")
    assert len(_read_any(tmp_path, "test", SliceRules()).table) == 2
    with pytest.raises(RunError, match="has no train and test folders, so all of it is test; leave --split out"):
        _read_any(tmp_path, "train", SliceRules())


def test_an_unreadable_slice_is_named_and_nothing_is_left(
    run_dir: Path, sample: Records, tmp_path: Path, evaluate: Evaluate
) -> None:
    for folder in ("strokeBT", "normalBT"):
        shutil.copytree(sample.root / "test" / folder, tmp_path / "data" / folder)
    broken = next((tmp_path / "data" / "strokeBT").iterdir())
    broken.write_bytes(broken.read_bytes()[:200])
    done = evaluate(run_dir, tmp_path / "data", tmp_path / "out")
    assert done.status == 1
    assert done.err.splitlines()[-1].startswith(f"error: {broken}: ")
    assert "Traceback" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
