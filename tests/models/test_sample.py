"""The sample model of the package: its files, the name that stands for it, and what takes that name."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stroke_hub
from stroke_hub import HubError, ModelFormatError, Predictor, ResNetViT, Slice, find_report, load_slices
from stroke_hub.data.folders import read_folder
from stroke_hub.data.masks import find_mask
from stroke_hub.files import hash_file
from stroke_hub.inference.onnx_model import ExportedModel, read_export
from stroke_hub.models.resnet_vit import hash_weights
from stroke_hub.models.sample import EXAMPLE, EXAMPLES, SAMPLE, SAMPLE_FOLDER, locate_model
from stroke_hub.models.weights import WEIGHTS_FILE, is_stored_halved

ROOT = Path(__file__).parents[2]
PACKAGE = Path(stroke_hub.__file__).parent
FILES = sorted(path for path in SAMPLE_FOLDER.rglob("*") if path.is_file())
PATH = re.compile(rb"/(?:home|root|tmp|work|usr|Users|mnt|opt)/[\w.-]{2,}|[A-Z]:\\\\\w{2,}|site-packages")
# no request is made, and torch is not needed where onnxruntime computes
LOAD = """
import socket, sys
def refuse(*_): raise AssertionError("asked the network")
socket.socket.connect = socket.getaddrinfo = refuse
from stroke_hub import Predictor, find_report, load_slices
slices = load_slices(sys.argv[1])
exported = Predictor.from_pretrained("sample", backend="onnx")
exported.explain(slices)
assert find_report("sample") and "torch" not in sys.modules
Predictor.from_pretrained("sample", backend="torch").explain(slices)
"""


def load_examples() -> list[Slice]:
    table = read_folder(EXAMPLES).table
    rows = zip(table["path"], table["modality"], strict=True)
    return [load_slices(EXAMPLES / path, modality=modality)[0] for path, modality in rows]


def test_it_loads_without_a_network_and_whatever_lies_here(tmp_path: Path) -> None:
    (tmp_path / SAMPLE).mkdir()  # a folder of that name is another model
    example = EXAMPLE
    offline = {"HF_HUB_OFFLINE": "1", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", LOAD, example], cwd=tmp_path, env=offline, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_torch_and_onnx_agree() -> None:
    slices = load_examples()
    ours, theirs = (Predictor.from_pretrained(SAMPLE, backend=backend) for backend in ("torch", "onnx"))
    before, after = (predictor.predict(slices) for predictor in (ours, theirs))
    assert np.abs(before.probability - after.probability).max() <= 1e-3
    for one, other in zip(ours.explain(slices), theirs.explain(slices), strict=True):
        assert one.baseline == other.baseline
        change = np.abs(one.fused_map - other.fused_map).max()
        assert change <= 1e-3 * np.abs(one.fused_map).max()


def test_weights_report_and_export_are_of_one_model() -> None:
    assert is_stored_halved(SAMPLE_FOLDER / WEIGHTS_FILE)
    model, report, record = ResNetViT.from_pretrained(SAMPLE), find_report(SAMPLE), read_export(SAMPLE)
    assert report is not None
    assert record is not None
    told = hash_weights(model)  # as they are loaded: in float32
    assert report.model.weights_sha256 == told == record["weights_sha256"]
    assert ExportedModel.from_pretrained(SAMPLE).weights_sha256 == told
    assert record["files"] == {"fp32": hash_file(SAMPLE_FOLDER / "onnx" / "model.onnx")}
    assert report.half.max_probability_change == 0  # what was measured is what is stored
    assert "simulated" in report.data.note
    assert (model.commit, Predictor.from_pretrained(SAMPLE).hash_weights()) == (None, told)


def test_an_export_of_other_weights_is_refused(tmp_path: Path) -> None:
    for file in FILES:
        (tmp_path / file.relative_to(SAMPLE_FOLDER)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file.relative_to(SAMPLE_FOLDER)).write_bytes(file.read_bytes())
    report = json.loads((tmp_path / "report.json").read_text())
    report["model"]["weights_sha256"] = "0" * 64
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(ModelFormatError, match=r"of other weights than its report\.json"):
        ExportedModel.from_pretrained(tmp_path)


def test_it_is_small_and_names_no_path_of_a_machine() -> None:
    weights, graph = ((SAMPLE_FOLDER / name).stat().st_size for name in (WEIGHTS_FILE, "onnx/model.onnx"))
    assert weights <= 3_000_000
    assert weights + graph <= 8_000_000
    found = {file.name: PATH.findall(file.read_bytes()) for file in FILES}
    assert {name: paths for name, paths in found.items() if paths} == {}
    words = (SAMPLE_FOLDER / "README.md").read_text(encoding="utf-8")
    for said in ("simulated", "research", "McGill", "provided that the above copyright notice", "ds004889"):
        assert said in words


def test_examples_are_of_each_modality_and_class_and_strokes_have_masks() -> None:
    records = read_folder(EXAMPLES)
    table = records.table
    cells = set(zip(table["modality"], table["label"], strict=True))
    assert cells == {(modality, label) for modality in ("BT", "MR") for label in (0, 1)}
    assert all(path.endswith("_simulated.png") for path in table["path"])
    assert EXAMPLE in [EXAMPLES / path for path in table["path"]]
    for row in table.itertuples():
        mask = find_mask(table, records.root, row.path)
        assert (mask is not None and mask.any()) == bool(row.label)
    selection = json.loads((EXAMPLES / "selection.json").read_text())
    assert selection["weights_sha256"] == Predictor.from_pretrained(SAMPLE).hash_weights()
    report = find_report(SAMPLE)
    assert report is not None
    assert {name: asked["slices"] for name, asked in selection["asked"].items()} == {
        name: report.test[name].n for name in ("BT", "MR")
    }


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("sample", str(SAMPLE_FOLDER)),
        ("./sample", "./sample"),
        (Path("sample"), "./sample"),
        (Path("runs/sample"), "runs/sample"),
        ("owner/sample", "owner/sample"),
    ],
)
def test_the_text_sample_alone_means_it(name: str | Path, place: str) -> None:
    assert locate_model(name) == place
    assert locate_model(place) == place


def test_a_local_folder_of_that_name_is_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("./sample", Path("sample")):
        with pytest.raises(HubError, match="neither a folder nor"):
            ResNetViT.from_pretrained(name)
        assert find_report(name) is None


def test_commands_take_it(run: Callable[..., Any], tmp_path: Path) -> None:
    done = run("info", SAMPLE)
    assert done.status == 0, done.err
    assert re.search(r"model +sample\n.*simulated.*ONNX export +fp32", done.out, re.DOTALL)
    done = run("predict", EXAMPLE, "--model", SAMPLE, "--out", tmp_path / "table.csv")
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "table.csv.json").read_text())["model"]["source"] == SAMPLE
    done = run("evaluate", "--model", SAMPLE, "--data-dir", EXAMPLES, "--out", tmp_path / "measured")
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "measured" / "report.json").read_text())["model"]["source"] == SAMPLE


def test_it_is_not_exported_or_pushed_again(run: Callable[..., Any]) -> None:
    for words in (("export", "--model", SAMPLE), ("push", SAMPLE, "owner/name", "--dry-run")):
        done = run(*words)
        assert done.status == 1
        assert re.fullmatch(r"error: sample: is in the package, .*\.\n", done.err)


def test_a_wheel_holds_every_file_of_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    globs = settings["package-data"]["stroke_hub"]
    held = {path for glob in globs for path in PACKAGE.glob(glob) if path.is_file()}
    there = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in there if path.suffix != ".py"} == held
    assert {PACKAGE / "data" / "lesions.npz", *FILES} <= held
