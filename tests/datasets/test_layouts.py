"""Claims of datasets.layouts: each layout is told by what lies in it, and gives scans, masks, labels, patients."""

import os
from collections import Counter
from pathlib import Path

import pytest

from stroke_hub.datasets.layouts import rsna
from stroke_hub.datasets.read_dataset import is_scan_dataset, read_dataset
from stroke_hub.datasets.scan_table import ScanTable
from tests.datasets import make


def read(folder: Path) -> ScanTable:
    """Read it, with nothing in the way but what the layout brings along."""
    table = read_dataset(folder)
    assert not [problem for problem in table.problems if problem.stops]
    return table


def test_isles22_is_read_as_bids(tmp_path: Path) -> None:
    """The tree is that of the README of github.com/ezequieldlrosa/isles22; the FLAIR has a grid of its own."""
    table = read(make.write_isles22(tmp_path))
    assert table.layout == "BIDS"
    assert Counter(record.sequence for record in table.records) == {"dwi": 8, "adc": 8}
    assert {record.modality for record in table.records} == {"MR"}
    assert len({record.patient for record in table.records}) == 8
    for record in table.records:
        assert isinstance(record.mask, Path)
        assert record.patient in record.mask.name
    assert "Images of flair lie on another grid" in make.list_sentences(table)


def test_isles24_pairs_the_later_mask_with_the_ncct(tmp_path: Path) -> None:
    """The tree is that of zenodo.org/records/17652035: raw_data/sub-stroke0001/ses-01, the lesion-msk in ses-02."""
    table = read(make.write_isles24(tmp_path))
    kinds = Counter((record.modality, record.sequence) for record in table.records)
    assert kinds == {("BT", "ncct"): 8, ("MR", "dwi"): 8}
    assert all(str(record.mask).endswith("_space-ncct_lesion-msk.nii.gz") for record in table.records)
    assert all("raw_data" in str(record.image) for record in table.records if record.sequence == "ncct")
    assert any("another session" in note for note in table.notes)


def test_bids_takes_labels_of_participants_without_masks(tmp_path: Path) -> None:
    """participants.tsv is that of bids-specification.readthedocs.io: participant_id, and columns of one's own."""
    make.write_isles22(tmp_path, scans=2)
    control = "sub-control1"
    make.save(
        tmp_path / "rawdata" / control / "anat" / f"{control}_FLAIR.nii.gz", make.draw_head(9, lesion=False)[0]
    )
    people = [("sub-strokecase0001", "patient", "test"), (control, "control", "train")]
    rows = [dict(zip(("participant_id", "group", "split"), person, strict=True)) for person in people]
    make.write_rows(tmp_path / "participants.tsv", rows, delimiter="\t")
    by_patient = {record.patient: record for record in read(tmp_path).records}
    assert by_patient[control].label == 0
    assert by_patient["sub-strokecase0001"].split == "test"


def test_rsna_labels_slices_and_finds_patients_in_headers(tmp_path: Path) -> None:
    """The CSV is that of kaggle.com/c/rsna-intracranial-hemorrhage-detection: ID_x_any is one of six rows."""
    table = read(make.write_rsna(tmp_path))
    assert table.layout == "RSNA 2019"
    assert len(table.records) == 8
    assert len({record.patient for record in table.records}) == 7  # the first has two series
    assert all("patient" not in record.patient for record in table.records)
    strokes = [record for record in table.records if record.label != (0,) * 5]
    assert [record.label for record in strokes] == [(0, 1, 1, 0, 0)] * 4  # in the order of place, not of names


def test_nnunet_keeps_its_test_part(tmp_path: Path) -> None:
    """The tree is that of documentation/dataset_format.md of github.com/MIC-DKFZ/nnUNet."""
    table = read(make.write_nnunet(tmp_path))
    assert (table.layout, table.name, table.licence) == ("nnU-Net", "Simulated", "CC0")
    assert Counter(record.split for record in table.records) == {"train": 6, "test": 2}
    assert {(record.modality, record.sequence) for record in table.records} == {("BT", "ct")}
    assert {record.split for record in read(make.write_nnunet(tmp_path / "b", has_test=False)).records} == {None}


