"""Hugging Face transformers loads what is published, without remote code, and says what predict says."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, pipeline

import stroke_hub.transformers  # noqa: F401 (it registers)
from stroke_hub import PRESETS, Predictor, Records, ResNetViT, load_slices, predict
from stroke_hub.deploy.publish import publish
from stroke_hub.models.presets import CLASSES
from stroke_hub.transformers.image_processor import StrokeHubImageProcessor
from stroke_hub.transformers.model import StrokeHubForImageClassification
from tests.conftest import randomise
from tests.fakes.hub_client import Client, make_client, make_hub  # noqa: F401
from tests.fakes.hub_server import Hub
from tests.io.synth import dcm, head

CLOSE = 1e-5
WEIGHTS = "model.safetensors"
TASK = "image-classification"


def ask(name: str, pictures: list[str], **options: Any) -> list[dict[str, float]]:
    """What a pipeline says to pictures, by their paths; of each the classes and their probabilities."""
    return [
        {one["label"]: one["score"] for one in found} for found in pipeline(TASK, model=name, **options)(pictures)
    ]


def see(model: ResNetViT, given: Any) -> list[dict[str, float]]:
    """The same of predict."""
    return [dict(zip(CLASSES, (1 - p, p), strict=True)) for p in predict(model, given).probability]


def agree(found: list[dict[str, float]], expected: list[dict[str, float]]) -> bool:
    return len(found) == len(expected) and all(
        one == pytest.approx(other, abs=CLOSE) for one, other in zip(found, expected, strict=True)
    )


@pytest.fixture(scope="module")
def pictures(sample: Records) -> list[str]:
    return [str(sample.root / path) for path in sample.table["path"][:6]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of CT alone with a temperature and a threshold that show, saved."""
    model = randomise(ResNetViT(**PRESETS["tiny"], modalities=["BT"]))
    model.threshold.fill_(0.9)
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("modalities", [[], ["BT"], ["BT", "MR"]])
def test_a_local_pipeline_says_what_predict_says(
    tmp_path: Path, pictures: list[str], modalities: list[Any]
) -> None:
    model = randomise(ResNetViT(**PRESETS["tiny"], modalities=modalities))
    model.save_pretrained(tmp_path)
    expected = see(model, pictures)
    assert len({round(one["Stroke"], 3) for one in expected}) > 1
    assert agree(ask(str(tmp_path), pictures), expected)
    classify = pipeline(TASK, model=str(tmp_path))
    for path, one in zip(pictures, expected, strict=True):
        with Image.open(path) as picture:
            first, second = classify(picture)
        assert agree([{first["label"]: first["score"], second["label"]: second["score"]}], [one])
        assert first["score"] >= second["score"]
    found = predict(classify.model.network, pictures)
    np.testing.assert_array_equal(found.logits, predict(model, pictures).logits)


def test_what_is_published_loads_from_the_hub_without_remote_code(
    hub: Hub, client: Client, run_dir: Path, trained: ResNetViT, pictures: list[str]
) -> None:
    client.call(publish, run_dir, "owner/auto")
    sha = hub.commits("owner/auto")[0].sha
    expected = see(trained, pictures)
    assert agree(client.call(ask, "owner/auto", pictures, who=None), expected)
    hub.add("owner/auto", {"config.json": b"{}"})  # main moves on; a pinned commit does not
    assert agree(client.call(ask, "owner/auto", pictures, revision=sha, trust_remote_code=False), expected)
    client.call(publish, run_dir, "owner/half", half=True)
    rounded = client.call(ask, "owner/half", pictures)
    assert agree(rounded, client.call(ask_predict, "owner/half", pictures))


def ask_predict(name: str, pictures: list[str]) -> list[dict[str, float]]:
    """What predict says with a model that is loaded from the Hub."""
    return see(ResNetViT.from_pretrained(name), pictures)


def test_an_older_run_gets_its_type_when_it_is_published(
    hub: Hub, client: Client, run_dir: Path, tmp_path: Path, trained: ResNetViT, pictures: list[str]
) -> None:
    run = forget_type(shutil.copytree(run_dir, tmp_path / "run"))
    client.call(publish, run, "owner/older")
    assert agree(client.call(ask, "owner/older", pictures), see(trained, pictures))
    assert hub.files("owner/older")["config.json"] == (run_dir / "config.json").read_bytes()


