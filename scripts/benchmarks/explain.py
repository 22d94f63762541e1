"""The price of an explanation, against forwards, against hooks and autograd, and against the grad-cam package."""

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from benchmarks.machine import count_flops, measure_torch_rate
from benchmarks.timing import DEVICE, Row, compare_times, read_memory
from pytorch_grad_cam import GradCAM
from torch import Tensor

from stroke_hub import PRESETS, ResNetViT, explain
from stroke_hub.inference.predict import to_float_pixels
from stroke_hub.inference.relevance import _LastBlock, compute_relevance, compute_rollout
from stroke_hub.models.resnet_vit import copy_for_evaluation
from stroke_hub.progress import track

# one slice on a CPU, as the demo has it; on a GPU one slice would measure the launching of kernels
TIMED_BATCH = 32 if DEVICE == "cuda" else 1


def build(preset: str, *, batch: int = 1) -> tuple[ResNetViT, Tensor]:
    """A preset with random weights in evaluation mode, and uint8 squares (batch, S, S)."""
    torch.manual_seed(0)
    model = ResNetViT(**PRESETS[preset]).eval().to(DEVICE)
    return model, torch.randint(0, 256, (batch, model.image_size, model.image_size), dtype=torch.uint8)


def target_log_odds(model: ResNetViT) -> Callable[[Tensor], Tensor]:
    """What is explained, as grad-cam wants it: a function of one input's logits (2,)."""
    return lambda logits: (logits[1] - logits[0]) / model.temperature


def explain_with_grad_cam(model: ResNetViT, x: Tensor) -> None:
    """What a user of today's packages writes: a prediction, a grad-cam on each branch, a rollout."""
    with torch.no_grad():
        model(x)

    def tokens_as_map(tokens: Tensor) -> Tensor:
        patches = tokens[:, model.vit.num_prefix_tokens :].unflatten(1, model.vit.patch_embed.grid_size)
        return patches.permute(0, 3, 1, 2)

    for layer, reshape in ((model.cnn.layer4, None), (model.vit.blocks[-1].norm1, tokens_as_map)):
        with GradCAM(model=model, target_layers=[layer], reshape_transform=reshape) as cam:
            cam(x.clone(), [target_log_odds(model)])
    compute_rollout(model, x)


def explain_with_hooks(model: ResNetViT, x: Tensor) -> None:
    """The careful way: parameters frozen, the graph starts at the last map and at the last block's attention."""
    private, kept = copy_for_evaluation(model), []
    attention = private.vit.blocks[-1].attn
    attention.fused_attn = False
    attention.attn_drop.register_forward_hook(lambda m, i, o: kept.append(o.requires_grad_()))
    maps = private.map_cnn(x).detach().requires_grad_()
    cls = private.vit.forward_features(private.normalise_vit(x))[:, 0]
    logits = private.head(torch.cat([maps.mean((2, 3)), cls], dim=1))
    z = (logits[:, 1] - logits[:, 0]) / private.temperature
    by_map, by_attention = torch.autograd.grad(z.sum(), [maps, kept[0]])
    (by_map.mean((2, 3), keepdim=True) * maps).sum(1).relu()
    (kept[0] * by_attention)[:, :, 0].sum(1)


def count_kept_tensors(call: Callable[[], object]) -> int:
    """Tensors that autograd would hold for a backward pass."""
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(1)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return len(kept)


def measure_growth(calls: int) -> float:
    """MiB that the process grows by over `calls` explanations of the tiny preset, after warming up."""
    model, square = build("tiny")
    for _ in range(100):
        explain(model, square)
    gc.collect()
    before = read_memory("VmRSS")
    for _ in track(range(calls), "repeated calls"):
        explain(model, square)
    gc.collect()
    return read_memory("VmRSS") - before


