"""Uploads: files of others become slices; nothing of them outlives the session that brought them."""

from __future__ import annotations  # naming a type must not import torch before the page answers

import contextlib
import os
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, ListFiles

__all__ = ["KEPT_SECONDS", "UploadSessions", "build_upload", "open_upload_folder"]

KEPT_SECONDS = 900  # files and results: long enough to look at
GRACE_SECONDS = 60  # a file of the same bytes, uploaded by somebody else, lies in the same place


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


class UploadSessions:
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
