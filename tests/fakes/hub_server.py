"""A Hub on loopback: what the real, unpatched huggingface_hub client needs of the Hub, and ways to break it.

python tests/fakes/hub_server.py --port 8899 --folder hub   # prints what to export; without --folder nothing stays

Everything lives in a folder, so a server that was killed and started again knows exactly what a new process would.
There are two users, "owner" (a member of "lab") and "someone"; TOKENS says who may write where. In a test module:

    from tests.fakes.hub_server import Hub, make_hub  # noqa: F401  (brings the fixture `hub`)

The client reads its settings when it is imported, so it runs in a process of its own, under `hub.environment(...)`.
It tries some requests again for 23 s when the server is gone (the card, upload modes, LFS, listings, downloads) and
others never (create_repo, commits, tags): a test that kills the server either ends its client too, once
`hub.died.wait()` returns, or lets `time.sleep` do nothing in the client's process, as test_hub_server.py does.
"""

import asyncio
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import tyro
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

sys.path.insert(0, str(Path(__file__).parents[2]))  # for when it is run by hand

from tests.fakes.hub_api import TOKENS, Api
from tests.fakes.hub_store import Commit, Repo, Store, is_lfs

__all__ = ["Hub", "make_hub", "serve_hub"]

RepoType = Literal["model", "dataset", "space"]
When = Literal["before", "during", "after"]

HARNESSES = "/api/agent-harnesses"  # asked by the client for its user agent, once for every fresh HF_HOME
NOWHERE = "http://127.0.0.1:9"  # the discard port, where nothing listens


