"""from_pretrained over HTTP: two files of one commit, offline once cached; hostile repositories are refused."""

import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save, save_file
from starlette.requests import Request
from starlette.responses import Response

from stroke_hub import ResNetViT
from tests.fakes import hub_api
from tests.fakes.hub_client import Client, fail, make_client, make_hub  # noqa: F401
from tests.fakes.hub_server import Hub
from tests.models.test_resnet_vit import DAMAGED_CONFIGS, HOSTILE_CONFIGS, spoil_file, spoil_weights

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@pytest.fixture(scope="module")
def files(run_dir: Path) -> dict[str, bytes]:
    """A model, as its repository has it."""
    return {name: (run_dir / name).read_bytes() for name in (CONFIG, WEIGHTS)}


def compute_logits(name: str, **options: Any) -> dict[str, Any]:
    """Load a model; its logits for fixed pixels, exactly, and the commit that it is of."""
    model = ResNetViT.from_pretrained(name, **options)
    assert not any(part.training for part in model.modules())
    pixels = torch.linspace(0, 1, 2 * 3 * model.image_size**2).reshape(2, 3, model.image_size, -1)
    with torch.inference_mode():
        return {"logits": model(pixels).tolist(), "commit": model.commit}


def turn_bias(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same model with other answers: the head's last bias turned round."""
    weights = load(files[WEIGHTS])
    key = max(key for key in weights if key.startswith("head.") and key.endswith(".bias"))
    return files | {WEIGHTS: save(weights | {key: weights[key].flip(0) + 1.0})}


def test_a_fresh_process_gives_the_same_logits_from_two_files(
    hub: Hub, client: Client, files: dict[str, bytes], run_dir: Path
) -> None:
    sha = hub.add("owner/tiny", files | {"README.md": b"# words\n", "pytorch_model.bin": b"pickle"})
    asked = len(hub.requests)
    found = client.call(compute_logits, "owner/tiny", who=None)
    assert found == {"logits": compute_logits(str(run_dir))["logits"], "commit": sha}
    address = "/owner/tiny/resolve"
    assert hub.requests[asked:] == [
        *((method, f"{address}/main/{CONFIG}") for method in ("HEAD", "GET")),
        *((method, f"{address}/{sha}/{WEIGHTS}") for method in ("HEAD", "GET")),
    ]
    for revision in (sha, sha[:8], "main"):
        assert client.call(compute_logits, "owner/tiny", revision=revision) == found
    asked = len(hub.requests)
    assert client.call(compute_logits, "owner/tiny", revision=sha) == found
    assert len(hub.requests) == asked, "a pinned commit that is cached asks nobody"
    hub.stop()
    try:
        for options in ({"revision": sha}, {}, {"local_files_only": True}):
            assert client.call(compute_logits, "owner/tiny", **options) == found
        assert "cannot be downloaded from the Hub" in fail(client, compute_logits, "owner/other")
    finally:
        hub.restart()


def test_a_push_between_the_two_requests_is_not_mixed_in(
    hub: Hub, client: Client, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hub.add("owner/moving", files)
    commits = [before]
    download = hub_api.Api.download

    async def push_behind_the_configuration(api: hub_api.Api, request: Request) -> Response:
        response = await download(api, request)
        if request.method == "GET" and request.path_params["path"] == CONFIG and len(commits) == 1:
            commits.append(hub.add("owner/moving", turn_bias(files)))
        return response

    monkeypatch.setattr(hub_api.Api, "download", push_behind_the_configuration)
    hub.restart()
    first = client.call(compute_logits, "owner/moving")
    assert len(commits) == 2
    assert first["commit"] == before
    assert first == client.call(compute_logits, "owner/moving", revision=before)
    second = client.call(compute_logits, "owner/moving")
    assert second["commit"] == commits[1]
    assert second["logits"] != first["logits"]


def test_a_server_that_is_gone_or_refuses_is_a_sentence(hub: Hub, client: Client, files: dict[str, bytes]) -> None:
    hub.add("owner/hidden", files, private=True)
    hub.add("owner/cut", files)
    for name, options in (
        ("owner/hidden", {"who": "someone"}),
        ("owner/none", {}),
        ("owner/cut", {"revision": "v9"}),
        ("no such/thing", {}),
        ("owner/../cut", {}),
    ):
        assert re.search("refused|neither a folder nor", fail(client, compute_logits, name, **options))
    hub.kill_at(4, when="during")  # half of the weights
    assert "cannot be downloaded from the Hub" in fail(client, compute_logits, "owner/cut")
    hub.restart()
    assert client.call(compute_logits, "owner/cut")["logits"]


class Bomb:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return (os.mkdir, (str(self.folder),))


def list_hostile(files: dict[str, bytes], crater: Path, scratch: Path) -> dict[str, dict[str, bytes]]:
    """Repositories, by what is wrong with them."""
    config, bomb, file = json.loads(files[CONFIG]), pickle.dumps(Bomb(crater)), scratch / WEIGHTS
    torch.save({"weights": Bomb(crater)}, scratch / "bomb.bin")
    zipped = (scratch / "bomb.bin").read_bytes()
    file.write_bytes(files[WEIGHTS])
    names = {
        "pytorch_model.bin": zipped,
        "pytorch_model.pt": zipped,
        "../../x": bomb,
        "/etc/x": bomb,
        "setup.py": b"1/0",
    }
    repos = {
        "nothing": {"README.md": b"words"},
        "pickle-only": {CONFIG: files[CONFIG]} | names,
        "no-config": {WEIGHTS: files[WEIGHTS]} | names,
        "config-is-a-pickle": files | {CONFIG: bomb},
        "weights-are-a-pickle": files | {WEIGHTS: bomb},
        "weights-are-torchs": files | {WEIGHTS: zipped},
        "config-elsewhere": {"../config.json": files[CONFIG], WEIGHTS: files[WEIGHTS]},
        "python": {
            CONFIG: json.dumps(config | {"auto_map": {"AutoModel": "model.Model"}}).encode(),
            "model.py": b"1/0",
        },
    }
    repos |= {
        f"config-{k}": files | {CONFIG: json.dumps(config | change).encode()}
        for k, (change, _) in enumerate(HOSTILE_CONFIGS)
    }
    repos |= {f"damaged-{k}": files | {CONFIG: text.encode()} for k, text in enumerate(DAMAGED_CONFIGS)}
    repos |= {f"file-{name}": files | {WEIGHTS: data} for name, data in spoil_file(files[WEIGHTS]).items()}
    for name, (weights, _) in spoil_weights(load_file(file)).items():
        save_file(weights, file)
        repos[f"weights-{name}"] = files | {WEIGHTS: file.read_bytes()}
    return repos


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_hostile_repositories_are_refused_and_nothing_is_executed(
    hub: Hub, client: Client, files: dict[str, bytes], tmp_path: Path, step: int
) -> None:
    crater = tmp_path / "crater"
    pickle.loads(pickle.dumps(Bomb(crater)))  # noqa: S301
    crater.rmdir()  # it works
    repos = list_hostile(files, crater, tmp_path)
    assert len(repos) == 69
    pickles, damaged = list(repos.items())[:8], list(repos.items())[8:]
    for name, content in pickles + damaged[::step]:
        hub.add(f"owner/{name}", content)
        sentence = fail(client, compute_logits, f"owner/{name}")
        assert sentence.startswith(f"owner/{name}: "), sentence
        assert len(sentence) < 400, sentence
        assert not crater.exists(), name
    assert {path.name for path in client.home.rglob("snapshots/*/*")} == {CONFIG, WEIGHTS}
    assert not list(client.home.parent.rglob("x"))
    assert 501 not in hub.statuses
    hub.add("owner/fine", files | {"../../x": b"", "setup.py": b"1/0", "pytorch_model.bin": b"pickle"})
    assert client.call(compute_logits, "owner/fine")["logits"]
