"""explain() leaves nothing behind, agrees with predict(), and says plainly when there is nothing to see."""

import concurrent.futures
import copy

import numpy as np
import pytest
import torch

from stroke_hub import PRESETS, Records, ResNetViT, Slice, explain, predict
from stroke_hub.inference.results import spread_sums, upsample
from stroke_hub.io.framing import NO_HEAD
from stroke_hub.io.rendering import CT_PICTURE
from tests.conftest import load_rows, randomise


@pytest.fixture(scope="module")
def slices(sample: Records) -> list[Slice]:
    return load_rows(sample.root, sample.part("test")[:6])


def draw_slice(height: int, width: int, *, seed: int = 0) -> Slice:
    return Slice(np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8))


@pytest.mark.parametrize("target", ["Stroke", "Normal", "predicted"])
def test_numbers_shown_agree_with_each_other_and_with_predict(
    trained: ResNetViT, slices: list[Slice], target: str
) -> None:
    prediction = predict(trained, slices)
    for i, e in enumerate(explain(trained, slices, target=target)):
        stroke = prediction.probability[i]
        assert e.label == prediction.label[i]
        assert e.target == (e.label if target == "predicted" else target)
        assert e.probability == pytest.approx(stroke if e.target == "Stroke" else 1 - stroke, abs=1e-5)
        assert e.probability == pytest.approx(1 / (1 + np.exp(-sum(e.contributions.values()))), abs=1e-5)
        assert e.log_odds == pytest.approx(sum(e.contributions.values()), abs=1e-5)
        fused = e.contributions["cnn"] + e.contributions["vit"]
        assert e.fused_map.sum(dtype=np.float64) == pytest.approx(fused, rel=1e-4, abs=1e-5)
        assert e.cnn_evidence.sum(dtype=np.float64) == pytest.approx(e.contributions["cnn"], rel=1e-4, abs=1e-5)
        np.testing.assert_array_equal(e.fused_map, e.cnn_evidence + e.vit_evidence)
        for values in (e.cnn_map, e.vit_map, e.fused_map):
            assert values.shape == (trained.image_size,) * 2
            assert values.dtype == np.float32
        assert (e.cnn_map >= 0).all()
        assert (e.vit_map >= 0).all()
        assert e.method == "closed form"


def test_one_slice_gives_one_explanation_and_a_batch_the_same(untrained: ResNetViT, slices: list[Slice]) -> None:
    together = explain(untrained, slices, batch_size=4)
    alone = explain(untrained, slices[5])
    assert len(together) == 6
    np.testing.assert_allclose(alone.fused_map, together[5].fused_map, atol=1e-8, rtol=1e-3)
    assert explain(untrained, []) == []


def test_training_mode_changes_neither_the_answer_nor_the_model(untrained: ResNetViT, slices: list[Slice]) -> None:
    expected = explain(untrained, slices)
    untrained.train()
    untrained.cnn.layer1.eval()
    for parameter in untrained.cnn.parameters():
        parameter.requires_grad_(False)
    before, modes = copy.deepcopy(untrained.state_dict()), [m.training for m in untrained.modules()]
    random_state = torch.get_rng_state()
    for depth in (1, 2):
        found = explain(untrained, slices, depth=depth)
        assert [e.log_odds for e in found] == pytest.approx([e.log_odds for e in expected], abs=1e-5)
    assert [m.training for m in untrained.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in untrained.state_dict().items())
    assert all(p.grad is None for p in untrained.parameters())
    assert [p.requires_grad for p in untrained.cnn.parameters()] == [False] * len(list(untrained.cnn.parameters()))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in untrained.modules())
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("depth", [1, 2])
def test_any_gradient_mode_will_do(untrained: ResNetViT, slices: list[Slice], context: type, depth: int) -> None:
    expected = explain(untrained, slices[0], depth=depth)
    with context():
        np.testing.assert_array_equal(explain(untrained, slices[0], depth=depth).fused_map, expected.fused_map)


def test_sixteen_threads_give_the_serial_answers_bit_for_bit(untrained: ResNetViT, slices: list[Slice]) -> None:
    untrained.train()  # the harder case: every call makes its own copy
    serial = [explain(untrained, s) for s in slices]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        parallel = list(pool.map(lambda i: explain(untrained, slices[i % 6]), range(96)))
    for i, e in enumerate(parallel):
        assert e.log_odds == serial[i % 6].log_odds
        np.testing.assert_array_equal(e.fused_map, serial[i % 6].fused_map)
        np.testing.assert_array_equal(e.vit_map, serial[i % 6].vit_map)


def test_autocast_explains_the_same_within_bfloat16(untrained: ResNetViT, slices: list[Slice]) -> None:
    exact = explain(untrained, slices)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = explain(untrained, slices)
    for a, b in zip(exact, rough, strict=True):
        assert b.cnn_map.dtype == np.float32
        assert b.log_odds == pytest.approx(a.log_odds, abs=0.03)
        assert sum(b.contributions.values()) == pytest.approx(b.log_odds, abs=1e-5)


@pytest.mark.parametrize(
    "picture",
    [
        Slice(np.zeros((128, 128), np.uint8)),
        Slice(np.full((128, 128), 255, np.uint8)),
        Slice(np.full((77, 31), 90, np.uint8)),
        Slice(np.full((1, 1), 200, np.uint8)),
        draw_slice(200, 4000),
    ],
    ids=["black", "white", "constant", "1x1", "4000x200"],
)
@pytest.mark.parametrize("target", ["Stroke", "Normal"])
def test_odd_inputs_give_no_nan(trained: ResNetViT, picture: Slice, target: str) -> None:
    e = explain(trained, picture, target=target)
    for values in (e.cnn_map, e.vit_map, e.fused_map, e.cnn_evidence, e.vit_evidence):
        assert np.isfinite(values).all()
    for layer, name in (("cnn", "Grad-CAM of the CNN"), ("vit", "relevance of the ViT"), ("fused", "fused map")):
        says_so = f"{name}: no positive evidence for {target}" in e.remarks
        assert says_so == (not (e.get_map(layer) > 0).any())
        assert np.asarray(e.overlay(layer)).shape == (*picture.pixels.shape, 3)