def test_ct_ich_labels_the_slices_of_volumes(tmp_path: Path) -> None:
    """The tree is that of README.txt of physionet.org/content/ct-ich/1.3.1."""
    table = read(make.write_ct_ich(tmp_path))
    assert table.layout == "CT-ICH"
    assert table.licence.startswith("Creative Commons Attribution 4.0")
    assert [record.patient for record in table.records] == [f"{49 + number:03d}" for number in range(8)]
    assert {record.label for record in table.records} == {(0, 0, 1, 1, 0, 0), (0,) * 6}
    assert all(isinstance(record.mask, Path) for record in table.records)


def test_ct_ich_of_pictures_has_masks_where_there_is_blood(tmp_path: Path) -> None:
    """The tree is that of physionet.org/content/ct-ich/1.0.0: Patients_CT/049/brain/14.jpg and 14_HGE_Seg.jpg."""
    table = read(make.write_ct_ich_pictures(tmp_path))
    first = table.records[0]
    assert isinstance(first.image, tuple)
    assert isinstance(first.mask, tuple)
    assert [path.name for path in first.image] == [f"{number}.jpg" for number in range(1, 7)]
    assert [path and path.name for path in first.mask] == [None, None, "3_HGE_Seg.jpg", "4_HGE_Seg.jpg", None, None]


def test_cq500_takes_the_majority_of_votes(tmp_path: Path) -> None:
    """reads.csv is that of headctstudy.qure.ai; folders are "CQ500CT1 CQ500CT1/Unknown Study/CT 5mm"."""
    table = read(make.write_cq500(tmp_path))
    assert table.layout == "CQ500"
    assert [record.label for record in table.records] == [1, 0] * 4
    first = table.records[0].image
    assert isinstance(first, tuple)
    assert [path.name for path in first] == [f"CT{6 - z:06d}.dcm" for z in range(1, 6)]  # from foot to head


def test_a_csv_names_images_and_masks(tmp_path: Path) -> None:
    """The table is described in docs/datasets.md alone."""
    folder = make.write_csv(tmp_path)
    table = read(folder)
    assert Counter(record.split for record in table.records) == {"train": 4, "test": 4}
    assert len({record.patient for record in table.records}) == 7
    assert read(folder / "table.csv").records == table.records


def test_a_folder_around_the_dataset_will_do(tmp_path: Path) -> None:
    make.write_nnunet(tmp_path / "Dataset001_Stroke")
    assert read(tmp_path).root == tmp_path / "Dataset001_Stroke"


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_other_folders_are_no_scans(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    assert not is_scan_dataset(tmp_path / name)


def test_headers_of_rsna_are_read_once_while_its_files_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STROKE_HUB_CACHE", str(tmp_path / "cache"))
    root = make.write_rsna(tmp_path / "data", scans=4)
    first = read_dataset(root)
    (kept,) = (tmp_path / "cache").rglob("*.csv")
    assert "ID_patient" not in kept.read_text()  # what the headers call a patient
    read: list[Path] = []
    decode = rsna._read_place
    monkeypatch.setattr(rsna, "_read_place", lambda file: read.append(file) or decode(file))
    again = read_dataset(root)
    assert again.records == first.records
    assert not read
    changed = sorted(root.rglob("*.dcm"))[0]
    os.utime(changed, ns=(0, 0))
    assert read_dataset(root).records == first.records
    assert len(read) == len(list(root.rglob("*.dcm")))
    for table in (tmp_path / "cache").rglob("*.csv"):
        table.write_text(table.read_text()[:-20])  # a damaged table counts as none
    read.clear()
    assert read_dataset(root).records == first.records
    assert read


def test_headers_that_cannot_be_read_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STROKE_HUB_CACHE", str(tmp_path / "cache"))
    root = make.write_rsna(tmp_path / "data", scans=4)
    sorted(root.rglob("*.dcm"))[0].write_bytes(b"no DICOM")
    assert "cannot be read and is left out" in make.list_sentences(read_dataset(root))
    assert not list((tmp_path / "cache").rglob("*.csv"))
