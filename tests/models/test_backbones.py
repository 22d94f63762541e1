"""Claims of models.backbones: weights of a repository on the Hub, by timm's own name for it."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import save_file

from stroke_hub.models.backbones import load_backbone
from stroke_hub.models.presets import PRESETS
from stroke_hub.models.resnet_vit import ResNetViT
from tests.fakes.hub_client import Client, fail, make_client, make_hub  # noqa: F401

REPO = "owner/test_resnet.r160_in1k"


def upload(repo: str, file: str, name: str) -> str:
    api = HfApi()
    api.create_repo(repo, exist_ok=True)
    return str(api.upload_file(path_or_fileobj=file, path_in_repo=name, repo_id=repo).oid)


def load(source: str, branch: str) -> float:
    """The sum of a branch's first parameter after loading."""
    model = ResNetViT(**PRESETS["tiny"])
    load_backbone(model, branch, source)  # type: ignore[arg-type]
    return float(next(iter(getattr(model, branch).parameters())).sum())


def save_backbone(folder: Path, seed: int) -> tuple[Path, float]:
    torch.manual_seed(seed)
    weights = ResNetViT(**PRESETS["tiny"]).cnn.state_dict()
    save_file({key: value.contiguous() for key, value in weights.items()}, folder / f"{seed}.safetensors")
    return folder / f"{seed}.safetensors", float(next(iter(weights.values())).sum())


def test_a_repository_gives_its_safetensors_at_any_revision(client: Client, tmp_path: Path) -> None:
    (first, before), (second, after) = (save_backbone(tmp_path, seed) for seed in (1, 2))
    commit = client.call(upload, REPO, str(first), "model.safetensors")
    client.call(upload, REPO, str(second), "model.safetensors")
    assert client.call(load, f"hf-hub:{REPO}", "cnn") == pytest.approx(after)
    assert client.call(load, f"hf-hub:{REPO}@{commit}", "cnn") == pytest.approx(before)
    assert "does not hold the weights of test_vit" in fail(client, load, f"hf-hub:{REPO}", "vit")


def test_a_repository_of_pickles_only_is_refused(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "pytorch_model.bin"
    torch.save({}, file)
    client.call(upload, "owner/pickled", str(file), file.name)
    assert "has no model.safetensors" in fail(client, load, "hf-hub:owner/pickled", "cnn")
