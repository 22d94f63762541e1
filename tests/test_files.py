"""Claims of files: whole or not there, and named where the disk is full."""

import errno
import os
import resource
from pathlib import Path

import pytest

from stroke_hub import ResNetViT
from stroke_hub.files import atomic_folder, atomic_write, write_text

FULL = Path("/dev/full")  # Linux's disk that is always full
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


@needs_full
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("before")
    (tmp_path / ".table.csv.partial").symlink_to(FULL)
    with pytest.raises(OSError, match="No space left") as caught:
        write_text(file, "x" * 10_000)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(file))
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert file.read_text() == "before"
    with pytest.raises(OSError, match="No space left") as caught, atomic_folder(tmp_path / "page"):
        FULL.write_bytes(b"x" * 10_000)
    assert caught.value.filename == str(tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_weights_that_cannot_be_written_are_named(tmp_path: Path, untrained: ResNetViT) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # bytes; the model has 3 MB
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            untrained.save_pretrained(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_errors_that_name_a_file_keep_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught, atomic_write(tmp_path / "a"):
        os.stat(tmp_path / "b")
    assert caught.value.filename == str(tmp_path / "b")
    with pytest.raises(OSError, match=r"^words$") as caught, atomic_write(tmp_path / "a"):
        raise OSError("words")
    assert caught.value.filename is None
