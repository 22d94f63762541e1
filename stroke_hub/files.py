"""Files that are whole or not there: written beside their place, then renamed; and where the cache is."""

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from stroke_hub.errors import RunError

__all__ = ["atomic_folder", "atomic_write", "find_cache", "hash_file", "name_bytes", "write_text"]


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Give a path to write to; on success it takes `file`'s place, on failure it is removed.

    Raises
    ------
    OSError : it cannot be written; `filename` says which, as a full disk does not.
    """
    partial = file.with_name(f".{file.name}.partial")
    try:
        with _naming(file):
            yield partial
            os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to fill; on success it becomes `folder`, on failure or interruption nothing is left.

    Raises
    ------
    RunError : `folder` is there already and not an empty folder.
    OSError : it cannot be written; `filename` says what.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder}: is there already and not empty; give a new folder.")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with _naming(folder):
            yield partial
            if folder.exists():
                folder.rmdir()
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name a path in an error that names none: of a full disk the system does not say where."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def find_cache() -> Path:
    """The folder of decoded slices and what else can be made again.

    It is STROKE_HUB_CACHE, or stroke_hub/squares in XDG_CACHE_HOME or ~/.cache.
    """
    chosen = os.environ.get("STROKE_HUB_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "stroke_hub" / "squares"


def hash_file(file: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def name_bytes(content: bytes, name: str) -> BinaryIO:
    """Make a stream of bytes that messages call by a name."""
    stream = io.BytesIO(content)
    stream.name = name
    return stream


def write_text(file: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_write(file) as partial:
        partial.write_text(text, encoding="utf-8")
