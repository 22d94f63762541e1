"""Claims of datasets.hub_dataset: rows with images, masks and labels become files of the same bytes and a table."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stroke_hub.datasets.hub_dataset import fetch_hub_dataset
from stroke_hub.datasets.open_dataset import open_dataset
from stroke_hub.errors import HubError
from stroke_hub.runs.report import read_report
from tests.conftest import Done
from tests.datasets import make

hub = pytest.importorskip("datasets")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the package datasets finds owner/name instead of asking the Hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STROKE_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub.config, "HF_DATASETS_CACHE", tmp_path / "arrow")
    return tmp_path


def push(rows: dict[str, list[object]], features: dict[str, object], part: str) -> None:
    """Write a split as it lies on the Hub."""
    os.makedirs("owner/name/data", exist_ok=True)
    made = hub.Dataset.from_dict(rows, features=hub.Features(features))
    made.to_parquet(f"owner/name/data/{part}-00000-of-00001.parquet")


def test_volumes_with_masks_are_read(here: Path) -> None:
    kinds = {
        "patient_id": hub.Value("string"),
        "dwi": hub.Nifti(),
        "flair": hub.Nifti(),
        "lesion_mask": hub.Nifti(),
    }
    rows: dict[str, list[object]] = {name: [] for name in kinds}
    for number in range(4):
        volume, mask = make.draw_head(number, lesion=number % 2 == 0, is_ct=False)
        rows["patient_id"].append(f"p{number}")
        for name, voxels in (("dwi", volume), ("flair", volume[:, :, ::2]), ("lesion_mask", mask)):
            file = make.save(here / f"{name}{number}.nii.gz", np.ascontiguousarray(voxels))
            rows[name].append({"bytes": file.read_bytes(), "path": file.name})
    push(rows, kinds, "train")
    folder = fetch_hub_dataset("hf://owner/name")
    assert (folder / "train_000000_dwi.nii.gz").read_bytes() == (here / "dwi0.nii.gz").read_bytes()
    assert fetch_hub_dataset("hf://owner/name") == folder
    records = open_dataset(folder)
    table = records.table
    assert f"Dataset: owner/name, release {folder.name}" in " ".join(records.notes)
    assert set(table["sequence"]) == {"dwi"}  # the flair lies on another grid than the mask
    assert set(table["group"]) == {"p0", "p1", "p2", "p3"}
    assert (table["label"] == (table["mask"] != "")).all()
    assert set(table["split"]) == {"train", "test"}


def test_pictures_with_named_labels_are_read(here: Path) -> None:
    kinds = {"image": hub.Image(), "label": hub.ClassLabel(names=["normal", "stroke"])}
    for part in ("train", "test"):
        pictures = [np.full((40, 40), 40 * number, np.uint8) for number in range(1, 5)]
        push({"image": list(pictures), "label": [0, 1, 0, 1]}, kinds, part)
    table = open_dataset(fetch_hub_dataset("hf://owner/name")).table
    assert table.groupby(["split", "label"]).size().to_dict() == {
        (part, label): 2 for part in ("train", "test") for label in (0, 1)
    }


def test_what_is_no_dataset_is_refused(here: Path) -> None:
    with pytest.raises(HubError, match="give hf://owner/name"):
        fetch_hub_dataset("hf://name")
    push({"text": ["a"]}, {"text": hub.Value("string")}, "train")
    with pytest.raises(HubError, match="has no column of images"):
        fetch_hub_dataset("hf://owner/name")


def push_volumes(here: Path) -> None:
    """Three scans with lesion masks."""
    rows: dict[str, list[object]] = {"patient_id": [], "image": [], "lesion_mask": []}
    for number in range(3):
        volume, mask = make.draw_head(number, lesion=number % 2 == 0, is_ct=False)
        rows["patient_id"].append(f"p{number}")
        for name, voxels in (("image", volume), ("lesion_mask", mask)):
            file = make.save(here / f"{name}{number}.nii.gz", voxels)
            rows[name].append({"bytes": file.read_bytes(), "path": file.name})
    push(rows, {"patient_id": hub.Value("string"), "image": hub.Nifti(), "lesion_mask": hub.Nifti()}, "train")


def test_a_dataset_of_the_hub_is_shown(here: Path, run: Callable[..., Done]) -> None:
    push_volumes(here)
    done = run("data", "hf://owner/name")
    assert done.status == 0, done.err
    assert "3 scans of 3 patients" in done.out


@pytest.mark.slow
def test_a_model_is_measured_on_a_dataset_of_the_hub(here: Path, run: Callable[..., Done]) -> None:
    push_volumes(here)
    options = ("--split", "all", "--every", 2, "--out", here / "out")
    done = run("evaluate", "--model", "sample", "--data", "hf://owner/name", *options)
    assert done.status == 0, done.err
    report = read_report(here / "out")
    assert report.data.name == "name"
    assert report.localisation is not None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "Give --data-dir with a folder, or --data"),
        (("--data", "hf://owner/name", "--data-dir", "folder"), "Give --data-dir with a folder, or --data"),
        (("--data", "owner/name"), "is no dataset on the Hub"),
    ],
)
def test_evaluate_takes_one_dataset(run: Callable[..., Done], given: tuple[str, ...], words: str) -> None:
    done = run("evaluate", "--model", "sample", *given, "--out", "out")
    assert done.status == 1
    assert words in done.err
