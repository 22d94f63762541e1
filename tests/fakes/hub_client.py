"""A process whose huggingface_hub talks to the loopback Hub, and that calls what a test asks it to.

The client library reads its address when it is imported, so it cannot be the test's own process; starting one costs
seconds, so one serves many tests, each with repositories of its own:

    client.call(publish, run, "owner/name")            # what it gives, or raises Failed with what it raised
    client.call(check_access, "owner/x", who="read")  # as somebody else

In a test module, `from tests.fakes.hub_client import make_client, make_hub  # noqa: F401` brings the fixtures
`client` and `hub`, one of each a module.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hub_server import Hub, serve_hub

__all__ = ["Client", "Failed", "fail", "make_client", "make_hub", "start_client"]

ROOT = Path(__file__).parents[2]


class Failed(Exception):
    """What a call raised: the name of its class, and its message as the text of this one."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Client:
    """The process, with its cache in `home`. `said` is what the last call printed."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.home = home
        environment = hub.environment(home) | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-W", "ignore", "-m", "tests.fakes.hub_client"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
        self.said = ""

    def call(self, function: Callable[..., Any], *arguments: Any, who: str | None = "write", **options: Any) -> Any:
        """Call an importable function there; arguments and answer travel as JSON, paths as text."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"module": function.__module__, "name": function.__qualname__, "token": who and f"hf_{who}"}
        order |= {"arguments": arguments, "options": options}
        print(json.dumps(order, default=str), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        self.said = answer["said"]
        if "failed" in answer:
            raise Failed(*answer["failed"])
        return answer["value"]


@contextmanager
def start_client(hub: Hub, home: Path) -> Iterator[Client]:
    """A client with a cache of its own in `home`."""
    client = Client(hub, home)
    with client.process:
        yield client
        assert client.process.stdin is not None
        client.process.stdin.close()
    assert client.process.returncode == 0


def fail(client: Client, *arguments: Any, **options: Any) -> str:
    """The one sentence of ours that a call fails with."""
    with pytest.raises(Failed) as caught:
        client.call(*arguments, **options)
    sentence = str(caught.value)
    assert caught.value.kind in ("HubError", "ModelFormatError", "RunError"), sentence
    assert len(sentence.splitlines()) == 1
    assert sentence.isprintable()
    assert sentence.endswith(".")
    return sentence


@pytest.fixture(name="hub", scope="module")
def make_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """An empty Hub."""
    with serve_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(name="client", scope="module")
def make_client(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of it, whose cache lies in a folder that no other test writes into."""
    with start_client(hub, tmp_path_factory.mktemp("client") / "home") as client:
        yield client


def answer_calls() -> None:
    """Do what comes in, a line a call, until there is no more."""
    import time

    time.sleep = lambda seconds: None  # the library's waits between its attempts
    for line in sys.stdin:
        order = json.loads(line)
        os.environ["HF_TOKEN"] = order["token"] or ""
        function: Any = importlib.import_module(order["module"])
        for name in order["name"].split("."):
            function = getattr(function, name)
        said, answer = StringIO(), {}
        with redirect_stderr(said), redirect_stdout(said):
            try:
                answer["value"] = function(*order["arguments"], **order["options"])
            except Exception as error:
                answer["failed"] = [type(error).__name__, str(error)]
        print(json.dumps(answer | {"said": said.getvalue()}), flush=True)


if __name__ == "__main__":
    answer_calls()
