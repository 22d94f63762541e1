"""A run is published whole or not at all to a Hub on loopback, by the real client; who may not is told before."""

import ast
import base64
import hashlib
import json
import re
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from stroke_hub import Predictor, Records, ResNetViT, load_slices, predict
from stroke_hub.cli.main import main
from stroke_hub.deploy.hub import check_access
from stroke_hub.deploy.publish import publish
from stroke_hub.io.windowing import Modality
from stroke_hub.report.card import render_card
from stroke_hub.runs.report import read_report
from tests.fakes import hub_api
from tests.fakes.hub_client import Client, fail, make_client, make_hub  # noqa: F401
from tests.fakes.hub_server import Hub
from tests.report.test_card import FIELDS, read_sections, read_text

NEEDED = {
    "README.md", "config.json", "preprocessor_config.json", "model.safetensors", "report.json", "report.html",
    "split.csv", "history.csv",
    "stroke_classification_results.csv", "summary_statistics.csv", "train_config.json", "calibration.json",
    "figures/confusion_matrix.png", "figures/confusion_matrix.svg", "figures/explanations.png",
}  # fmt: skip
TITLES = ["Model, report and card", "initial commit"]


@pytest.fixture
def run(run_dir: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, to be changed."""
    return shutil.copytree(run_dir, tmp_path / "run")


def fingerprint(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_bytes(path.read_bytes()) for path in files}


def hash_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def titles(hub: Hub, repo_id: str, revision: str = "main") -> list[str]:
    return [commit.title for commit in hub.commits(repo_id, revision)]


def change_report(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    report = json.loads((run / "report.json").read_text())
    change(report)
    (run / "report.json").write_text(json.dumps(report))


def change_weights(run: Path) -> None:
    """As if it had been trained and evaluated anew."""
    file = run / "model.safetensors"
    weights = load_file(file)
    save_file(weights | {"threshold": weights["threshold"] * 0.9}, file, metadata={"format": "pt"})
    change_report(run, lambda report: report["model"].update(weights_sha256=hash_bytes(file.read_bytes())))


def load_card(repo_id: str) -> dict[str, Any]:
    from huggingface_hub import ModelCard

    card = ModelCard.load(repo_id)
    card.validate()
    return {"text": str(card), "data": card.data.to_dict()}


def test_one_commit_holds_all_that_reproduces_the_run(hub: Hub, client: Client, run: Path) -> None:
    before = fingerprint(run)
    address = client.call(publish, run, "owner/all")
    head = hub.commits("owner/all")[0]
    assert address == f"{hub.url}/owner/all/commit/{head.sha}"
    assert titles(hub, "owner/all") == TITLES
    files = hub.files("owner/all")
    left_out = {path for path in before if path.startswith("checkpoints/")}
    assert set(files) >= NEEDED
    assert set(files) == set(before) - left_out | {"README.md", ".gitattributes", "notebook.ipynb"}
    assert {path: hash_bytes(data) for path, data in files.items() if path in before and path != "README.md"} == {
        path: digest for path, digest in before.items() if path in files and path != "README.md"
    }
    assert files["README.md"].decode() == render_card(read_report(run), repo_id="owner/all", run=run)
    settings = json.loads(files["train_config.json"])
    assert (settings["preset"], settings["epochs"], settings["seed"]) == ("tiny", 2, 0)
    tag = f"weights-{before['model.safetensors'][:8]}"
    assert {ref: sha for ref, sha in hub.find("owner/all").refs.items() if "heads" not in ref} == {
        f"refs/tags/{tag}": head.sha
    }
    asked = len(hub.requests)
    assert client.call(publish, run, "owner/all") == address
    assert "has all of this already" in client.said
    assert titles(hub, "owner/all") == TITLES
    assert not [path for method, path in hub.requests[asked:] if method == "PUT" or "/commit/" in path]
    assert fingerprint(run) == before
    client.call(main, ["push", str(run), "owner/pushed", "--private"])
    assert "published: " in client.said
    assert hub.files("owner/pushed").keys() == files.keys()
    card = client.call(load_card, "owner/all")
    assert card["data"]["model-index"][0]["results"]
    assert all(card["data"][key] for key in ("license", "library_name", "pipeline_tag", "tags"))
    sections = read_sections(card["text"])
    assert all(len(read_text(sections[title])) > 20 for title in FIELDS)
    assert 501 not in hub.statuses


def test_an_edited_card_stays_unless_its_numbers_are_asked_for(hub: Hub, client: Client, run: Path) -> None:
    repo = "owner/edited"
    client.call(publish, run, repo)
    words = "Trained on a Tuesday."
    edited = hub.files(repo)["README.md"].decode().replace("## Limits\n", f"## Limits\n\n{words}\n")
    hub.add(repo, {"README.md": edited.encode()})
    change_report(run, lambda report: report["data"].update(note="simulated slices, other words"))
    client.call(publish, run, repo)
    assert "its card was edited on the Hub and stays" in client.said
    assert hub.files(repo)["README.md"].decode() == edited
    assert json.loads(hub.files(repo)["report.json"])["data"]["note"] == "simulated slices, other words"
    client.call(publish, run, repo, update_card=True)
    renewed = hub.files(repo)["README.md"].decode()
    assert words in renewed
    assert "Every figure below is of: simulated slices, other words." in renewed
    assert "not patients" not in renewed
    count = len(hub.commits(repo))
    client.call(publish, run, repo, update_card=True)
    assert len(hub.commits(repo)) == count
    change_report(run, lambda report: report["data"].update(note="simulated slices, words again"))
    for card, sentence in (
        (b"\xff\xfe", "is not UTF-8"),
        (b"# Mine\n", "has no whole generated section"),
        (renewed.encode().replace(b"license: apache-2.0", b"license: [1]"), "Invalid metadata"),
    ):
        hub.add(repo, {"README.md": card})
        before = hub.commits(repo)[0]
        assert sentence in fail(client, publish, run, repo, update_card=True)
        assert hub.commits(repo)[0] == before


def test_a_pull_request_is_opened_once(hub: Hub, client: Client, run: Path) -> None:
    repo = "owner/open"
    hub.add(repo, {"NOTE.md": b"words"})
    main = hub.commits(repo)[0].sha
    address = client.call(publish, run, repo, create_pr=True, who="someone")
    assert address == f"{hub.url}/{repo}/discussions/1"
    assert set(hub.files(repo, "refs/pr/1")) >= NEEDED | {"NOTE.md"}
    assert client.call(publish, run, repo, create_pr=True, who="someone") == address
    change_weights(run)
    assert client.call(publish, run, repo, create_pr=True, who="someone").endswith("/discussions/2")
    assert set(hub.find(repo).refs) == {"refs/heads/main", "refs/pr/1", "refs/pr/2"}
    assert hub.commits(repo)[0].sha == main
    assert "leave the branch and the tag out" in fail(client, publish, run, repo, create_pr=True, tag="v1")
    client.call(publish, run, "owner/new", create_pr=True)
    assert set(hub.files("owner/new")) == {".gitattributes"}
    assert set(hub.files("owner/new", "refs/pr/1")) >= NEEDED
    client.call(publish, run, "owner/new")
    assert client.call(publish, run, "owner/new", create_pr=True).endswith(hub.commits("owner/new")[0].sha)


def test_a_branch_is_made_and_main_left_alone(hub: Hub, client: Client, run: Path) -> None:
    client.call(publish, run, "owner/branch", revision="dev", tag="v1", private=True)
    assert titles(hub, "owner/branch") == TITLES[1:]
    assert titles(hub, "owner/branch", "dev") == TITLES
    assert hub.commits("owner/branch", "v1") == hub.commits("owner/branch", "dev")
    assert hub.find("owner/branch").private
    client.call(publish, run, "owner/branch", revision="dev", tag="v1")
    assert titles(hub, "owner/branch", "dev") == TITLES


def predict_table(repo_id: str, root: str, rows: dict[str, Modality]) -> list[float]:
    model = ResNetViT.from_pretrained(repo_id)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    slices = [load_slices(Path(root) / path, modality=modality)[0] for path, modality in rows.items()]
    return [float(p) for p in predict(model, slices).probability]


def test_half_the_weights_cost_what_the_card_says(hub: Hub, client: Client, run: Path, sample: Records) -> None:
    repo, before = "owner/half", fingerprint(run)
    client.call(publish, run, repo, half=True)
    files = hub.files(repo)
    assert 0.4 < len(files["model.safetensors"]) / (run / "model.safetensors").stat().st_size < 0.6
    report, card = read_report(run), files["README.md"].decode()
    table = pd.read_csv(run / "stroke_classification_results.csv")
    rows = dict(zip(table["image_path"], table["image_type"], strict=True))
    found = client.call(predict_table, repo, sample.root, rows)
    change = np.abs(np.array(found) - table["stroke_probability"].to_numpy()).max()
    assert 0 < change == pytest.approx(report.half.max_probability_change, abs=1e-6)
    stated = re.search(r"no probability changes by more than (\S+)\.\n", card)
    assert stated
    assert float(stated[1]) == pytest.approx(change, rel=0.005, abs=1e-6)
    assert f"SHA-256 of the weights, as float32: `{before['model.safetensors']}`" in card
    client.call(publish, run, repo, half=True)
    assert titles(hub, repo) == TITLES
    client.call(publish, run, repo)
    assert "as float32" not in hub.files(repo)["README.md"].decode()
    whole, halved = before["model.safetensors"][:8], hash_bytes(files["model.safetensors"])[:8]
    refs = hub.find(repo).refs
    first, second = hub.commits(repo)[1], hub.commits(repo)[0]
    assert refs[f"refs/tags/weights-{whole}"] == second.sha
    assert refs[f"refs/tags/weights-{halved}"] == first.sha
    assert fingerprint(run) == before


def test_only_what_was_asked_for_goes_along_and_nothing_stale_stays(hub: Hub, client: Client, run: Path) -> None:
    repo = "owner/more"
    for name in ("model_epoch_010.pth", ".model_epoch_020.pth.partial"):
        (run / "checkpoints" / name).write_bytes(b"weights")
    asked = len(hub.requests)
    assert client.call(publish, run, repo, dry_run=True, who=None) == ""
    assert re.search(r"would upload README\.md \([\d,]+ bytes\)", client.said)
    assert "would upload model.safetensors" in client.said
    assert len(hub.requests) == asked
    assert "has no onnx to publish" in fail(client, publish, run, repo, with_onnx=True)
    client.call(publish, run, repo, with_checkpoints=True)
    checkpoint = "checkpoints/model_epoch_010.pth"
    assert [path for path in hub.files(repo) if path.startswith("checkpoints/")] == [checkpoint]
    hub.add(repo, {"faithfulness.json": b"{}", "NOTE.md": b"a human's", "onnx/model.onnx": b"old"})
    client.call(publish, run, repo)
    assert set(hub.files(repo)) > {checkpoint, "NOTE.md", "onnx/model.onnx"}
    assert "faithfulness.json" not in hub.files(repo), "an earlier run's"
    change_weights(run)
    (run / "figures" / "explanations.svg").unlink()
    first = hub.commits(repo)[0].sha
    client.call(publish, run, repo, tag="v2")
    assert hub.commits(repo)[0].parents == [first]
    there = set(hub.files(repo))
    assert "NOTE.md" in there
    assert not {path for path in there if path.startswith(("checkpoints/", "onnx/"))}, "of other weights"
    assert "figures/explanations.svg" not in there
    change_weights(run)
    before = hub.commits(repo)[0]
    assert "the tag v2 stands at another commit already" in fail(client, publish, run, repo, tag="v2")
    assert hub.commits(repo)[0] == before


def test_an_unfinished_run_is_not_published(hub: Hub, client: Client, run: Path) -> None:
    asked = len(hub.requests)
    change_report(run, lambda report: report["model"].update(weights_sha256="0" * 64))
    assert "its report is of other weights" in fail(client, publish, run, "owner/wrong")
    (run / "report.json").unlink()
    assert "has no report.json" in fail(client, publish, run, "owner/wrong")
    (run / "model.safetensors").unlink()
    assert "is not a finished run" in fail(client, publish, run, "owner/wrong")
    assert len(hub.requests) == asked


def test_who_may_not_write_is_told_in_a_sentence(
    hub: Hub, client: Client, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("someone/theirs", {})
    monkeypatch.setitem(hub_api.TOKENS, "narrow", hub_api.Token("owner", "fineGrained", ("owner", "lab")))
    for name in ("owner/x", "lab/x"):
        client.call(check_access, name)
    client.call(check_access, "owner/x", who="fine")
    client.call(check_access, "someone/theirs", create_pr=True)
    for name, who, sentence in (
        ("name", "write", "name: is not a repository name; give owner/name."),
        ("owner/a/b", "write", "is not a repository name"),
        ("owner/../x", "write", "is not a repository name"),
        ("owner/a--b", "write", "is not a repository name"),
        ("owner/" + "x" * 97, "write", "is not a repository name"),
        ("owner/x", None, "No Hub token is stored; run `hf auth login`, or set HF_TOKEN."),
        ("owner/x", "bad", "owner/x: the Hub did not accept your token; run `hf auth login` again."),
        ("owner/x", "read", "Your Hub token may only read"),
        ("someone/x", "write", "you are owner on the Hub and cannot write to someone"),
        ("lab/x", "narrow", "your Hub token is not allowed to write there"),
    ):
        assert sentence in fail(client, check_access, name, who=who)
    assert "no such repository" in fail(client, check_access, "someone/none", create_pr=True)
    for who, sentence in ((None, "did not accept your token"), ("read", "may not write"), ("someone", "may not")):
        before = fingerprint(run)
        words = fail(client, publish, run, "owner/refused", who=who)
        assert sentence in words
        assert f"the run is kept in {run}, and the same command goes on" in words
        assert fingerprint(run) == before
    assert ("models", "owner/refused") not in hub.store.repos


def slim(run: Path) -> Path:
    """Fewer figures, so that a publish is fewer requests; the routes are the same."""
    for path in (run / "figures").iterdir():
        if path.stem != "roc_curve":
            path.unlink()
    return run


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_request_the_next_attempt_completes(hub: Hub, client: Client, run: Path, step: int) -> None:
    before, report = fingerprint(slim(run)), read_report(run)
    asked = len(hub.requests)
    client.call(publish, run, "owner/whole")
    whole, count = hub.files("owner/whole"), len(hub.requests) - asked
    assert count > 8
    for when in ("before", "after"):
        for n in range(1, count + 1, step):
            repo = f"owner/{when}-{n}-{step}"
            hub.kill_at(n, when=when)
            words = fail(client, publish, run, repo)
            assert "the run is kept in" in words, (repo, words)
            assert hub.died.is_set(), repo
            hub.restart()
            if ("models", repo) in hub.store.repos:
                there = hub.files(repo)
                assert set(there) in ({".gitattributes"}, set(whole)), repo
            client.call(publish, run, repo)
            assert titles(hub, repo) == TITLES, repo
            own = {"README.md", "notebook.ipynb"}  # these two name their repository
            files = hub.files(repo)
            assert {name: content for name, content in files.items() if name not in own} == {
                name: content for name, content in whole.items() if name not in own
            }, repo
            assert files["notebook.ipynb"] == whole["notebook.ipynb"].replace(b"owner/whole", repo.encode()), repo
            assert files["README.md"].decode() == render_card(report, repo_id=repo, run=run), repo
            assert len([ref for ref in hub.find(repo).refs if "tags" in ref]) == 1, repo
    assert fingerprint(run) == before


def run_notebook(repo_id: str) -> list[str]:
    """Run the code of a published notebook as printed; what its last lines show."""
    from huggingface_hub import hf_hub_download

    book = json.loads(Path(hf_hub_download(repo_id, "notebook.ipynb")).read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    shown = []
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            *lines, last = ast.parse("".join(cell["source"])).body or [ast.parse("None").body[0]]
            exec(compile(ast.Module(lines, []), "notebook", "exec"), names)  # noqa: S102
            shown.append(str(eval(ast.unparse(last), names)))  # noqa: S307
    return shown


@pytest.mark.parametrize("exported", [False, True])
def test_the_published_notebook_runs(
    hub: Hub, client: Client, run: Path, exported_run: Path, *, exported: bool
) -> None:
    repo = f"owner/notebook-{exported}".lower()
    client.call(publish, exported_run if exported else run, repo, with_onnx=exported)
    _, model, prediction, explanation, parts = client.call(run_notebook, repo, who=None)
    assert model.startswith("Predictor(" if exported else "ResNetViT(")
    assert prediction.startswith("Prediction(1 slice")
    assert explanation.startswith("Explanation(Stroke ")
    assert "'baseline'" in parts


def ask_handler(repo_id: str, requests: list[dict[str, str]]) -> list[Any]:
    """Load the published handler as an endpoint does, from a snapshot of the repository, and call it."""
    from huggingface_hub import snapshot_download

    folder = snapshot_download(repo_id)
    handler = runpy.run_path(f"{folder}/handler.py")["EndpointHandler"](folder)
    return [handler(request) for request in requests]


def test_the_handler_answers_and_refuses_in_a_sentence(
    hub: Hub, client: Client, exported_run: Path, sample: Records
) -> None:
    client.call(publish, exported_run, "owner/handled", with_handler=True, datasets=["owner/scans"])
    file = sample.root / sample.part("test")["path"].iloc[0]
    sent = [base64.b64encode(file.read_bytes()).decode(), "no base64!", base64.b64encode(b"GIF89a").decode()]
    answers = client.call(ask_handler, "owner/handled", [{"inputs": text} for text in sent], who=None)
    expected = Predictor.from_pretrained(exported_run, backend="onnx").predict(file)
    assert answers[0][0]["label"] == expected.label[0]
    assert answers[0][0]["stroke_probability"] == pytest.approx(expected.probability[0], abs=1e-6)
    assert all(answer.keys() == {"error"} and answer["error"].endswith(".") for answer in answers[1:])
    assert hub.files("owner/handled")["requirements.txt"].startswith(b"stroke-hub[dicom]==")
    card = client.call(load_card, "owner/handled")
    assert card["data"]["datasets"] == ["owner/scans"]
    assert "Predictor.from_pretrained" in card["text"]
    client.call(publish, exported_run, "owner/handled", new_version="owner/better")
    assert client.call(load_card, "owner/handled")["data"]["new_version"] == "owner/better"
    assert "is not a repository name" in fail(client, publish, exported_run, "owner/x", new_version="better")
