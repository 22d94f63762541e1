"""A model is saved and loaded exactly, or refused with one sentence."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stroke_hub import (
    PRESETS,
    HubError,
    ModelFormatError,
    Predictor,
    ResNetViT,
    RunError,
    Slice,
    load_slices,
    predict,
)
from stroke_hub.io.rendering import Rendering
from stroke_hub.io.sight import Framing
from stroke_hub.io.slices import fit_square
from stroke_hub.io.windowing import Modality, Window
from stroke_hub.models.backbones import load_backbone
from stroke_hub.models.resnet_vit import MODALITIES, SIGHT
from stroke_hub.models.weights import halve_weights


@pytest.fixture
def saved(untrained: ResNetViT, tmp_path: Path) -> Path:
    untrained.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_saved_and_loaded_logits_are_bit_identical(untrained: ResNetViT, saved: Path) -> None:
    x = torch.rand(3, 3, 128, 128)
    loaded = ResNetViT.from_pretrained(saved)
    assert not loaded.training
    assert torch.equal(untrained(x), loaded(x))
    for key, value in untrained.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key]), key


def test_loading_downloads_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("loading a local folder opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    ResNetViT.from_pretrained(saved)


def test_head_of_the_full_preset_is_the_seed_notebooks() -> None:
    with torch.device("meta"):
        model = ResNetViT(**PRESETS["full"])
    shapes = [tuple(p.shape) for p in model.head.parameters()]
    assert shapes == [(512, 2816), (512,), (2, 512), (2,)]
    assert model.cnn.num_features == 2048
    assert model.vit.num_features == 768
    assert model.head[2].p == 0.3


def describe_as_format_1(folder: Path) -> None:
    """Rewrite a saved configuration as models were described before there was a rendering to name."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for name in ("rendering", "window", "framing", "modalities"):
        del config[name]
    file.write_text(json.dumps(config | {"format_version": 1, "interpolation": "bilinear"}))


def test_a_model_of_format_1_sees_whole_pictures_as_they_are(saved: Path, tmp_path: Path) -> None:
    new = ResNetViT.from_pretrained(saved)
    describe_as_format_1(saved)
    old = ResNetViT.from_pretrained(saved)
    assert (new.rendering, new.framing) == ("canonical", "head")
    assert (old.rendering, old.window, old.framing, old.modalities) == ("legacy", "brain", "whole", ())
    picture = np.zeros((200, 160), np.uint8)
    picture[60:140, 40:120] = np.arange(80) + 20
    squares = torch.from_numpy(fit_square(picture, old.image_size))[None]
    slices = [Slice(picture), *(load_slices(picture, modality=modality)[0] for modality in (None, "BT", "MR"))]
    for one in slices:
        np.testing.assert_array_equal(predict(old, one).logits, predict(old, squares).logits)
        assert predict(old, one).remarks == [()]
    assert (predict(new, slices[1]).logits != predict(old, squares).logits).any()
    old.save_pretrained(tmp_path / "again")  # as format 2, which says what format 1 took for granted
    assert json.loads((tmp_path / "again" / "config.json").read_text())["rendering"] == "legacy"
    again = ResNetViT.from_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(predict(again, slices[3]).logits, predict(old, squares).logits)


@pytest.mark.parametrize("change", [{"interpolation": "bicubic"}, {"framing": "head"}])
def test_what_format_1_did_not_say_is_refused(saved: Path, change: dict[str, str]) -> None:
    describe_as_format_1(saved)
    file = saved / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(
        ModelFormatError, match=rf"{next(iter(change))} is '{next(iter(change.values()))}', but must"
    ):
        ResNetViT.from_pretrained(saved)


def test_the_choices_of_a_configuration_are_those_of_io() -> None:
    expected = {"rendering": Rendering, "window": Window, "framing": Framing}
    assert {name: SIGHT[name] for name in expected} == {name: get_args(kind) for name, kind in expected.items()}
    assert get_args(Modality) == MODALITIES


def test_each_branch_normalises_with_its_own_statistics() -> None:
    model = ResNetViT(cnn="resnet18", vit="vit_tiny_patch16_224", image_size=64)
    assert model.cnn_mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert model.vit_mean.flatten().tolist() == [0.5, 0.5, 0.5]


