"""Slices of a dataset, in files of their own or in volumes: read, decoded and hashed from the same bytes, once."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stroke_hub.errors import DatasetError, UnreadableImage
from stroke_hub.files import name_bytes
from stroke_hub.io.slices import Slice, load_slices
from stroke_hub.io.windowing import Modality
from stroke_hub.progress import track
from stroke_hub.scan.addresses import Stamp, load_addressed, load_mask, read_stamp, split_address

__all__ = ["hash_content", "hash_contents", "load_first", "load_lesion"]

# By file, what it looked like when it was hashed. Dates can be set back, but on POSIX no program sets st_ctime.
_HASHES: dict[Path, tuple[Stamp, str]] = {}


def load_first(file: Path, *, modality: Modality | None = None) -> tuple[Slice, str]:
    """Read a file once: its first slice, and the SHA-256 of the same bytes, 64 hexadecimal digits.

    Parameters
    ----------
    file : a picture or DICOM file, or the address of a slice in a volume (`scan.addresses`).
    modality : what the dataset says of the file; where it says nothing, a DICOM header may.

    Raises
    ------
    DatasetError : it cannot be read or decoded; it is named.
    """
    volume, number = split_address(file)
    if number is not None:
        with _naming(volume):
            before = _hash(volume)
            one = load_addressed(volume, number, modality=modality)
            if _hash(volume) != before:
                raise DatasetError(f"{volume}: changed while it was read; start again.")
            return one, _hash_address(before, number)
    with _naming(file):
        content = _read(file)
        return load_slices(name_bytes(content, file.name), modality=modality)[0], hashlib.sha256(
            content
        ).hexdigest()


def hash_content(file: Path) -> str:
    """Hash a slice's bytes with SHA-256, 64 hexadecimal digits; read its file only if it is new or was changed.

    Raises
    ------
    DatasetError : it cannot be read; it is named.
    """
    volume, number = split_address(file)
    with _naming(volume):
        content = _hash(volume)
        return content if number is None else _hash_address(content, number)


def load_lesion(file: Path) -> NDArray[np.bool_]:
    """Load the lesion mask of a slice, (H, W): a picture, or the address of a slice in a volume.

    Raises
    ------
    DatasetError : it cannot be read; it is named.
    """
    volume, number = split_address(file)
    with _naming(volume):
        return load_mask(volume, number)


def hash_contents(root: Path, paths: Iterable[str]) -> list[str]:
    """Hash the files of a dataset, in the order of `paths`, which start from `root`.

    Raises
    ------
    DatasetError : a file cannot be read; it is named.
    """
    return [hash_content(root / path) for path in track(list(paths), "hashing slices")]


def _hash(file: Path) -> str:
    known = _HASHES.get(file)
    if known is None or known[0] != read_stamp(file):
        return hashlib.sha256(_read(file)).hexdigest()
    return known[1]


def _hash_address(content: str, number: int) -> str:
    return hashlib.sha256(f"{content}#{number}".encode()).hexdigest()


def _read(file: Path) -> bytes:
    if not file.is_file():  # reading a pipe or a device may never end
        raise FileNotFoundError
    with open(file, "rb") as handle:
        stamp = read_stamp(handle.fileno())  # before reading: a change meanwhile gives another stamp
        content = handle.read()
    _HASHES[file] = stamp, hashlib.sha256(content).hexdigest()
    return content


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
