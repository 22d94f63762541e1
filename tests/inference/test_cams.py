"""Other methods' maps come through the grad-cam package as they are, and say what they are."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAMPlusPlus

from stroke_hub import Records, ResNetViT, Slice, explain, load_slices
from stroke_hub.inference.cams import _Exposed
from stroke_hub.inference.predict import to_float_pixels, to_pixels
from stroke_hub.inference.results import CAMS


@pytest.fixture(scope="module")
def slices(sample: Records) -> list[Slice]:
    return [load_slices(sample.root / path)[0] for path in sample.part("test")["path"][:2]]


@pytest.mark.parametrize("method", CAMS)
def test_only_the_display_maps_change(untrained: ResNetViT, slices: list[Slice], method: str) -> None:
    ours, other = explain(untrained, slices), explain(untrained, slices, method=method)
    for a, b in zip(ours, other, strict=True):
        assert b.method == f"{method}, by the grad-cam package"
        assert b.contributions == pytest.approx(a.contributions, abs=1e-6)
        np.testing.assert_allclose(b.fused_map, a.fused_map, atol=1e-7)
        for values in (b.cnn_map, b.vit_map):
            assert values.shape == (128, 128)
            assert values.dtype == np.float32
            assert 0 <= values.min() <= values.max() <= 1
    assert all(p.grad is None and p.requires_grad for p in untrained.parameters())


def test_maps_are_the_packages(untrained: ResNetViT, slices: list[Slice]) -> None:
    x = to_float_pixels(to_pixels(untrained, slices), "cpu").clone().requires_grad_()
    exposed = _Exposed(untrained)
    torch.testing.assert_close(exposed(x), untrained(x))
    targets = [lambda logits: (logits[0] - logits[1]) / untrained.temperature] * 2
    with GradCAMPlusPlus(model=exposed, target_layers=[exposed.cnn_map]) as cam:
        expected = cam(x, targets)
    found = explain(untrained, slices, method="gradcam++", target="Normal")
    np.testing.assert_array_equal(np.stack([e.cnn_map for e in found]), expected)


def test_a_model_of_several_stages_and_lesion_scores_has_them_too(slices: list[Slice]) -> None:
    model = ResNetViT.from_pretrained("sample")
    assert model.cnn_stages > 1
    assert model.lesion_cells
    x = to_float_pixels(to_pixels(model, slices), "cpu")
    torch.testing.assert_close(_Exposed(model)(x), model(x))
    assert all(e.cnn_map.max() > 0 for e in explain(model, slices, method="layercam"))


def test_rollout_is_the_same_for_both_classes_and_says_so(untrained: ResNetViT, slices: list[Slice]) -> None:
    stroke, normal = (explain(untrained, slices[0], method="attention", target=t) for t in ("Stroke", "Normal"))
    np.testing.assert_array_equal(stroke.vit_map, normal.vit_map)
    assert "not class-specific" in stroke.method


def test_an_unknown_method_is_named(untrained: ResNetViT, slices: list[Slice]) -> None:
    with pytest.raises(ValueError, match="method is 'xgradcam'"):
        explain(untrained, slices, method="xgradcam")
