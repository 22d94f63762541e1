"""Claims of data.records: odd folders are read as meant or refused in one sentence, and splits are sound."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from stroke_hub.data.records import Records, hash_records, hash_slices, read_records
from stroke_hub.data.splits import assign_folds, assign_validation
from stroke_hub.errors import DatasetError

TRAIN = (
    "train/1- Stroke/StrokeBT",
    "train/1- Stroke/StrokeMR",
    "train/2- Control/NormalBT",
    "train/2- Control/NormalMR",
)
TEST = ("test/strokeBT", "test/strokeMR", "test/normalBT", "test/normalMR")


def put(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (2, 2), level).save(path, "PNG")


def build(root: Path, folders: Iterable[str] = TRAIN + TEST, *, each: int = 2, prefix: str = "p{:03}_") -> Path:
    """A folder of each name with `each` patients of their own, one slice per patient."""
    patients = iter(range(10_000))
    for folder in folders:
        for number in range(each):
            put(root / folder / f"{prefix.format(next(patients))}s{number:02}.png", number)
    return root


def index(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def refusal(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        read_records(root)
    message = str(caught.value)
    assert message.isprintable()
    assert ";" in message  # what is wrong; what to do
    assert message.endswith(".")
    return message


# --- layouts ------------------------------------------------------------------------------------------------


def test_complete_layout(tmp_path: Path) -> None:
    records = read_records(build(tmp_path / "deep"))
    table = records.table
    assert records.root == tmp_path / "deep"
    assert records.notes == ()
    assert list(table.columns) == ["path", "label", "modality", "group", "split"]
    assert table["path"].is_monotonic_increasing
    assert table.index.equals(pd.RangeIndex(16))
    assert table["label"].dtype == np.int64
    assert table.loc[0].to_dict() == {
        "path": "test/normalBT/p012_s00.png",
        "label": 0,
        "modality": "BT",
        "group": "p012",
        "split": "test",
    }
    for row in table.itertuples():
        assert (row.label == 1) == ("/stroke" in row.path.lower())
        assert row.path.split("/")[-2].endswith(row.modality)
        assert row.path.startswith(row.split)
    assert len(records.part("train")) == len(records.part("test")) == 8
    assert records.part("train").index.equals(pd.RangeIndex(8))


@pytest.mark.parametrize("inner", ["", "deep", "Deep", "wrapper", "wrapper/deep"])
@pytest.mark.parametrize("outer", ["data", "BRAIN_MR_BT", "stroke CT"])
def test_root_or_folders_above_it(tmp_path: Path, inner: str, outer: str) -> None:
    build(tmp_path / outer / inner)
    put(tmp_path / outer / ".hidden" / "train" / "stroke" / "a.png")
    (tmp_path / outer / "README.txt").touch()
    records = read_records(tmp_path / outer)
    assert records.root == tmp_path / outer / inner
    pd.testing.assert_frame_equal(records.table, read_records(tmp_path / outer / inner).table)
    assert hash_records(records) == hash_records(read_records(build(tmp_path / "again")))


def test_path_may_be_relative_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(build(tmp_path / "deep"))
    index(tmp_path / "index.csv", "path,patient", "deep/test/normalBT/p012_s00.png,X")
    assert read_records(".").table.loc[0, "group"] == "X"


def test_names_in_any_case_and_every_suffix(tmp_path: Path) -> None:
    for number, suffix in enumerate((".PNG", ".Jpeg", ".jpg", ".BMP", ".tif", ".TIFF", ".webp")):
        for folder in (
            "TRAIN/STROKE_ct",
            "Train/no finding/Controls-mri",
            "Test/acute stroke MRI",
            "test/Normals/BT",
        ):
            put(tmp_path / folder / f"P{number}_x{suffix}")
    table = read_records(tmp_path).table
    found = set(table[["split", "label", "modality"]].itertuples(index=False, name=None))
    assert found == {("train", 1, "BT"), ("train", 0, "MR"), ("test", 1, "MR"), ("test", 0, "BT")}
    assert set(table["group"]) == {f"p{number}" for number in range(7)}
    assert len(table) == 28


@pytest.mark.parametrize("name", ["Validation", "val", "VALID"])
def test_a_validation_folder_is_used_as_such(tmp_path: Path, name: str) -> None:
    folders = [f"{split}/{label}CT" for split in ("Train", name, "Test") for label in ("Stroke", "Normal")]
    build(tmp_path, folders, each=3)
    index(tmp_path / "index.csv", "path,split", f"{name}/StrokeCT/p006_s00.png,{name}")
    records = read_records(tmp_path)
    assert records.table.groupby("split")["label"].value_counts().to_dict() == {
        (split, label): 3 for split in ("train", "val", "test") for label in (0, 1)
    }
    assert all((row.split == "val") == row.path.startswith(name) for row in records.table.itertuples())
    assert (
        "The 6 images of the validation folder are used as validation; none is taken from train." in records.notes
    )
    folded = assign_folds(records.table, folds=2)
    assert set(folded.loc[folded["split"] == "train", "fold"]) == {0, 1}
    assert folded["split"].value_counts().to_dict() == {"train": 12, "test": 6}


def test_a_validation_folder_of_one_class_or_of_known_patients(tmp_path: Path) -> None:
    build(tmp_path)
    put(tmp_path / "val" / "StrokeBT" / "p000_s09.png")
    assert "has no images of normal in val; each split needs both classes." in refusal(tmp_path)
    put(tmp_path / "val" / "NormalBT" / "p012_s09.png")
    notes = read_records(tmp_path).notes
    assert "1 groups stand in both validation and test, so test figures may be optimistic." in notes
    assert "1 groups stand in both train and validation, so validation figures may be optimistic." in notes


def test_nearest_folder_decides(tmp_path: Path) -> None:
    build(tmp_path, ("train/Stroke MR/second BT", "train/ControlBT/a/b", "test/strokeBT/Normal/MR", "test/stroke"))
    table = read_records(tmp_path).table.drop_duplicates(["split", "label"])
    assert table[["path", "label", "modality"]].to_numpy().tolist() == [
        ["test/stroke/p006_s00.png", 1, None],
        ["test/strokeBT/Normal/MR/p004_s00.png", 0, "MR"],
        ["train/ControlBT/a/b/p002_s00.png", 0, "BT"],
        ["train/Stroke MR/second BT/p000_s00.png", 1, "BT"],
    ]


def test_modality_comes_from_folders_only_and_never_from_part_of_a_word(tmp_path: Path) -> None:
    build(
        tmp_path,
        ("train/stroke/infarct", "train/normal/MRBTs", "test/stroke/impact", "test/normal"),
        prefix="p{}_MRBT",
    )
    records = read_records(tmp_path)
    assert all(modality is None for modality in records.table["modality"])
    assert records.notes[0] == "8 of 8 images have no modality: no folder's name ends in BT or MR."


def test_missing_modality_is_noted(tmp_path: Path) -> None:
    build(tmp_path, (name for name in TRAIN + TEST if name.endswith("BT")))
    records = read_records(tmp_path)
    assert records.notes == ("There are no MR images, so nothing can be said about that modality.",)
    put(tmp_path / TRAIN[1] / "p900_s1.png")
    assert read_records(tmp_path).notes == (
        "There are no MR images of normal in train, nor of stroke in test, nor of normal in test: "
        "such figures mislead.",
    )


def test_litter_is_ignored_and_other_files_are_noted(tmp_path: Path) -> None:
    build(tmp_path)
    expected = read_records(tmp_path)
    folder = tmp_path / TRAIN[0]
    put(folder / "._p000_s00.png")
    put(folder / ".cache" / "p000_s77.png")
    put(folder / "__MACOSX" / "p000_s78.png")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_text("x")
    records = read_records(tmp_path)
    assert records.notes == ()
    pd.testing.assert_frame_equal(records.table, expected.table)

    (folder / "notes.txt").write_text("x")
    (folder / "more.pdf").write_text("x")
    (folder / "new\nline.png").write_text("x")
    put(tmp_path / "train" / "loose.png")
    put(tmp_path / "other" / "stroke" / "p1_x.png")
    records = read_records(tmp_path)
    pd.testing.assert_frame_equal(records.table, expected.table)
    assert sorted(records.notes) == [
        "1 file was passed over, in no folder that names a class, for example train/loose.png.",
        "1 file was passed over, with unprintable characters in the name, "
        "for example train/1- Stroke/StrokeBT/new?line.png.",
        "2 files were passed over, not named as a picture (DICOM and NIfTI are read by `stroke-hub predict`), "
        "for example train/1- Stroke/StrokeBT/more.pdf.",
    ]


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    build(tmp_path / "data")
    build(tmp_path / "more", ["x"], prefix="p9{}_")
    (tmp_path / "data" / TRAIN[0] / "linked").symlink_to(tmp_path / "more" / "x")
    (tmp_path / "data" / TRAIN[0] / "loop").symlink_to(tmp_path / "data" / "train")
    assert len(read_records(tmp_path / "data").table) == 18


def test_files_that_differ_in_case_are_both_kept_and_noted(tmp_path: Path) -> None:
    build(tmp_path)
    put(tmp_path / TRAIN[0] / "p000_S00.PNG")
    if len(os.listdir(tmp_path / TRAIN[0])) == 2:
        pytest.skip("the file system does not tell upper from lower case")
    records = read_records(tmp_path)
    assert len(records.table) == 17
    assert records.notes == ("1 images have the path of another but for upper and lower case.",)


# --- refusals -----------------------------------------------------------------------------------------------


def test_roots_that_are_no_dataset(tmp_path: Path) -> None:
    assert "absent: is not a folder" in refusal(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    assert "file: is not a folder" in refusal(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "has no train and no test folder" in refusal(tmp_path / "empty")
    for split in ("train", "test"):
        (tmp_path / "bare" / split).mkdir(parents=True)
    assert "holds no images" in refusal(tmp_path / "bare")


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_split(tmp_path: Path, split: str) -> None:
    shutil.rmtree(build(tmp_path) / split)
    assert f"has no {split} folder" in refusal(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("label", ["stroke", "normal"])
def test_missing_class(tmp_path: Path, split: str, label: str) -> None:
    build(tmp_path, (name for name in TRAIN + TEST if not (name.startswith(split) and label in name.lower())))
    assert f"has no images of {label} in {split}; " in refusal(tmp_path)


@pytest.mark.parametrize("name", ["Abnormal", "non-stroke", "no stroke", "NormalAndStroke", "Control (not stroke)"])
def test_folders_that_may_mean_either_class(tmp_path: Path, name: str) -> None:
    build(tmp_path, (*TRAIN, *TEST, f"train/{name}"))
    assert "may mean stroke or normal" in refusal(tmp_path)


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path)
    scandir = os.scandir

    def deny(path: str) -> object:
        if str(path).endswith("NormalMR"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    assert "NormalMR: cannot be read (Permission denied); " in refusal(tmp_path)


# --- groups and index.csv -----------------------------------------------------------------------------------


def test_without_patients_each_file_is_its_own_group(tmp_path: Path) -> None:
    records = read_records(build(tmp_path, prefix="{}"))
    assert list(records.table["group"]) == list(records.table["path"])
    assert len(records.notes) == 1
    assert records.notes[0].startswith("16 of 16 images have no patient id: they are split slice by slice")


@pytest.mark.parametrize("place", ["", "deep"])
@pytest.mark.parametrize("start", ["", "deep/", "./deep/", "/mnt/elsewhere/deep/", "deep\\"])
@pytest.mark.parametrize("given_deep", [False, True])
def test_index_at_both_levels_with_paths_from_both(
    tmp_path: Path, place: str, start: str, given_deep: bool
) -> None:
    base = build(tmp_path / "deep", prefix="{}_")
    paths = list(read_records(base).table["path"])
    lines = [f"{start}{path},Z{number // 2}" for number, path in enumerate(paths)]
    if start.endswith("\\"):
        lines = [line.replace("/", "\\") for line in lines]
    index(tmp_path / place / "index.csv", "path,patient", *reversed(lines))
    records = read_records(base if given_deep else tmp_path)
    assert list(records.table["path"]) == paths
    assert list(records.table["group"]) == [f"Z{number // 2}" for number in range(16)]
    assert records.notes == ()


def test_index_of_the_sample_dataset(tmp_path: Path) -> None:
    base = build(tmp_path / "deep")
    index(
        tmp_path / "index.csv",
        "path,label,modality,patient,split,sequence,lesion,mask",
        "deep/train/1- Stroke/StrokeBT/p000_s00.png,Stroke,BT,p000,train,CT,ischaemic,masks/train/p000_s00.png",
        "deep/test/normalMR/p014_s00.png,Normal,MR,p014,test,FLAIR,,",
    )
    records = read_records(tmp_path)
    assert list(records.table.columns) == [
        *("path", "label", "modality", "group", "split"),
        *("sequence", "lesion", "mask"),
    ]
    rows = records.table.set_index("path")
    stroke = rows.loc["train/1- Stroke/StrokeBT/p000_s00.png"]
    assert (stroke["sequence"], stroke["lesion"]) == ("CT", "ischaemic")
    assert os.path.normpath(base / stroke["mask"]) == str(tmp_path / "masks/train/p000_s00.png")
    assert list(rows.loc["test/normalMR/p014_s00.png", ["sequence", "lesion", "mask"]]) == ["FLAIR", "", ""]
    assert list(rows.loc["test/normalMR/p015_s01.png", ["group", "sequence", "mask"]]) == ["p015", "", ""]
    assert records.notes == ("index.csv does not list 14 of 16 images.",)


def test_index_adds_what_folders_leave_open(tmp_path: Path) -> None:
    build(tmp_path, ("train/stroke", "train/normal", "test/stroke", "test/normal"), each=1)
    index(
        tmp_path / "index.csv",
        "\ufeffpath, group ,modality,,label",
        'train/stroke/p000_s00.png,"a, b",ct,7,1,too many',
        "train/normal/p001_s00.png",
        "",
        "test/stroke/p002_s00.png,,MRI,,STROKE",
        "test/absent.png,x,BT,,0",
    )
    records = read_records(tmp_path)
    assert list(records.table.columns) == ["path", "label", "modality", "group", "split"]
    assert list(records.table["group"]) == ["p003", "p002", "p001", "a, b"]
    assert list(records.table["modality"]) == [None, "MR", None, "BT"]
    assert "index.csv lists 1 files that are not there." in records.notes
    assert "index.csv does not list 1 of 4 images." in records.notes


@pytest.mark.parametrize(
    ("column", "value"),
    [("label", "Normal"), ("label", "0"), ("modality", "MR"), ("split", "test"), ("split", "val")],
)
def test_index_that_contradicts_folders(tmp_path: Path, column: str, value: str) -> None:
    build(tmp_path)
    index(tmp_path / "index.csv", f"path,{column}", f"train/1- Stroke/StrokeBT/p000_s00.png,{value}")
    message = refusal(tmp_path)
    assert message.startswith("train/1- Stroke/StrokeBT/p000_s00.png: ")
    assert f"the {column} {value}" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "needs a column path"),
        (b"file,label\na,b\n", "needs a column path"),
        (b"path,x,x\na,b,c\n", "no column twice"),
        (b"path\n\xff\xfe\n", "cannot be read as a table"),
        ("path,patient\nä.png,Jürgen\n".encode("cp1252"), "(it is not in UTF-8); save it as CSV in UTF-8."),
        (b"path,modality\ntest/normalBT/p012_s00.png,PET\n", "has the modality PET in index.csv; use BT (for CT)"),
        (b"path,Path\na,b\n", "no column twice"),
        (b"path\n" + b"x" * 200_000, "cannot be read as a table"),
        (b"path\n" + b"test/normalBT/p012_s00.png\n" * 2, "stands twice"),
        (b"path,label\ntest/normalBT/p012_s00.png,tumour\n", "has the label tumour"),
        (b"path,mask\ntest/normalBT/p012_s00.png,../../secret\n", "mask outside the dataset"),
        (b"path,mask\ntest/normalBT/p012_s00.png,/etc/secret\n", "mask outside the dataset"),
    ],
)
def test_index_that_cannot_be_used(tmp_path: Path, content: bytes, words: str) -> None:
    build(tmp_path)
    (tmp_path / "index.csv").write_bytes(content)
    assert words in refusal(tmp_path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_index_as_spreadsheets_of_all_countries_write_it(
    tmp_path: Path, delimiter: str, encoding: str, end: str
) -> None:
    build(tmp_path, ("train/stroke", "train/normal", "test/stroke", "test/normal"), each=1, prefix="ä {},;")
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    lines = [["PATH", "Modality", "Patient", "Site"]]
    lines += [[f'"{name}"', "NCCT", f"J\u00fc{number}", "A"] for number, name in enumerate(names)]
    text = end.join(delimiter.join(line) for line in lines) + end
    mark = "\ufeff" if encoding == "utf-16-le" else ""  # Python writes no mark of its own here
    (tmp_path / "index.csv").write_bytes((mark + text).encode(encoding))
    table = read_records(tmp_path).table
    assert list(table["group"]) == ["J\u00fc0", "J\u00fc1", "J\u00fc2", "J\u00fc3"]
    assert set(table["modality"]) == {"BT"}
    assert set(table["Site"]) == {"A"}


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        *[(name, "BT") for name in ("BT", "ct", "NCCT")],
        *[(name, "MR") for name in ("mri", "FLAIR", "dwi", "ADC", "T1", "T2", "t2w")],
        *[(name, None) for name in ("", "nan", "Unknown", "N/A")],
    ],
)
def test_index_names_sequences_too(tmp_path: Path, name: str, modality: str | None) -> None:
    build(tmp_path, ("train/stroke", "train/normal", "test/stroke", "test/normal"), each=1)
    index(tmp_path / "index.csv", "path,modality", f"train/stroke/p000_s00.png,{name}")
    rows = read_records(tmp_path).table.set_index("path")
    assert rows.loc["train/stroke/p000_s00.png", "modality"] == modality


def test_index_above_the_folder_given_is_not_ours(tmp_path: Path) -> None:
    build(tmp_path / "data")
    (tmp_path / "index.csv").write_text("unrelated\n")
    assert read_records(tmp_path / "data").notes == ()


def test_groups_in_both_splits_are_noted(tmp_path: Path) -> None:
    build(tmp_path)
    put(tmp_path / "test/strokeBT/p000_s09.png")
    put(tmp_path / "test/normalBT/p004_s09.png")
    note = "2 groups stand in both train and test, so test figures may be optimistic."
    assert read_records(tmp_path).notes == (note,)


def test_nothing_is_written(tmp_path: Path) -> None:
    build(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    hash_records(read_records(tmp_path))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


# --- the dataset's identity ---------------------------------------------------------------------------------


def test_hash_tells_datasets_apart(tmp_path: Path) -> None:
    records = read_records(build(tmp_path))
    identity = hash_records(records)
    assert len(identity) == 64
    assert hash_records(read_records(tmp_path)) == identity
    table = records.table
    assert hash_records(Records(tmp_path, table.sample(frac=1, random_state=0), ())) == identity
    for column, value in (("label", 1), ("split", "val")):
        changed = table.copy()
        changed.loc[0, column] = value
        assert hash_records(Records(tmp_path, changed, ())) != identity
    put(tmp_path / table.loc[3, "path"], 99)
    assert hash_records(records) != identity
    (tmp_path / table.loc[3, "path"]).unlink()
    with pytest.raises(DatasetError, match=r"p015_s01.png: does not exist"):
        hash_records(records)


def test_slices_are_the_same_whatever_group_they_are_in(tmp_path: Path) -> None:
    records = read_records(build(tmp_path))
    test = records.part("test")
    identity = hash_slices(test, records.root)
    assert hash_slices(test.assign(group="one", split="val")[::-1], records.root) == identity
    assert hash_slices(test.iloc[1:], records.root) != identity
    assert hash_slices(test.assign(label=1 - test["label"]), records.root) != identity
    put(tmp_path / test["path"].iloc[0], 99)
    assert hash_slices(test, records.root) != identity


# --- validation ---------------------------------------------------------------------------------------------


def table_of(patients: Iterable[tuple[int, str | None, int, str]]) -> pd.DataFrame:
    """A table of patients: label, modality, number of slices, split."""
    rows = [
        {
            "path": f"{split}/{patient}/{number}",
            "label": label,
            "modality": modality,
            "group": f"p{patient}",
            "split": split,
        }
        for patient, (label, modality, count, split) in enumerate(patients)
        for number in range(count)
    ]
    return pd.DataFrame(rows).astype({"label": np.int64, "modality": object})


PATIENTS = [
    (label, modality, 3 + number % 5, split)
    for number in range(30)
    for label in (0, 1)
    for modality in ("BT", "MR")
    for split in ("train", "test")
]


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.25, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_validation_is_grouped_and_stratified(fraction: float, seed: int) -> None:
    table = table_of(PATIENTS)
    copy = table.copy()
    divided = assign_validation(table, fraction=fraction, seed=seed)
    pd.testing.assert_frame_equal(table, copy)
    pd.testing.assert_frame_equal(divided.drop(columns="split"), table.drop(columns="split"))
    assert len(divided[["group", "split"]].drop_duplicates()) == divided["group"].nunique()
    assert ((divided["split"] == "test") == (table["split"] == "test")).all()
    training = divided[divided["split"] != "test"]
    shares = training.groupby(["label", "modality"])["split"].apply(lambda split: (split == "val").mean())
    assert len(shares) == 4
    assert (abs(shares - fraction) < 0.05).all()


def test_validation_depends_on_rows_and_seed_not_on_order() -> None:
    table = table_of(PATIENTS)
    first = assign_validation(table, seed=3)
    pd.testing.assert_frame_equal(first, assign_validation(table, seed=3))
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(first, assign_validation(shuffled, seed=3).sort_index())
    repeated = shuffled.set_axis([0] * len(shuffled), axis=0)
    assert list(assign_validation(repeated, seed=3)["split"]) == list(assign_validation(shuffled, seed=3)["split"])
    assert any((assign_validation(table, seed=seed)["split"] != first["split"]).any() for seed in range(4))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(["BT", "MR", None]),
            st.integers(1, 6),
            st.sampled_from(["train", "train", "test"]),
        ),
        min_size=1,
        max_size=25,
    ),
    st.sampled_from([0.05, 0.2, 0.33, 0.5]),
    st.integers(0, 5),
)
@example([(0, "BT", 2, "train"), (0, "MR", 2, "train"), (1, "BT", 1, "train"), (1, "BT", 3, "train")], 0.5, 0)
def test_validation_is_sound_or_refused(
    patients: list[tuple[int, str | None, int, str]], fraction: float, seed: int
) -> None:
    table = table_of(patients)
    training = table[table["split"] == "train"]
    possible = training.groupby("label")["group"].nunique().reindex([0, 1], fill_value=0).min() >= 2
    try:
        divided = assign_validation(table, fraction=fraction, seed=seed)
    except DatasetError:
        assert not possible
        return
    assert possible
    assert len(divided[["group", "split"]].drop_duplicates()) == divided["group"].nunique()
    for split in ("train", "val"):
        assert set(divided.loc[divided["split"] == split, "label"]) == {0, 1}


def test_groups_that_stand_in_test_too_never_move() -> None:
    table = table_of(PATIENTS)
    shared = {f"p{number}" for number in range(0, 40, 2)}
    extra = table[table["group"].isin(shared)].assign(split="test", path=lambda rows: "x" + rows["path"])
    divided = assign_validation(pd.concat([table, extra], ignore_index=True))
    assert not shared & set(divided.loc[divided["split"] == "val", "group"])
    assert "val" in set(divided["split"])


@pytest.mark.parametrize("fraction", [0.0, -1.0, 0.51, 1.0, float("nan")])
def test_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"above 0 and at most 0\.5"):
        assign_validation(table_of(PATIENTS), fraction=fraction)


def test_classes_that_cannot_be_divided() -> None:
    for patients in (
        [(0, "BT", 9, "train"), (1, "BT", 9, "train")],
        [(0, "BT", 1, "train")] * 9,
        [(1, "MR", 5, "test")],
    ):
        with pytest.raises(DatasetError, match=r"cannot be divided"):
            assign_validation(table_of(patients))


@pytest.mark.parametrize("kind", ["empty", "dangling"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    build(tmp_path)
    file = tmp_path / "train" / "1- Stroke" / "StrokeBT" / "lost.png"
    file.touch() if kind == "empty" else file.symlink_to("absent")
    with pytest.raises(DatasetError, match=r"lost\.png: is empty or no file; repair or remove it"):
        read_records(tmp_path)


def test_a_mask_is_found_from_the_folder_of_index_csv_too(tmp_path: Path) -> None:
    root = build(tmp_path / "deep")
    put(tmp_path / "masks" / "p000_s00.png", 255)
    index(tmp_path / "index.csv", "path,mask", "train/1- Stroke/StrokeBT/p000_s00.png,masks/p000_s00.png")
    records = read_records(tmp_path)
    (mask,) = records.table.loc[records.table["mask"] != "", "mask"]
    assert records.root == root.resolve()
    assert mask == "../masks/p000_s00.png"
