"""Claims of datasets.read_dataset: what is in the way of training is said in one sentence each."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stroke_hub.datasets.open_dataset import open_dataset
from stroke_hub.datasets.read_dataset import read_dataset
from stroke_hub.errors import DatasetError
from tests.conftest import Done
from tests.datasets import make


def edit(file: Path, change: Callable[[list[dict[str, str]]], object], delimiter: str = ",") -> None:
    """Change the rows of a table."""
    with open(file, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter=delimiter))
    change(rows)
    make.write_rows(file, rows, delimiter=delimiter)


def break_grid(folder: Path) -> None:
    """Move one mask of an nnU-Net dataset by a voxel."""
    moved = make.AFFINE.copy()
    moved[0, 3] = 4
    make.save(
        make.write_nnunet(folder) / "labelsTr" / "stroke_000.nii.gz", make.draw_head(0, lesion=True)[1], moved
    )


def lose_files(folder: Path) -> None:
    """Remove a file of RSNA that the CSV lists."""
    next(make.write_rsna(folder).rglob("*.dcm")).unlink()


def lose_study(folder: Path) -> None:
    """Remove a study of CQ500 that reads.csv lists."""
    place = make.write_cq500(folder) / "CQ500CT3 CQ500CT3"
    place.rename(folder / "elsewhere")


def lose_mask(folder: Path) -> None:
    """Remove a mask that the CSV names."""
    (make.write_csv(folder) / "masks" / "s0.nii.gz").unlink()


def say_nothing(folder: Path) -> None:
    """Leave the cell of a mask empty, and give no label."""
    edit(make.write_csv(folder) / "table.csv", lambda rows: rows[0].update(mask=""))


def repeat_patient(folder: Path) -> None:
    """Give a training scan the patient of a test scan."""
    edit(make.write_csv(folder) / "table.csv", lambda rows: rows[0].update(patient="p7"))


def repeat_participant(folder: Path) -> None:
    """List a participant twice."""
    make.write_isles22(folder, scans=2)
    rows = [{"participant_id": "sub-strokecase0001", "age": age} for age in (40, 70)]
    make.write_rows(folder / "participants.tsv", rows, delimiter="\t")


def repeat_case(folder: Path) -> None:
    """Put a case into both parts of an nnU-Net dataset."""
    make.write_nnunet(folder)
    volume, mask = make.draw_head(0, lesion=True)
    make.save(folder / "imagesTs" / "stroke_000_0000.nii.gz", volume)
    make.save(folder / "labelsTs" / "stroke_000.nii.gz", mask)


@pytest.mark.parametrize(
    ("spoil", "words", "stops"),
    [
        (break_grid, "stroke_000_0000: its mask lies on another grid than its image", True),
        (lose_files, "1 id of stage_2_train.csv has no file", False),
        (lose_study, "1 study of reads.csv is missing here, for example CQ500-CT-3", False),
        (lose_mask, "1 mask of table.csv is missing, for example masks/s0.nii.gz", True),
        (say_nothing, "1 scan has neither a mask nor a label and is left out, for example s0", False),
        (repeat_patient, "p7: stands in two splits; is it two patients of one id", True),
        (repeat_participant, "lists sub-strokecase0001 more than once, so two patients may have one id", True),
        (repeat_case, "stroke_000 stands in imagesTr and in imagesTs", True),
    ],
)
def test_what_is_in_the_way_is_said(
    tmp_path: Path, run: Callable[..., Done], spoil: Callable[[Path], None], words: str, stops: bool
) -> None:
    folder = tmp_path / "dataset"
    spoil(folder)
    found = [problem for problem in read_dataset(folder).problems if words in problem.sentence]
    assert [problem.stops for problem in found] == [stops]
    done = run("data", folder)
    assert done.status == int(stops)
    assert words in done.err
    if stops:
        with pytest.raises(DatasetError):
            open_dataset(folder)


def test_labels_by_scan_alone_are_said(tmp_path: Path, run: Callable[..., Done]) -> None:
    done = run("data", make.write_cq500(tmp_path / "cq500"))
    assert done.status == 0
    assert "each slice has the label of its whole scan" in done.err
    assert "labels: of the scan alone 8" in done.out


def test_a_mask_that_does_not_fit_is_not_used_where_a_label_is_known(tmp_path: Path) -> None:
    folder = make.write_ct_ich(tmp_path)
    make.save(folder / "masks" / "049.nii", np.zeros((3, 3, 3), np.uint8))
    table = read_dataset(folder)
    assert [record.patient for record in table.records if record.mask is None] == ["049"]
    assert "1 mask lies on another grid than the image and is not used, for example of 049." in make.list_sentences(
        table
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[0].update(image="scans/s1.nii.gz"), "stands twice"),
        (lambda rows: rows[0].update(split="exam"), "use train, val or test"),
        (lambda rows: rows[0].update(modality="PET"), "use BT"),
        (lambda rows: [row.update(scan="one") for row in rows], "two scans called one"),
    ],
)
def test_a_cell_that_cannot_be_understood_is_named(
    tmp_path: Path, change: Callable[[list[dict[str, str]]], None], words: str
) -> None:
    folder = make.write_csv(tmp_path, scans=2)
    edit(folder / "table.csv", lambda rows: [row.setdefault("scan", "") for row in rows])
    edit(folder / "table.csv", change)
    with pytest.raises(DatasetError, match=words):
        read_dataset(folder)


def test_damaged_volumes_are_named(tmp_path: Path) -> None:
    folder = make.write_ct_ich(tmp_path)
    (folder / "ct_scans" / "050.nii").write_bytes(b"no volume")
    assert "1 scan cannot be read and is left out, for example 050" in make.list_sentences(read_dataset(folder))


def test_an_unknown_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is in no layout that is known"):
        read_dataset(tmp_path)


def test_the_command_names_the_layouts_that_it_knows(tmp_path: Path, run: Callable[..., Done]) -> None:
    (tmp_path / "readme.txt").write_text("no dataset")
    for command in (("data", tmp_path), ("train", "--data-dir", tmp_path, "--run-dir", tmp_path / "run")):
        done = run(*command)
        assert done.status == 1
        for layout in ("BIDS", "RSNA 2019", "nnU-Net", "CT-ICH", "CQ500", "a CSV", "train and test", "scans.csv"):
            assert layout in done.err, layout
