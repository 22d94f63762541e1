"""A file is read once for its hash and its pixels, and again only where it was changed."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stroke_hub import DatasetError, Records, TrainConfig, fit
from stroke_hub.audit.leaks import assign_groups, audit, write_audit
from stroke_hub.data.contents import hash_content, load_first
from stroke_hub.evaluation.evaluate import evaluate_run
from stroke_hub.evaluation.samples import SHOWN
from stroke_hub.files import hash_file

OPENED: list[str] = []


@pytest.fixture(scope="module")
def opened() -> Callable[[], Counter[Path]]:
    """Count the files that Python opened since the last call; the hook stays, and writes down a name each time."""

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str):
            OPENED.append(arguments[0])

    sys.addaudithook(note)

    def count() -> Counter[Path]:
        counted = Counter(map(Path, OPENED))
        OPENED.clear()
        return counted

    return count


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "slice.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    return path


def test_a_training_run_reads_each_slice_file_twice_and_once_more_for_a_mask_or_a_figure(
    sample: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[[], Counter[Path]]
) -> None:
    monkeypatch.setenv("STROKE_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("stroke_hub.data.contents._HASHES", {})
    opened()
    found = audit(sample)  # as `stroke-hub train` does it
    records = assign_groups(sample, found)
    # learning from masks would frame each stroke once more, to lay its mask into the square
    config = TrainConfig(preset="tiny", epochs=1, validation_fraction=0.3, lesion_cells=0)
    run = fit(config, records, tmp_path / "run")
    write_audit(found, sample, run)
    evaluate_run(run, records, name="sample", note="simulated slices, not patients")
    counted = opened()
    reads = {path: counted[sample.root / path] for path in sample.table["path"]}
    assert min(reads.values()) > 0  # the hook sees them
    # a mask is laid into the square of its whole slice, and figures show whole slices: no cache holds those
    test = sample.table[sample.table["split"] == "test"]
    masked = set(test.loc[test["label"] == 1, "path"])
    drawn = [count - 2 - (path in masked) for path, count in reads.items() if count > 2 + (path in masked)]
    assert len(drawn) <= 8 + 2 * SHOWN  # samples, errors and unusual slices
    assert max(drawn) <= 3


def test_the_hash_is_of_the_bytes_and_read_once(file: Path, opened: Callable[[], Counter[Path]]) -> None:
    opened()
    first, found = load_first(file)
    assert found == hash_content(file) == hash_content(file)
    assert opened()[file] == 1
    assert found == hash_file(file)
    assert first.pixels[0, 5] == 5


def test_a_change_is_seen_even_where_the_date_is_set_back(file: Path) -> None:
    before, content = hash_content(file), bytearray(file.read_bytes())
    status = file.stat()
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert hash_content(file) != before
    assert hash_content(file) == hash_file(file)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in (("missing.png", "does not exist"), ("pipe.png", "not a regular file")):
        for read in (load_first, hash_content):
            with pytest.raises(DatasetError, match=rf"{name}: .*{reason}"):
                read(tmp_path / name)
