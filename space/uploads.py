"""Uploads: files of others become slices; nothing of them outlives the session that brought them."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import contextlib
import functools
import hashlib
import inspect
import io
import os
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import gradio as gr
from gradio.data_classes import FileData, ListFiles

import stroke_hub

__all__ = [
    "KEPT_SECONDS",
    "MAX_PIXELS",
    "WINDOWS",
    "Study",
    "Visits",
    "answer_plainly",
    "build_upload",
    "open_upload_folder",
    "put_plainly",
    "read_study",
]

P = ParamSpec("P")
T = TypeVar("T")

KEPT_SECONDS = 900  # files and results: long enough to look at
GRACE_SECONDS = 60  # a file of the same bytes, uploaded by somebody else, lies in the same place
MAX_PIXELS = 16_000_000  # of one slice; a volume may hold four times as many, and a session keeps one
WINDOWS = ("brain", "stroke", "subdural")
UNEXPECTED = "Something went wrong on our side; try again, or try another file."


def build_upload(**options: Any) -> gr.File:
    """A gr.File that hands over where files lie; its own way would leave an empty file behind each time.

    A subclass would be tidier, but Gradio writes a stub file beside the source of each.
    """
    component = gr.File(**options)
    component.preprocess = _find_paths  # type: ignore[method-assign]
    return component


def _find_paths(payload: ListFiles | FileData | None) -> Any:
    if isinstance(payload, ListFiles):
        return [file.path for file in payload.root]
    return payload.path if payload else None


class Study(NamedTuple):
    """A file that was read: its slices, and what may be said of it.

    name : the file's, fit to print. sha256 : of its bytes. windowed : whether a CT window changes it.
    """

    name: str
    sha256: str
    slices: list[stroke_hub.Slice]
    windowed: bool = False
    example: str = ""


def read_study(path: str | None, window: str | None = None) -> Study:
    """Decode an upload.

    Raises
    ------
    UnreadableImage : it is none, or cannot be decoded.
    """
    if path is None:
        raise stroke_hub.UnreadableImage("There is no file; upload a slice first.")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        raise stroke_hub.UnreadableImage("The file is no longer here; upload it again.") from None
    slices = _decode(content, path, window)
    return Study(
        name=slices[0].source,
        sha256=hashlib.sha256(content).hexdigest(),
        slices=slices,
        windowed=_is_windowed(content, path, slices),
    )


def _decode(content: bytes, path: str, window: str | None) -> list[stroke_hub.Slice]:
    stream = io.BytesIO(content)
    stream.name = os.path.basename(path)
    options: dict[str, Any] = {"max_pixels": MAX_PIXELS, "window": window}
    return stroke_hub.load_slices(stream, **options)


def _is_windowed(content: bytes, path: str, slices: list[stroke_hub.Slice]) -> bool:
    """Whether windows change what is seen: so with CT, and with a volume that holds Hounsfield units."""
    if slices[0].modality is not None:  # a DICOM header said so: pictures have none
        return slices[0].modality == "BT"
    if content[:2] != b"\x1f\x8b" and content[344:347] not in (b"n+1", b"ni1"):  # no NIfTI, packed or plain
        return False
    middle = len(slices) // 2
    looks = [_decode(content, path, window)[middle].pixels for window in ("stroke", "subdural")]
    return bool((looks[0] != looks[1]).any())


class Visits:
    """Which files a session has brought, so that they go when it ends."""

    def __init__(self) -> None:
        self._files: dict[str, set[str]] = {}
        self._ended: deque[tuple[float, set[str]]] = deque()
        self._sweeping = False
        self._lock = threading.Lock()

    def add(self, request: gr.Request | None, *paths: str) -> None:
        """Remember files of the session that asks."""
        session = getattr(request, "session_hash", None)
        if session:
            with self._lock:
                self._files.setdefault(session, set()).update(paths)

    def end(self, session: str | None) -> None:
        """Delete the files of a session a minute from now, but those that somebody else uploaded since."""
        with self._lock:
            files = self._files.pop(session or "", set())
            if files:
                self._ended.append((time.monotonic() + GRACE_SECONDS, files))
            if files and not self._sweeping:
                self._sweeping = True
                threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    def _sweep(self) -> None:
        """Delete what is due, until nothing is left; one thread, however many sessions end within a minute."""
        while True:
            with self._lock:
                if not self._ended:
                    self._sweeping = False
                    return
                due, files = self._ended.popleft()
            time.sleep(max(0.0, due - time.monotonic()))
            _delete(files)


def _delete(files: set[str]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            if os.stat(file).st_mtime < time.time() - GRACE_SECONDS:
                os.unlink(file)


def open_upload_folder() -> None:
    """Have uploads lie in a folder of this user's demos, and delete what one that was killed left there.

    Files older than a running demo keeps its own go; GRADIO_TEMP_DIR names another folder, which is left alone.
    """
    if os.environ.get("GRADIO_TEMP_DIR"):
        return
    user = os.getuid() if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir(), f"stroke_hub_demo{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    for place, _, names in os.walk(folder, topdown=False):
        for file in (Path(place, name) for name in names):
            with contextlib.suppress(OSError):
                if file.stat().st_mtime < time.time() - KEPT_SECONDS - GRACE_SECONDS:
                    file.unlink()
        with contextlib.suppress(OSError):  # what is not empty stays
            if place != str(folder):
                os.rmdir(place)


def answer_plainly(handler: Callable[P, T]) -> Callable[P, T]:
    """A handler whose every failure is one sentence; the log gets the place of it, and nothing of a visitor."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def answer_in_steps(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                yield from handler(*args, **kwargs)
            except Exception as error:
                raise put_plainly(error) from None

        return answer_in_steps

    @functools.wraps(handler)
    def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            raise put_plainly(error) from None

    return answer


def put_plainly(error: Exception) -> gr.Error:
    """The sentence for a failure, that nobody logs."""
    quiet: dict[str, Any] = {"duration": 15, "print_exception": False}
    if isinstance(error, gr.Error):  # ours are quiet already; Gradio's own repeat what they were given
        return gr.Error(escape(str(error.message), quote=False), **quiet) if error.print_exception else error
    if isinstance(error, stroke_hub.UnreadableImage):
        return gr.Error(escape(str(error), quote=False), title="Not readable", **quiet)
    if isinstance(error, stroke_hub.StrokeHubError):
        return gr.Error(escape(str(error), quote=False), title="Not available", **quiet)
    place = traceback.extract_tb(error.__traceback__)[-1]
    print(f"unexpected {type(error).__name__} in {os.path.basename(place.filename)}:{place.lineno}", flush=True)
    return gr.Error(UNEXPECTED, title="Not done", **quiet)
