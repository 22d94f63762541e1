"""The closed forms against autograd and against pytorch-grad-cam, with random and with trained weights."""

import pytest
import torch
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn

from stroke_hub import PRESETS, ResNetViT
from stroke_hub.inference.relevance import compute_relevance, compute_rollout, has_closed_form
from stroke_hub.models.resnet_vit import copy_for_evaluation
from tests.conftest import randomise

ARCHITECTURES = {
    "tiny": PRESETS["tiny"],
    "effnet-vit": {"cnn": "tf_efficientnet_lite0", "vit": "vit_tiny_patch16_224", "image_size": 64},
    "layerscale": {"cnn": "test_resnet", "vit": "deit3_small_patch16_224", "image_size": 64},
    "registers": {"cnn": "resnet18", "vit": "vit_small_patch14_reg4_dinov2", "image_size": 70},
    "narrow-head": PRESETS["tiny"] | {"hidden": 16},
    "rope": {"cnn": "test_resnet", "vit": "eva02_tiny_patch14_224", "image_size": 56},
}


@pytest.fixture(params=[*ARCHITECTURES, "tiny+qk-norm", "trained"])
def model(request: pytest.FixtureRequest) -> ResNetViT:
    if request.param == "trained":
        return request.getfixturevalue("trained")
    model = ResNetViT(**ARCHITECTURES[request.param.removesuffix("+qk-norm")])
    if request.param.endswith("+qk-norm"):  # the same with what the closed form is not exact for
        model.vit.blocks[-1].attn.q_norm = nn.LayerNorm(model.vit.blocks[-1].attn.head_dim)
    return randomise(model)


def draw_input(model: ResNetViT, count: int = 3) -> Tensor:
    grey = torch.rand(count, 1, model.image_size, model.image_size, generator=torch.Generator().manual_seed(1))
    return grey.expand(-1, 3, -1, -1)


def compute_log_odds(model: ResNetViT, logits: Tensor) -> Tensor:
    return (logits[:, 1] - logits[:, 0]) / model.temperature


def differentiate(model: ResNetViT, x: Tensor) -> tuple[Tensor, Tensor]:
    """The two maps by autograd through the plain forward: CNN before the ReLU (N, h, w), ViT tokens (N, T)."""
    private, kept = copy_for_evaluation(model), []
    attention = private.vit.blocks[-1].attn
    attention.fused_attn = False

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        kept.append(output.requires_grad_())
        return output

    attention.attn_drop.register_forward_hook(keep)
    cls = private.vit.forward_features((x - private.vit_mean) / private.vit_std)[:, 0]
    maps = private.map_cnn(x).requires_grad_()
    z = compute_log_odds(private, private.head(torch.cat([maps.mean((2, 3)), cls], dim=1)))
    by_map, by_attention = torch.autograd.grad(z.sum(), [maps, kept[0]])
    cam = (by_map.mean((2, 3), keepdim=True) * maps).sum(1)
    return cam.detach(), (kept[0] * by_attention)[:, :, 0].sum(1).detach()


def test_closed_forms_serve_the_standard_block_and_no_other() -> None:
    served = {name: has_closed_form(ResNetViT(**options).vit) for name, options in ARCHITECTURES.items()}
    normed = ResNetViT(**PRESETS["tiny"]).vit
    normed.blocks[-1].attn.q_norm = nn.LayerNorm(normed.blocks[-1].attn.head_dim)
    assert not has_closed_form(normed)
    assert served == {
        "tiny": True,
        "effnet-vit": True,
        "layerscale": True,
        "registers": True,
        "narrow-head": True,
        "rope": False,
    }


