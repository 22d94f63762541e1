"""A whole archive: any source, killed at any moment, on any number of threads or workers: the same table."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock
from PIL import Image

from stroke_hub import ResNetViT, RunError, Slice, load_slices, predict
from stroke_hub.batch.pipeline import PredictSettings, predict_archive, predict_chunk, predict_chunks, predict_paths
from stroke_hub.batch.table import ResumableTable
from stroke_hub.batch.worklist import FILES_PER_CHUNK, Entry, find_entries, form_chunks, read_chunks, write_chunks
from tests.conftest import randomise
from tests.hostile import list_hostile

ROOT = Path(__file__).parents[2]
SHARES = ["contribution_cnn", "contribution_vit", "contribution_baseline"]


def draw(count: int) -> list[bytes]:
    """Small pictures, each another one, as PNG files."""
    generator = np.random.default_rng(0)
    files = []
    for _ in range(count):
        stream = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (40, 48), dtype=np.uint8)).save(stream, "png", compress_level=1)
        files.append(stream.getvalue())
    return files


def put(folder: Path, files: Sequence[bytes], *, bad: Sequence[int] = ()) -> Path:
    for index, content in enumerate(files):
        path = folder / f"{index // 1000:02d}" / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[: len(content) // 2] if index in bad else content)
    return folder


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    model = randomise(ResNetViT(cnn="test_resnet", vit="test_vit", image_size=64))
    # of an even number, so that the limit lies between two of them and no rounding decides
    noise = [Slice(np.asarray(Image.open(io.BytesIO(content)))) for content in draw(10)]
    model.feature_distance_limit.fill_(float(np.median(predict(model, noise).distance)))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(model_dir: Path) -> ResNetViT:
    return ResNetViT.from_pretrained(model_dir)


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "scripts/predict.py", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)


def run(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/predict.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def kill_when_further(process: subprocess.Popen[str], out: Path, chunks: int, *, delay: float) -> int:
    """Kill a run `delay` seconds after it has `chunks` further finished chunks; how many there are then."""
    folder = out.with_name(f"{out.name}.parts")

    def count() -> int:
        return len(list(folder.glob("[0-9]*.csv")))

    before = count()
    while count() < before + chunks and process.poll() is None:
        time.sleep(0.01)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return count()


def interrupt(
    source: Path, model_dir: Path, out: Path, *, kills: int, chunks: int
) -> subprocess.CompletedProcess[str]:
    """Run into `out`, killed again and again, then to its end."""
    generator = np.random.default_rng(1)
    left = 0
    for _ in range(kills):
        process = start(source, "--model", model_dir, "--out", out, "--resume")
        there = kill_when_further(process, out, chunks, delay=generator.uniform(0, 0.15))
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed: give it more files"
        assert there > left  # something new every time: what was done is not done again
        assert not out.exists()
        left = there
    return run(source, "--model", model_dir, "--out", out, "--resume")


def predict_here(model: ResNetViT, source: Path, out: Path) -> bytes:
    settings = PredictSettings()
    predict_archive(lambda chunks: predict_chunks(model, chunks, settings), [source], out, settings, about={})
    return out.read_bytes()


# --- killed and resumed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_run_gives_the_very_table(model: ResNetViT, model_dir: Path, tmp_path: Path, kills: int) -> None:
    count = 4 * kills * FILES_PER_CHUNK - 10
    source = put(tmp_path / "slices", draw(count), bad=[3, 150])
    whole = predict_here(model, source, tmp_path / "whole.csv")
    done = interrupt(source, model_dir, tmp_path / "killed.csv", kills=kills, chunks=1)
    assert done.returncode == 0, done.stderr
    assert "chunks are there already" in done.stderr
    assert f"{count:,} rows, 2 with an error" in done.stderr
    assert (tmp_path / "killed.csv").read_bytes() == whole
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["killed.csv", "killed.csv.json", "slices", "whole.csv", "whole.csv.json"]


@pytest.mark.slow
def test_20000_slices_killed_five_times_in_flat_memory(model_dir: Path, tmp_path: Path) -> None:
    source = put(tmp_path / "slices", draw(20_000), bad=range(7, 20_000, 1999))
    folder, sizes = tmp_path / "whole.csv.parts", {}
    with start(source, "--model", model_dir, "--out", tmp_path / "whole.csv") as process:
        while process.poll() is None:
            chunks = len(list(folder.glob("[0-9]*.csv")))
            status = Path(f"/proc/{process.pid}/status").read_text()
            if found := re.search(r"VmRSS:\s+(\d+)", status):
                sizes[chunks] = int(found[1]) / 1024
            time.sleep(0.05)
    assert process.returncode == 0
    early = max(size for chunks, size in sizes.items() if 5 <= chunks <= 20)
    late = max(size for chunks, size in sizes.items() if chunks > 20)
    assert late - early < 24, (early, late)  # MiB; the squares of 20,000 slices alone would be 78
    done = interrupt(source, model_dir, tmp_path / "killed.csv", kills=5, chunks=20)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    table = pd.read_csv(tmp_path / "killed.csv")
    assert len(table) == table["path"].nunique() == 20_000
    assert table["error"].notna().sum() == len(range(7, 20_000, 1999))


def interrupt_here(model: ResNetViT, source: Path, out: Path, *, after: int) -> None:
    """A run in this process that ends when it has `after` chunks, as if the power had gone."""
    settings = PredictSettings()

    def engine(chunks):  # type: ignore[no-untyped-def]
        for number, step in enumerate(predict_chunks(model, chunks, settings)):
            yield step
            if number + 1 == after * FILES_PER_CHUNK // settings.batch_size:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_archive(engine, [source], out, settings, about={})


def test_what_was_begun_with_something_else_is_refused(model: ResNetViT, tmp_path: Path) -> None:
    source, out = put(tmp_path / "slices", draw(2 * FILES_PER_CHUNK)), tmp_path / "p.csv"
    interrupt_here(model, source, out, after=1)

    def attempt(settings: PredictSettings, *, resume: bool = True, about: str = "") -> None:
        engine = lambda chunks: predict_chunks(model, chunks, settings)  # noqa: E731
        predict_archive(engine, [source], out, settings, about={"weights": about} if about else {}, resume=resume)

    with pytest.raises(RunError, match="holds an interrupted run; give --resume"):
        attempt(PredictSettings(), resume=False)
    with pytest.raises(RunError, match="was begun with other settings; give the same"):
        attempt(PredictSettings(batch_size=8))
    with pytest.raises(RunError, match="was begun with other model"):
        attempt(PredictSettings(), about="others")
    with (
        FileLock(tmp_path / "p.csv.parts" / "lock"),
        pytest.raises(RunError, match="another process is writing it"),
    ):
        attempt(PredictSettings())
    first = min(source.rglob("*.png"))
    more = shutil.copy(first, source / "00" / "more.png")
    with pytest.raises(RunError, match="was begun with other inputs"):
        attempt(PredictSettings())
    more.unlink()
    written = first.stat()
    os.utime(first, (0, 0))  # as a file that was mended: its row would be of the damaged one
    with pytest.raises(RunError, match="was begun with other inputs"):
        attempt(PredictSettings())
    os.utime(first, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert not out.exists()
    attempt(PredictSettings())  # none of the refusals hurt it
    whole = out.read_bytes()
    assert whole == predict_here(model, source, tmp_path / "whole.csv")
    out.write_text("untouched")
    attempt(PredictSettings())  # finished already, of the same
    assert out.read_text() == "untouched"
    with pytest.raises(RunError, match="other settings; give the same, or leave --resume out"):
        attempt(PredictSettings(contributions=False))
    attempt(PredictSettings(), resume=False)
    assert out.read_bytes() == whole


def test_what_a_kill_leaves_while_parts_are_joined_does_no_harm(model: ResNetViT, tmp_path: Path) -> None:
    source, out = put(tmp_path / "slices", draw(FILES_PER_CHUNK)), tmp_path / "p.csv"
    whole = predict_here(model, source, out)
    folder = tmp_path / "p.csv.parts"
    folder.mkdir()
    (folder / "00000000.1.0.csv").write_text("a part of before\n")  # killed behind the joining
    (folder / ".00000001.1.0.csv.partial").write_text("torn")
    assert predict_here(model, source, out) == whole
    assert not folder.exists()


# --- sources ------------------------------------------------------------------------------------------------


def test_every_source_gives_the_same_slices(
    model: ResNetViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = draw(5)
    folder = put(tmp_path / "slices", files) / "00"
    paths = sorted(folder.iterdir())
    with zipfile.ZipFile(tmp_path / "slices.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    both = [{"bytes": content, "path": path.name} for content, path in zip(files, paths, strict=True)]
    for name, columns in {
        "both": {"image": both, "label": [0] * 5},
        "bytes": {"other": list("abcde"), "bytes": files},
        "paths": {"path": [f"slices/00/{path.name}" for path in paths]},
        "struct_paths": {"image": [{"bytes": None, "path": str(path)} for path in paths]},
    }.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet", row_group_size=2)
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths) + "\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{path}\n" for path in paths)))
    expected = predict(model, [load_slices(content)[0] for content in files]).probability
    tables = {}
    for source in ("slices", "slices.zip", "both.parquet", "bytes.parquet", "paths.parquet", "struct_paths.parquet",
                   "@list.txt", "-"):  # fmt: skip
        named = f"@{tmp_path}/list.txt" if source == "@list.txt" else source if source == "-" else tmp_path / source
        tables[source] = predict_paths(model, [named], PredictSettings())
        np.testing.assert_allclose(tables[source]["stroke_probability"], expected, atol=1e-6, err_msg=source)
        assert set(tables[source]["error"]) == {""}
    for source in ("slices", "paths.parquet", "@list.txt", "-"):
        assert list(tables[source]["path"]) == [str(path) for path in paths]
    assert tables["slices.zip"]["path"][3] == f"{tmp_path}/slices.zip/{paths[3].name}"
    assert tables["both.parquet"]["path"][3] == f"{tmp_path}/both.parquet/3/{paths[3].name}"
    assert tables["bytes.parquet"]["path"][3] == f"{tmp_path}/bytes.parquet/3"


def test_a_folder_is_searched_for_all_that_begins_as_a_slice(tmp_path: Path) -> None:
    slices = draw(1)
    put(tmp_path, slices)
    dicom = b"\0" * 128 + b"DICM" + b"\0" * 400
    for name, content in {"IM0001": dicom, "1.2.840.113": dicom, "notes.txt": b"words", ".hidden.png": slices[0],
                          ".git/a.png": slices[0], "deep/er/scan.nii.gz": b"", "README": b""}.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("a.png", slices[0])
    found = [os.path.relpath(entry.path, tmp_path) for entry in find_entries([tmp_path])]
    assert found == ["1.2.840.113", "IM0001", "more.zip", "00/00000.png", "deep/er/scan.nii.gz"]


def test_bad_files_are_rows_and_end_nothing(model: ResNetViT, tmp_path: Path) -> None:
    good = put(tmp_path, draw(1)) / "00" / "00000.png"
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1" + b"\0" * 100)
    pq.write_table(pa.table({"slice": [1]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"bytes": [b"text", None, good.read_bytes()]}), tmp_path / "half.parquet")
    pq.write_table(pa.table({"path": pa.array([], pa.string())}), tmp_path / "none.parquet")
    pq.write_table(pa.table({"bytes": pa.array([], pa.binary())}), tmp_path / "empty.parquet")
    (tmp_path / "bad.zip").write_bytes(b"PK\3\4" + b"\0" * 30)
    os.mkfifo(tmp_path / "pipe.png")
    names = ["absent.png", "damaged.parquet", "other.parquet", "half.parquet", "none.parquet", "empty.parquet",
             "bad.zip", "pipe.png"]  # fmt: skip
    table = predict_paths(model, [*(tmp_path / name for name in names), good], PredictSettings(contributions=False))
    assert list(table["error"] == "") == [False] * 5 + [True] + [False] * 2 + [True]
    assert list(table["stroke_probability"].notna()) == list(table["error"] == "")
    words = ["absent.png: does not exist", "damaged.parquet: is a damaged parquet", "other.parquet: has no column",
             "is not a PNG", "holds neither bytes nor a path", "", "damaged zip", "not a regular file",
             ""]  # fmt: skip
    assert [word in error for word, error in zip(words, table["error"], strict=True)] == [True] * len(words)


@pytest.mark.slow  # tests/io and tests/demo try the same files
def test_hostile_files_are_rows_in_the_run(model: ResNetViT, tmp_path: Path) -> None:
    files = list_hostile()
    for index, file in enumerate(files):
        (tmp_path / f"{index:03d}").write_bytes(file.content)
    table = predict_paths(
        model, [tmp_path / f"{index:03d}" for index in range(len(files))], PredictSettings(contributions=False)
    )
    counts = table[table["error"] == ""].groupby("path").size()
    assert counts.sum() > 0
    assert (table["error"] != "").sum() > 0
    assert table["path"].map(lambda path: Path(path).relative_to(tmp_path).parts[0]).nunique() == len(files)
    assert table["stroke_probability"].dropna().between(0, 1).all()


def test_names_that_are_no_utf8_and_commas_survive_the_table(model: ResNetViT, tmp_path: Path) -> None:
    content = draw(1)[0]
    for name in (b"\xff.png", b'a,"b"\n.png', "ä.png".encode()):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as stream:
            stream.write(content)
    expected = ['a,"b"\n.png', "ä.png", "\\xff.png"]
    for out in (tmp_path / "out" / "p.csv", tmp_path / "out" / "p.parquet"):
        predict_here(model, tmp_path, out)
        table = pd.read_csv(out) if out.suffix == ".csv" else pd.read_parquet(out)
        assert [Path(path).name for path in table["path"]] == expected


# --- rows ---------------------------------------------------------------------------------------------------


def test_rows_hold_what_predict_says_and_contributions_sum_to_the_log_odds(
    model: ResNetViT, tmp_path: Path
) -> None:
    source = put(tmp_path / "slices", draw(70))
    table = predict_paths(model, [source], PredictSettings())
    squares = [load_slices(path)[0] for path in sorted(source.rglob("*.png"))]
    said = predict(model, squares)
    np.testing.assert_allclose(table["stroke_probability"], said.probability, atol=1e-6)
    assert list(table["label"]) == said.label
    log_odds = np.log(said.probability / (1 - said.probability))
    np.testing.assert_allclose(table[SHARES].sum(axis=1), log_odds, atol=1e-4)
    assert list(table["unusual"]) == list(said.unusual)
    assert 0 < said.unusual.sum() < len(said.unusual)
    plain = predict_paths(model, [source], PredictSettings(contributions=False))
    assert list(plain["unusual"]) == list(said.unusual)
    assert list(plain.columns) == ["path", "index", "label", "stroke_probability", "unusual", "error", "remarks"]
    np.testing.assert_allclose(table["stroke_probability"], plain["stroke_probability"], atol=1e-6)


def test_threads_change_no_bit_and_leave_torch_alone(model: ResNetViT, tmp_path: Path) -> None:
    source = put(tmp_path / "slices", draw(FILES_PER_CHUNK + 20), bad=[1])
    chunks, settings = list(form_chunks(find_entries([source]))), PredictSettings()
    before = torch.get_num_threads()
    tables = [
        pd.concat([s.table for s in predict_chunks(model, chunks, settings, threads=n) if s.table is not None])
        for n in (1, 3)
    ]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    alone = pd.concat([predict_chunk(model, chunk, settings) for chunk in chunks])
    pd.testing.assert_frame_equal(tables[0], alone, check_exact=True)
    assert torch.get_num_threads() == before


def test_parquet_holds_what_csv_does(model: ResNetViT, tmp_path: Path) -> None:
    source = put(tmp_path / "slices", draw(FILES_PER_CHUNK + 5), bad=[2])
    for name in ("p.csv", "p.parquet"):
        predict_here(model, source, tmp_path / name)
    csv, parquet = pd.read_csv(tmp_path / "p.csv"), pd.read_parquet(tmp_path / "p.parquet")
    assert parquet["error"].ne("").sum() == 1
    assert set(parquet.loc[parquet["error"] == "", "unusual"]) == {False, True}
    for name in ("error", "remarks"):
        parquet[name] = parquet[name].replace("", np.nan)
    parquet["unusual"] = parquet["unusual"].fillna(np.nan)
    pd.testing.assert_frame_equal(csv, parquet, check_dtype=False, rtol=1e-6)
    about = json.loads((tmp_path / "p.parquet.json").read_text())
    assert about["inputs"]["count"] == FILES_PER_CHUNK + 5
    assert about["settings"] == {"batch_size": 16, "contributions": True, "modality": None, "window": None}


def test_a_work_list_is_cut_the_same_way_from_disk(tmp_path: Path) -> None:
    entries = [Entry(f"{i}.png") for i in range(300)]
    entries[5:5] = [Entry("a.zip"), Entry("b.parquet", (0, 0)), Entry("b.parquet", (1, 100))]
    chunks = list(form_chunks(entries))
    assert [len(chunk.entries) for chunk in chunks] == [5, 1, 1, 1, 128, 128, 39]
    count, digest = write_chunks(chunks, tmp_path / "list")
    assert count == 303
    assert list(read_chunks(tmp_path / "list")) == chunks
    assert write_chunks(form_chunks(entries[:-1]), tmp_path / "other")[1] != digest


# --- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x.png", "--out", "p.txt"], "p.txt: give a name that ends in .csv or .parquet."),
        (["x.png", "--out", "."], "is a folder; give the name"),
        (["@absent.txt", "--out", "p.csv"], "absent.txt: cannot be read as a list (No such file or directory)."),
        (["--list", "absent.txt", "--out", "p.csv"], "absent.txt: cannot be read as a list"),
        ([".", "--out", "p.csv"], "There is no image in what was given"),
        (["--out", "p.csv"], "Nothing was given to predict"),
        (["x.png", "--out", "p.csv", "--batch-size", "0"], "batch_size is 0"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    arguments: list[str], words: str, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stroke_hub.cli.predict import predict_files

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["predict", *arguments, "--model", str(model_dir)])
    with pytest.raises(SystemExit, match=f"error: .*{re.escape(words)}"):
        predict_files()
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_errors_alone_is_written_and_is_a_failure(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stroke_hub.cli.predict import predict_files

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["predict", "typo.png", "--out", "p.csv", "--model", str(model_dir)])
    with pytest.raises(SystemExit, match=r"error: p.csv: not one slice could be predicted; its column error says"):
        predict_files()
    assert list(pd.read_csv("p.csv")["path"]) == ["typo.png"]


@pytest.mark.parametrize(("missing", "arguments"), [("ray", ["x.png", "--out", "p.csv", "--engine", "ray"]),
                                                    ("pyarrow", ["x.png", "--out", "p.parquet"]),
                                                    ("pyarrow", ["a.parquet", "--out", "p.csv"])])  # fmt: skip
def test_a_missing_extra_is_one_sentence(
    missing: str, arguments: list[str], model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stroke_hub.cli.predict import predict_files

    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.chdir(tmp_path)
    for name in [missing, *(name for name in sys.modules if name.startswith(f"{missing}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "argv", ["predict", *arguments, "--model", str(model_dir)])
    with pytest.raises(SystemExit, match=r"error: .*pip install 'stroke-hub\["):
        predict_files()
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_a_table_that_cannot_be_written_keeps_what_was_done(model: ResNetViT, tmp_path: Path) -> None:
    table = ResumableTable(tmp_path / "p.csv", {"path": "string", "error": "string"})
    with table.opening():
        assert not table.claim({"a": 1}, resume=True)
        table.add(1, pd.DataFrame({"path": ["b"], "error": ["bad"]}))
        table.add(0, pd.DataFrame({"path": ["a"], "error": [""]}))
    with table.opening():
        assert not table.claim({"a": 1}, resume=True)
        assert list(table.find_chunks()) == [0, 1]
        assert table.count_rows() == (2, 1)
        table.join()
    assert (tmp_path / "p.csv").read_text() == "path,error\na,\nb,bad\n"
    assert json.loads((tmp_path / "p.csv.json").read_text()) == {"a": 1}


# --- clusters and datasets ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_ray_workers_give_the_rows_of_one_process(model: ResNetViT, model_dir: Path, tmp_path: Path) -> None:
    source = put(tmp_path / "slices", draw(3 * FILES_PER_CHUNK), bad=[5])
    with zipfile.ZipFile(source / "more.zip", "w") as archive:
        archive.writestr("a.png", draw(1)[0])
    whole = predict_here(model, source, tmp_path / "whole.csv")
    environment = os.environ | {"OMP_NUM_THREADS": "2", "RAY_worker_niceness": "0"}
    arguments = [source, "--model", model_dir, "--out", tmp_path / "ray.csv", "--engine", "ray"]
    done = run(*arguments, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ray.csv").read_bytes() == whole


def test_the_function_for_datasets_in_docs_fills_a_batch(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```",
        (ROOT / "docs" / "predict-many-files.md").read_text(),
        flags=re.MULTILINE | re.DOTALL,
    )
    block = next(block for block in blocks if "batched=True" in block)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(model_dir)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(block, "predict-many-files.md", "exec"), names)  # noqa: S102
    pictures = [Image.open(io.BytesIO(content)) for content in draw(3)]  # as `datasets` decodes a batch
    columns = names["add_predictions"]({"image": pictures, "label": [0, 1, 0]})  # type: ignore[operator]
    expected = predict(ResNetViT.from_pretrained(model_dir), [load_slices(picture)[0] for picture in pictures])
    assert columns["label"] == expected.label
    np.testing.assert_array_equal(columns["stroke_probability"], expected.probability)
