"""Claims of inference.inputs: what people have is taken as load_slices does, and the rest refused in a sentence."""

import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from stroke_hub import (
    Explanation,
    ModelFormatError,
    Prediction,
    Predictor,
    Records,
    ResNetViT,
    Slice,
    UnreadableImage,
    explain,
    load_files,
    load_slices,
    predict,
)
from stroke_hub.inference.predict import to_pixels
from stroke_hub.inference.results import find_method
from tests.hostile import VOLUME, nifti, pack


@pytest.fixture(scope="module")
def paths(sample: Records) -> list[Path]:
    return [sample.root / path for path in sample.part("test")["path"][:3]]


@pytest.fixture(scope="module")
def folder(paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same files as slices to be found: some below, and something beside them that is none."""
    folder = tmp_path_factory.mktemp("folder")
    for number, path in enumerate(paths):
        place = folder / ("a" if number == 0 else "b")
        place.mkdir(exist_ok=True)
        shutil.copy(path, place / f"{number}.png")
    (folder / "notes.txt").write_text("nothing to see")
    return folder


@pytest.fixture(scope="module")
def expected(trained: ResNetViT, paths: list[Path]) -> Prediction:
    return predict(trained, [load_slices(path)[0] for path in paths])


def make_array(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path))


def make_zip(paths: list[Path]) -> bytes:
    return pack({f"{number}.png": path.read_bytes() for number, path in enumerate(paths)})


ONE: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "str": str,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "stream": lambda path: io.BytesIO(path.read_bytes()),
    "picture": Image.open,
    "array": make_array,
    "colour": lambda path: np.repeat(make_array(path)[..., None], 3, axis=2),
    "tensor": lambda path: torch.from_numpy(make_array(path).copy()),
    "slice": lambda path: load_slices(path)[0],
}
SEVERAL: dict[str, Callable[[list[Path], Path], Any]] = {
    "folder": lambda paths, folder: folder,
    "str of a folder": lambda paths, folder: str(folder),
    "zip": lambda paths, folder: make_zip(paths),
    "stream of a zip": lambda paths, folder: io.BytesIO(make_zip(paths)),
    "files": lambda paths, folder: load_files(folder),
    "array of paths": lambda paths, folder: np.array([str(path) for path in paths]),
    "array of objects": lambda paths, folder: np.array(paths, dtype=object),
    "generator": lambda paths, folder: (path for path in paths),
    "map": lambda paths, folder: map(Image.open, paths),
    "nested": lambda paths, folder: [load_slices(path) for path in paths],
    "mixed": lambda paths, folder: (paths[0], Image.open(paths[1]), load_slices(paths[2])),
}


@pytest.fixture(scope="module", params=["torch", "onnx"])
def model(request: pytest.FixtureRequest, exported_run: Path) -> Predictor:
    return Predictor.from_pretrained(exported_run, backend=request.param)


@pytest.mark.parametrize("kind", ONE)
def test_one_thing_gives_one_answer(trained: ResNetViT, paths: list[Path], expected: Prediction, kind: str) -> None:
    found = predict(trained, ONE[kind](paths[0]))
    assert found.probability.shape == (1,)
    assert found.probability[0] == pytest.approx(expected.probability[0], abs=1e-6)
    assert isinstance(explain(trained, ONE[kind](paths[0])), Explanation)
    several = [ONE[kind](path) for path in paths]
    np.testing.assert_allclose(predict(trained, several).probability, expected.probability, atol=1e-5)
    explained = explain(trained, several)
    assert isinstance(explained, list)
    assert [e.probability for e in explained] == pytest.approx(expected.probability, abs=1e-5)


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_things_give_as_many_answers_in_their_order(
    model: Predictor, paths: list[Path], folder: Path, expected: Prediction, kind: str
) -> None:
    found = predict(model, SEVERAL[kind](paths, folder))
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-5)
    explained = explain(model, SEVERAL[kind](paths, folder))
    assert isinstance(explained, list)
    assert [e.probability for e in explained] == pytest.approx(expected.probability, abs=1e-5)


def test_what_may_hold_several_gives_a_list_even_of_one(
    trained: ResNetViT, paths: list[Path], folder: Path
) -> None:
    for given in (folder / "a", make_zip(paths[:1]), paths[:1], to_pixels(trained, load_slices(paths[0]))):
        explained = explain(trained, given)
        assert isinstance(explained, list)
        assert len(explained) == 1


def test_a_file_of_several_pages_gives_a_list(trained: ResNetViT, tmp_path: Path) -> None:
    (tmp_path / "scan.nii").write_bytes(nifti(VOLUME))
    count = len(load_slices(tmp_path / "scan.nii"))
    assert count > 1
    explained = explain(trained, tmp_path / "scan.nii")
    assert isinstance(explained, list)
    assert len(explained) == len(predict(trained, tmp_path / "scan.nii").label) == count


def test_squares_are_taken_as_they_are(model: Predictor, paths: list[Path]) -> None:
    slices = [load_slices(path)[0] for path in paths]
    expected, squares = predict(model, slices), to_pixels(model, slices)
    array = squares.numpy().copy()
    array.flags.writeable = False
    for given in (squares, array, torch.from_numpy(array.copy()).requires_grad_(False)):
        np.testing.assert_array_equal(predict(model, given).probability, expected.probability)
        explained = explain(model, given)
        assert isinstance(explained, list)
        np.testing.assert_array_equal(np.stack([e.pixels for e in explained]), array)
    assert predict(model, squares[:0]).label == []
    assert predict(model, []).label == []
    assert explain(model, []) == []


REFUSED: dict[str, tuple[Callable[[torch.Tensor], Any], type[Exception], str]] = {
    "none": (lambda squares: None, TypeError, "None is no slice; pass a path"),
    "number": (lambda squares: 3, TypeError, "A int is no slice"),
    "none in a list": (lambda squares: [None], TypeError, "None is no slice"),
    "dict": (lambda squares: {"image": 1}, TypeError, "A dict is no slice"),
    "floats": (lambda squares: squares / 255, TypeError, "squares are float32, but must be uint8, 0 to 255"),
    "integers": (lambda squares: squares.long(), TypeError, "squares are int64"),
    "halves": (lambda squares: squares.bfloat16(), TypeError, "squares are bfloat16"),
    "larger": (lambda squares: squares.repeat(1, 2, 2), ValueError, r"shape \(1, 256, 256\) is neither"),
    "smaller": (lambda squares: squares[:, ::2, ::2], ValueError, r"nor squares of this model, \(N, 128, 128\)"),
    "input of forward": (lambda squares: squares[:, None] / 255, ValueError, r"\(1, 1, 128, 128\) is neither"),
    "line": (lambda squares: squares[0, 0], UnreadableImage, "image: "),
    "no file": (lambda squares: "nowhere.png", UnreadableImage, "nowhere.png: does not exist"),
    "bytes of a text": (lambda squares: b"hello", UnreadableImage, "image: is not a PNG"),
    "empty zip": (lambda squares: pack({}), UnreadableImage, "holds no image"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_the_rest_is_refused_in_a_sentence(model: Predictor, paths: list[Path], kind: str) -> None:
    make, error, words = REFUSED[kind]
    squares = to_pixels(model, load_slices(paths[0]))
    for ask in (predict, explain):
        with pytest.raises(error, match=words) as caught:
            ask(model, make(squares))
        assert re.fullmatch(r"[^\n]+[;,][^\n]+\.", str(caught.value))


def test_a_bad_file_in_a_folder_is_named(trained: ResNetViT, folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "b" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"?" * 50)
    with pytest.raises(UnreadableImage, match="bad"):
        predict(trained, copy)
    with pytest.raises(UnreadableImage, match="holds no image"):
        predict(trained, Path(__file__).parents[1] / "fakes")


def test_folders_are_read_file_by_file(trained: ResNetViT, paths: list[Path]) -> None:
    asked: list[int] = []

    def give() -> Iterator[Slice]:
        for number, path in enumerate(paths):
            asked.append(number)
            yield load_slices(path)[0]

    assert len(predict(trained, give()).label) == len(asked) == len(paths)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_holds_something(model: Predictor, paths: list[Path], batch_size: int) -> None:
    for ask in (predict, explain):
        with pytest.raises(ValueError, match=f"batch_size is {batch_size}, but must be at least 1"):
            ask(model, paths, batch_size=batch_size)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_in_a_sentence(run_dir: Path, paths: list[Path], dtype: torch.dtype) -> None:
    model = ResNetViT.from_pretrained(run_dir).to(dtype)
    for ask in (predict, explain):
        with pytest.raises(ModelFormatError, match=r"b?float16, but answers in float32 only; call"):
            ask(model, paths)
    assert predict(model.float(), paths).label


def test_double_precision_answers_alike(run_dir: Path, trained: ResNetViT, paths: list[Path]) -> None:
    found = predict(ResNetViT.from_pretrained(run_dir).double(), paths)
    np.testing.assert_allclose(found.probability, predict(trained, paths).probability, atol=1e-5)


def test_the_model_comes_first_and_by_itself(trained: ResNetViT, paths: list[Path]) -> None:
    for ask in (predict, explain):
        with pytest.raises(TypeError, match=r"is a list, but must be .* and comes before the slices"):
            ask(paths, trained)  # type: ignore[arg-type, call-overload]
        with pytest.raises(TypeError, match=r"is a DataParallel, .*; pass its module"):
            ask(torch.nn.DataParallel(trained), paths)  # type: ignore[arg-type, call-overload]
        with pytest.raises(TypeError, match="model is a NoneType"):
            ask(None, paths)  # type: ignore[arg-type, call-overload]


@pytest.mark.parametrize(
    ("name", "target"), [("stroke", "Stroke"), ("NORMAL", "Normal"), ("Predicted", None), ("Stroke", "Stroke")]
)
def test_targets_are_known_in_any_case(model: Predictor, paths: list[Path], name: Any, target: str | None) -> None:
    (found,) = explain(model, paths[:1], target=name)
    assert found.target == (target or found.label)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("Relevance", "relevance"),
        ("grad-cam", "relevance"),
        ("Grad-CAM", "relevance"),
        ("ATTENTION", "attention"),
        ("Grad-CAM++", "gradcam++"),
        ("layer_cam", "layercam"),
        ("Eigen CAM", "eigencam"),
    ],
)
def test_methods_are_known_in_any_spelling(name: str, method: str) -> None:
    assert find_method(name) == method


def test_the_method_that_is_meant_is_taken(trained: ResNetViT, paths: list[Path]) -> None:
    other: Any = "Attention"
    (ours,), (theirs,) = explain(trained, paths[:1], method=other), explain(trained, paths[:1], method="attention")
    assert ours.method == theirs.method == "attention rollout, not class-specific"
    np.testing.assert_array_equal(ours.vit_map, theirs.vit_map)
    other = "grad-cam"
    (named,), (default,) = explain(trained, paths[:1], method=other), explain(trained, paths[:1])
    np.testing.assert_array_equal(named.cnn_map, default.cnn_map)


def test_layers_are_known_in_any_case(trained: ResNetViT, paths: list[Path]) -> None:
    (found,) = explain(trained, paths[:1])
    for name in ("cnn", "vit", "fused"):
        assert found.overlay(name.upper()) == found.overlay(name)  # type: ignore[arg-type]
