"""Files that are whole or not there: written beside their place, then renamed into it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "write_text"]


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Give a path to write to; on success it takes `file`'s place, on failure it is removed."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        yield partial
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(file) as partial:
        partial.write_text(text, encoding="utf-8")
