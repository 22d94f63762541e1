"""Claims of audit.leaks: planted leaks are found and nothing else is, and what is done about them is right."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stroke_hub import Records, read_records
from stroke_hub.audit.leaks import Audit, assign_groups, audit, drop_leaks, read_audit, write_audit
from stroke_hub.data.splits import assign_folds, assign_validation
from stroke_hub.errors import DatasetError
from tests.audit.test_duplicates import DISGUISES

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit.py"
KINDS = ("file", "pixels", *DISGUISES)


def plant(root: Path, test: pd.DataFrame, *, count: int, name: str = "p{:03}_s00.png") -> dict[str, str]:
    """Put disguised test images into train, as slices of new patients of the other label now and then."""
    origins = {}
    for number in range(count):
        row, kind = test.iloc[number % len(test)], KINDS[number % len(KINDS)]
        label = row["label"] if number % 7 else 1 - row["label"]
        folder = f"train/{('2- Control/Normal', '1- Stroke/Stroke')[label]}{row['modality']}"
        path = f"{folder}/{name.format(900 + number)}"
        image = Image.open(root / row["path"]).convert("L")
        if kind == "file":
            shutil.copy(root / row["path"], root / path)
        else:
            (image if kind == "pixels" else DISGUISES[kind](image)).save(root / path)
        origins[path] = row["path"]
    return origins


@pytest.fixture(scope="module")
def planted(sample: Records, tmp_path_factory: pytest.TempPathFactory) -> tuple[Records, dict[str, str], Audit]:
    """The sample dataset with 50 test images in train, and its audit."""
    root = tmp_path_factory.mktemp("planted")
    shutil.copytree(sample.root, root / "deep")
    origins = plant(root / "deep", sample.part("test"), count=50)
    records = read_records(root)
    return records, origins, audit(records)


@pytest.fixture(scope="module")
def clean(sample: Records) -> Audit:
    return audit(sample)


def list_findings(found: Audit, level: str) -> list[str]:
    return [finding["sentence"] for finding in found.summary["findings"] if finding["level"] == level]


def select(found: Audit, splits: Iterable[str]) -> pd.DataFrame:
    first, second = splits
    return found.pairs[(found.pairs["split_a"] == first) & (found.pairs["split_b"] == second)]


# --- what is found ------------------------------------------------------------------------------------------


def test_every_planted_leak_is_found_and_nothing_else(planted: tuple[Records, dict[str, str], Audit]) -> None:
    records, origins, found = planted
    leaks = select(found, ("train", "test"))
    assert set(leaks["path_a"]) == set(origins)
    assert {(a, origins[a]) for a in origins} <= set(zip(leaks["path_a"], leaks["path_b"], strict=True))
    false = [
        (a, b)
        for a, b in zip(found.pairs["path_a"], found.pairs["path_b"], strict=True)
        if origins.get(a, a) != origins.get(b, b)  # two disguises of one image are one image
    ]
    assert false == []
    assert found.summary["leaks"]["train_slices"] == 50
    assert found.summary["leaks"]["test_slices"] == len(set(origins.values()))
    assert len(records.table) == found.summary["dataset"]["slices"]


def test_kinds_are_told_apart(planted: tuple[Records, dict[str, str], Audit]) -> None:
    _, origins, found = planted
    kinds = {path: KINDS[number % len(KINDS)] for number, path in enumerate(origins)}
    leaks = select(found, ("train", "test"))
    for row in leaks.itertuples():
        if row.path_b == origins[row.path_a]:
            expected = kinds[row.path_a] if kinds[row.path_a] in ("file", "pixels") else "near"
            assert row.kind == expected
            assert row.similarity == 1 if expected != "near" else row.similarity > 0.9


def test_contradicting_labels_are_an_error(planted: tuple[Records, dict[str, str], Audit]) -> None:
    *_, found = planted
    counted = found.summary["duplicates"]["train-test"]["contradicting_labels"]
    assert counted == len(range(0, 50, 7))
    assert any(s.startswith("Both labels stand on one picture in ") for s in list_findings(found, "error"))
    worst = found.pairs.head(counted)
    assert (worst["label_a"] != worst["label_b"]).all()
    assert (worst["split_b"] == "test").all()


def test_a_clean_dataset_has_no_finding_but_notes(sample: Records, clean: Audit) -> None:
    assert clean.pairs.empty
    assert list_findings(clean, "error") == list_findings(clean, "warning") == []
    assert clean.summary["duplicates"] == {}
    assert set(clean.summary["leaks"].values()) == {0}
    assert clean.summary["calibration"]["patients_known"]
    assert clean.summary["calibration"]["false_alarm_rate"] <= 0.001
    assert clean.closest["similarity"].max() < clean.summary["calibration"]["threshold"]
    assert (clean.closest["group_a"] != clean.closest["group_b"]).all()
    counts = clean.summary["counts"]
    for split, part in sample.table.groupby("split"):
        assert counts[split]["slices"] == len(part)
        assert counts[split]["groups"] == part["group"].nunique()
        for (modality, label), cell in part.groupby(["modality", "label"]):
            assert counts[split][modality][("normal", "stroke")[label]] == len(cell)


def test_copies_within_a_split_and_patients_on_both_sides_are_found(sample: Records, tmp_path: Path) -> None:
    shutil.copytree(sample.root, tmp_path / "deep")
    root = tmp_path / "deep"
    for split in ("train", "test"):
        source = next((root / split).rglob("*NormalBT/*.png" if split == "train" else "normalBT/*.png"))
        Image.open(source).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(source.parent / f"p80{split[1]}_s0.png")
        shutil.copy(source, source.parent / "p900_s0.png")
    found = audit(read_records(tmp_path))
    for split in ("train", "test"):
        kinds = found.summary["duplicates"][f"{split}-{split}"]
        assert (kinds["file"], kinds["near"]) == (1, 2)  # the mirrored one is like both of the equal ones
    leaks = found.summary["leaks"]
    assert leaks["train_slices"] == 0
    assert (leaks["groups_on_both_sides"], leaks["their_train_slices"], leaks["their_test_slices"]) == (1, 1, 1)
    assert list_findings(found, "error") == [
        "Train and test share 1 patient, with 1 training slice and 1 test slice: "
        "figures on these say nothing about new patients."
    ]
    warnings = list_findings(found, "warning")
    assert any(words.startswith("Among train images, 3 pairs of one picture") for words in warnings)
    assert any(words.startswith("Among test images, 3 pairs of one picture") for words in warnings)


def test_a_copy_of_a_slice_within_its_own_patient_is_found_across_splits_only_if_changed(
    sample: Records, tmp_path: Path
) -> None:
    shutil.copytree(sample.root, tmp_path / "deep")
    source = next((tmp_path / "deep" / "test" / "normalMR").glob("*.png"))
    patient = source.name.partition("_")[0]
    turned = Image.open(source).transpose(Image.Transpose.ROTATE_180)
    turned.save(tmp_path / "deep" / "train" / "2- Control" / "NormalMR" / f"{patient}_s90.png")
    turned.save(source.parent / f"{patient}_s91.png")
    found = audit(read_records(tmp_path))
    assert {pair: kinds["near"] for pair, kinds in found.summary["duplicates"].items()} == {"train-test": 1}
    assert found.summary["duplicates"]["train-test"]["file"] == 1  # s90 and s91


def test_uneven_modalities_are_a_warning(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, modality, label, count in (
        ("train", "BT", "stroke", 8), ("train", "BT", "normal", 2), ("train", "MR", "stroke", 1),
        ("train", "MR", "normal", 9), ("test", "BT", "stroke", 5), ("test", "BT", "normal", 5),
    ):  # fmt: skip
        folder = tmp_path / split / f"{label}{modality}"
        folder.mkdir(parents=True)
        for number in range(count):
            noise = rng.integers(0, 256, (40, 40), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{number}.png")
    found = audit(read_records(tmp_path))
    assert found.pairs.empty
    assert found.summary["calibration"]["false_alarm_rate"] is None  # noise resembles nothing
    words = "Stroke is more common in BT (80.0%) than in MR (10.0%) train slices"
    assert any(sentence.startswith(words) for sentence in list_findings(found, "warning"))
    assert "50.0% of the test slices are stroke" in " ".join(list_findings(found, "note"))
    assert any("have no patient id" in sentence for sentence in list_findings(found, "warning"))


# --- what is done about it ----------------------------------------------------------------------------------


def test_dropping_leaks_takes_training_images_only(
    planted: tuple[Records, dict[str, str], Audit], sample: Records
) -> None:
    records, origins, found = planted
    kept = drop_leaks(records, found)
    assert set(records.table["path"]) - set(kept.table["path"]) == set(origins)
    pd.testing.assert_frame_equal(kept.part("test"), records.part("test"))
    assert kept.table.index.equals(pd.RangeIndex(len(kept.table)))
    assert kept.notes[-1] == "Left out of training, for test shows them too: 50 images."
    assert audit(kept).summary["leaks"]["train_slices"] == 0
    assert drop_leaks(kept, found) is kept
    with pytest.raises(DatasetError, match=r"of another dataset; audit this one"):
        drop_leaks(Records(records.root, records.table.assign(path="x" + records.table["path"]), ()), found)
    strokes = records.table[(records.table["label"] == 1) & (records.table["split"] == "train")]
    lost = records.table.drop(index=strokes.index[~strokes["path"].isin(origins)]).reset_index(drop=True)
    with pytest.raises(DatasetError, match=r"lack a class; add other"):
        drop_leaks(Records(records.root, lost, ()), found)


def test_a_clean_dataset_stays_as_it_is(sample: Records, clean: Audit) -> None:
    assert drop_leaks(sample, clean) is sample
    assert assign_groups(sample, clean) is sample


def test_one_picture_is_one_group(planted: tuple[Records, dict[str, str], Audit]) -> None:
    records, origins, found = planted
    grouped = assign_groups(records, found)
    group = grouped.table.set_index("path")["group"]
    assert all(group[copy] == group[origin] for copy, origin in origins.items())
    patients = records.table.groupby("group")["path"].agg(list)
    assert all(len({group[path] for path in paths}) == 1 for paths in patients)  # no patient is torn apart
    assert grouped.table["group"].nunique() == records.table["group"].nunique() - 50
    assert grouped.notes[-1] == "Joined with others who share a picture with them: 50 patients."
    kept = drop_leaks(grouped, found)
    assert kept.table["group"].nunique() == grouped.table["group"].nunique()


def test_without_patients_copies_are_kept_together(sample: Records, tmp_path: Path) -> None:
    for number, row in sample.table.iterrows():  # names that say nothing
        target = tmp_path / "deep" / Path(row["path"]).parent / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.root / row["path"], target)
    train = read_records(tmp_path).part("train")
    copies = plant(tmp_path / "deep", train, count=36, name="x{:03}.png")
    records = read_records(tmp_path)
    found = audit(records)
    assert not found.summary["calibration"]["patients_known"]
    grouped = assign_groups(records, found)
    assert f"{2 * len(copies)} now share {len(copies)} groups" in grouped.notes[-1]
    assert "a proxy for patients" in grouped.notes[-1]
    group = grouped.table.set_index("path")["group"]
    together = sum(group[copy] == group[origin] for copy, origin in copies.items())
    assert together == len(copies)
    for divided in (
        assign_validation(grouped.table, fraction=0.3),
        assign_folds(grouped.table, folds=3).assign(split=lambda table: table["fold"]),
    ):
        assert divided.groupby("group")["split"].nunique().max() == 1


# --- what is written ----------------------------------------------------------------------------------------


def hash_folder(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_written_twice_it_is_the_same(
    planted: tuple[Records, dict[str, str], Audit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stroke_hub.audit.leaks.DRAWN", 3)  # pictures of eight pairs take longer, and nothing else
    records = planted[0]
    found = audit(records)
    write_audit(found, records, tmp_path / "first")
    again = Records(records.root, records.table.sample(frac=1, random_state=0).reset_index(drop=True), ())
    write_audit(audit(again), again, tmp_path / "second")
    back = read_audit(tmp_path / "first", records)
    assert back is not None
    pd.testing.assert_frame_equal(back.pairs, found.pairs.reset_index(drop=True), check_dtype=False)
    assert drop_leaks(records, back).table.equals(drop_leaks(records, found).table)
    assert assign_groups(records, back).table.equals(assign_groups(records, found).table)
    assert read_audit(tmp_path / "first", drop_leaks(records, found)) is None
    assert read_audit(tmp_path, records) is None
    written = hash_folder(tmp_path / "first")
    assert written == hash_folder(tmp_path / "second")
    assert set(written) == {
        "audit.json",
        "audit.csv",
        *(
            f"figures/{name}.{kind}"
            for name in ("closest_pairs", "doubtful_pairs", "duplicates")
            for kind in ("png", "svg")
        ),
    }
    with Image.open(tmp_path / "first" / "figures" / "duplicates.png") as image:
        assert image.width > 1000
        assert image.height > 3 * 150  # a row a pair
    table = pd.read_csv(tmp_path / "first" / "audit.csv")
    pd.testing.assert_frame_equal(table, found.pairs, check_dtype=False)
    assert json.loads((tmp_path / "first" / "audit.json").read_text()) == found.summary


def test_json_holds_what_is_documented_and_no_place_on_this_machine(clean: Audit, sample: Records) -> None:
    text = json.dumps(clean.summary, allow_nan=False)
    assert str(sample.root) not in text
    assert list(clean.summary) == [
        "version", "dataset", "counts", "calibration", "duplicates", "leaks", "findings",
    ]  # fmt: skip
    for finding in clean.summary["findings"]:
        assert set(finding) == {"level", "sentence", "counts"}
        assert finding["sentence"].endswith(".")
        assert finding["sentence"].isprintable()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_command_says_what_it_finds_and_writes_all_or_nothing(sample: Records, tmp_path: Path) -> None:
    shutil.copytree(sample.root, tmp_path / "deep")
    plant(tmp_path / "deep", sample.part("test"), count=1)
    done = run("--data-dir", tmp_path, "--out", tmp_path / "audit")
    assert done.returncode == 0, done.stderr
    assert "error: Test shows 1 training image again, 1 exactly and 0 re-encoded" in done.stderr
    assert (tmp_path / "audit" / "figures" / "duplicates.png").is_file()
    broken = next((tmp_path / "deep" / "test").rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:200])
    done = run("--data-dir", tmp_path, "--out", tmp_path / "other")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {broken}: ")
    assert not (tmp_path / "other").exists()
