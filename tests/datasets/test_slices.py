"""Claims of datasets.slice_scans: slices have prediction's pixels, labels the rules, and patients one side."""

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest

from stroke_hub import load_scan
from stroke_hub.cli.common import find_data
from stroke_hub.data.contents import hash_content, load_first, load_lesion
from stroke_hub.data.loader import decode_squares
from stroke_hub.data.masks import read_masks
from stroke_hub.data.records import Records, name_scans, read_slice_numbers
from stroke_hub.datasets.contact_sheet import draw_contact_sheet
from stroke_hub.datasets.draw_test import draw_test
from stroke_hub.datasets.open_dataset import open_dataset
from stroke_hub.datasets.read_dataset import read_dataset
from stroke_hub.datasets.slice_rules import SliceRules
from stroke_hub.datasets.slice_scans import slice_scans
from stroke_hub.errors import DatasetError
from stroke_hub.io.sight import frame_slice
from stroke_hub.models.presets import PRESETS
from stroke_hub.models.resnet_vit import ResNetViT
from tests.datasets import make

TINY = ResNetViT(**PRESETS["tiny"])


def open_rows(folder: Path, **rules: object) -> pd.DataFrame:
    """The table of slices."""
    return open_dataset(folder, SliceRules(**rules)).table  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """ISLES'22 with DWI and ADC."""
    return open_dataset(make.write_isles22(tmp_path_factory.mktemp("bids")))


def test_a_slice_is_the_same_when_trained_and_when_predicted(bids: Records) -> None:
    squares = decode_squares(TINY, bids.root, bids.table)
    for address, square in list(zip(bids.table["path"], squares, strict=True))[::3]:
        path, number = address.split("#")
        predicted = load_scan(bids.root / path, modality="MR").slices[int(number)]
        trained, _ = load_first(bids.root / address, modality="MR")
        assert np.array_equal(trained.pixels, predicted.pixels)
        assert np.array_equal(square, frame_slice(TINY, predicted).square)


def test_masks_travel_into_the_square(bids: Records) -> None:
    strokes = bids.table[(bids.table["label"] == 1) & (bids.table["sequence"] == "dwi")].reset_index(drop=True)
    masks = read_masks(TINY, bids.root, strokes)
    squares = decode_squares(TINY, bids.root, strokes)
    assert masks.known.all()
    for square, mask in zip(squares, masks.squares, strict=True):
        drawn, bright = mask > 127, square > 165  # between brain and lesion
        assert (drawn & bright).sum() > 0.97 * (drawn | bright).sum()


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_a_mask_lies_on_the_lesion_in_every_orientation(tmp_path: Path, axes: tuple[int, int, int]) -> None:
    """The pixels of 4 x 6 mm become squares, in the mask as in the picture."""
    head, lesion = make.draw_head(3, lesion=True)
    affine = np.diag([4.0, 6.0, 6.0, 1.0])
    for number, flips in enumerate(product((1, -1), repeat=3)):
        files = []
        for name, voxels in (("image", head), ("mask", lesion)):
            turned = make.IMAGE(voxels, affine).as_reoriented(np.array(list(zip(axes, flips, strict=True))))
            nibabel.save(turned, tmp_path / f"{name}{number}.nii")
            files.append(tmp_path / f"{name}{number}.nii")
        for index in (1, 2):
            image, mask = (file.with_name(f"{file.name}#{index:03d}") for file in files)
            pixels, drawn = load_first(image, modality="BT")[0].pixels, load_lesion(mask)
            assert drawn.shape == pixels.shape
            assert drawn.any() == (index in make.LESION)
            if drawn.any():
                bright = (pixels > 200) & (pixels < 255)
                assert (bright & drawn).sum() > 0.8 * drawn.sum()