def time_on_device(model: ResNetViT, x: Tensor, run_forward: Callable[[], object], preset: str) -> Row:
    """The same, for maps that stay on the GPU."""
    sign = torch.ones(len(x), device=DEVICE)

    @torch.inference_mode()
    def run_relevance() -> object:
        return compute_relevance(model, x, sign)

    plain, explained = compare_times(run_forward, run_relevance, rounds=51)
    return {"row": f"time_over_forward_{preset}_on_device", "value": explained / plain, "bar": "none"}


def predict_pruned(model: ResNetViT, x: Tensor) -> Tensor:
    """Logits by the pruning that an explanation makes too: the last block is computed at the CLS token alone."""
    vit: Any = model.vit
    with torch.no_grad():
        tokens = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(model.normalise_vit(x)))))
        for block in vit.blocks[:-1]:
            tokens = block(tokens)
        logits: Tensor = model.head(model.join(model.map_stages(x), _LastBlock(vit, tokens).cls[:, None]))
    return logits


def count_rows() -> list[Row]:
    """Count the floating-point operations of an explanation, over those of what else answers or explains."""
    model, square = build("full")
    x, sign = to_float_pixels(square, DEVICE), torch.ones(1, device=DEVICE)
    with torch.no_grad():
        forward = count_flops(lambda: model(x))
    ours = count_flops(lambda: compute_relevance(model, x, sign))
    pruned = count_flops(lambda: predict_pruned(model, x))
    usual = count_flops(lambda: explain_with_grad_cam(model, x))
    careful = count_flops(lambda: explain_with_hooks(model, x))
    probe = ResNetViT(**PRESETS["full"], hidden=0, cnn_stages=3, vit_blocks=8, vit_patches=True).eval().to(DEVICE)
    with torch.no_grad():
        plain = count_flops(lambda: probe(x))
    explained = count_flops(lambda: compute_relevance(probe, x, sign))
    return [
        {"row": "flops_over_forward", "value": ours / forward, "bar": "<= 1.00"},
        {"row": "flops_over_pruned_forward", "value": ours / pruned, "bar": "<= 1.01"},
        {"row": "flops_over_forward_probe", "value": explained / plain, "bar": "<= 1.05"},
        {"row": "flops_grad_cam_over_ours", "value": usual / ours, "bar": ">= 7.5"},
        {"row": "flops_ours_over_careful", "value": ours / careful, "bar": "<= 1.00"},
    ]


def benchmark_explain() -> list[Row]:
    """Measure the price of an explanation."""
    model, square = build("full")
    rows = [
        *count_rows(),
        {
            "row": "tensors_kept_for_backward",
            "value": count_kept_tensors(lambda: explain(model, square)),
            "bar": "0",
        },
    ]
    for preset, bar, rounds in (("full", 1.05, 21), ("compact", 1.10, 61), ("tiny", 1.25, 201)):
        model, squares = build(preset, batch=TIMED_BATCH)
        x = to_float_pixels(squares, DEVICE)

        @torch.inference_mode()
        def run_forward(model: ResNetViT = model, x: Tensor = x) -> Tensor:
            return model(x)

        plain, explained = compare_times(
            run_forward,
            lambda model=model, squares=squares: explain(model, squares, batch_size=TIMED_BATCH),
            rounds=rounds,
        )
        rows.append(
            {
                "row": f"time_over_forward_{preset}",
                "value": explained / plain,
                "bar": f"<= {bar:.2f}" if DEVICE == "cpu" else "none",
            }
        )
        rows[-1] |= {"forward_ms": 1000 * plain, "batch": TIMED_BATCH}
        if DEVICE == "cuda":  # explain() hands over arrays: this leaves out their way to the host
            rows.append(time_on_device(model, x, run_forward, preset))
        else:
            rate = measure_torch_rate(torch.get_num_threads(), time.process_time)
            flops = count_flops(lambda model=model, x=x: compute_relevance(model, x))
            rows[-1]["floor"] = flops / rate / plain
    rows.append({"row": "growth_mib_1000_calls", "value": measure_growth(1000), "bar": "< 5"})
    return rows
