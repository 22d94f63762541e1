"""The commands, run as a user types them: one sentence for a mistake, whole files or none."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import stroke_hub
from stroke_hub import Records, read_records
from stroke_hub.cli.main import COMMANDS
from stroke_hub.data.records import hash_records
from stroke_hub.report.command import build_command
from stroke_hub.runs.report import read_report
from tests.conftest import Done

ROOT = Path(__file__).parents[2]


def test_alone_it_lists_its_commands(run: Callable[..., Done]) -> None:
    for words in ((), ("--help",)):
        done = run(*words)
        assert done.status == 0
        assert all(f"  {name} " in done.out for name in COMMANDS)
    assert run("--version").out.strip() == stroke_hub.__version__


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help(name: str, run: Callable[..., Done]) -> None:
    done = run(name, "--help")
    assert done.status == 0
    assert done.out.startswith(f"usage: stroke-hub {name} ")


def test_an_unknown_command_is_one_sentence(run: Callable[..., Done]) -> None:
    done = run("trian")
    assert (done.status, done.err) == (2, "error: there is no command 'trian'; did you mean train?\n")
    assert run("x" * 50).err.endswith("run stroke-hub to see all commands.\n")


def test_the_help_of_training_shows_first_what_people_set(run: Callable[..., Done]) -> None:
    before, *_ = run("train", "--help").out.partition("advanced options")
    shown = set(re.findall(r"^[│| ]+(--[a-z][a-z-]*)", before, re.MULTILINE))
    assert {"--data", "--data-dir", "--preset", "--epochs", "--run-dir", "--push-to", "--seed"} <= shown
    assert len(shown) <= 14


def test_the_list_and_the_module_load_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['stroke-hub']; import runpy; runpy.run_module('stroke_hub', run_name='__main__');"
        "heavy = {'torch', 'numpy', 'pandas', 'tyro', 'huggingface_hub', 'PIL'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: stroke-hub COMMAND" in done.stdout


def test_info_says_what_a_model_is(run_dir: Path, tmp_path: Path, run: Callable[..., Done]) -> None:
    done = run("info", run_dir)
    overall = read_report(run_dir).test["overall"]
    assert done.status == 0, done.err
    for words in ("test_resnet beside test_vit", "squares of 128 pixels", "simulated slices, not patients",
                  f"{overall.n} of", f"{overall.auroc:.3f} [", "`stroke-hub export` writes one"):  # fmt: skip
        assert words in done.out
    damaged = Path(shutil.copytree(run_dir, tmp_path / "damaged"))
    (damaged / "report.json").write_text("{")
    done = run("info", damaged)
    assert done.status == 0, done.err
    assert f"{damaged}/report.json: is not JSON; evaluate the run again." in done.out
    assert "test_resnet beside test_vit" in done.out
    for path in ("./nothing", "/nothing", "~/nothing", "a/b/c", "model.safetensors", "runs/model.safetensors"):
        words = f"error: {path}: is neither a folder nor a Hub repository like owner/name.\n"
        assert run("info", path).err == words


def test_train_and_push_goes_the_whole_way_and_then_finds_its_work_done(
    sample: Records, tmp_path: Path, run: Callable[..., Done]
) -> None:
    arguments = ["--data-dir", sample.root, "--preset", "tiny", "--epochs", 1, "--image-size", 64, "--limit", 60,
                 "--data-note", "words", "--run-dir", tmp_path / "run"]  # fmt: skip
    done = run("train", *arguments)
    assert done.status == 0, done.err
    assert "epoch 1/1: train loss" in done.err
    assert (tmp_path / "run" / "figures" / "explanations.png").is_file()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["audit"] == json.loads((tmp_path / "run" / "audit.json").read_text())
    findings = [finding["sentence"] for finding in report["audit"]["findings"]]
    assert findings
    assert [sentence for sentence in findings if sentence not in done.err] == []
    again = run("train", *arguments)
    assert again.status == 0
    assert "finished already" in again.err
    assert "evaluated already" in again.err
    other = run("train", *arguments, "--seed", 5)
    assert other.status == 1
    assert other.err.splitlines()[-1].startswith("error: ")
    assert "seed: 0 -> 5" in other.err
    assert "Traceback" not in other.err


@pytest.mark.slow
def test_a_run_without_its_leaks_is_measured_again_by_what_its_report_says(
    sample: Records, tmp_path: Path, run: Callable[..., Done]
) -> None:
    data, run_dir = Path(shutil.copytree(sample.root, tmp_path / "data")), tmp_path / "run"
    leaked, copied = (sample.part(part).query("label == 1 and modality == 'BT'") for part in ("test", "train"))
    folder = data / Path(copied["path"].iloc[0]).parent
    shutil.copy(data / leaked["path"].iloc[0], folder / "p998_s01_simulated.png")  # train shows what test does
    shutil.copy(data / copied["path"].iloc[0], folder / "p999_s01_simulated.png")  # one picture of two patients
    given = ["--data-dir", str(data), "--preset", "tiny", "--image-size", "64", "--recipe", "probe"]
    done = run("train", *given, "--run-dir", run_dir, "--drop-leaks")
    assert done.status == 0, done.err
    report = read_report(run_dir)
    assert any("Left out of training" in note for note in report.data.notes)
    assert report.data.sha256 != hash_records(read_records(data))
    assert "--drop-leaks" in build_command(report)
    again = ["--model", str(run_dir), "--data-dir", str(data), "--out", str(tmp_path / "again"), "--compare"]
    said = run("evaluate", *again).out
    assert "as in the report" in said
    assert "DIFFERS" not in said


def start(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Start training by its script in a process of its own: the Hub's client reads HF_HOME when it is imported."""
    command = [sys.executable, ROOT / "scripts" / "train_and_push.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_the_token_is_checked_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Done]
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    done = start("--data", "sample", "--push-to", "owner/name", cwd=tmp_path)
    assert done.stderr.strip() == "error: No Hub token is stored; run `hf auth login`, or set HF_TOKEN."
    assert "is not a repository name" in run("train", "--data", "sample", "--push-to", "not a name").err
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_the_hub_is_asked_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    done = start("--data", "sample", "--push-to", "owner/name", cwd=tmp_path)
    assert done.stderr.startswith("error: ")
    assert "he Hub cannot be reached" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.slow  # tests/data/test_folders.py measures by the command too
def test_evaluate_measures_a_run_anew(
    run_dir: Path, sample: Records, tmp_path: Path, run: Callable[..., Done]
) -> None:
    arguments = ["--model", run_dir, "--data-dir", sample.root, "--out", tmp_path / "out"]
    done = run("evaluate", *arguments)
    assert done.status == 0, done.err
    first, second = (pd.read_csv(f / "stroke_classification_results.csv") for f in (run_dir, tmp_path / "out"))
    pd.testing.assert_frame_equal(first, second, atol=1e-6)
    assert "not empty" in run("evaluate", *arguments).err


def test_predict_gives_a_row_a_slice_and_an_error_where_one_is(
    run_dir: Path, sample: Records, tmp_path: Path, run: Callable[..., Done]
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("text")
    out = tmp_path / "deep" / "p.csv"
    asked = {"BT": [bad, tmp_path / "absent.png"], "MR": []}
    tables = []
    for modality, more in asked.items():
        folders = sorted((sample.root / "test").glob(f"*{modality}"))
        options = ("--model", run_dir, "--out", out, "--modality", modality)
        done = run("predict", *folders, *more, *options)
        assert done.status == 0, done.err
        tables.append(pd.read_csv(out))
    table = pd.concat(tables, ignore_index=True)
    shares = ["contribution_cnn", "contribution_vit", "contribution_baseline"]
    assert list(table.columns) == [
        "path",
        "index",
        "label",
        "stroke_probability",
        *shares,
        "baseline",
        "unusual",
        "error",
        "remarks",
    ]
    assert table["error"].notna().sum() == 2
    results = pd.read_csv(run_dir / "stroke_classification_results.csv").sort_values("filename")
    good = table[table["error"].isna()].assign(filename=lambda t: [Path(p).name for p in t["path"]])
    merged = good.merge(results, on="filename")
    assert len(merged) == len(results)
    assert (merged["stroke_probability_x"] - merged["stroke_probability_y"]).abs().max() < 1e-5
    assert (merged["label"] == merged["predicted_class"]).all()


def test_predict_refuses_a_window_that_the_model_does_not_see(
    run_dir: Path, sample: Records, tmp_path: Path, run: Callable[..., Done]
) -> None:
    picture = sample.root / sample.table["path"].iloc[0]
    asked = ("predict", picture, "--model", run_dir, "--out", tmp_path / "p.csv", "--window")
    assert "sees the window brain, with which it was trained; leave --window out" in run(*asked, "subdural").err
    assert not list(tmp_path.iterdir())
    assert run(*asked, "brain").status == 0


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("train", ["--data-dir", "nowhere"], "nowhere"),
        ("evaluate", ["--model", "nowhere/at/all", "--data-dir", ".", "--out", "o"], "neither a folder nor"),
        ("predict", ["x.png", "--model", ".", "--out", "o.csv"], "has no config.json"),
        ("explain", ["--model", ".", "--data-dir", ".", "--out", "new"], "has no config.json"),
    ],
)
def test_mistakes_are_one_sentence(
    name: str,
    arguments: list[str],
    words: str,
    tmp_path: Path,
    run: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(name, *arguments)
    assert done.status == 1
    assert done.err.startswith("error: ")
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_failed_gallery_leaves_nothing(
    run_dir: Path, sample: Records, tmp_path: Path, run: Callable[..., Done]
) -> None:
    shutil.copytree(sample.root, tmp_path / "deep")
    broken = next((tmp_path / "deep" / "test").rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:200])
    done = run("explain", "--model", run_dir, "--data-dir", tmp_path / "deep", "--out", tmp_path / "gallery")
    assert done.status == 1
    assert done.err.splitlines()[-1].startswith(f"error: {broken}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


@pytest.mark.parametrize(
    ("options", "word"),
    [(["--folds", "0"], "folds is 0"), (["--folds", "1"], "folds is 1"),
     (["--preset", "tiny", "--epochs", "0"], "epochs is 0"),
     (["--epochs", "3"], "epochs means nothing to the recipe probe"),
     (["--split-file", "nowhere.csv"], "nowhere.csv: is no file")],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_read(
    options: list[str], word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Callable[..., Done]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("train", "--data", "sample", *options)
    assert done.status == 1
    assert re.match(f"error: .*{word}", done.err)
    assert list(tmp_path.iterdir()) == []


def test_without_labels_nothing_is_compared(
    run_dir: Path, sample: Records, tmp_path: Path, run: Callable[..., Done]
) -> None:
    shutil.copy(sample.root / sample.table["path"].iloc[0], tmp_path / "a.png")
    arguments = ["--model", str(run_dir), "--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--compare"]
    assert "has no labels to measure by" in run("evaluate", *arguments).err
    assert not (tmp_path / "out").exists()
