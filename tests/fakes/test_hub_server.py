"""The loopback Hub, driven by the real huggingface_hub client in processes of its own.

The functions that take plain values and import the client run there; their source is handed over as it stands here.
"""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.hub_server import Hub, make_hub, serve_hub  # noqa: F401

ROOT = Path(__file__).parents[2]
CARD = """---
license: apache-2.0
library_name: stroke-hub
pipeline_tag: image-classification
tags: [stroke]
model-index:
- name: tiny
  results:
  - task: {type: image-classification}
    dataset: {type: sample, name: simulated slices}
    metrics: [{type: roc_auc, value: 0.9}]
---
# A model
"""
FILES = {
    "README.md": CARD.encode(),
    "config.json": b"{}\n",
    "model.safetensors": bytes(range(256)) * 2000,
    "figures/roc_curve.png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "figures/roc_curve.svg": b"<svg/>",
}


def catch(call: Callable[[], Any]) -> Any:
    """What a call gives, or the class and status of what it raises."""
    try:
        return call()
    except Exception as error:
        response = getattr(error, "response", None)
        return [type(error).__name__, None if response is None else response.status_code]


def start(function: Callable[..., Any], environment: dict[str, str], *arguments: object) -> subprocess.Popen[str]:
    """A process that calls the function and prints, as JSON, what it gives."""
    imports = (
        "import json, sys\nfrom collections.abc import Callable\nfrom pathlib import Path\nfrom typing import Any\n"
    )
    call = f"print(json.dumps({function.__name__}(*json.loads(sys.argv[1]))))"
    code = "\n".join([imports, inspect.getsource(catch), inspect.getsource(function), call])
    command = [sys.executable, "-W", "ignore", "-c", code, json.dumps(arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str]) -> Any:
    answer, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    return json.loads(answer.splitlines()[-1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with FILES."""
    for path, data in FILES.items():
        file = tmp_path / "run" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return tmp_path / "run"


def publish(folder: str) -> dict[str, Any]:
    from huggingface_hub import CommitOperationAdd, HfApi, ModelCard

    api, repo = HfApi(), "owner/tiny"
    seen: dict[str, Any] = {"before": catch(lambda: api.auth_check(repo, write=True))}
    seen["url"] = str(api.create_repo(repo))
    seen["again"] = catch(lambda: api.create_repo(repo))
    api.create_repo(repo, exist_ok=True)
    first = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Publish", commit_description="Why")
    seen["first"] = first.oid
    seen["unchanged"] = api.upload_folder(repo_id=repo, folder_path=folder).oid
    api.create_tag(repo, tag="v1", tag_message="The first")
    seen["tag again"] = catch(lambda: api.create_tag(repo, tag="v1"))
    api.create_tag(repo, tag="v1", exist_ok=True)
    api.create_branch(repo, branch="dev", revision=first.oid)
    on_branch = api.upload_file(repo_id=repo, path_in_repo="x/a.txt", path_or_fileobj=b"a", revision="dev")
    seen["branch"] = on_branch.oid
    note = CommitOperationAdd("NOTE.md", b"a note")
    pull = api.create_commit(repo, [note], commit_message="A note", create_pr=True)
    seen["pull"] = [pull.oid, pull.pr_revision, pull.pr_num]
    api.upload_file(repo_id=repo, path_in_repo="b.bin", path_or_fileobj=b"b", revision="refs/pr/1")
    api.delete_folder("figures", repo)
    seen["gone"] = catch(lambda: api.delete_file("figures/roc_curve.svg", repo))
    card = CommitOperationAdd("README.md", b"---\nlicense: mit\n---\n")
    stale = {"parent_commit": first.oid, "commit_message": "Late"}
    seen["stale"] = catch(lambda: api.create_commit(repo, [card], **stale))
    seen["broken card"] = catch(lambda: ModelCard("---\nlicense: [1]\n---\n").push_to_hub(repo))
    seen["whole card"] = catch(lambda: ModelCard.load(repo).validate())
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    seen["refs"] = {ref.ref: ref.target_commit for ref in refs.branches + refs.tags + (refs.pull_requests or [])}
    seen["history"] = [[c.commit_id, c.title, c.message, c.authors] for c in api.list_repo_commits(repo)]
    return seen


def test_the_client_publishes(hub: Hub, folder: Path, tmp_path: Path) -> None:
    seen = finish(start(publish, hub.environment(tmp_path / "home"), str(folder)))
    assert seen["before"] == ["RepositoryNotFoundError", 404]
    assert seen["url"] == f"{hub.url}/owner/tiny"
    assert seen["again"] == ["HfHubHTTPError", 409]
    history = hub.commits("owner/tiny")
    assert [c.title for c in history][1:] == ["Publish", "initial commit"]
    assert [c.parents for c in history] == [[history[1].sha], [history[2].sha], []]
    assert seen["first"] == seen["unchanged"] == history[1].sha
    assert seen["history"] == [[c.sha, c.title, c.message, [c.author]] for c in history]
    assert history[1].message == "Why"
    first = hub.files("owner/tiny", seen["first"])
    assert {path: first[path] for path in FILES} == FILES
    assert set(first) == {*FILES, ".gitattributes"}
    lfs = {path for path, file in history[1].files.items() if file.sha256}
    assert lfs == {"model.safetensors", "figures/roc_curve.png"}
    assert set(hub.files("owner/tiny")) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert seen["tag again"] == ["HfHubHTTPError", 409]
    assert hub.files("owner/tiny", "dev")["x/a.txt"] == b"a"
    assert seen["pull"] == [hub.commits("owner/tiny", "refs/pr/1")[1].sha, "refs/pr/1", 1]
    assert hub.files("owner/tiny", "refs/pr/1").keys() - set(FILES) == {".gitattributes", "NOTE.md", "b.bin"}
    assert seen["refs"] == hub.find("owner/tiny").refs
    assert seen["refs"] | {"refs/heads/dev": seen["branch"], "refs/tags/v1": seen["first"]} == seen["refs"]
    assert seen["gone"] == ["RemoteEntryNotFoundError", 404]
    assert seen["stale"] == ["HfHubHTTPError", 412]
    assert seen["broken card"] == ["ValueError", None]
    assert seen["whole card"] is None
    commits = [path for method, path in hub.requests if "/commit/" in path]
    assert len(commits) == 7, "the unchanged folder was not skipped"
    assert 501 not in hub.statuses
    assert 500 not in hub.statuses


def read(first: str) -> dict[str, Any]:
    import huggingface_hub as client

    api, repo = client.HfApi(), "owner/tiny"

    def list_files(folder: str) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())

    seen: dict[str, Any] = {}
    for revision in ("main", "v1", "refs/pr/1", first, first[:8]):
        seen[revision] = list_files(client.snapshot_download(repo, revision=revision))
    seen["config"] = Path(client.hf_hub_download(repo, "config.json", revision="refs/pr/1")).read_text()
    seen["resolved"] = [client.resolve_revision(repo, revision=name).resolved for name in (None, "v1", "refs/pr/1")]
    info = api.model_info(repo, revision="v1", files_metadata=True)
    seen["info"] = [info.sha, info.library_name, info.pipeline_tag, info.card_data.license, info.private]
    seen["siblings"] = {s.rfilename: [s.size, s.lfs and s.lfs.sha256] for s in info.siblings}
    seen["expanded"] = [api.model_info(repo, expand=["sha"]).sha, api.model_info(repo, expand=["sha"]).siblings]
    seen["top"] = [entry.path for entry in api.list_repo_tree(repo)]
    seen["tree"] = [entry.path for entry in api.list_repo_tree(repo, recursive=True)]
    seen["figures"] = [entry.path for entry in api.list_repo_tree(repo, path_in_repo="figures")]
    seen["paths"] = [entry.path for entry in api.get_paths_info(repo, ["figures", "config.json", "nothing"])]
    seen["exists"] = [api.file_exists(repo, name) for name in ("figures/roc_curve.png", "nothing")]
    card = client.ModelCard.load(repo)
    seen["card"] = [card.data.eval_results[0].metric_value, card.validate()]
    seen["no file"] = catch(lambda: client.hf_hub_download(repo, "nothing"))
    seen["no revision"] = catch(lambda: client.hf_hub_download(repo, "config.json", revision="v2"))
    seen["no repo"] = catch(lambda: client.hf_hub_download("owner/nothing", "config.json"))
    seen["no namespace"] = catch(lambda: client.hf_hub_download("nothing", "config.json"))
    seen["private"] = catch(lambda: api.model_info("owner/hidden"))
    seen["write"] = catch(lambda: api.upload_file(repo_id=repo, path_in_repo="a", path_or_fileobj=b"a"))
    seen["who"] = catch(lambda: api.whoami())
    seen["odd name"] = Path(client.hf_hub_download("owner/odd", "a b/%41é#?.txt")).read_text()
    seen["traversal"] = [api.list_repo_files("owner/odd")[0], catch(lambda: client.snapshot_download("owner/odd"))]
    seen["elsewhere"] = catch(lambda: client.HfApi(endpoint="https://huggingface.co").model_info("openai/gpt"))
    return seen


def test_anybody_reads(hub: Hub, tmp_path: Path) -> None:
    first = hub.add("owner/tiny", FILES)
    hub.add("owner/hidden", {"config.json": b"{}"}, private=True)
    hub.add("owner/odd", {"README.md": b"---\n- a\n---\n", "a b/%41é#?.txt": b"1", "../../x": b""})
    repo = hub.find("owner/tiny")
    with hub.store.lock:
        repo.refs |= {"refs/tags/v1": first, "refs/pr/1": first}
    main = hub.add("owner/tiny", {"more.txt": b"more"})
    seen = finish(start(read, hub.environment(tmp_path / "home", token=None), first))
    every = sorted([*FILES, ".gitattributes"])
    assert seen["main"] == sorted([*every, "more.txt"])
    assert seen["v1"] == seen["refs/pr/1"] == seen[first] == seen[first[:8]] == every
    assert seen["config"] == "{}\n"
    assert seen["resolved"] == [main, first, first]
    assert seen["info"] == [first, "stroke-hub", "image-classification", "apache-2.0", False]
    described = {path: [file.size, file.sha256] for path, file in repo.resolve("v1").files.items()}
    assert seen["siblings"] == described
    assert seen["expanded"] == [main, None]
    assert seen["top"] == [".gitattributes", "README.md", "config.json", "figures", "model.safetensors", "more.txt"]
    assert seen["tree"] == sorted([*every, "figures", "more.txt"])
    assert seen["figures"] == ["figures/roc_curve.png", "figures/roc_curve.svg"]
    assert sorted(seen["paths"]) == ["config.json", "figures"]
    assert seen["exists"] == [True, False]
    assert seen["card"] == [0.9, None]
    assert seen["no file"] == ["RemoteEntryNotFoundError", 404]
    assert seen["no revision"] == ["RevisionNotFoundError", 404]
    assert seen["no repo"] == seen["no namespace"] == seen["private"] == ["RepositoryNotFoundError", 401]
    assert seen["write"] == ["HfHubHTTPError", 401]
    assert seen["who"][0] == "LocalTokenNotFoundError"
    assert seen["odd name"] == "1"
    assert seen["traversal"] == ["../../x", ["ValueError", None]]  # as stored; the client refuses it by itself
    assert seen["elsewhere"] == ["ConnectError", None], "a request left the machine"
    assert 501 not in hub.statuses
    snapshots = tmp_path / "home" / "hub" / "models--owner--tiny" / "snapshots"
    assert {path: (snapshots / first / path).read_bytes() for path in FILES} == FILES


def use_tokens() -> dict[str, Any]:
    from huggingface_hub import HfApi

    seen: dict[str, Any] = {}
    for name in ("write", "read", "fine", "someone", "bad"):
        api, theirs = HfApi(token=f"hf_{name}"), {}
        who = catch(api.whoami)
        access = who["auth"]["accessToken"] if isinstance(who, dict) else None
        theirs["who"] = [who["name"], access["role"], [org["name"] for org in who["orgs"]]] if access else who
        theirs["scopes"] = access and access.get("fineGrained", {}).get("scoped")
        for repo in (f"owner/{name}", f"lab/{name}"):
            theirs[f"create {repo.split('/')[0]}"] = catch(lambda api=api, repo=repo: str(api.create_repo(repo)))
        theirs["check"] = catch(lambda api=api: api.auth_check("owner/open", write=True))
        theirs["sees"] = catch(lambda api=api: api.model_info("owner/hidden").private)
        add = {"repo_id": "owner/open", "path_in_repo": f"{name}.bin", "path_or_fileobj": name.encode()}
        theirs["upload"] = catch(lambda api=api, add=add: api.upload_file(**add) and None)
        theirs["propose"] = catch(lambda api=api, add=add: api.upload_file(**add, create_pr=True).pr_num)
        seen[name] = theirs
    return seen


def test_tokens_open_what_they_say(hub: Hub, tmp_path: Path) -> None:
    hub.add("owner/open", {"config.json": b"{}"})
    hub.add("owner/hidden", {"config.json": b"{}"}, private=True)
    seen = finish(start(use_tokens, hub.environment(tmp_path / "home", "bad")))
    scopes = [{"entity": {"type": "user", "name": "owner"}, "permissions": ["repo.content.read", "repo.write"]}]
    refused, unknown = ["HfHubHTTPError", 403], ["HfHubHTTPError", 401]
    for name, (who, sees, owner, lab, proposal) in {
        "write": (["owner", "write", ["lab"]], True, True, True, None),
        "read": (["owner", "read", ["lab"]], True, False, False, refused),
        "fine": (["owner", "fineGrained", []], True, True, False, None),
        "someone": (["someone", "write", []], ["RepositoryNotFoundError", 404], False, False, 1),
        "bad": (unknown, unknown, None, None, unknown),
    }.items():
        no = unknown if name == "bad" else refused
        assert seen[name] == {
            "who": who,
            "scopes": scopes if name == "fine" else None,
            "create owner": f"{hub.url}/owner/{name}" if owner else no,
            "create lab": f"{hub.url}/lab/{name}" if lab else no,
            "check": None if owner else no,
            "sees": sees,
            "upload": None if owner else no,
            "propose": proposal,
        }, name


def use_spaces(folder: str) -> dict[str, Any]:
    from huggingface_hub import HfApi, SpaceCard, snapshot_download

    api, repo = HfApi(), "owner/demo"
    seen: dict[str, Any] = {"url": str(api.create_repo(repo, repo_type="space", space_sdk="gradio", private=True))}
    head = "---\ntitle: Demo\nsdk: gradio\ncolorFrom: {}\ncolorTo: red\n---\n"
    wrong = {"repo_id": repo, "repo_type": "space", "path_in_repo": "README.md"}
    seen["wrong"] = catch(lambda: api.upload_file(**wrong, path_or_fileobj=head.format("mauve").encode()))
    Path(folder, "README.md").write_text(head.format("blue"))
    seen["commit"] = api.upload_folder(repo_id=repo, repo_type="space", folder_path=folder, delete_patterns="*").oid
    info = api.space_info(repo)
    seen["info"] = [info.sha, info.sdk, info.private, info.card_data.title]
    seen["card"] = SpaceCard.load(repo).data.title
    seen["here"] = sorted(path.name for path in Path(snapshot_download(repo, repo_type="space")).iterdir())
    data = api.create_repo("owner/slices", repo_type="dataset")
    api.upload_file(repo_id="owner/slices", repo_type="dataset", path_in_repo="a.csv", path_or_fileobj=b"a\n1\n")
    seen["dataset"] = [str(data), api.list_repo_files("owner/slices", repo_type="dataset")]
    return seen


def test_spaces_and_datasets(hub: Hub, folder: Path, tmp_path: Path) -> None:
    seen = finish(start(use_spaces, hub.environment(tmp_path / "home"), str(folder)))
    head = hub.commits("owner/demo", repo_type="space")[0]
    assert seen["url"] == f"{hub.url}/spaces/owner/demo"
    assert seen["wrong"] == ["ValueError", None]
    assert seen["commit"] == head.sha
    assert seen["info"] == [head.sha, "gradio", True, "Demo"]
    assert seen["card"] == "Demo"
    assert set(head.files) == {*FILES, ".gitattributes"}
    assert seen["here"] == [".gitattributes", "README.md", "config.json", "figures", "model.safetensors"]
    assert seen["dataset"] == [f"{hub.url}/datasets/owner/slices", [".gitattributes", "a.csv"]]
    assert 501 not in hub.statuses


def download(paths: list[str]) -> list[int]:
    from huggingface_hub import hf_hub_download

    return [Path(hf_hub_download("owner/tiny", path)).stat().st_size for path in paths]


def test_a_download_goes_on_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    size = 100_000  # 25 MB each: the client writes, and so resumes, in steps of 10 MiB
    files = {"a.bin": bytes(range(251)) * size, "b.bin": bytes(range(250, 0, -1)) * size}
    hub.add("owner/tiny", files)
    hub.kill_at(2, when="during")
    process = start(download, hub.environment(tmp_path / "home", token=None), list(files))
    assert hub.died.wait(20)
    hub.restart()
    hub.cut_at(3, when="during")
    assert finish(process) == [len(data) for data in files.values()]
    assert [method for method, _ in hub.requests] == ["HEAD", "GET", "GET", "HEAD", "GET", "GET"]
    assert hub.statuses == [200, 200, 206, 200, 200, 206]
    cached = (tmp_path / "home" / "hub" / "models--owner--tiny" / "snapshots").rglob("*.bin")
    assert {path.name: path.read_bytes() for path in cached} == files


def publish_by_line() -> None:
    import time

    from huggingface_hub import CommitOperationAdd, HfApi

    time.sleep = lambda seconds: None  # the client's waits between its attempts
    for line in sys.stdin:
        name = line.strip()
        contents = {"README.md": "---\nlicense: mit\n---\n", "config.json": name, "model.safetensors": name * 999}
        operations = [CommitOperationAdd(path, text.encode()) for path, text in contents.items()]

        def attempt(repo: str = f"owner/{name}", operations: list[CommitOperationAdd] = operations) -> str:
            api = HfApi()
            api.create_repo(repo, exist_ok=True)
            commit = api.create_commit(repo, operations, commit_message="Publish")
            api.create_tag(repo, tag="v1", revision=commit.oid, exist_ok=True)
            return "done"

        print(json.dumps(catch(attempt)), flush=True)


@pytest.mark.slow
def test_killed_at_every_request_it_loses_nothing_and_doubles_nothing(hub: Hub, tmp_path: Path) -> None:
    process = start(publish_by_line, hub.environment(tmp_path / "home"))
    assert process.stdin is not None
    assert process.stdout is not None

    def attempt(name: str) -> Any:
        print(name, file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    assert attempt("whole") == "done"
    routes = list(hub.requests)
    assert len(routes) == 8  # create, card, modes, LFS batch, PUT, verify, commit, tag
    kills = [(1, "before"), (7, "before"), (7, "during"), *((n, "after") for n in range(1, len(routes) + 1))]
    for n, when in kills:
        name = f"{when}-{n}"
        hub.kill_at(n, when=when)
        assert attempt(name) != "done", name
        assert hub.died.is_set(), name
        hub.restart()
        done = n - (when == "before")  # requests that took effect
        repo = hub.store.repos.get(("models", f"owner/{name}"))
        assert (repo is not None) == (done >= 1), name
        assert repo is None or len(hub.files(f"owner/{name}")) == (4 if done >= 7 else 1), name
        before = len(hub.requests)
        assert attempt(name) == "done", name
        assert [commit.title for commit in hub.commits(f"owner/{name}")] == ["Publish", "initial commit"], name
        assert hub.files(f"owner/{name}", "v1")["model.safetensors"] == (name * 999).encode(), name
        uploads = [method for method, _ in hub.requests[before:]].count("PUT")
        assert uploads == (0 if done >= 5 else 1), name
    process.stdin.close()
    assert process.wait(10) == 0
    process.stdout.close()
    process.stderr.close()


def test_by_hand(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "tests" / "fakes" / "hub_server.py"),
        "--folder",
        str(tmp_path / "kept"),
        "--port",
    ]
    with subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            exports = dict(re.findall(r"^export (\w+)=(\S+)", "".join(islice(process.stdout, 5)), re.MULTILINE))
            header = {"Authorization": f"Bearer {exports['HF_TOKEN']}"}
            with httpx.Client(base_url=exports["HF_ENDPOINT"], headers=header, trust_env=False) as client:
                made = client.post("/api/repos/create", json={"name": "tiny", "type": "model"})
                assert made.json()["name"] == "owner/tiny"
                assert client.get("/api/unheard-of/x/y").status_code == 501
            taken = [*command, exports["HF_ENDPOINT"].split(":")[-1]]
            again = subprocess.run(taken, capture_output=True, text=True, check=False, timeout=30)
            assert (again.returncode, again.stderr.splitlines()[-1][:11]) == (1, "error: port"), again.stderr
        finally:
            process.terminate()
    assert process.returncode == 0
    with serve_hub(tmp_path / "kept") as hub:
        assert [commit.title for commit in hub.commits("owner/tiny")] == ["initial commit"]