def test_no_evidence_is_said_and_not_stretched_to_noise(untrained: ResNetViT, slices: list[Slice]) -> None:
    with torch.no_grad():
        untrained.head[3].weight.zero_()  # nothing the backbones see reaches the answer
    e = explain(untrained, slices[0])
    assert len([remark for remark in e.remarks if "no positive evidence" in remark]) == 3
    np.testing.assert_array_equal(np.asarray(e.overlay("cnn")), np.repeat(e.picture[..., None], 3, axis=2))
    assert e.contributions["cnn"] == e.contributions["vit"] == 0


@pytest.mark.parametrize(("grid", "size"), [((4, 4), 128), ((7, 7), 224), ((3, 5), 128), ((10, 10), 224)])
def test_enlarged_evidence_keeps_its_sum(grid: tuple[int, int], size: int) -> None:
    cells = np.random.default_rng(0).normal(size=(3, *grid))
    np.testing.assert_allclose(spread_sums(cells, size).sum((1, 2)), cells.sum((1, 2)))


@pytest.mark.parametrize(
    ("grid", "size"), [((4, 4), 128), ((7, 7), 224), ((3, 5), 128), ((16, 16), 16), ((9, 9), 5)]
)
def test_maps_are_enlarged_as_torch_does(grid: tuple[int, int], size: int) -> None:
    cells = np.random.default_rng(0).normal(size=(3, *grid)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(cells)[:, None], (size, size), mode="bilinear")
    np.testing.assert_allclose(upsample(cells, size), expected[:, 0].numpy(), atol=1e-5)
    assert upsample(cells, size).dtype == np.float32


def test_overlay_is_as_opaque_as_asked(trained: ResNetViT, slices: list[Slice]) -> None:
    e = explain(trained, slices[0])
    plain = np.repeat(e.picture[..., None], 3, axis=2)
    np.testing.assert_array_equal(np.asarray(e.overlay("fused", opacity=0)), plain)
    assert (np.asarray(e.overlay("fused", opacity=1)) != plain).any()
    with pytest.raises(ValueError, match="layer"):
        e.overlay("resnet")


def test_maps_are_drawn_on_the_slice_that_was_given(trained: ResNetViT, slices: list[Slice]) -> None:
    """In its own proportions, and nothing where the model saw nothing; a square that was made already is itself."""
    one = slices[0]
    # small enough that the head is looked for on a copy of the same scale
    wide = Slice(np.pad(one.pixels, ((6, 20), (30, 20))), one.modality)
    e, square = explain(trained, wide), explain(trained, slices[:1])[0]
    np.testing.assert_array_equal(e.picture, wide.pixels)
    assert e.pixels.shape == (trained.image_size,) * 2
    top, left, height, width = e.box
    assert (top - 6, left - 30) == (square.box.top, square.box.left)
    drawn = np.asarray(e.overlay("fused", opacity=1)) != e.picture[..., None]
    assert drawn.shape[:2] == wide.pixels.shape
    assert drawn[top : top + height, left : left + width].any()
    drawn[top : top + height, left : left + width] = False
    assert not drawn.any()
    assert e.log_odds == pytest.approx(square.log_odds, abs=1e-4)
    lifted = np.abs(e.framed.lift(e.fused_map))
    strongest = np.unravel_index(lifted.argmax(), lifted.shape)
    assert top <= strongest[0] < top + height
    assert left <= strongest[1] < left + width
    (again,) = explain(trained, torch.from_numpy(e.pixels[None]))
    assert np.asarray(again.overlay()).shape == (*e.pixels.shape, 3)


def test_remarks_begin_with_those_of_the_picture(trained: ResNetViT, slices: list[Slice]) -> None:
    blank = Slice(np.zeros((60, 80), np.uint8), "BT")
    expected = [[CT_PICTURE, NO_HEAD], [CT_PICTURE]]
    ct = next(one for one in slices if one.modality == "BT")
    assert [list(told) for told in predict(trained, [blank, ct]).remarks] == expected
    for e, told in zip(explain(trained, [blank, ct]), expected, strict=True):
        assert e.remarks[: len(told)] == told
    assert predict(trained, torch.zeros((2, 128, 128), dtype=torch.uint8)).remarks == [(), ()]


def test_wrong_options_are_named(untrained: ResNetViT, slices: list[Slice]) -> None:
    with pytest.raises(ValueError, match="target"):
        explain(untrained, slices, target="infarct")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"method is 'hirescam', but must be one of \['relevance'"):
        explain(untrained, slices, method="hirescam")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="depth"):
        explain(untrained, slices, depth=0)


def test_a_transformer_off_the_standard_takes_the_plain_path_and_says_so(slices: list[Slice]) -> None:
    model = randomise(ResNetViT(**PRESETS["tiny"] | {"vit": "eva02_tiny_patch14_224", "image_size": 56}))
    assert explain(model, slices[0]).method == "autograd, depth 1"


def test_nothing_is_kept_for_a_backward_pass(untrained: ResNetViT, slices: list[Slice]) -> None:
    kept: list[int] = []

    def count() -> torch.autograd.graph.saved_tensors_hooks:
        return torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(1) or t, lambda t: t)

    with count():
        explain(untrained, slices)
    assert not kept
    with count():
        explain(untrained, slices, depth=2)
    assert kept  # the plain path pays for it: the counter counts