HOSTILE_CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"cnn": "../../x"}, "cnn"),
    ({"cnn": "hf-hub:someone/model"}, "cnn"),
    ({"cnn": "no_such_model"}, "cnn"),
    ({"vit": "resnet18"}, "resnet18"),
    ({"vit": "local-dir:/tmp"}, "vit"),
    ({"image_size": 10**6}, "image_size"),
    ({"image_size": True}, "image_size"),
    ({"image_size": 77}, "multiple"),
    ({"image_size": "128"}, "image_size"),
    ({"hidden": 10**9}, "hidden"),
    ({"hidden": []}, "hidden"),
    ({"hidden": [16, 8]}, r"from 0 \(a linear head\) to 8192"),
    ({"hidden": True}, "hidden"),
    ({"hidden": None}, "hidden"),
    ({"dropout": 1}, "dropout"),
    ({"dropout": "0"}, "dropout"),
    ({"classes": ["A", "B"]}, "classes"),
    ({"classes": 3}, "classes"),
    ({"resize": "crop"}, "resize"),
    ({"interpolation": "bilinear"}, "interpolation"),
    ({"rendering": "film"}, "rendering is 'film', but must be canonical or legacy"),
    ({"window": "bone"}, "window is 'bone', but must be brain, stroke or subdural"),
    ({"framing": ["head"]}, "framing"),
    ({"modalities": "BT"}, "modalities is 'BT', but must be a list of BT and MR"),
    ({"modalities": ["BT", "BT"]}, "modalities"),
    ({"modalities": [{}]}, "modalities"),
    ({"format_version": 1}, "rendering is 'canonical', but must be left out of a config.json of format 1"),
    ({"format_version": 3}, "format_version"),
    ({"pretrained": True}, "pretrained"),
    ({"self": 1, "cls": 2}, r"config\.json"),
    ({"\x1b[2J\n" + 999 * "x": 1}, "unexpected"),
]
DAMAGED_CONFIGS = [
    "",
    "[]",
    "{",
    "{}",
    '{"cnn": "resnet18"}',
    "[" * 90_000,
    "null",
    "9" * 9_999,
    '"' + "x" * 100_000,
]


@pytest.mark.parametrize(("change", "word"), HOSTILE_CONFIGS)
def test_hostile_configurations_are_refused(saved: Path, change: dict[str, Any], word: str) -> None:
    file = saved / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelFormatError, match=word) as caught:
        ResNetViT.from_pretrained(saved)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", DAMAGED_CONFIGS)
def test_damaged_configurations_are_refused(saved: Path, text: str) -> None:
    (saved / "config.json").write_text(text)
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        ResNetViT.from_pretrained(saved)


def test_missing_files_are_refused_and_pickles_never_opened(saved: Path) -> None:
    weights = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (shutil.rmtree, (str(saved),))

    (saved / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": Bomb(), "n": len(weights)}))
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        ResNetViT.from_pretrained(saved)
    assert saved.is_dir()
    (saved / "config.json").unlink()
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        ResNetViT.from_pretrained(saved)


def spoil_weights(weights: dict[str, torch.Tensor]) -> dict[str, tuple[dict[str, torch.Tensor], str]]:
    """Weights that are safetensors but not this model's, by what is wrong, with a word of the refusal."""
    key, bias = "head.0.bias", weights["head.0.bias"]
    return {
        "missing-key": ({k: v for k, v in weights.items() if k != key}, "lacks"),
        "extra-key": (weights | {"extra": torch.zeros(1)}, "unknown"),
        "evil-key": (weights | {"\x1b[2J\n../../x": torch.zeros(1)}, "unknown"),
        "no-keys": ({}, "lacks"),
        "wrong-shape": (weights | {key: torch.zeros(3)}, key),
        "double": (weights | {key: bias.double()}, "float64"),
        "brain-float": (weights | {key: bias.bfloat16()}, "bfloat16"),
        "float8": (weights | {key: bias.to(torch.float8_e4m3fn)}, "float8"),
        "half-threshold": (weights | {"threshold": weights["threshold"].half()}, "threshold is torch.float16"),
        "nan": (weights | {key: torch.full_like(bias, float("nan"))}, "NaN"),
        "infinite": (weights | {key: torch.full_like(bias, float("inf"))}, "NaN or infinite"),
        "no-temperature": (weights | {"temperature": torch.tensor(0.0)}, "not above 0"),
        "no-deviation": (weights | {"vit_std": torch.zeros(3, 1, 1)}, "not above 0"),
    }


def spoil_file(whole: bytes) -> dict[str, bytes]:
    """Files that are not safetensors, by what is wrong."""
    size = int.from_bytes(whole[:8], "little")
    header, odd = whole[8 : 8 + size], b'{"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}'
    far = header.replace(b'"data_offsets":[0,', b'"data_offsets":[1152921504606846976,', 1)
    return {
        "empty": b"",
        "truncated": whole[:1000],
        "cut-at-the-end": whole[:-1],
        "huge-header": (2**60).to_bytes(8, "little") + whole[8:],
        "far-offset": len(far).to_bytes(8, "little") + far + whole[8 + size :],
        "header-of-brackets": (90_000).to_bytes(8, "little") + b"[" * 90_000,
        "unknown-type": len(odd).to_bytes(8, "little") + odd + b"xxx",
        "pickle": pickle.dumps({"a": 1}),
    }


def test_weights_must_match_exactly(saved: Path) -> None:
    file = saved / "model.safetensors"
    for name, (changed, word) in spoil_weights(load_file(file)).items():
        save_file(changed, file)
        with pytest.raises(ModelFormatError, match=word) as caught:
            ResNetViT.from_pretrained(saved)
        assert str(caught.value).isprintable(), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precision_is_not_saved(untrained: ResNetViT, tmp_path: Path, dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ModelFormatError, match=rf"is in {name}, but saved in float32 only; call"):
        untrained.to(dtype).save_pretrained(tmp_path / "saved")
    assert not any((tmp_path / "saved").iterdir())
    untrained.float().save_pretrained(tmp_path / "saved")
    ResNetViT.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "xpu", 7.5])
