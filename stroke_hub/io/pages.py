"""The pages of one file, each decoded when it is asked for, while their units are told of all together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, wraps
from typing import ParamSpec, Protocol, TypeVar

import numpy as np

from stroke_hub.errors import UnreadableImage
from stroke_hub.io.rendering import Hounsfield, Measured, count_levels, find_hounsfield, find_step
from stroke_hub.io.windowing import Modality

__all__ = ["JudgedPages", "OnePage", "Pages", "refuse_damage"]

P = ParamSpec("P")
R = TypeVar("R")

KEPT = 1 << 24  # pixels of a file that is decoded once; of a larger one some pages are decoded twice


def refuse_damage(words: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Refuse whatever goes wrong in a decoder with these words, so that no text of the file hangs on them.

    A failure of the disk is named: a gzip or a DICOM that is damaged raises it too, but without a number.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            failure = None
            try:
                return function(*args, **kwargs)
            except UnreadableImage:
                raise
            except OSError as error:
                failure = error.strerror if error.errno else None
            except Exception:  # noqa: S110  # refused below: what is raised here would have it as its context
                pass
            if failure:
                raise UnreadableImage(f"cannot be read or unpacked ({failure}); check the disk and try again.")
            raise UnreadableImage(words)

        return call

    return decorate


class Pages(Protocol):
    """The pages of one file, in its order, and the modality where the file says it."""

    @property
    def modality(self) -> Modality | None:
        """What the file says it is."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int) -> Measured: ...


class OnePage:
    """The only page of a file that holds one, decoded already."""

    modality = None

    def __init__(self, page: Measured) -> None:
        self._page = page

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> Measured:
        return self._page


class JudgedPages(ABC):
    """Decode pages one at a time, and tell from all of them whether their values can be Hounsfield units."""

    def __init__(self) -> None:
        self._kept: dict[int, Measured] = {}

    @property
    @abstractmethod
    def _unknown(self) -> Mapping[int, int]:
        """The pages whose units nobody may have said, and how many pixels each has."""

    @abstractmethod
    def _decode(self, number: int) -> Measured:
        """Decode a page as it is stored; its units are told later."""

    @abstractmethod
    def _is_known(self, page: Measured) -> bool:
        """Tell whether the page itself says what its values are."""

    def _judge(self, number: int) -> Measured:
        """Give a page with its units."""
        page = self._kept.get(number) or self._decode(number)
        if not self._is_known(page):
            self._kept[number] = page
            page = replace(page, hounsfield=self._units)
        self._kept.pop(number, None)
        return page

    @cached_property
    def _units(self) -> Hounsfield | None:
        sizes = dict(self._unknown)
        is_kept = sum(sizes.values()) <= KEPT
        while sizes:
            few = {}
            step = find_step(sum(sizes.values()))
            for number in sizes:
                page = self._kept.get(number) or self._decode(number)
                if is_kept:
                    self._kept[number] = page
                if not self._is_known(page):
                    few[number] = page.values.ravel()[::step].copy()
            if len(few) == len(sizes):
                return find_hounsfield(count_levels(np.concatenate(list(few.values()))))
            sizes = {number: sizes[number] for number in few}  # others need no share of the sample
        return None
