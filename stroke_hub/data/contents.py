"""Slice files of a dataset: read, decoded and hashed from the same bytes, and hashed once a process."""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from stroke_hub.errors import DatasetError, UnreadableImage
from stroke_hub.files import name_bytes
from stroke_hub.io.slices import Slice, load_slices
from stroke_hub.io.windowing import Modality
from stroke_hub.progress import track

__all__ = ["hash_content", "hash_contents", "load_first"]

Stamp: TypeAlias = tuple[int, ...]

# By file, what it looked like when it was hashed. Dates can be set back, but on POSIX no program sets st_ctime.
_HASHES: dict[Path, tuple[Stamp, str]] = {}


def load_first(file: Path, *, modality: Modality | None = None) -> tuple[Slice, str]:
    """Read a file once: its first slice, and the SHA-256 of the same bytes, 64 hexadecimal digits.

    Parameters
    ----------
    modality : what the dataset says of the file; where it says nothing, a DICOM header may.

    Raises
    ------
    DatasetError : it cannot be read or decoded; it is named.
    """
    with _naming(file):
        content = _read(file)
        return load_slices(name_bytes(content, file.name), modality=modality)[0], hashlib.sha256(
            content
        ).hexdigest()


def hash_content(file: Path) -> str:
    """Hash a file's bytes with SHA-256, 64 hexadecimal digits; read it only if it is new or was changed.

    Raises
    ------
    DatasetError : it cannot be read; it is named.
    """
    with _naming(file):
        known = _HASHES.get(file)
        if known is None or known[0] != _stamp(os.stat(file)):
            return hashlib.sha256(_read(file)).hexdigest()
        return known[1]


def hash_contents(root: Path, paths: Iterable[str]) -> list[str]:
    """Hash the files of a dataset, in the order of `paths`, which start from `root`.

    Raises
    ------
    DatasetError : a file cannot be read; it is named.
    """
    return [hash_content(root / path) for path in track(list(paths), "hashing slices")]


def _read(file: Path) -> bytes:
    if not file.is_file():  # reading a pipe or a device may never end
        raise FileNotFoundError
    with open(file, "rb") as handle:
        stamp = _stamp(os.fstat(handle.fileno()))  # before reading: a change meanwhile gives another stamp
        content = handle.read()
    _HASHES[file] = stamp, hashlib.sha256(content).hexdigest()
    return content


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextlib.contextmanager
def _naming(file: Path) -> Iterator[None]:
    try:
        try:
            yield
        except OSError:
            load_slices(file)  # says what is wrong with it
            raise DatasetError(f"{file}: changed while it was read; start again.") from None
    except UnreadableImage as error:
        raise DatasetError(f"{file.parent}/{error}") from error
