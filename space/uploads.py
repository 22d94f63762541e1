"""Uploads: where the files of visitors lie, and when they are deleted."""

from __future__ import annotations  # Gradio is imported after open_upload_folder has named its folder

import contextlib
import os
import stat
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["KEPT_SECONDS", "UploadSessions", "build_upload", "open_upload_folder"]

KEPT_SECONDS = 900  # files and results: long enough to look at
GRACE_SECONDS = 60  # Gradio stores equal files of two visitors in one place


def open_upload_folder() -> None:
    """Make a private folder for uploads, and delete what a killed demo left in it.

    Call it before Gradio is imported: Gradio would otherwise use <temporary folder>/gradio, which all users of the
    machine share, and does not start where that belongs to somebody else. Files that a running demo may still use
    stay. A folder that GRADIO_TEMP_DIR names is used as it is.
    """
    if os.environ.get("GRADIO_TEMP_DIR"):
        return
    user = os.getuid() if hasattr(os, "getuid") else ""
    folder = Path(tempfile.gettempdir(), f"stroke_hub_demo{user}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_own(folder):
        folder = Path(tempfile.mkdtemp(prefix=folder.name))
    folder.chmod(0o700)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    for place, _, names in os.walk(folder, topdown=False):
        for file in (Path(place, name) for name in names):
            with contextlib.suppress(OSError):
                if file.stat().st_mtime < time.time() - KEPT_SECONDS - GRACE_SECONDS:
                    file.unlink()
        with contextlib.suppress(OSError):  # a folder that is not empty stays
            if place != str(folder):
                os.rmdir(place)


def _is_own(folder: Path) -> bool:
    """Whether this is a folder, not a link, and belongs to this user."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == os.getuid())


def build_upload(**options: Any) -> gr.File:
    """Build a gr.File whose value is the path of the upload.

    Gradio's own preprocessing would leave an empty file behind each time. A subclass would be tidier, but Gradio
    writes a stub file beside the source of each.
    """
    import gradio as gr

    component = gr.File(**options)
    component.preprocess = _find_paths  # type: ignore[method-assign]
    return component


def _find_paths(payload: Any) -> Any:
    from gradio.data_classes import ListFiles

    if isinstance(payload, ListFiles):
        return [file.path for file in payload.root]
    return payload.path if payload else None


class UploadSessions:
    """Remember which files a session uploaded, and delete them when it ends."""

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
        """Delete the files of a session a minute from now, except those that somebody uploaded again meanwhile."""
        with self._lock:
            files = self._files.pop(session or "", set())
            if files:
                self._ended.append((time.monotonic() + GRACE_SECONDS, files))
            if files and not self._sweeping:
                self._sweeping = True
                threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    def _sweep(self) -> None:
        """Delete what is due until nothing is left; one thread, however many sessions end within a minute."""
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