class Hub:
    """The server, in a thread of this process, and what a test asks of it.

    Attributes
    ----------
    url : the address, HF_ENDPOINT; the same for as long as the Hub lives.
    requests : (method, path) of every request so far, the path as it was sent, without its query.
    statuses : what each of them was answered with; None where the answer never began.
    died : an event, set once `kill_at` has struck; `restart` puts a new one in its place.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port, self.died = folder, port, threading.Event()
        self.requests: list[tuple[str, str]] = []
        self.statuses: list[int | None] = []
        self._threads: list[threading.Thread] = []
        self._server: uvicorn.Server | None = None
        self.restart()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def restart(self) -> None:
        """Start (again) on the same port from what the folder holds; a fault that has not struck is forgotten."""
        if self._server is not None and not self.died.is_set():
            self.stop()
        self.store, self.died = Store(self.folder), threading.Event()
        self._fault: tuple[int, When, bool] | None = None
        application = partial(self._answer, Api(self.store).build(), self.died)
        settings: dict[str, Any] = {"http": "h11", "interface": "asgi3", "ws": "none", "lifespan": "off"}
        config = uvicorn.Config(
            application, port=self.port, log_config=None, log_level="error", loop="asyncio", **settings
        )
        self._server = uvicorn.Server(config)
        self._threads.append(threading.Thread(target=self._server.run, daemon=True))
        self._threads[-1].start()
        while not self._server.started:
            if not self._threads[-1].is_alive():
                raise OSError(f"port {self.port} is taken; give another.")
            time.sleep(0.002)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.should_exit = self._server.force_exit = True
        while self._threads:
            self._threads.pop().join()

    def kill_at(self, n: int, *, when: When = "before") -> None:
        """Let the server drop dead at the n-th request from now on (the next is 1).

        when : before the request takes effect; or after, unanswered; or "during", with half of the answer sent.
        The port refuses connections then, until `restart`.
        """
        self._fault = (len(self.requests) + n, when, True)

    def cut_at(self, n: int, *, when: When = "before") -> None:
        """The same, but only that request's connection breaks; the server goes on."""
        self._fault = (len(self.requests) + n, when, False)

    def environment(self, home: Path, token: str | None = "write") -> dict[str, str]:  # noqa: S107 (a name)
        """Environment variables for a process whose huggingface_hub shall talk to this Hub and to nobody else.

        home : HF_HOME; a fresh folder for a fresh cache.
        token : a name from TOKENS, "bad" for one that is not known, None for nobody.
        """
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        mine |= dict.fromkeys(
            ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), NOWHERE
        )
        mine |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        mine |= {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        mine |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        return mine if token is None else mine | {"HF_TOKEN": f"hf_{token}"}

    def find(self, repo_id: str, *, repo_type: RepoType = "model") -> Repo:
        """A repository: its `refs`, `commits`, `private`, `sdk`. Raises KeyError where there is none."""
        return self.store.repos[f"{repo_type}s", repo_id]

    def commits(self, repo_id: str, revision: str = "main", *, repo_type: RepoType = "model") -> list[Commit]:
        """The history of a revision, newest first; its last is the Hub's own "initial commit"."""
        return self.find(repo_id, repo_type=repo_type).list_history(revision)

    def files(self, repo_id: str, revision: str = "main", *, repo_type: RepoType = "model") -> dict[str, bytes]:
        """The content of every file of a revision."""
        files = self.find(repo_id, repo_type=repo_type).resolve(revision).files
        return {path: self.store.blob(file.key).read_bytes() for path, file in files.items()}

    def add(
        self, repo_id: str, files: dict[str, bytes], *, repo_type: RepoType = "model", private: bool = False
    ) -> str:
        """Commit files to main past the API, which refuses some names; make the repository where there is none.

        Returns the commit's SHA.
        """
        kind, author, store = f"{repo_type}s", repo_id.split("/")[0], self.store
        with store.lock:
            repo = store.repos.get((kind, repo_id)) or store.create(kind, repo_id, author, private=private)
            parent = repo.resolve("main")
            tree = dict(parent.files)
            for path, data in files.items():
                tree[path] = store.keep(data, lfs=is_lfs(path, len(data), data[:512]))
            return store.commit(repo, "refs/heads/main", [parent.sha], tree, title="Add files", author=author).sha

    async def _answer(
        self, api: ASGIApp, died: threading.Event, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Note the request and have it answered, unless a fault is due."""
        path = scope["raw_path"].decode("ascii")
        scope = {**scope, "path": path}
        if path == HARNESSES:  # whether it is asked says nothing about what a test does
            return await api(scope, receive, send)
        if died.is_set():
            return await asyncio.sleep(0)
        self.requests.append((scope["method"], path))
        self.statuses.append(None)
        number, sent, length = len(self.requests), 0, 0
        due, when, dies = self._fault or (0, "before", False)

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.statuses[number - 1] = message["status"]
            await send(message)

        async def send_half(message: Message) -> None:
            nonlocal sent, length
            if message["type"] == "http.response.start":
                length = int(dict(message["headers"]).get(b"content-length", 0))
                return await note(message)
            body = message["body"][: length // 2 - sent]
            sent += len(body)
            return await send({"type": "http.response.body", "body": body, "more_body": True})

        async def send_nothing(message: Message) -> None:
            pass

        if number != due:
            return await api(scope, receive, note)
        if when != "before":
            await api(scope, receive, send_half if when == "during" else send_nothing)
        return await self._break(scope["client"], at_once=when != "during", died=died if dies else None)

    async def _break(self, client: tuple[str, int], *, at_once: bool, died: threading.Event | None) -> None:
        """Break the client's connection, at once or after what was sent; with `died`, everything else too."""
        assert self._server is not None
        for connection in list(self._server.server_state.connections):
            transport = connection.transport
            if transport.get_extra_info("peername") == client and not at_once:
                transport.close()
            elif transport.get_extra_info("peername") == client or died:
                transport.abort()
        if died:
            for listener in self._server.servers:
                listener.close()
            self._server.should_exit = self._server.force_exit = True
            died.set()
        await asyncio.sleep(0)  # uvicorn hears that the connection is lost, and answers nothing


@contextmanager
def serve_hub(folder: Path, port: int = 0) -> Iterator[Hub]:
    """A Hub that keeps its repositories in `folder`; port 0 takes a free one."""
    hub = Hub(folder, port)
    try:
        yield hub
    finally:
        hub.stop()


@pytest.fixture(name="hub")
def make_hub(tmp_path: Path) -> Iterator[Hub]:
    """An empty Hub."""
    with serve_hub(tmp_path / "hub") as hub:
        yield hub


def main(port: int = 8899, folder: Path | None = None) -> None:
    """Serve a Hub on loopback until Ctrl+C.

    port : to listen on; 0 takes a free one.
    folder : where repositories are kept; without one they are gone at the end.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    users = ", ".join(f"hf_{name} ({token.user}, {token.role})" for name, token in TOKENS.items())
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            hub = stack.enter_context(serve_hub(folder, port))
        except OSError as error:
            sys.exit(f"error: {error}")
        print(f"# tokens: {users}; Ctrl+C ends")
        print(f"export HF_ENDPOINT={hub.url}\nexport HF_TOKEN=hf_write\nexport HF_HUB_DISABLE_XET=1")
        print("export HF_HOME=$(mktemp -d)  # a cache of its own", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    tyro.cli(main)
