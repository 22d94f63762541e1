"""Claims of data.readers.scans: whole scans with a label for every slice, or one sentence of refusal."""

from pathlib import Path

import pytest

from stroke_hub.data.records import read_records
from stroke_hub.data.splits import assign_folds, assign_validation
from stroke_hub.errors import DatasetError
from tests.data.test_records import put

HEADER = "scan,slice,path,label,split"


def build(root: Path, *, scans: int = 12, slices: int = 3) -> list[str]:
    """Scans in turn without and with a stroke in their last slice; what has none stands in a folder of its own."""
    lines = []
    for scan in range(scans):
        split = "test" if scan >= scans - 4 else "train"
        for number in range(slices):
            stroke = scan % 2 and number == slices - 1
            path = f"deep/{split}/StrokeBT/s{scan}_{number}.png" if stroke else f"rest/s{scan}_{number}.png"
            put(root / path, 10 * scan + number)
            lines.append(f"s{scan},{number},{path},{'Stroke' if stroke else 'Normal'},{split}")
    return lines


def write(root: Path, lines: list[str], header: str = HEADER) -> Path:
    (root / "scans.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return root


def test_every_slice_of_every_scan_is_a_row_and_a_scan_stays_whole(tmp_path: Path) -> None:
    records = read_records(write(tmp_path, build(tmp_path)))
    table = records.table
    assert records.root == tmp_path.resolve()
    assert (len(table), int(table["label"].sum()), table["group"].nunique()) == (36, 6, 12)
    assert list(table["scan"]) == list(table["group"])
    assert set(table["slice"]) == {"0", "1", "2"}
    assert set(table["modality"]) == {"BT"}  # of "rest" too, for nothing else is there
    divided = assign_validation(table)
    assert (divided.groupby("group")["split"].nunique() == 1).all()
    assert (assign_folds(table, folds=2).groupby("group")["fold"].nunique() == 1).all()


def test_a_patient_with_two_scans_is_one_group(tmp_path: Path) -> None:
    lines = [
        f"{line},{'p1' if line.startswith(('s0,', 's1,')) else line.split(',')[0]}" for line in build(tmp_path)
    ]
    table = read_records(write(tmp_path, lines, HEADER + ",patient")).table
    assert set(table.loc[table["scan"].isin(["s0", "s1"]), "group"]) == {"p1"}


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (0, "", "has no scan"),
        (2, "../elsewhere.png", "is no file beside it"),
        (2, "rest/none.png", "is no file beside it"),
        (2, "rest/s0_1.png", "stands twice"),
        (3, "maybe", "use Stroke or Normal"),
        (4, "spare", "use train, val or test"),
        (4, "test", "in two splits"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named(tmp_path: Path, column: int, value: str, words: str) -> None:
    lines = build(tmp_path)
    cells = lines[0].split(",")
    lines[0] = ",".join([*cells[:column], value, *cells[column + 1 :]])
    with pytest.raises(DatasetError, match=words):
        read_records(write(tmp_path, lines))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    lines = [line.rpartition(",")[0] for line in build(tmp_path)]
    with pytest.raises(DatasetError, match="no column split"):
        read_records(write(tmp_path, lines, "scan,slice,path,label"))
