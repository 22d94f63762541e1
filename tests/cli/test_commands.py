"""The commands, run as a user types them: one sentence for a mistake, whole files or none."""

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import stroke_hub
from stroke_hub import Predictor, Records, explain, load_slices, read_records
from stroke_hub.cli.main import COMMANDS
from stroke_hub.data.records import hash_records
from stroke_hub.extras import EXTRAS
from stroke_hub.inference.results import tell_probability
from stroke_hub.runs.command import build_command
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


def test_no_help_loads_what_computes() -> None:
    code = (
        "import sys, io, contextlib; from stroke_hub.cli.main import COMMANDS, main\n"
        "for name in sorted(COMMANDS, key=lambda name: name not in ('predict', 'scan', 'explain')):\n"
        "    heavy = set(sys.argv[1:]) | ({'pandas'} if name in ('predict', 'scan', 'explain') else set())\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "        main([name, '--help'])\n"
        "    if found := heavy & set(sys.modules): sys.exit(f'{name}: {found}')\n"
    )
    heavy = set(EXTRAS) - {"pyarrow"} | {"onnxruntime", "pydicom", "nibabel"}  # pandas brings pyarrow
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_info_says_what_a_model_is(run_dir: Path, tmp_path: Path, run: Callable[..., Done]) -> None:
    done = run("info", run_dir)
    overall = read_report(run_dir).test["overall"]
    assert done.status == 0, done.err
    for words in ("test_resnet beside test_vit", "squares of 128 pixels", "simulated slices, not patients",
                  f"{overall.n} of", f"{overall.auroc:.3f} [", "`stroke-hub export` writes one"):  # fmt: skip
        assert words in done.out
    assert "scan rule      none stored; the default is the mean of the 3 highest slices" in done.out
    damaged = Path(shutil.copytree(run_dir, tmp_path / "damaged"))
    (damaged / "report.json").write_text("{")
    weights = load_file(damaged / "model.safetensors") | {"scan_rule": np.array([2, 3, 1.5, -1, 0.25], np.float32)}
    save_file(weights, damaged / "model.safetensors")
    done = run("info", damaged)
    assert done.status == 0, done.err
    assert f"{damaged}/report.json: is not JSON; evaluate the run again." in done.out
    rule = (
        "the mean of the 2 highest slices, each averaged with its neighbours; Stroke from a probability of 0.25 on"
    )
    assert f"scan rule      {rule}" in done.out
    assert "test_resnet beside test_vit" in done.out
    for path in ("./nothing", "/nothing", "~/nothing", "a/b/c", "model.safetensors", "runs/model.safetensors"):
        words = f"error: {path}: is neither a folder nor a Hub repository like owner/name.\n"
        assert run("info", path).err == words


