"""The export is the model: the same answers without PyTorch, by any number of threads, and nothing else is read."""

import concurrent.futures
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from stroke_hub import (
    PRESETS,
    HubError,
    ModelFormatError,
    Predictor,
    Records,
    ResNetViT,
    RunError,
    Slice,
    explain,
    load_slices,
    predict,
)
from stroke_hub.batch.pipeline import PredictSettings, load_model, predict_paths
from stroke_hub.deploy.export import export
from stroke_hub.deploy.publish import publish
from stroke_hub.files import hash_file
from stroke_hub.inference.onnx_model import EXPLAINED, FILES, KEY, ExportedModel, read_export
from stroke_hub.inference.predict import compute_distance, to_float_pixels, to_pixels
from stroke_hub.inference.relevance import compute_relevance
from tests.conftest import load_rows, randomise
from tests.fakes.hub_client import Client, fail, make_client, make_hub  # noqa: F401
from tests.fakes.hub_server import Hub

ROOT = Path(__file__).parents[2]
MAPS = ("cnn_map", "vit_map", "cnn_evidence", "vit_evidence", "fused_map")


@pytest.fixture(name="run")
def give_run(exported_run: Path) -> Path:
    """The trained run with its export."""
    return exported_run


@pytest.fixture(scope="module")
def predictor(exported_run: Path) -> Predictor:
    return Predictor.from_pretrained(exported_run, backend="onnx")