def forget_type(folder: Path) -> Path:
    """Turn a folder into one of before transformers could load it."""
    (folder / "preprocessor_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    del config["model_type"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_an_older_repository_loads_by_the_names_of_its_parts(folder: Path, pictures: list[str]) -> None:
    expected = see(ResNetViT.from_pretrained(folder), pictures)
    forget_type(folder)
    with pytest.raises(ValueError, match="model_type"):
        AutoConfig.from_pretrained(folder)
    parts: dict[str, Any] = {
        "model": StrokeHubForImageClassification.from_pretrained(folder),
        "image_processor": StrokeHubImageProcessor.from_pretrained(folder),
    }
    found = pipeline(TASK, **parts)(pictures)
    assert agree([{one["label"]: one["score"] for one in answer} for answer in found], expected)


def test_the_auto_classes_load_the_very_file(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    assert config.id2label == dict(enumerate(CLASSES))
    assert config.get_arguments() == ResNetViT.from_pretrained(folder).get_config()
    model = AutoModelForImageClassification.from_pretrained(folder)
    assert not model.training
    own = ResNetViT.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, own[name]) for name, value in model.network.state_dict().items())


def test_a_modality_counts_as_in_predict(tmp_path: Path, pictures: list[str]) -> None:
    model = randomise(ResNetViT(**PRESETS["tiny"], modalities=["BT", "MR"]))
    model.save_pretrained(tmp_path)
    dark = tmp_path / "dark.png"  # MR is stretched from its own percentiles; a picture of no modality is not
    with Image.open(pictures[0]) as picture:
        picture.convert("L").point(lambda grey: grey // 2).save(dark)
    expected = {name: see(model, load_slices(dark, modality=name)) for name in (None, "BT", "MR")}
    assert abs(expected[None][0]["Stroke"] - expected["MR"][0]["Stroke"]) > 10 * CLOSE
    for name, one in expected.items():
        processor = AutoImageProcessor.from_pretrained(tmp_path, modality="CT" if name == "BT" else name)
        assert processor.modality == name
        classify = pipeline(TASK, model=str(tmp_path), image_processor=processor)
        assert agree([{each["label"]: each["score"] for each in classify(str(dark))}], one)
        loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
        inputs = AutoImageProcessor.from_pretrained(tmp_path)(dark, modality=name, return_tensors="pt")
        with torch.inference_mode():
            found = loaded(**inputs).logits.softmax(1).tolist()
        assert agree([dict(zip(CLASSES, row, strict=True)) for row in found], one)


def test_the_image_processor_takes_what_predict_takes(folder: Path, tmp_path: Path) -> None:
    dcm(head()[6] + 1024).save_as(tmp_path / "slice.dcm", enforce_file_format=True)
    picture = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16)
    model = AutoModelForImageClassification.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    given = [tmp_path / "slice.dcm", picture, head()[5].astype(float)]
    with torch.inference_mode():
        found = model(**processor(given, return_tensors="pt")).logits.softmax(1)[:, 1]
    expected = Predictor.from_pretrained(folder).predict(given).probability
    np.testing.assert_allclose(found.numpy(), expected, atol=CLOSE)
    with pytest.raises(ValueError, match="no slices"):
        processor([])


def test_what_is_saved_is_what_was_loaded(folder: Path, tmp_path: Path, pictures: list[str]) -> None:
    pipeline(TASK, model=str(folder)).save_pretrained(tmp_path / "again")
    for name in ("config.json", WEIGHTS, "preprocessor_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name
    assert ask(str(tmp_path / "again"), pictures) == ask(str(folder), pictures)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float16"}, "answers in float32 only"),
        ({"dtype": torch.bfloat16}, "answers in float32 only"),
        ({"image_size": 64}, "config is of another model, or was changed"),
        ({"device_map": "auto"}, "device_map: a model of stroke_hub has no such option"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantization_config: a model of stroke_hub has no such"),
    ],
)
def test_what_a_model_cannot_do_is_refused(folder: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AutoModelForImageClassification.from_pretrained(folder, **options)


def test_a_model_in_half_precision_does_not_answer(folder: Path) -> None:
    model = AutoModelForImageClassification.from_pretrained(folder).half()
    with pytest.raises(ValueError, match="answers in float32 only"):
        model(torch.zeros(1, 3, 128, 128).half())


def test_a_damaged_configuration_is_refused_by_both_parts(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"cnn": "hf-hub:someone/model"}))
    for part in (AutoModelForImageClassification, AutoImageProcessor):
        with pytest.raises(ValueError, match="cnn is 'hf-hub:someone/model', but must be the name of a timm model"):
            part.from_pretrained(folder)
