"""Errors that a user can cause or meet, each with one sentence; and helpers that make text fit for a sentence."""

__all__ = [
    "DatasetError",
    "HubError",
    "MissingExtra",
    "ModelFormatError",
    "RunError",
    "StrokeHubError",
    "UnreadableImage",
    "pluralise",
    "printable",
]


class StrokeHubError(Exception):
    """The base of all errors below; commands print it as one line and exit with status 1."""


class UnreadableImage(StrokeHubError, ValueError):
    """A file or array that cannot be decoded into a slice."""


class DatasetError(StrokeHubError, ValueError):
    """A dataset folder that cannot be trained or evaluated on."""


class ModelFormatError(StrokeHubError, ValueError):
    """A configuration or weights file that does not describe one of our models exactly."""


class RunError(StrokeHubError, RuntimeError):
    """A run folder that does not fit what was asked of it."""


class MissingExtra(StrokeHubError, ImportError):
    """A package that is not installed, and the extra that brings it."""


class HubError(StrokeHubError, RuntimeError):
    """The Hub refused or could not be reached."""


def printable(text: str, *, limit: int = 60) -> str:
    """Text of others made safe for a message: one line, no markup, at most `limit` (>= 3) characters."""
    kept = "".join(sign if sign.isprintable() and sign not in "<>&\"'`[]*|\\" else "?" for sign in text)
    tail = limit // 3
    return kept if len(kept) <= limit else f"{kept[: limit - tail - 1]}…{kept[-tail:]}"


def pluralise(n: int, noun: str) -> str:
    """Put a number before its noun: ``1 slice``, ``1,234 slices``."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