@pytest.fixture(scope="module")
def slices(sample: Records) -> list[Slice]:
    return load_rows(sample.root, sample.part("test")[:6])


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the exported run, to be changed."""
    return shutil.copytree(run, tmp_path / "run")


def check_grids(model: ResNetViT, folder: Path) -> None:
    """All that the graph gives is what compute_relevance gives, for any batch and either class."""
    exported = ExportedModel.from_pretrained(folder)
    generator, compared = torch.Generator().manual_seed(0), set[str]()
    for count in (1, 2, 5):
        squares = torch.randint(0, 256, (count, *[model.image_size] * 2), dtype=torch.uint8, generator=generator)
        for sign in (-1.0, 0.0, 1.0):
            found = exported.run(squares.numpy(), sign, EXPLAINED)
            with torch.no_grad():
                signs = torch.full((count,), sign) if sign else None
                relevance = compute_relevance(model, to_float_pixels(squares, "cpu"), signs)
            expected = {"distance": compute_distance(model, relevance.features, to_float_pixels(squares, "cpu"))}
            expected |= {name: values.numpy() for name, values in relevance._asdict().items()}
            for name, values in found.items():
                wanted = expected[name]
                assert values.shape == wanted.shape, name
                scale = np.abs(wanted).max()
                assert np.abs(values - wanted).max() <= min(1e-4, 0.01 * scale), name
                compared |= {name} if scale > 0 else set()
    assert compared == set(EXPLAINED)  # all was something


def test_the_graph_is_the_closed_form(run: Path, trained: ResNetViT) -> None:
    check_grids(trained, run)


@pytest.mark.slow
def test_the_compact_presets_graph_is_the_closed_form(tmp_path: Path) -> None:
    model = randomise(ResNetViT(**PRESETS["compact"]))
    model.save_pretrained(tmp_path)
    export(tmp_path, precisions=["fp32"])
    check_grids(model, tmp_path)


def test_contributions_come_with_predictions(predictor: Predictor, trained: ResNetViT, slices: list[Slice]) -> None:
    wanted = np.array([list(e.contributions.values()) for e in explain(trained, slices)])
    for model in (trained, predictor):
        plain, found = predict(model, slices), predict(model, slices, batch_size=4, contributions=True)
        assert plain.contributions is None
        assert found.contributions is not None
        assert found.contributions.shape == (6, 3)
        np.testing.assert_allclose(found.contributions, wanted, atol=1e-4)
        np.testing.assert_allclose(found.probability, plain.probability, atol=1e-5)
        np.testing.assert_array_equal(found.unusual, plain.unusual)


def test_an_archive_is_predicted_by_an_export_in_threads(run: Path, trained: ResNetViT, sample: Records) -> None:
    files = [sample.root / path for path in sample.part("test")["path"][:40]]
    ours = predict_paths(trained, files, PredictSettings(batch_size=8))
    theirs = predict_paths(load_model(str(run), None), files, PredictSettings(batch_size=8))
    assert load_model(str(run), None).backend == "onnx"
    for name in ("path", "index", "label", "unusual", "error"):
        assert list(theirs[name]) == list(ours[name])
    assert (ours["error"] == "").all()
    np.testing.assert_allclose(theirs["stroke_probability"], ours["stroke_probability"], atol=1e-5)
    shares = [name for name in ours if name.startswith("contribution_")]
    np.testing.assert_allclose(theirs[shares], ours[shares], atol=1e-4)


@pytest.mark.parametrize("target", ["Stroke", "Normal", "predicted"])
def test_answers_are_those_of_the_model(
    predictor: Predictor, trained: ResNetViT, slices: list[Slice], target: Any
) -> None:
    ours, theirs = predict(trained, slices), predict(predictor, slices, batch_size=4)
    assert theirs.label == ours.label
    assert theirs.probability.dtype == np.float64
    np.testing.assert_allclose(theirs.probability, ours.probability, atol=1e-5)
    np.testing.assert_allclose(theirs.logits, ours.logits, atol=1e-4)
    np.testing.assert_allclose(theirs.distance, ours.distance, rtol=1e-4)
    np.testing.assert_array_equal(theirs.unusual, ours.unusual)
    expected, found = (
        explain(trained, slices, target=target),
        explain(predictor, slices, target=target, batch_size=4),
    )
    for e, f in zip(expected, found, strict=True):
        assert (f.target, f.label, f.method) == (e.target, e.label, e.method)
        assert f.probability == pytest.approx(e.probability, abs=1e-5)
        assert f.contributions == pytest.approx(e.contributions, abs=1e-4)
        assert (f.unusual, f.distance_limit) == (e.unusual, e.distance_limit)
        assert f.distance == pytest.approx(e.distance, rel=1e-4)
        assert f.norms == pytest.approx(e.norms, abs=1e-4)
        np.testing.assert_array_equal(f.pixels, e.pixels)
        for name in MAPS:
            values = getattr(f, name)
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, getattr(e, name), atol=1e-4, err_msg=name)
    one = predictor.explain(slices[0], target=target)
    np.testing.assert_allclose(one.fused_map, found[0].fused_map, atol=1e-6)
    assert predictor.predict([]).label == predictor.explain([]) == []
    squares = to_pixels(trained, slices)
    np.testing.assert_array_equal(predictor.predict(squares).logits, predictor.predict(slices).logits)
    assert predictor.threshold == float(trained.threshold)
    for name in ("image_size", "resize", "rendering", "window", "framing", "modalities"):
        assert getattr(predictor, name) == getattr(trained, name)
    assert (trained.rendering, trained.framing, trained.modalities) == ("canonical", "head", ("BT", "MR"))
    assert theirs.remarks == ours.remarks
    assert all(ours.remarks[i] == tuple(e.remarks[: len(ours.remarks[i])]) for i, e in enumerate(expected))


def test_int8_is_rounded_and_no_more(run: Path, sample: Records, trained: ResNetViT) -> None:
    slices = load_rows(sample.root, sample.part("test"))
    rounded = Predictor.from_pretrained(run, precision="int8")
    assert (rounded.backend, rounded.precision) == ("onnx", "int8")
    # scales of activations are a batch's: export measures with batches of 16
    change = np.abs(rounded.predict(slices, batch_size=16).probability - predict(trained, slices).probability).max()
    assert 1e-6 < change <= 0.03  # 0.023 of this model of two epochs; docs/run-without-pytorch.md has a trained one
    record = read_export(run)
    assert record is not None
    assert record["measured"]["int8"]["probability"] == pytest.approx(change, abs=1e-4)
    assert (record["measured"]["n"], record["measured"]["on"]) == (len(slices), "test slices of sample")
    assert record["measured"]["fp32"]["probability"] < 1e-5
    assert record["measured"]["fp32"]["auroc"] == pytest.approx(0, abs=1e-3)
    assert record["bytes"]["int8"] < 0.6 * record["bytes"]["fp32"]
    for e, f in zip(explain(trained, slices[:6]), rounded.explain(slices[:6]), strict=True):
        assert f.contributions == pytest.approx(e.contributions, abs=0.1)
        assert np.corrcoef(e.cnn_evidence.ravel(), f.cnn_evidence.ravel())[0, 1] > 0.99


def test_sixteen_threads_give_the_serial_answers(predictor: Predictor, slices: list[Slice]) -> None:
    serial = [predictor.explain(s) for s in slices]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        parallel = list(pool.map(lambda i: predictor.explain(slices[i % 6]), range(96)))
    for i, e in enumerate(parallel):
        assert e.log_odds == serial[i % 6].log_odds
        np.testing.assert_array_equal(e.fused_map, serial[i % 6].fused_map)


def test_torch_behind_a_predictor_is_the_model_bit_for_bit(
    run_dir: Path, trained: ResNetViT, slices: list[Slice]
) -> None:
    loaded = Predictor.from_pretrained(run_dir, backend="torch", device="cpu")
    assert (loaded.backend, loaded.precision, loaded.commit) == ("torch", "fp32", None)
    for asked in (loaded, Predictor(trained)):
        np.testing.assert_array_equal(predict(asked, slices).probability, predict(trained, slices).probability)
        for depth in (1, 2):
            e, f = explain(trained, slices[0], depth=depth), asked.explain(slices[0], depth=depth)
            assert f.contributions == e.contributions
            for name in MAPS:
                np.testing.assert_array_equal(getattr(f, name), getattr(e, name))


def test_the_faster_one_is_taken(run: Path, run_dir: Path) -> None:
    faster = "torch" if torch.cuda.is_available() else "onnx"
    assert Predictor.from_pretrained(run).backend == faster
    assert Predictor.from_pretrained(run_dir).backend == "torch"
    assert Predictor.from_pretrained(run, precision="int8").backend == "onnx"


def test_an_onnx_answer_imports_no_torch(run: Path, sample: Records) -> None:
    code = f"""
