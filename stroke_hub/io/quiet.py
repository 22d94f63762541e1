"""What libraries say of a file while we decode it goes nowhere: it may hold names, and tells a user nothing."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["silence"]

LOGGERS = (
    "pydicom",
    "pydicom.pixels.decoders.base",
    "pydicom.pixels.utils",
    "openjpeg.utils",
    "nibabel.global",
    "PIL.TiffImagePlugin",
    "PIL.Image",
    "highdicom.base",
)

_here = threading.local()
_lock = threading.Lock()
_decoding = 0  # threads


class _Silence(logging.Filter):
    """Drops log records and warnings of the threads that are decoding, and of no other.

    `warnings.catch_warnings` would change the filters of all threads, and leave them changed when two overlap.
    """

    pattern = "(?!)"  # for those who copy the filters to other processes: a regular expression of nothing

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_here, "depth", 0)

    def match(self, module: str) -> bool:
        """Stand in for the compiled pattern of a warnings filter."""
        return bool(getattr(_here, "depth", 0))


_SILENCE = _Silence()
_IGNORE = ("ignore", None, Warning, _SILENCE, 0)


@contextmanager
def silence() -> Iterator[None]:
    """Let nothing that this thread warns or that the decoders log in it reach anybody, even under ``-W error``."""
    _here.depth = getattr(_here, "depth", 0) + 1
    _count(1)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _here.depth -= 1
        _count(-1)


def _count(change: int) -> None:
    """Put the filters up with the first that decodes, and take them down with the last."""
    global _decoding
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    with _lock:
        _decoding += change
        if change > 0:
            for name in LOGGERS:
                logging.getLogger(name).addFilter(_SILENCE)  # one that is there is not added again
            if _IGNORE not in filters:
                filters.insert(0, _IGNORE)
        elif not _decoding:
            for name in LOGGERS:
                logging.getLogger(name).removeFilter(_SILENCE)
            if _IGNORE in filters:
                filters.remove(_IGNORE)