def test_logits_are_the_plain_forwards(model: ResNetViT) -> None:
    x = draw_input(model)
    with torch.no_grad():
        expected = model(x)
    relevance = compute_relevance(model, x, torch.ones(3))
    torch.testing.assert_close(relevance.logits, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(relevance.log_odds, compute_log_odds(model, expected), atol=1e-5, rtol=0)


def test_maps_are_autograds(model: ResNetViT) -> None:
    x = draw_input(model)
    cam, tokens = differentiate(model, x)
    stroke, normal = (compute_relevance(model, x, torch.full((3,), sign)) for sign in (1.0, -1.0))
    patches = tokens[:, model.vit.num_prefix_tokens :].reshape(stroke.vit_map.shape)
    for ours, reference in (
        (stroke.cnn_map, cam.relu()),
        (normal.cnn_map, (-cam).relu()),
        (stroke.vit_map, patches),
        (normal.vit_map, -patches),
    ):
        scale = float(max(cam.abs().max(), 1e-3) if ours.shape == cam.shape else reference.abs().max())
        assert scale > 0
        torch.testing.assert_close(ours / scale, reference / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_cnn_map_is_grad_cams(model: ResNetViT, sign: float) -> None:
    x = draw_input(model)

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = copy_for_evaluation(model)
            self.map = nn.Identity()  # the layer that grad-cam looks at

        def forward(self, x: Tensor) -> Tensor:
            maps = self.map(self.model.map_cnn(x))
            cls = self.model.vit.forward_features(self.model.normalise_vit(x))[:, 0]
            return self.model.head(torch.cat([maps.mean((2, 3)), cls], dim=1))

    wrapped = Wrapped()
    targets = [lambda logits: sign * (logits[1] - logits[0]) / model.temperature] * len(x)
    with GradCAM(model=wrapped, target_layers=[wrapped.map]) as cam:
        reference = cam(x.clone().requires_grad_(), targets, eigen_smooth=False)
    ours = compute_relevance(model, x, torch.full((3,), sign)).cnn_map
    ours = nn.functional.interpolate(ours[:, None], x.shape[-1], mode="bilinear")[:, 0]
    # grad-cam scales each map to 0..1 before and after its enlargement, so shapes are compared
    for mine, theirs in zip(ours, torch.from_numpy(reference), strict=True):
        if theirs.max() > 0.5:
            assert torch.corrcoef(torch.stack([mine.flatten(), theirs.flatten()]))[0, 1] > 0.999


def test_relevance_sums_to_the_attention_outputs_product_with_its_gradient(untrained: ResNetViT) -> None:
    x = draw_input(untrained)
    private, kept = copy_for_evaluation(untrained), []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kept.append(inputs[0].requires_grad_())
        return inputs

    private.vit.blocks[-1].attn.proj.register_forward_pre_hook(keep)
    z = compute_log_odds(private, private(x))
    (gradient,) = torch.autograd.grad(z.sum(), kept)
    expected = (kept[0] * gradient)[:, 0].sum(1)  # only the CLS token reaches the head
    relevance = compute_relevance(untrained, x, torch.ones(3))
    total = relevance.vit_map.sum((1, 2)) + relevance.cls_relevance
    prefix = untrained.vit.num_prefix_tokens
    assert prefix == 1
    torch.testing.assert_close(total, expected.detach(), atol=1e-5, rtol=1e-5)


def test_everything_sums_to_the_log_odds(model: ResNetViT) -> None:
    for sign in (1.0, -1.0):
        r = compute_relevance(model, draw_input(model), torch.full((3,), sign))
        torch.testing.assert_close(r.contributions.sum(1), r.log_odds, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(r.cnn_evidence.sum((1, 2)), r.contributions[:, 0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(r.vit_evidence.sum((1, 2)), r.contributions[:, 1], atol=1e-5, rtol=1e-4)


def test_contributions_are_integrated_gradients(untrained: ResNetViT) -> None:
    """Against 4,096 midpoints of the straight way from the baseline (Sundararajan et al., 2017)."""
    x = draw_input(untrained)
    features = untrained.features(x).detach()
    steps = (torch.arange(4096) + 0.5) / 4096
    points = untrained.feature_mean + steps[:, None, None] * (features - untrained.feature_mean)
    points.requires_grad_()
    z = compute_log_odds(untrained, untrained.head(points.flatten(0, 1)))
    (gradient,) = torch.autograd.grad(z.sum(), points)
    parts = gradient.mean(0) * (features - untrained.feature_mean)
    split = untrained.cnn.num_features
    expected = torch.stack([parts[:, :split].sum(1), parts[:, split:].sum(1)], dim=1)
    ours = compute_relevance(untrained, x, torch.ones(3)).contributions[:, :2]
    torch.testing.assert_close(ours, expected.detach(), atol=1e-4, rtol=1e-3)


def test_cnn_evidence_is_the_maps_distance_from_the_baseline_weighted(untrained: ResNetViT) -> None:
    x = draw_input(untrained)
    maps = untrained.map_cnn(x).detach()
    relevance = compute_relevance(untrained, x, torch.ones(3))
    split = untrained.cnn.num_features
    away = maps - untrained.feature_mean[:split, None, None]
    # linear in the map: doubling the distance of one cell moves only that cell
    features = untrained.features(x).detach()
    u0 = untrained.head[0](untrained.feature_mean)
    u = untrained.head[0](features)
    slope = (u.relu() - u0.relu()) / (u - u0)
    w = (untrained.head[3].weight[1] - untrained.head[3].weight[0]) / untrained.temperature
    beta = ((slope * w) @ untrained.head[0].weight)[:, :split].detach()
    expected = torch.einsum("nc,nchw->nhw", beta, away) / (maps.shape[2] * maps.shape[3])
    torch.testing.assert_close(relevance.cnn_evidence, expected, atol=1e-6, rtol=1e-4)


def test_normal_is_the_mirror_of_stroke_in_what_is_signed(untrained: ResNetViT) -> None:
    x = draw_input(untrained)
    stroke, normal = (compute_relevance(untrained, x, torch.full((3,), s)) for s in (1.0, -1.0))
    for field in ("log_odds", "vit_map", "contributions", "cnn_evidence"):
        torch.testing.assert_close(getattr(stroke, field), -getattr(normal, field))


def test_several_blocks_follow_chefer(untrained: ResNetViT) -> None:
    x = draw_input(untrained)
    private, kept = copy_for_evaluation(untrained), []
    for block in private.vit.blocks[-2:]:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda m, i, o: kept.append(o.requires_grad_()))
    z = compute_log_odds(private, private(x))
    gradients = torch.autograd.grad(z.sum(), kept)
    chain = torch.eye(kept[0].shape[-1])
    for attention, gradient in zip(kept, gradients, strict=True):
        chain = chain + (attention * gradient).relu().mean(1) @ chain
    expected = chain[:, 0, 1:].detach()
    ours = compute_relevance(untrained, x, torch.ones(3), depth=2).vit_map.flatten(1)
    torch.testing.assert_close(ours, expected, atol=1e-7, rtol=1e-4)


def test_rollout_is_a_distribution_over_tokens(untrained: ResNetViT) -> None:
    rollout = compute_rollout(untrained, draw_input(untrained))
    assert rollout.shape == (3, 8, 8)
    assert (rollout > 0).all()
    assert (rollout.sum((1, 2)) < 1).all()  # CLS keeps the rest