def test_labels_follow_the_area_of_the_lesion(tmp_path: Path) -> None:
    folder = make.write_nnunet(tmp_path)  # a lesion has 48 voxels of 16 mm2: 768 mm2
    few = make.draw_head(0, lesion=False)[1]
    few[20:22, 20, 3] = 1  # 32 mm2
    make.save(folder / "labelsTr" / "stroke_000.nii.gz", few)
    of_first = {
        rule: dict(zip(rows["slice"], rows["label"], strict=True))
        for rule in (10.0, 33.0)
        for rows in [open_rows(folder, min_lesion_mm2=rule).query("scan == 'stroke_000_0000'")]
    }
    assert of_first == {10.0: {"1": 0, "2": 0, "3": 1, "4": 0, "5": 0}, 33.0: {"1": 0, "2": 0, "4": 0, "5": 0}}
    normal = open_rows(folder, min_lesion_mm2=33.0, small_lesions="normal").query("scan == 'stroke_000_0000'")
    assert list(normal["label"]) == [0] * 5
    beside = open_rows(folder, beside_lesion=1).query("scan == 'stroke_000_0000'")
    assert list(beside["slice"]) == ["1", "3", "5"]
    areas = open_rows(folder).query("scan == 'stroke_002_0000' and label == 1")["lesion_mm2"]
    assert list(areas) == ["768.0", "768.0"]


def test_slices_are_thinned_and_empty_ends_left_out(tmp_path: Path) -> None:
    folder = make.write_nnunet(tmp_path)
    assert sorted(set(open_rows(folder)["slice"])) == ["1", "2", "3", "4", "5"]  # the first is air
    assert sorted(set(open_rows(folder, any_slice=True)["slice"])) == ["0", "1", "2", "3", "4", "5"]
    assert sorted(set(open_rows(folder, every=2)["slice"])) == ["2", "4"]
    counts = {one.reason: one.slices for one in open_dataset(folder, SliceRules(every=2)).left_out}
    assert counts == {"slices between every n-th": 24, "slices below or above the head": 8}


def test_one_sequence_can_be_chosen(bids: Records) -> None:
    table = read_dataset(bids.root)
    assert set(slice_scans(table, SliceRules(sequence="DWI")).table["sequence"]) == {"dwi"}
    with pytest.raises(DatasetError, match="this dataset has adc, dwi"):
        slice_scans(table, SliceRules(sequence="t1w"))


def test_volume_slices_have_the_labels_of_the_csv_however_the_file_lies(tmp_path: Path) -> None:
    """The CSV counts slices from the first of the file, which is the highest here."""
    folder = make.write_ct_ich(tmp_path)
    for kind in ("ct_scans", "masks"):
        file = folder / kind / "049.nii"
        image: Any = nibabel.load(file, mmap=False)
        upside_down = np.array([[0, 1], [1, 1], [2, -1]])
        nibabel.save(make.IMAGE(np.asarray(image.dataobj), image.affine).as_reoriented(upside_down), file)
    table = open_dataset(folder).table.query("scan == '049'")
    turned = {f"{5 - number}" for number in make.LESION}
    assert set(table.loc[table["label"] == 1, "slice"]) == turned
    assert set(table.loc[table["mask"] != "", "slice"]) == {f"{number}" for number in make.LESION}


@pytest.mark.parametrize("write", [make.write_isles24, make.write_rsna, make.write_cq500, make.write_csv])
def test_no_patient_stands_on_two_sides(tmp_path: Path, write: "make.Writer") -> None:
    records = open_dataset(write(tmp_path))
    assert not records.table[["group", "split"]].drop_duplicates()["group"].duplicated().any()
    assert set(records.table["split"]) == {"train", "test"}
    assert name_scans(records.table).nunique() == len(read_dataset(tmp_path).records)
    assert np.isfinite(read_slice_numbers(records.table)).all()


def test_the_drawn_test_part_stays_when_patients_come() -> None:
    patients = {f"sub-{number}": number % 3 == 0 for number in range(300)}
    drawn = draw_test(patients)
    assert 0.15 < len(drawn) / len(patients) < 0.25
    before = draw_test(dict(list(patients.items())[:100]))
    assert before == drawn & set(list(patients)[:100])
    assert draw_test(dict.fromkeys(patients, True)) == drawn  # labels do not move them


@pytest.mark.parametrize("strokes", [2, 3, 5])
def test_both_sides_have_both_classes_however_few_patients_there_are(strokes: int) -> None:
    for number in range(50):
        patients = {f"{number}-{index}": index < strokes for index in range(strokes + 2)}
        drawn = draw_test(patients)
        assert (
            {patients[name] for name in drawn}
            == {patients[name] for name in set(patients) - drawn}
            == {True, False}
        )