@pytest.mark.parametrize(
    "words", [("info",), ("predict", "a.png", "--model"), ("explain", "a.png", "--out", "b.png", "--model")]
)
def test_a_path_into_a_folder_that_is_here_is_not_looked_for_on_the_hub(
    words: tuple[str, ...], tmp_path: Path, run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stroke_hub.models.download.hf_hub_download", None)
    done = run(*words, "runs/baseline")
    assert done.status == 1
    assert done.err.startswith("error: runs/baseline: is not in the folder runs; check the path.")


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


def test_predict_shows_answers_where_no_file_is_asked_for(
    run_dir: Path, sample: Records, tmp_path: Path, run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "bad.png").write_text("text")
    pictures = [sample.root / path for path in sample.table["path"][:3]]
    asked = ("predict", *pictures, tmp_path / "bad.png", "--model", run_dir)
    shown, printed = run(*asked), run(*asked, "--csv")
    assert (shown.status, printed.status) == (0, 0)
    assert not [path for path in tmp_path.iterdir() if path.name != "bad.png"]
    table = pd.read_csv(io.StringIO(printed.out))
    lines = shown.out.splitlines()
    for picture, label, probability in zip(pictures, table["label"], table["stroke_probability"], strict=False):
        (line,) = [line for line in lines if picture.name in line and "──" not in line]
        assert line.split()[1:] == [label, *tell_probability(probability).split()]
    assert any("bad.png" in line and "cannot be read" in line for line in lines)
    assert any(line.startswith("bad.png: is not a PNG") for line in lines)
    assert lines[-1] == "Research software, not a medical device."


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("absent.png",), "absent.png: does not exist"),
        (("a.png", "--resume"), "give --out FILE.csv"),
        (("a.png", "--csv", "--out", "a.csv"), "give one of them"),
        ((".",), "There is no image in what was given"),
    ],
)
def test_predict_says_what_it_cannot_show(
    words: tuple[str, ...], sentence: str, tmp_path: Path, run: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("predict", *words, "--model", "sample")
    assert done.status == 1
    assert sentence in done.err
    assert not done.out
    assert not list(tmp_path.iterdir())


def test_more_files_than_a_screen_holds_go_to_a_table_on_disk(tmp_path: Path, run: Callable[..., Done]) -> None:
    (tmp_path / "list.txt").write_text("a.png\n" * 1_001)
    assert (
        "more than 1,000 files; give --out FILE.csv"
        in run("predict", f"@{tmp_path / 'list.txt'}", "--model", "sample").err
    )


def test_one_file_is_explained_by_a_picture_of_its_size(
    run_dir: Path, sample: Records, tmp_path: Path, run: Callable[..., Done]
) -> None:
    picture, out = sample.root / sample.table["path"].iloc[0], tmp_path / "map.png"
    done = run("explain", picture, "--model", run_dir, "--out", out, "--layer", "fused", "--modality", "BT")
    assert done.status == 0, done.err
    expected = explain(Predictor.from_pretrained(run_dir), load_slices(picture, modality="BT")[0])
    with Image.open(out) as drawn, Image.open(picture) as slice_:
        assert drawn.size == slice_.size
        difference = np.abs(np.asarray(drawn, int) - np.asarray(expected.overlay("fused"), int))
        assert difference.max() <= 1
    assert f"{expected.label}, probability of stroke {tell_probability(expected.probability)}" in done.err


def test_what_is_no_one_slice_is_not_explained(sample: Records, tmp_path: Path, run: Callable[..., Done]) -> None:
    picture = shutil.copy(sample.root / sample.table["path"].iloc[0], tmp_path / "a.png")
    pages = tmp_path / "pages.tif"
    with Image.open(picture) as one:
        one.save(pages, save_all=True, append_images=[one])
    content = Path(picture).read_bytes()
    for words, sentence in [
        ((picture, "--out", picture), "is the slice itself"),
        ((picture, "--out", tmp_path / "new"), "is no name of a PNG"),
        ((picture, "--out", tmp_path / "o.png", "--data-dir", tmp_path), "not both"),
        ((picture, "--out", tmp_path / "o.png", "--split", "train"), "are of a dataset"),
        (("--data-dir", tmp_path, "--out", tmp_path / "new", "--page", "1"), "are of one file"),
        ((pages, "--out", tmp_path / "o.png"), "holds 2 slices; give --page"),
        ((pages, "--out", tmp_path / "o.png", "--page", "3"), "has no slice 3"),
        ((tmp_path / "absent.png", "--out", tmp_path / "o.png"), "does not exist"),
    ]:
        done = run("explain", *words, "--model", "sample")
        assert done.status == 1
        assert sentence in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "pages.tif"}
    assert Path(picture).read_bytes() == content


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


def test_a_gallery_in_a_run_folder_is_linked_from_its_report(
    run_dir: Path, sample: Records, tmp_path: Path, run: Callable[..., Done]
) -> None:
    copy = shutil.copytree(run_dir, tmp_path / "run")
    done = run("explain", "--model", run_dir, "--data-dir", sample.root, "--out", copy / "gallery")
    assert done.status == 0, done.err
    assert "whose errors now lead to the gallery" in done.err
    errors = json.loads((copy / "report.json").read_text())["errors"]
    links = re.findall(r'href="(gallery/[^"]*#[^"]*)"><code>([^<]*)<', (copy / "report.html").read_text())
    assert {path for _, path in links} >= {error["path"] for error in errors}
    for link, path in links:
        page, _, anchor = link.partition("#")
        figure = (copy / page).read_text().partition(f'id="{anchor}"')[2].partition("</figure>")[0]
        assert path in figure


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
