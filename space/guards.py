"""Guards between the page and its visitors: mistakes become one sentence, web addresses are refused."""

import functools
import inspect
import os
import re
import traceback
from collections.abc import Callable
from html import escape, unescape
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

import stroke_hub

__all__ = ["AddressGuard", "answer_plainly", "refuse_addresses", "refuse_plainly", "say_plainly"]

P = ParamSpec("P")
T = TypeVar("T")

NO_ADDRESSES = "Web addresses are not fetched; upload the file itself."
UNEXPECTED = "Something went wrong on our side; try again, or try another file."


def answer_plainly(handler: Callable[P, T]) -> Callable[P, T]:
    """Wrap a handler so that every failure is one sentence; the log gets its place in the code, nothing else."""
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


def say_plainly(error: Exception) -> str:
    """Say a failure in one sentence, for the page itself; the log gets its place in the code, nothing else."""
    return unescape(str(put_plainly(error).message))


def put_plainly(error: Exception) -> gr.Error:
    """Make the sentence for a failure, which Gradio does not log."""
    quiet: dict[str, Any] = {"duration": 15, "print_exception": False}
    if isinstance(error, gr.Error):  # ours are quiet; Gradio's own repeat the input
        return gr.Error(escape(str(error.message), quote=False), **quiet) if error.print_exception else error
    if isinstance(error, stroke_hub.UnreadableImage):
        return gr.Error(escape(str(error), quote=False), title="Not readable", **quiet)
    if isinstance(error, stroke_hub.StrokeHubError):
        return gr.Error(escape(str(error), quote=False), title="Not available", **quiet)
    place = traceback.extract_tb(error.__traceback__)[-1]
    print(f"unexpected {type(error).__name__} in {os.path.basename(place.filename)}:{place.lineno}", flush=True)
    return gr.Error(UNEXPECTED, title="Not done", **quiet)


def refuse_addresses(app: gr.Blocks) -> None:
    """Keep every component from fetching a web address that a client sends instead of a file."""

    async def refuse(path: str, keep: Any) -> Any:
        if "://" in str(path):
            raise gr.Error(NO_ADDRESSES, print_exception=False)
        return await keep(path)

    for block in app.blocks.values():
        keep = block.async_move_resource_to_block_cache
        block.async_move_resource_to_block_cache = lambda path, keep=keep: refuse(path, keep)  # type: ignore[method-assign,misc]


def refuse_plainly(app: gr.Blocks) -> None:
    """Answer a value that a component cannot take with one sentence; Gradio would log the value."""
    keep = app.process_api

    async def process_api(*args: Any, **options: Any) -> dict[str, Any]:
        try:
            return await keep(*args, **options)
        except Exception as error:
            raise put_plainly(error) from None

    app.process_api = process_api  # type: ignore[method-assign]


class AddressGuard:
    """Refuse web addresses at Gradio's /file= and /proxy=, which would fetch them for anybody."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to Gradio."""
        asked = scope["type"] == "http" and re.search(r"/(file|proxy)=/*\w\w+:", scope["path"])
        await (PlainTextResponse(NO_ADDRESSES, 403) if asked else self.app)(scope, receive, send)