def test_a_device_that_is_not_there_is_named(saved: Path, device: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"device is '{device}', but there is no such device; pass 'cpu'"
    ) as caught:
        ResNetViT.from_pretrained(saved, device=device)
    assert caught.value.__suppress_context__
    with pytest.raises(ValueError, match="there is no such device"):
        Predictor.from_pretrained(saved, device=device)
    with pytest.raises(RunError, match="computes on the CPU only"):
        Predictor.from_pretrained(saved, device=device, backend="onnx")


def test_a_model_is_shown_in_a_line(untrained: ResNetViT) -> None:
    assert repr(untrained) == ("ResNetViT(test_resnet + test_vit, 128 x 128, 0.8 M parameters, float32 on cpu)")
    assert repr(Predictor(untrained)) == f"Predictor({untrained!r}, backend='torch', precision='fp32')"


def test_files_that_are_not_safetensors_are_refused(saved: Path) -> None:
    file = saved / "model.safetensors"
    for name, broken in spoil_file(file.read_bytes()).items():
        file.write_bytes(broken)
        with pytest.raises(ModelFormatError, match="damaged or not safetensors") as caught:
            ResNetViT.from_pretrained(saved)
        assert str(caught.value).isprintable(), name


def test_half_the_weights_load_as_float32(untrained: ResNetViT, saved: Path) -> None:
    file = saved / "model.safetensors"
    whole = load_file(file)
    save_file(halve_weights(whole), file)
    loaded = ResNetViT.from_pretrained(saved).state_dict()
    assert {key: value.dtype for key, value in loaded.items()} == {key: value.dtype for key, value in whole.items()}
    for key, value in whole.items():
        if value.numel() < 4:
            assert torch.equal(loaded[key], value), key
        else:  # float16 keeps 11 binary digits
            limit = 2**-11 * float(value.abs().max()) + 2**-25
            assert float((loaded[key] - value).abs().max()) <= limit, key
    whole["head.0.bias"][0] = 1e6
    with pytest.raises(ModelFormatError, match="beyond float16"):
        halve_weights(whole)


def test_a_name_that_is_neither_folder_nor_repository_is_refused() -> None:
    with pytest.raises(HubError, match="neither a folder nor a Hub repository"):
        ResNetViT.from_pretrained("no such/thing/at all")


def test_backbone_weights_come_from_a_file(untrained: ResNetViT, tmp_path: Path) -> None:
    file = tmp_path / "cnn.safetensors"
    save_file({k: v.clone() for k, v in untrained.cnn.state_dict().items()}, file)
    fresh = ResNetViT(**PRESETS["tiny"])
    load_backbone(fresh, "cnn", str(file))
    for key, value in untrained.cnn.state_dict().items():
        assert torch.equal(value, fresh.cnn.state_dict()[key])
    with pytest.raises(ModelFormatError, match="does not hold the weights"):
        load_backbone(fresh, "vit", str(file))
    with pytest.raises(ModelFormatError, match="is not a safetensors file"):
        load_backbone(fresh, "cnn", str(tmp_path / "none.pth"))


def test_transformers_with_computed_tables_load_too(tmp_path: Path) -> None:
    model = ResNetViT(cnn="test_resnet", vit="eva02_tiny_patch14_224", image_size=56).eval()
    model.save_pretrained(tmp_path)
    x = torch.rand(2, 3, 56, 56)
    assert torch.equal(model(x), ResNetViT.from_pretrained(tmp_path)(x))
