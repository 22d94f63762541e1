"""Claims of audit.scans: scans under two names and missing or doubled slices are found, and nothing else."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from stroke_hub import Records, read_records
from stroke_hub.audit.leaks import Audit, audit, write_audit


def put(root: Path, sources: list[Path], *, planted: bool) -> Records:
    """A dataset of six scans of five slices; `planted` with all that can be wrong."""
    rows = []

    def add(
        scan: str, patient: str, split: str, numbers: list[int], pictures: list[Path], suffix: str = "png"
    ) -> None:
        for number, picture in zip(numbers, pictures, strict=True):
            path = root / f"{scan}_{number}.{suffix}"
            Image.open(picture).save(path)
            label = "stroke" if number == 1 else "normal"
            rows.append((scan, number, path.name, label, split, patient, "BT"))

    straight = [1, 2, 3, 4, 5]
    pictures = [sources[5 * scan : 5 * scan + 5] for scan in range(6)]
    add("a", "p1", "train", straight, pictures[0])
    add("b", "p2", "train", straight, pictures[1])
    if planted:
        add("c", "p3", "test", straight, pictures[0], "jpg")  # a, compressed, under another name
        add("d", "p4", "train", [2, 4, 6, 10, 12], [*pictures[3][:4], pictures[3][0]])  # 8 is missing, 12 is 2
        add("e", "p1", "test", straight, pictures[4])  # a patient of train
        add("f", "p5", "train", straight, pictures[1][::-1])  # b again
    else:
        add("c", "p3", "test", straight, pictures[2])
        add("d", "p4", "train", [2, 4, 6, 8, 10], pictures[3])
        add("e", "p6", "test", straight, pictures[4])
        add("f", "p5", "train", [1, 2, 5, 7, 40], pictures[5])  # no common step
    with (root / "scans.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("scan", "slice", "path", "label", "split", "patient", "modality"), *rows])
    return read_records(root)


@pytest.fixture(scope="module")
def sources(sample: Records) -> list[Path]:
    """Slices of patients that have one slice here."""
    table = sample.table.drop_duplicates("group")
    return [sample.root / path for path in table["path"]][:30]


def tell(found: Audit) -> list[str]:
    return [finding["sentence"] for finding in found.summary["findings"]]


def test_what_is_wrong_with_scans_is_found(sources: list[Path], tmp_path: Path) -> None:
    records = put(tmp_path, sources, planted=True)
    found = audit(records)
    assert found.summary["scans"] == {
        "scans": 6,
        "with_missing_slices": 1,
        "missing_slices": 1,
        "with_doubled_slices": 1,
        "doubled_slices": 1,
        "twice": 2,
        "twice_on_both_sides": 1,
    }
    scans = found.scans.set_index("scan")
    assert scans.loc["p1 a", "same_as"] == "p3 c"
    assert scans.loc["p5 f", "same_as"] == "p2 b"
    assert (scans.loc["p4 d", "missing"], scans.loc["p4 d", "doubled"]) == (1, 1)
    told = tell(found)
    assert any(words.startswith("1 scan of train stands in test too, under another name: ") for words in told)
    assert any(words.startswith("1 scan stands twice under two names on one side: ") for words in told)
    assert any(words.startswith("1 slice inside 1 scan is missing: ") for words in told)
    assert any(words.startswith("1 slice of 1 scan stands there twice, by number or picture: ") for words in told)
    assert any(words.startswith("Train and test share 1 patient, ") for words in told)
    assert not any(name in words for words in told for name in ("p1", "p4 d"))
    write_audit(found, records, tmp_path / "out")
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out" / "audit_scans.csv", keep_default_na=False), found.scans, check_dtype=False
    )
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["scans"] == found.summary["scans"]


def test_nothing_is_found_in_sound_scans_nor_without_scans(
    sources: list[Path], sample: Records, tmp_path: Path
) -> None:
    found = audit(put(tmp_path, sources, planted=False))
    assert found.summary["scans"]["scans"] == 6
    assert sum(found.summary["scans"].values()) == 6
    assert not any("scan" in words for words in tell(found))
    assert "scans" not in audit(replace(sample, table=sample.table.head(20))).summary
