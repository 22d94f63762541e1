import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stroke_hub.data import simulated as sample
from stroke_hub.data.simulated import PatientPlan, plan_patients, simulate_patient, simulate_scan, write_sample
from stroke_hub.errors import DatasetError

SMALL = {"patients": 8, "slices_per_patient": 2, "size": 96, "show_progress": False}
STROKES = [("CT", "infarct"), ("CT", "bleed"), ("DWI", "infarct"), ("FLAIR", "infarct")]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rows(root: Path) -> list[dict[str, str]]:
    with open(root / "index.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("data") / "sample", **SMALL)


def test_same_seed_same_bytes_and_another_seed_others(written: Path, tmp_path: Path) -> None:
    assert contents(write_sample(tmp_path / "again", **SMALL)) == contents(written)
    other = contents(write_sample(tmp_path / "other", **SMALL, seed=1))
    pictures = {data for name, data in contents(written).items() if name.endswith(".png")}
    assert not pictures & {data for name, data in other.items() if name.endswith(".png")}


def test_a_patient_does_not_depend_on_how_many_slices_were_drawn_before_it() -> None:
    alone = simulate_patient((0, 7), "DWI", "infarct", size=64)
    simulate_patient((0, 6), "CT", size=64)
    for first, second in zip(alone, simulate_patient((0, 7), "DWI", "infarct", size=64), strict=True):
        np.testing.assert_array_equal(first.pixels, second.pixels)
        np.testing.assert_array_equal(first.mask, second.mask)


def test_index_and_files_agree(written: Path) -> None:
    index = rows(written)
    pictures = {path.relative_to(written).as_posix() for path in written.rglob("*.png")}
    assert pictures == {row["path"] for row in index} | {row["mask"] for row in index if row["mask"]}
    assert tuple(index[0]) == sample.INDEX_COLUMNS
    folders = {
        "train": {"Stroke": "deep/train/1- Stroke/Stroke", "Normal": "deep/train/2- Control/Normal"},
        "test": {"Stroke": "deep/test/stroke", "Normal": "deep/test/normal"},
    }
    for row in index:
        folder, name = row["path"].rsplit("/", 1)
        assert folder == folders[row["split"]][row["label"]] + row["modality"]
        assert name.startswith(row["patient"] + "_s")
        assert name.endswith("_simulated.png")
        stroke = row["label"] == "Stroke"
        assert (row["lesion"] != "none") == stroke
        assert row["mask"] == ("masks" + row["path"].removeprefix("deep") if stroke else "")
        assert (row["sequence"] == "CT") == (row["modality"] == "BT")


def test_slices_are_grey_and_say_that_they_are_simulated(written: Path) -> None:
    for row in rows(written):
        with Image.open(written / row["path"]) as image:
            assert (image.mode, image.size) == ("L", (96, 96))
            assert image.info["Description"] == sample.DESCRIPTION
        if row["mask"]:
            mask = np.asarray(Image.open(written / row["mask"]))
            assert set(np.unique(mask)) == {0, 255}
            assert mask.shape == (96, 96)


def test_the_readme_holds_the_templates_licence_and_the_settings(written: Path) -> None:
    text = (written / "README.md").read_text(encoding="utf-8")
    assert "Permission to use, copy, modify, and distribute" in text
    assert '"seed": 0' in text
    assert "No patient is in it" in text


@pytest.mark.parametrize("patients", [8, 13, 60, 880])
def test_every_split_has_both_classes_in_both_modalities(patients: int) -> None:
    plans = plan_patients(patients)
    assert sorted(plan.number for plan in plans) == list(range(1, patients + 1))  # so nobody is in two splits
    groups = {(plan.split, plan.modality, plan.lesion != "none") for plan in plans}
    assert len(groups) == 8


def test_the_default_plan_has_the_class_ratio_of_the_real_data() -> None:
    plans = plan_patients()
    count = Counter((plan.split, plan.lesion != "none") for plan in plans)
    assert count["train", True] + count["train", False] == 600
    for split in ("train", "test"):
        assert 4.5 <= count[split, False] / count[split, True] <= 5.6
    test_strokes = Counter(plan.modality for plan in plans if plan.split == "test" and plan.lesion != "none")
    assert test_strokes == {"BT": 23, "MR": 23}
    assert {(plan.sequence, plan.lesion) for plan in plans if plan.lesion != "none"} == set(STROKES)


def test_numbers_tell_nothing_of_the_class() -> None:
    def strokes(plans: list[PatientPlan]) -> list[int]:
        return [plan.number for plan in plans if plan.lesion != "none"]

    assert abs(np.mean(strokes(plan_patients())) - 440.5) < 90
    assert strokes(plan_patients()) != strokes(plan_patients(seed=1))


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(ValueError, match="ask for 8 or more"):
        plan_patients(7)


@pytest.mark.parametrize(("sequence", "lesion"), STROKES)
def test_every_stroke_slice_shows_a_lesion_of_the_stated_contrast_within_the_brain(
    sequence: sample.Scan, lesion: sample.Lesion
) -> None:
    for seed in range(4):
        healthy = simulate_patient(seed, sequence, slices=3)
        for ill, well in zip(simulate_patient(seed, sequence, lesion, slices=3), healthy, strict=True):
            smallest, largest = sample.LARGE if (sequence, lesion) == ("CT", "infarct") else sample.SMALL
            assert 0.4 * smallest < ill.mask.sum() / ill.brain.sum() < 1.06 * largest
            assert not (ill.mask & ~ill.brain).any()
            np.testing.assert_array_equal(ill.brain, well.brain)
            if lesion == "bleed":
                assert 60 <= np.median(ill.clean[ill.mask]) <= 70
            else:
                change = np.median((ill.clean - well.clean)[ill.mask])
                low, high = (-13, -7) if sequence == "CT" else (0.25, 0.5)
                assert low <= change <= high


@pytest.mark.parametrize("sequence", ["CT", "DWI", "FLAIR"])
def test_a_lesion_is_the_only_difference_of_class(sequence: sample.Scan) -> None:
    (ill,), (well,) = (simulate_patient(5, sequence, lesion, slices=1) for lesion in ("infarct", "none"))
    assert not well.mask.any()
    # Farther off than the lesion's soft edge reaches, not one pixel differs.
    rows_, columns = np.nonzero(ill.mask)
    box = np.zeros_like(ill.mask)
    box[max(rows_.min() - 9, 0) : rows_.max() + 10, max(columns.min() - 9, 0) : columns.max() + 10] = True
    np.testing.assert_array_equal(ill.pixels[~box], well.pixels[~box])


def test_a_bleed_is_refused_on_mr() -> None:
    with pytest.raises(ValueError, match="CT only"):
        simulate_patient(0, "DWI", "bleed")


def test_ct_is_in_hounsfield_units() -> None:
    for seed in range(3):
        for slice_ in simulate_patient(seed, "CT", slices=2):
            assert slice_.pixels.dtype == np.uint8
            assert slice_.brain.sum() > 0.15 * slice_.brain.size
            assert 25 < np.median(slice_.clean[slice_.brain]) < 42
            assert slice_.clean.max() > 500  # bone: far above the window's 80 HU
            assert (slice_.pixels[slice_.clean > 90] >= 230).mean() > 0.99
            assert slice_.clean[0, 0] == -1000  # air: the head does not reach the corner
            assert slice_.pixels[0, 0] == 0


def test_the_same_dataset_is_left_as_it_is(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "simulate_patient", None)
    before = {path: path.stat().st_mtime_ns for path in written.rglob("*")}
    assert write_sample(written, **SMALL) == written
    assert {path: path.stat().st_mtime_ns for path in written.rglob("*")} == before


def test_other_settings_are_refused(written: Path) -> None:
    with pytest.raises(DatasetError, match="other settings"):
        write_sample(written, **SMALL, seed=3)


@pytest.mark.parametrize("name", ["notes.txt", "settings.json", "index.csv"])
def test_a_foreign_folder_is_refused_and_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[]")
    with pytest.raises(DatasetError, match="not a sample dataset") as refusal:
        write_sample(tmp_path, **SMALL)
    assert str(tmp_path) in str(refusal.value)
    assert contents(tmp_path) == {name: b"[]"}


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sample").write_text("mine")
    with pytest.raises(DatasetError, match="not a sample dataset"):
        write_sample(tmp_path / "sample", **SMALL)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    real, calls = sample.simulate_patient, iter(range(3))

    def interrupted(*args: object, **options: object) -> object:
        if next(calls) == 2:
            raise error
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(sample, "simulate_patient", interrupted)
    with pytest.raises(error):
        write_sample(tmp_path / "sample", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_and_an_empty_folder_do_not_stand_in_the_way(written: Path, tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()
    (tmp_path / ".sample.partial").mkdir()
    (tmp_path / ".sample.partial" / "index.csv").write_text("half")
    assert contents(write_sample(tmp_path / "sample", **SMALL)) == contents(written)
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_a_lesion_of_a_whole_scan_is_in_some_of_its_slices_and_changes_nothing_else() -> None:
    sick, healthy = (simulate_scan((0, 1), infarct=infarct, slices=10, size=64) for infarct in (True, False))
    shown = [one.lesion == "infarct" for one in sick]
    assert 0 < sum(shown) < len(shown)
    assert shown == [bool(one.mask.any()) for one in sick]
    assert not any(one.mask.any() for one in healthy)
    for ill, well, shows in zip(sick, healthy, shown, strict=True):
        assert np.array_equal(ill.pixels, well.pixels) != shows
        assert np.array_equal(ill.brain, well.brain)
        if shows:
            assert (ill.mask <= ill.brain).all()
            assert ill.clean[ill.mask].mean() > well.clean[ill.mask].mean() + 0.1