def test_all_of_a_dataset_is_test_where_that_is_asked_for(tmp_path: Path) -> None:
    table = slice_scans(read_dataset(make.write_csv(tmp_path)), SliceRules(), whole=True).table
    assert set(table["split"]) == {"test"}


def test_normal_scans_without_a_mask_do_not_make_the_labels_those_of_scans(tmp_path: Path) -> None:
    table = read_dataset(make.write_csv(tmp_path))
    for label, said in ((0, False), (1, True)):
        records = [
            replace(record, mask=None, label=label) if number % 2 else record
            for number, record in enumerate(table.records)
        ]
        notes = slice_scans(replace(table, records=records), SliceRules()).notes
        assert any("the label of its whole scan" in note for note in notes) is said


def test_what_would_be_passed_over_is_refused(tmp_path: Path) -> None:
    for data, folder, rules, words in (
        ("hf://owner/name", tmp_path, SliceRules(), "leave --data-dir out"),
        ("sample", None, SliceRules(every=2), "--every 2 means nothing"),
    ):
        with pytest.raises(DatasetError, match=words):
            find_data(data, folder, "", rules)


def test_rules_for_scans_are_refused_for_pictures(sample: Records) -> None:
    with pytest.raises(DatasetError, match="--every 2 means nothing"):
        open_dataset(sample.root, SliceRules(every=2))
    with pytest.raises(DatasetError, match="--every is 0; give 1 or more"):
        SliceRules(every=0)


def test_a_slice_of_a_volume_has_a_hash_of_its_own_that_follows_the_file(tmp_path: Path) -> None:
    file = make.save(tmp_path / "scan.nii.gz", make.draw_head(1, lesion=False)[0])
    first, second = (file.with_name(f"scan.nii.gz#{number:03d}") for number in (1, 2))
    before = hash_content(first)
    assert before != hash_content(second)
    assert load_first(first)[1] == before
    make.save(file, make.draw_head(2, lesion=True)[0])
    assert hash_content(first) != before
    assert np.array_equal(load_first(first)[0].pixels, load_scan(file).slices[1].pixels)
    with pytest.raises(DatasetError, match="has 6 slices, and no number 6"):
        load_first(file.with_name("scan.nii.gz#006"))


def test_the_contact_sheet_outlines_lesions(bids: Records) -> None:
    sheet = np.asarray(draw_contact_sheet(bids, "simulated"))
    outlined = (sheet == (86, 180, 233)).all(axis=2)
    middle = len(sheet) // 2
    assert outlined[:middle].sum() > 100
    assert not outlined[middle + 40 :].any()  # normal slices stand below


def test_slices_take_the_label_of_their_scan_where_that_is_asked_for(bids: Records) -> None:
    by_slice, by_scan = (open_rows(bids.root, sequence="dwi", label_by=unit) for unit in ("slice", "scan"))
    assert by_slice["path"].tolist() == by_scan["path"].tolist()  # none gives away its label by being there
    stroke = by_slice.groupby("scan")["label"].transform("max")
    assert by_scan["label"].tolist() == stroke.tolist()
    assert 0 < by_slice["label"].sum() < by_scan["label"].sum() < len(by_scan)
    assert by_scan["mask"].tolist() == by_slice["mask"].tolist()  # a mask only where there is a lesion
    with pytest.raises(DatasetError, match="--beside-lesion means nothing"):
        SliceRules(label_by="scan", beside_lesion=1)


def test_slices_of_air_go_from_scans_of_either_label(tmp_path: Path) -> None:
    folder = make.write_csv(tmp_path)
    table = pd.read_csv(folder / "table.csv")
    labels = ["Stroke" if number % 2 == 0 else "Normal" for number in range(len(table))]
    table.drop(columns="mask").assign(label=labels).to_csv(folder / "table.csv", index=False)
    rows = open_rows(folder)
    assert len(set(rows.groupby("scan").size())) == 1
    assert rows.groupby("scan")["label"].nunique().eq(1).all()
    assert rows["slice"].astype(int).min() == 1  # the lowest is air
