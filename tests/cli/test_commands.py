"""The commands, run as a user runs them: one sentence for a mistake, whole files or none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stroke_hub import Records, read_records
from stroke_hub.cli.evaluate import evaluate_model
from stroke_hub.cli.train import train_and_push
from stroke_hub.data.records import hash_records
from stroke_hub.report.command import build_command

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(script: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPTS / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_train_and_push_goes_the_whole_way_and_then_finds_its_work_done(sample: Records, tmp_path: Path) -> None:
    arguments = ["--data-dir", sample.root, "--preset", "tiny", "--epochs", 1, "--image-size", 64, "--limit", 60,
                 "--data-note", "words", "--run-dir", tmp_path / "run"]  # fmt: skip
    done = run("train_and_push.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "epoch 1/1: train loss" in done.stderr
    assert (tmp_path / "run" / "figures" / "explanations.png").is_file()
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["audit"] == json.loads((tmp_path / "run" / "audit.json").read_text())
    findings = [finding["sentence"] for finding in report["audit"]["findings"]]
    assert findings
    assert [sentence for sentence in findings if sentence not in done.stderr] == []
    again = run("train_and_push.py", *arguments)
    assert again.returncode == 0
    assert "finished already" in again.stderr
    assert "evaluated already" in again.stderr
    other = run("train_and_push.py", *arguments, "--seed", 5)
    assert other.returncode == 1
    assert other.stderr.splitlines()[-1].startswith("error: ")
    assert "seed: 0 -> 5" in other.stderr
    assert "Traceback" not in other.stderr


def test_a_run_without_its_leaks_is_measured_again_by_what_its_report_says(
    sample: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run_dir = Path(shutil.copytree(sample.root, tmp_path / "data")), tmp_path / "run"
    leaked, copied = (sample.part(part).query("label == 1 and modality == 'BT'") for part in ("test", "train"))
    folder = data / Path(copied["path"].iloc[0]).parent
    shutil.copy(data / leaked["path"].iloc[0], folder / "p998_s01_simulated.png")  # train shows what test does
    shutil.copy(data / copied["path"].iloc[0], folder / "p999_s01_simulated.png")  # one picture of two patients
    given = ["--data-dir", str(data), "--preset", "tiny", "--image-size", "64", "--probe", "--epochs", "2"]
    monkeypatch.setattr(sys, "argv", ["train", *given, "--run-dir", str(run_dir), "--drop-leaks"])
    train_and_push()
    report = json.loads((run_dir / "report.json").read_text())
    assert any("Left out of training" in note for note in report["data"]["notes"])
    assert report["data"]["sha256"] != hash_records(read_records(data))
    assert "--drop-leaks" in build_command(report)
    again = ["--model", str(run_dir), "--data-dir", str(data), "--out", str(tmp_path / "again"), "--compare"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *again])
    evaluate_model()
    said = capsys.readouterr().out
    assert "as in the report" in said
    assert "DIFFERS" not in said


def test_the_token_is_checked_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    done = run("train_and_push.py", "--data", "sample", "--push-to", "owner/name", cwd=tmp_path)
    assert done.stderr.strip() == "error: No Hub token is stored; run `hf auth login`, or set HF_TOKEN."
    done = run("train_and_push.py", "--data", "sample", "--push-to", "not a name", cwd=tmp_path)
    assert "is not a repository name" in done.stderr
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    done = run("train_and_push.py", "--data", "sample", "--push-to", "owner/name", cwd=tmp_path)
    assert done.stderr.startswith("error: ")
    assert "he Hub cannot be reached" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_evaluate_measures_a_run_anew(run_dir: Path, sample: Records, tmp_path: Path) -> None:
    arguments = ["--model", run_dir, "--data-dir", sample.root, "--out", tmp_path / "out"]
    done = run("evaluate.py", *arguments)
    assert done.returncode == 0, done.stderr
    first, second = (pd.read_csv(f / "stroke_classification_results.csv") for f in (run_dir, tmp_path / "out"))
    pd.testing.assert_frame_equal(first, second, atol=1e-6)
    assert "not empty" in run("evaluate.py", *arguments).stderr


def test_predict_gives_a_row_a_slice_and_an_error_where_one_is(
    run_dir: Path, sample: Records, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_text("text")
    out = tmp_path / "deep" / "p.csv"
    done = run("predict.py", sample.root / "test", bad, tmp_path / "absent.png", "--model", run_dir, "--out", out)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(out)
    shares = ["contribution_cnn", "contribution_vit", "contribution_baseline"]
    assert list(table.columns) == ["path", "index", "label", "stroke_probability", *shares, "unusual", "error"]
    assert table["error"].notna().sum() == 2
    results = pd.read_csv(run_dir / "stroke_classification_results.csv").sort_values("filename")
    good = table[table["error"].isna()].assign(filename=lambda t: [Path(p).name for p in t["path"]])
    merged = good.merge(results, on="filename")
    assert len(merged) == len(results)
    assert (merged["stroke_probability_x"] - merged["stroke_probability_y"]).abs().max() < 1e-5
    assert (merged["label"] == merged["predicted_class"]).all()


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("train_and_push.py", ["--data-dir", "nowhere"], "nowhere"),
        ("evaluate.py", ["--model", "nowhere/at/all", "--data-dir", ".", "--out", "o"], "neither a folder nor"),
        ("predict.py", ["x.png", "--model", ".", "--out", "o.csv"], "has no config.json"),
        ("explain.py", ["--model", ".", "--data-dir", ".", "--out", "new"], "has no config.json"),
    ],
)
def test_mistakes_are_one_sentence(script: str, arguments: list[str], words: str, tmp_path: Path) -> None:
    done = run(script, *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_interrupted_or_failed_gallery_leaves_nothing(run_dir: Path, sample: Records, tmp_path: Path) -> None:
    shutil.copytree(sample.root, tmp_path / "deep")
    broken = next((tmp_path / "deep" / "test").rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:200])
    done = run("explain.py", "--model", run_dir, "--data-dir", tmp_path / "deep", "--out", tmp_path / "gallery")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {broken}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


@pytest.mark.parametrize(
    ("options", "word"),
    [(["--folds", "0"], "folds is 0"), (["--folds", "1"], "folds is 1"), (["--epochs", "0"], "epochs is 0"),
     (["--split-file", "nowhere.csv"], "nowhere.csv: is no file")],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_read(
    options: list[str], word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "--data", "sample", *options])
    with pytest.raises(SystemExit, match=f"error: .*{word}"):
        train_and_push()
    assert list(tmp_path.iterdir()) == []


def test_without_labels_nothing_is_compared(run_dir: Path, sample: Records, monkeypatch: pytest.MonkeyPatch,
                                            tmp_path: Path) -> None:  # fmt: skip
    shutil.copy(sample.root / sample.table["path"].iloc[0], tmp_path / "a.png")
    arguments = ["--model", str(run_dir), "--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--compare"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    with pytest.raises(SystemExit, match="has no labels to measure by"):
        evaluate_model()
    assert not (tmp_path / "out").exists()
