"""Progress for everything that lasts: a live bar in a terminal, a plain line every few seconds elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["hush", "is_first", "say", "track"]

Item = TypeVar("Item")

_IS_HUSHED = ContextVar("_IS_HUSHED", default=False)

PLAIN_INTERVAL = 10.0  # seconds between plain lines: readable in a log, and never a flood


def is_first() -> bool:
    """Whether this is the process that writes and prints: the only one, or the first that torchrun started."""
    return int(os.environ.get("RANK", "0")) == 0


def say(message: str) -> None:
    """Print one line for the user, on standard error so that standard output stays free for results.

    Of several processes that torchrun started, only the first prints.
    """
    if is_first():
        print(message, file=sys.stderr, flush=True)


@contextmanager
def hush() -> Iterator[None]:
    """Let `track` show nothing meanwhile, in this thread: a server's log is no place for what visitors wait for."""
    before = _IS_HUSHED.set(True)
    try:
        yield
    finally:
        _IS_HUSHED.reset(before)


def track(
    items: Iterable[Item],
    description: str,
    *,
    total: int | None = None,
    status: Callable[[], str] = str,
) -> Iterator[Item]:
    """Yield `items`, showing how far along they are and the time left.

    Parameters
    ----------
    items : what to go through.
    description : the words before the bar, for example ``"epoch 3/35"``.
    total : how many there are, where `items` has no length.
    status : called at every step for the words after the bar, for example the loss.

    Nothing is shown for what ends within 2 seconds and is not a live bar.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if total == 1:  # one step is done or not; a bar of it inside another bar would only flicker
        return iter(items)
    if not is_first() or _IS_HUSHED.get():
        return iter(items)
    follow = _follow_live if sys.stderr.isatty() else _follow_plainly
    return follow(items, description, total, status)


def _follow_live(
    items: Iterable[Item], description: str, total: int | None, status: Callable[[], str]
) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total, status="")
        for item in items:
            yield item
            progress.update(task, advance=1, status=status())


def _follow_plainly(
    items: Iterable[Item], description: str, total: int | None, status: Callable[[], str]
) -> Iterator[Item]:
    start = time.monotonic()
    due = start + 2.0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now >= due and done != total:
            due = now + PLAIN_INTERVAL
            left = f", {(now - start) / done * (total - done):.0f} s left" if total else ""
            words = status()
            say(f"{description}: {done}{f'/{total}' if total else ''}{left}{f', {words}' if words else ''}")