import sys
from stroke_hub import Predictor, explain, find_report, load_slices, predict, read_records

records = read_records({str(sample.root)!r})
slices = load_slices(records.root / records.table["path"].iloc[0])
predictor = Predictor.from_pretrained({str(run)!r}, backend="onnx", threads=1)
probability = predict(predictor, slices).probability[0]
explanation = explain(predictor, slices[0])
assert abs(explanation.probability - probability) < 1e-5
assert find_report({str(run)!r})
heavy = {{"torch", "timm", "torchvision", "matplotlib", "sklearn", "gradio", "onnx", "onnxscript"}}
found = heavy & set(sys.modules)
explanation.overlay("fused")
sys.exit(", ".join(found or {{"torch", "timm"}} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_it_cannot_do_is_said_with_the_way_out(
    predictor: Predictor, run: Path, run_dir: Path, trained: ResNetViT, slices: list[Slice]
) -> None:
    for options in ({"depth": 2}, {"method": "attention"}, {"method": "gradcam++"}):
        with pytest.raises(RunError, match="backend='torch'"):
            explain(predictor, slices[0], **options)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="target"):
        predictor.explain(slices[0], target="infarct")  # type: ignore[call-overload]
    with pytest.raises(RunError, match="fp32 only"):
        Predictor.from_pretrained(run, backend="torch", precision="int8")
    with pytest.raises(RunError, match="loaded for torch in fp32, not for onnx"):
        Predictor(trained, backend="onnx")
    with pytest.raises(ModelFormatError, match=r"has no onnx/export\.json; export it with"):
        Predictor.from_pretrained(run_dir, backend="onnx")
    with pytest.raises(ValueError, match="backend 'tensorflow'"):
        Predictor.from_pretrained(run, backend="tensorflow")  # type: ignore[arg-type]
    with pytest.raises((HubError, ModelFormatError), match="neither a folder nor"):
        Predictor.from_pretrained("nowhere/at/all")


@pytest.mark.slow
def test_a_model_without_closed_form_is_exported_to_predict(
    slices: list[Slice], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = randomise(ResNetViT(cnn="test_resnet", vit="eva02_tiny_patch14_224", image_size=56))  # rotary
    model.save_pretrained(tmp_path)
    record = export(tmp_path, precisions=["fp32"])
    assert not record["explains"]
    assert record["measured"]["on"] == "squares of noise, not slices"
    assert record["measured"]["fp32"]["map"] is None
    assert read_export(tmp_path) == record | {"commit": None}
    with pytest.raises(ModelFormatError, match="was not exported as int8"):
        Predictor.from_pretrained(tmp_path, precision="int8")
    assert "the export predicts only" in capsys.readouterr().err
    predicting = Predictor.from_pretrained(tmp_path, backend="onnx")
    np.testing.assert_allclose(
        predicting.predict(slices).probability, predict(model, slices).probability, atol=1e-5
    )
    with pytest.raises(RunError, match="predicts only"):
        predicting.explain(slices)
    with pytest.raises(RunError, match="predicts only"):
        predicting.predict(slices, contributions=True)
    assert Predictor.from_pretrained(tmp_path).backend == "torch"


def test_predict_and_explain_take_an_export_itself(run: Path, predictor: Predictor, slices: list[Slice]) -> None:
    exported = ExportedModel.from_pretrained(run, precision="int8")
    assert predict(exported, slices[:2]).label == Predictor(exported, precision="int8").predict(slices[:2]).label
    one = explain(exported, slices[0], target="Normal")
    (same,) = exported.explain(slices[:1], target="Normal")
    np.testing.assert_array_equal(one.fused_map, same.fused_map)
    with pytest.raises(RunError, match="depth=1 and method='relevance' only"):
        explain(exported, slices, depth=2)
    for ask in (predict, explain):
        with pytest.raises(TypeError, match="model is a str, but must be a ResNetViT, an ExportedModel or a Pred"):
            ask("runs/quickstart", slices)  # type: ignore[operator]


def edit(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change the graph, and export.json so that it describes the changed file."""
    file, record = folder / "onnx" / FILES["fp32"], folder / "onnx" / "export.json"
    graph = onnx.load(file)
    change(graph)
    file.write_bytes(graph.SerializeToString())
    found = json.loads(record.read_text())
    found["files"]["fp32"] = hash_file(file)
    record.write_text(json.dumps(found))


def describe_as(graph: onnx.ModelProto, **settings: Any) -> None:
    graph.metadata_props[0].value = json.dumps(json.loads(graph.metadata_props[0].value) | settings)


def point_outside(graph: onnx.ModelProto) -> None:
    tensor = graph.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")


def call_foreign_code(graph: onnx.ModelProto) -> None:
    graph.opset_import.append(helper.make_opsetid("evil.ops", 1))
    graph.graph.node[0].domain = "evil.ops"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (point_outside, "points to further files"),
        (call_foreign_code, "is damaged or no ONNX"),
        (lambda graph: graph.metadata_props.pop(), "other metadata"),
        (lambda graph: describe_as(graph, temperature=0.0), "other metadata"),
        (lambda graph: describe_as(graph, threshold="0.5"), "other metadata"),
        (lambda graph: describe_as(graph, image_size=10**9), "other metadata"),
        (lambda graph: describe_as(graph, resize="crop"), "other metadata"),
        (lambda graph: describe_as(graph, rendering="film"), "other metadata"),
        (lambda graph: describe_as(graph, modalities=["PET"]), "other metadata"),
        (lambda graph: describe_as(graph, image_size=64), "other inputs or outputs"),
        (lambda graph: graph.graph.output.pop(1), "other inputs or outputs"),
        (
            lambda graph: describe_as(graph, weights_sha256="0" * 64),
            r"of other weights than its model\.safetensors",
        ),
    ],
    ids=["outside", "foreign", "none", "cold", "text", "huge", "crop", "film", "PET", "size", "output", "weights"],
)
def test_graphs_that_are_not_ours_are_refused(
    copy: Path, change: Callable[[onnx.ModelProto], None], words: str
) -> None:
    edit(copy, change)
    with pytest.raises(ModelFormatError, match=words) as caught:
        Predictor.from_pretrained(copy, backend="onnx")
    assert str(caught.value).isprintable()
    assert Predictor.from_pretrained(copy, backend="torch").backend == "torch"


def test_an_export_of_an_older_format_is_refused(copy: Path) -> None:
    """Format 1 had the output `interaction`; its export.json and its graphs are told apart from ours."""
    record = copy / "onnx" / "export.json"
    found = json.loads(record.read_text())
    record.write_text(json.dumps(found | {"format_version": 1}))
    with pytest.raises(
        ModelFormatError, match=r"export\.json is of format 1, not 4; export it again with `stroke-hub"
    ):
        Predictor.from_pretrained(copy, backend="onnx")
    assert Predictor.from_pretrained(copy).backend == "torch"
    record.write_text(json.dumps(found))
    edit(copy, lambda graph: describe_as(graph, format_version=1))
    with pytest.raises(ModelFormatError, match="other metadata than this version's exports; export it again"):
        Predictor.from_pretrained(copy, backend="onnx")


def test_damaged_files_and_other_weights_are_refused(copy: Path, untrained: ResNetViT) -> None:
    file = copy / "onnx" / FILES["fp32"]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"is not the file that export\.json describes"):
        Predictor.from_pretrained(copy, backend="onnx")
    file.unlink()
    with pytest.raises(ModelFormatError, match=r"has no onnx/model\.onnx"):
        Predictor.from_pretrained(copy, backend="onnx")
    untrained.save_pretrained(copy)  # as after a second training: report and export are of the first
    with pytest.raises(ModelFormatError, match=r"of other weights than its model\.safetensors"):
        Predictor.from_pretrained(copy, precision="int8")
    for nonsense in ("{", "[]", '{"format_version": 4}', "[" * 100_000, "{}" + " " * 200_000):
        (copy / "onnx" / "export.json").write_text(nonsense)
        with pytest.raises(ModelFormatError, match=r"export\.json is damaged, or was not written by export"):
            Predictor.from_pretrained(copy, backend="onnx")
    assert Predictor.from_pretrained(copy).backend == "torch"


def test_an_export_tells_nothing_of_this_machine(run: Path) -> None:
    for file in (run / "onnx").iterdir():
        content = file.read_bytes()
        assert not re.search(rb"site-packages|[a-z_]{4}\.py\b|stack_trace", content), file.name
        assert str(run.parent).encode() not in content  # where it was made
    graph = onnx.load(run / "onnx" / FILES["int8"])
    assert [prop.key for prop in graph.metadata_props if prop.key == KEY] == [KEY]


def test_an_export_that_fails_leaves_the_earlier_one(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: hash_file(file) for file in (copy / "onnx").iterdir()}

    def fill_the_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", fill_the_disk)
    monkeypatch.setattr("stroke_hub.deploy.export._trace", lambda *_: onnx.load(copy / "onnx" / FILES["fp32"]))
    with pytest.raises(OSError, match="No space"):
        export(copy)
    assert {file.name: hash_file(file) for file in (copy / "onnx").iterdir()} == before
    assert not (copy / ".onnx.partial").exists()


def ask(repo_id: str, file: str, backend: Any, precision: Any) -> dict[str, Any]:
    """What a Hub model answers, in the client's process."""
    loaded = Predictor.from_pretrained(repo_id, backend=backend, precision=precision)
    found = loaded.explain(load_slices(file)[0])
    return {"backend": loaded.backend, "commit": loaded.commit, "probability": found.probability}


@pytest.mark.parametrize("half", [False, True])
def test_an_export_goes_to_the_hub_and_back(
    hub: Hub, client: Client, copy: Path, sample: Records, trained: ResNetViT, half: bool
) -> None:
    repo, file = f"owner/onnx-{half}", sample.root / sample.part("test")["path"].iloc[0]
    expected = explain(trained, load_slices(file)[0]).probability
    client.call(publish, copy, repo, with_onnx=True, half=half)
    asked = len(hub.requests)
    found = client.call(ask, repo, file, "onnx", "fp32")
    assert found["probability"] == pytest.approx(expected, abs=1e-5)
    assert found["commit"] == hub.commits(repo)[0].sha
    assert not [path for _, path in hub.requests[asked:] if "safetensors" in path], "weights were fetched twice"
    assert client.call(ask, repo, file, "auto", "int8")["probability"] == pytest.approx(expected, abs=0.02)
    card = hub.files(repo)["README.md"].decode()
    record = read_export(copy)
    assert record is not None
    assert f'Predictor.from_pretrained("{repo}")' in card
    for precision, size in record["bytes"].items():
        assert f"| {precision} | {size:,} |".replace(",", "") in card.replace(",", "")
    assert f"on {record['measured']['n']} test slices of sample" in card


@pytest.mark.slow
def test_a_commit_with_the_export_of_other_weights_is_refused(hub: Hub, client: Client, copy: Path) -> None:
    record = copy / "onnx" / "export.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"weights_sha256": "0" * 64}))
    words = fail(client, publish, copy, "owner/stale", with_onnx=True)
    assert "its onnx is damaged or of other weights" in words
    client.call(publish, copy, "owner/stale")
    file = copy / "any.png"
    assert "has no onnx/export.json" in fail(client, ask, "owner/stale", file, "onnx", "fp32")
    there = {f"onnx/{path.name}": path.read_bytes() for path in (copy / "onnx").iterdir()}
    report = json.loads(hub.files("owner/stale")["report.json"])
    report["model"]["weights_sha256"] = "f" * 64
    hub.add("owner/stale", there | {"report.json": json.dumps(report).encode()})
    assert "of other weights than its report.json" in fail(client, ask, "owner/stale", file, "onnx", "fp32")
