"""The mathematics of an explanation, on tensors: from one forward to maps and contributions.

The closed forms need no autograd and no hooks: the gradients wanted are those of a small head and of the last
transformer block at one token, and both are written out. A transformer that is not of the standard form goes
through autograd instead, on a private copy. The model that was handed in is only ever read, so that any
number of threads may explain with it at once.

What is explained is the number that is shown: z = (y_stroke - y_normal) / temperature, times -1 where the class
explained is Normal; sigmoid(z) is the probability of that class.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from timm.layers import Attention, LayerScale, Mlp  # type: ignore[attr-defined]  # no __all__ there
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from stroke_hub.errors import ModelFormatError
from stroke_hub.models.resnet_vit import LESION_GRID, ResNetViT, copy_for_evaluation, get_evaluable

__all__ = ["Relevance", "compute_relevance", "compute_rollout", "has_closed_form"]


class Relevance(NamedTuple):
    """Hold what one forward tells of N inputs; float32, without graph. h, w: the CNN's grid; g, k: the ViT's.

    logits : (N, 2), uncalibrated.
    log_odds : (N,), z of the class explained.
    sign : (N,), +1 where that class is Stroke, -1 where it is Normal.
    cnn_map : (N, h, w), >= 0, Grad-CAM (Selvaraju et al., 2017); of several stages their sum, on the finest grid.
    vit_map : (N, g, k), signed gradient x attention of the patches at the CLS token; where patches give features of
        their own, `vit_evidence`, which knows them.
    cnn_evidence : (N, h, w), signed, in log-odds, summing to `contributions[:, 0]`.
    vit_evidence : (N, g, k), signed, in log-odds, summing to `contributions[:, 1]`. What the mean of the patches
        carries is each patch's own; what the CLS token carries is an allocation.
    contributions : (N, 3), of the CNN, the ViT and the baseline, in log-odds, summing to `log_odds`.
    norms : (N, 2), Euclidean norms of the two branches' features: a diagnostic, not a contribution.
    features : (N, F), both branches' features.
    cls_relevance : (N,), gradient x attention of the CLS token itself.
    """

    logits: Tensor
    log_odds: Tensor
    sign: Tensor
    cnn_map: Tensor
    vit_map: Tensor
    cnn_evidence: Tensor
    vit_evidence: Tensor
    contributions: Tensor
    norms: Tensor
    features: Tensor
    cls_relevance: Tensor


class _HeadTerms(NamedTuple):
    logits: Tensor  # (N, 2)
    log_odds: Tensor  # (N,)
    sign: Tensor  # (N,)
    gradient: Tensor  # (N, F), dz/dh
    beta: Tensor  # (N, F), average of dz/dh on the way from the baseline
    contributions: Tensor  # (N, 3)
    features: Tensor  # (N, F)


def _gelu_slope(x: Tensor) -> Tensor:
    density = torch.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    return torch.addcmul(0.5 * (1 + torch.erf(x * math.sqrt(0.5))), x, density)


def _relu_slope(x: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)


def _find_slope(activation: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Find the derivative of an elementwise activation; None where it is not written out here."""
    if type(activation) is nn.ReLU:
        return _relu_slope
    exact_gelu = isinstance(activation, nn.GELU) and getattr(activation, "approximate", "none") == "none"
    return _gelu_slope if exact_gelu else None


def has_closed_form(vit: nn.Module) -> bool:
    """Tell whether the last block is the standard pre-norm block, for which the written-out gradient is exact."""
    if not isinstance(vit, VisionTransformer):
        return False
    if type(vit).forward_features is not VisionTransformer.forward_features:
        return False
    block: Any = vit.blocks[-1]
    if type(block) is not Block or type(block.attn) is not Attention or type(block.mlp) is not Mlp:
        return False
    attention, mlp = block.attn, block.mlp
    return (
        all(type(part) is nn.Identity for part in (attention.q_norm, attention.k_norm, attention.norm, mlp.norm))
        and attention.gate is None
        and all(type(part) in (nn.Identity, LayerScale) for part in (block.ls1, block.ls2))
        and all(isinstance(part, nn.LayerNorm) for part in (block.norm1, block.norm2, vit.norm))
        and all(type(part) is nn.Linear for part in (attention.qkv, attention.proj, mlp.fc1, mlp.fc2))
        and _find_slope(mlp.act) is not None
    )


def compute_relevance(
    model: ResNetViT, x: Tensor, sign: Tensor | None = None, *, rows: Tensor | None = None, depth: int = 1
) -> Relevance:
    """Compute maps and contributions of N inputs.

    Parameters
    ----------
    model : in any mode; it is not changed.
    x : (N, 3, S, S), float pixels in [0, 1].
    sign : (N,), +1 where Stroke is explained, -1 where Normal is, 0 where the class that the threshold predicts is;
        None is all 0.
    rows : (N,), which of the model's `baselines` each slice is compared with; None is the last.
    depth : how many of the last transformer blocks the ViT map looks through. These are two definitions: 1 is
        gradient x attention, signed, in closed form; more is the recursion of Chefer et al. (2021), by autograd,
        which keeps the positive part in every block.

    Raises
    ------
    ModelFormatError : the transformer keeps no attention probabilities that could be read.
    """
    model = get_evaluable(model)
    with torch.no_grad():
        maps = [one.float() for one in model.map_stages(x)]
        baseline = _find_baseline(model, maps, x.shape[0], rows)
        if depth == 1 and has_closed_form(model.vit):
            return _explain_in_closed_form(model, x, maps, baseline, sign)
    return _explain_by_autograd(model, x, maps, baseline, sign, depth)


class _Baseline(NamedTuple):
    features: Tensor  # (N, F)
    maps: list[Tensor]  # (N, C, h, w) each
    patches: Tensor  # (N, P, D), or (N, 0, D) where they give no feature
    scores: Tensor  # (N, 2), of the lesion; (N, 0) where there are none


def _find_baseline(model: ResNetViT, maps: list[Tensor], count: int, rows: Tensor | None) -> _Baseline:
    """Find what each of N slices is compared with: normal slices cell by cell, or the mean of all features."""
    width = model.vit.num_features
    if model.normal_maps is None or model.normal_tokens is None:
        mean = model.feature_mean.float()
        parts = mean[: model.cnn_channels].split([one.shape[1] for one in maps])
        flat = [part[None, :, None, None].expand_as(one) for part, one in zip(parts, maps, strict=True)]
        own = mean[model.cnn_features :]
        patch = own[width : 2 * width] if model.vit_patches else own[:0].new_zeros(width)
        patches = int(model.vit_patches) * model.vit.patch_embed.num_patches
        scores = mean[[model.cnn_features - 1, -1]] if model.lesion_cells else mean[:0]
        spread = (mean.expand(count, -1), flat, patch.expand(count, patches, width), scores.expand(count, -1))
        return _Baseline(*spread)
    held = [model.normal_maps.float(), model.normal_tokens.float()]
    held.append(held[0][:, :0] if model.normal_scores is None else model.normal_scores.float())
    if len(held[0]) > 1:  # the last baseline is the mean of the others
        held = [torch.cat([each, each.mean(0, keepdim=True)]) for each in held]
    if rows is None:
        rows = torch.full((count,), len(held[0]) - 1, device=held[0].device)
    stored, tokens, scores = (each[rows] for each in held)
    sizes = [one.shape[1:].numel() for one in maps]
    normal = [part.unflatten(1, one.shape[1:]) for part, one in zip(stored.split(sizes, 1), maps, strict=True)]
    patches = tokens[:, 1:]
    vit = [tokens[:, 0], patches.mean(1)] if model.vit_patches else [tokens[:, 0]]
    parts = [model.pool_maps(normal), scores[:, :1], *vit, scores[:, 1:]]
    return _Baseline(torch.cat(parts, 1), normal, patches, scores)


def _explain_in_closed_form(
    model: ResNetViT, x: Tensor, maps: list[Tensor], baseline: _Baseline, sign: Tensor | None
) -> Relevance:
    vit = model.vit
    tokens = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(model.normalise_vit(x)))))
    for block in vit.blocks[:-1]:
        tokens = block(tokens)
    with torch.autocast(x.device.type, enabled=False):  # small and decisive: always in float32
        tokens = tokens.float()
        last = _LastBlock(vit, tokens)
        final = last.cls[:, None]
        if model.vit_patches:  # the patches are needed too, so the block is computed at every token
            final = vit.norm(vit.blocks[-1](tokens))
        head = _weigh(model, model.join(maps, final), baseline.features, sign)
        relevance = last.relevance(_get_cls(model, head.gradient))
        return _gather(model, maps, final, baseline, head, relevance)


def _get_cls(model: ResNetViT, values: Tensor) -> Tensor:
    """Get the part of (N, F) that is of the CLS token, (N, D)."""
    return values[:, model.cnn_features : model.cnn_features + model.vit.num_features]


def _explain_by_autograd(
    model: ResNetViT, x: Tensor, maps: list[Tensor], baseline: _Baseline, sign: Tensor | None, depth: int
) -> Relevance:
    private = copy_for_evaluation(model)
    attentions = _record_attentions(private, depth)
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        tokens = private.vit.forward_features(private.normalise_vit(x.float())).float()
    if not attentions:
        raise ModelFormatError(
            f"{type(model.vit).__name__} keeps no attention probabilities that an explanation could read; "
            "choose a standard timm ViT."
        )
    with torch.autocast(x.device.type, enabled=False):
        with torch.no_grad():
            head = _weigh(private, private.join(maps, tokens.detach()), baseline.features, sign)
        # dz/dP = dz/dc * dc/dP: the head's part is known already
        gradients = torch.autograd.grad(
            tokens[:, 0], attentions, _get_cls(model, head.gradient), materialize_grads=True
        )
        with torch.no_grad():
            relevance = _chain_relevance([a.detach() for a in attentions], gradients)
            return _gather(private, maps, tokens.detach(), baseline, head, relevance)


def _record_attentions(private: ResNetViT, depth: int) -> list[Tensor]:
    """Have the last `depth` blocks of a private copy append their attention (N, heads, T, T) to a list."""
    recorded: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # the first one starts the graph; the rest hang on it through the tokens
        kept = output if output.requires_grad or not torch.is_grad_enabled() else output.requires_grad_()
        recorded.append(kept)
        return kept

    for block in list(private.vit.blocks)[-depth:]:
        attention = getattr(block, "attn", None)
        dropout = getattr(attention, "attn_drop", None)
        if attention is not None and isinstance(dropout, nn.Module):
            attention.fused_attn = False
            dropout.register_forward_hook(record)
    return recorded


def _chain_relevance(attentions: list[Tensor], gradients: tuple[Tensor, ...]) -> Tensor:
    """Chain the relevance of every token to CLS, (N, T): of one block signed gradient x attention.

    Of several it is the relevance of Chefer et al. (2021), which is another definition.
    """
    if len(attentions) == 1:
        return (attentions[0] * gradients[0])[:, :, 0].sum(1)
    size = attentions[0].shape[-1]
    chain = torch.eye(size, device=attentions[0].device).expand(len(attentions[0]), size, size)
    for attention, gradient in zip(attentions, gradients, strict=True):
        chain = chain + (attention * gradient).clamp_min(0).mean(1) @ chain
    return chain[:, 0]


def compute_rollout(model: ResNetViT, x: Tensor) -> Tensor:
    """Compute attention rollout (Abnar and Zuidema, 2020) of the patches, (N, g, k), >= 0; it knows no class."""
    private = copy_for_evaluation(model)
    with torch.no_grad():
        attentions = _record_attentions(private, len(private.vit.blocks))
        private.vit.forward_features(private.normalise_vit(x))
        if not attentions:
            raise ModelFormatError(f"{type(model.vit).__name__} keeps no attention that rollout could read.")
        size = attentions[0].shape[-1]
        identity = torch.eye(size, device=x.device)
        chain = identity.expand(len(x), size, size)
        for attention in attentions:
            chain = (0.5 * attention.float().mean(1) + 0.5 * identity) @ chain
        return _as_grid(model, chain[:, 0, model.vit.num_prefix_tokens :])


class _LastBlock:
    """Compute the last transformer block and final norm at the CLS token alone, and the way back."""

    def __init__(self, vit: Any, tokens: Tensor) -> None:
        block = vit.blocks[-1]
        attention, mlp = block.attn, block.mlp
        self.vit, self.block = vit, block
        count, length, _ = tokens.shape
        heads = attention.num_heads
        normed = _norm(block.norm1, tokens)
        weight, bias = attention.qkv.weight.float(), _float(attention.qkv.bias)
        inner = attention.attn_dim
        query = F.linear(normed[:, 0], weight[:inner], None if bias is None else bias[:inner])
        keys_values = F.linear(normed, weight[inner:], None if bias is None else bias[inner:])
        keys, self.values = keys_values.view(count, length, 2, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        query = query.view(count, heads, 1, -1) * attention.scale
        self.attention = (query @ keys.transpose(-2, -1)).softmax(-1)  # (N, heads, 1, T)
        attended = (self.attention @ self.values).reshape(count, inner)
        self.middle = tokens[:, 0] + _scale(block.ls1, _linear(attention.proj, attended))
        self.before = _linear(mlp.fc1, _norm(block.norm2, self.middle))
        self.after = self.middle + _scale(block.ls2, _linear(mlp.fc2, mlp.act(self.before)))
        self.cls = _norm(vit.norm, self.after)  # (N, D)

    def relevance(self, gradient: Tensor) -> Tensor:
        """Compute R_j = sum_h P_hj dz/dP_hj of every token, (N, T), from dz/dc (N, D): the product written out."""
        block = self.block
        slope = _find_slope(block.mlp.act)
        assert slope is not None  # noqa: S101  has_closed_form has looked
        after = _norm_back(self.vit.norm, self.after, gradient)
        hidden = _scale(block.ls2, after) @ block.mlp.fc2.weight.float() * slope(self.before)
        middle = after + _norm_back(block.norm2, self.middle, hidden @ block.mlp.fc1.weight.float())
        attended = _scale(block.ls1, middle) @ block.attn.proj.weight.float()
        by_head = attended.view(*self.values.shape[:2], 1, -1)
        by_key = by_head @ self.values.transpose(-2, -1)
        return cast(Tensor, (self.attention * by_key).sum((1, 2)))


def _float(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.float()


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight.float(), _float(layer.bias))


def _scale(layer: nn.Module, x: Tensor) -> Tensor:
    return x * layer.gamma.float() if isinstance(layer, LayerScale) else x


def _norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, layer.weight.float(), _float(layer.bias), layer.eps)


def _norm_back(layer: nn.LayerNorm, x: Tensor, gradient: Tensor) -> Tensor:
    """Compute the vector-Jacobian product of layer normalisation at x (Ba et al., 2016)."""
    variance, mean = torch.var_mean(x, dim=-1, keepdim=True, correction=0)
    scale = torch.rsqrt(variance + layer.eps)
    unit = (x - mean) * scale
    inner = gradient * layer.weight.float()
    spread = inner.mean(-1, keepdim=True) + unit * (inner * unit).mean(-1, keepdim=True)
    return scale * (inner - spread)


def _predict_sign(model: ResNetViT, logits: Tensor, sign: Tensor | None) -> Tensor:
    probability = ((logits[:, 1] - logits[:, 0]) / model.temperature.float()).sigmoid()
    predicted = torch.where(probability >= model.threshold, 1.0, -1.0).to(logits)
    return predicted if sign is None else torch.where(sign == 0, predicted, sign.to(logits))


def _weigh(model: ResNetViT, features: Tensor, baseline: Tensor, sign: Tensor | None) -> _HeadTerms:
    """Compute logits, gradient and contributions of the features, at the head: Linear, ReLU, Dropout, Linear.

    Integrated gradients (Sundararajan et al., 2017) have a closed form here. On the straight way from the baseline
    every pre-activation moves from u0 to u at constant speed, so the mean slope of each hidden unit is
    (relu(u) - relu(u0)) / (u - u0).
    """
    first, last = cast(nn.Linear, model.head[0]), cast(nn.Linear, model.head[-1])
    count, split = features.shape[0], model.cnn_features
    both = _linear(first, torch.cat([features, baseline]))
    active = both if first is last else both.relu()
    logits = both if first is last else _linear(last, active)
    sign = _predict_sign(model, logits[:count], sign)
    difference = (logits[:, 1] - logits[:, 0]) / model.temperature.float()
    output = (last.weight[1] - last.weight[0]).float() / model.temperature.float() * sign[:, None]
    if first is last:  # every slope is the output's own
        rows = torch.cat([output, output])
    else:
        u, u0 = both[:count], both[count:]
        step = u - u0
        moves = step.abs() > 1e-6  # below, the quotient is rounding error; the slope is its limit
        mean_slope = torch.where(
            moves,
            (active[:count] - active[count:]) / torch.where(moves, step, torch.ones_like(step)),
            _relu_slope(u),
        )
        # one product for both
        rows = torch.cat([output * _relu_slope(u), output * mean_slope]) @ first.weight.float()
    gradient, beta = rows[:count], rows[count:]
    parts = beta * (features - baseline)
    cnn, vit = parts[:, :split].sum(1), parts[:, split:].sum(1)
    contributions = torch.stack([cnn, vit, difference[count:] * sign], dim=1)
    return _HeadTerms(logits[:count], difference[:count] * sign, sign, gradient, beta, contributions, features)


def _as_grid(model: ResNetViT, relevance: Tensor) -> Tensor:
    """Lay out patches (N, P) as a grid (N, g, k)."""
    return cast(Tensor, relevance.unflatten(1, tuple(model.vit.patch_embed.grid_size)))


def _spread(grid: Tensor, rows: int, columns: int) -> Tensor:
    """Spread sums (N, h, w) over a finer grid (N, rows, columns), evenly within each cell; sums are kept."""
    if grid.shape[1:] == (rows, columns):
        return grid
    row, column = (torch.arange(n) * cells // n for n, cells in zip((rows, columns), grid.shape[1:], strict=True))
    area = torch.bincount(row)[row][:, None] * torch.bincount(column)[column]
    return grid[:, row][:, :, column] / area.to(grid)


def _gather(
    model: ResNetViT, maps: list[Tensor], final: Tensor, baseline: _Baseline, head: _HeadTerms, relevance: Tensor
) -> Relevance:
    least = LESION_GRID if model.lesion_cells else 1
    finest = [max(side, least) for side in maps[0].shape[2:]]
    cnn_map = cnn_evidence = maps[0].new_zeros(maps[0].shape[0], *finest)
    start = 0
    for one, normal in zip(maps, baseline.maps, strict=True):
        part = slice(start, start + one.shape[1])
        start += one.shape[1]
        cells = one.shape[2] * one.shape[3]
        seen = (head.gradient[:, None, part] @ one.flatten(2))[:, 0].unflatten(1, one.shape[2:])
        away = (head.beta[:, None, part] @ (one - normal).flatten(2))[:, 0].unflatten(1, one.shape[2:])
        cnn_map = cnn_map + _spread(seen / cells, *finest)
        cnn_evidence = cnn_evidence + _spread(away / cells, *finest)
    vit_map = _as_grid(model, relevance[:, model.vit.num_prefix_tokens :])
    away = _get_cls(model, head.beta) * _get_cls(model, head.features - baseline.features)
    vit_evidence = _allocate(vit_map, away.sum(1))
    if model.vit_patches:
        own = slice(model.cnn_features + final.shape[2], model.cnn_features + 2 * final.shape[2])
        patches = final[:, model.vit.num_prefix_tokens :]
        beta = head.beta[:, own, None] / patches.shape[1]
        vit_evidence = vit_evidence + _as_grid(model, ((patches - baseline.patches) @ beta)[..., 0])
    if model.lesion_cells:
        grid = [max(side, least) for side in vit_map.shape[1:]]
        seen, away = _place_scores(model, maps, final, baseline.scores, head)
        cnn_map, cnn_evidence = cnn_map + _spread(seen[:, 0], *finest), cnn_evidence + _spread(away[:, 0], *finest)
        vit_evidence = _spread(vit_evidence, *grid) + _spread(away[:, 1], *grid)
    if model.vit_patches or model.lesion_cells:
        vit_map = vit_evidence
    split = model.cnn_features
    return Relevance(
        logits=head.logits,
        log_odds=head.log_odds,
        sign=head.sign,
        cnn_map=cnn_map.clamp_min(0),
        vit_map=vit_map,
        cnn_evidence=cnn_evidence,
        vit_evidence=vit_evidence,
        contributions=head.contributions,
        norms=torch.stack([head.features[:, :split].norm(dim=1), head.features[:, split:].norm(dim=1)], dim=1),
        features=head.features,
        cls_relevance=relevance[:, 0],
    )


def _place_scores(
    model: ResNetViT, maps: list[Tensor], final: Tensor, normal: Tensor, head: _HeadTerms
) -> tuple[Tensor, Tensor]:
    """Place what the lesion scores carry on the cells that they average: relevance and evidence, (N, 2, 16, 16)."""
    scores = model.score_cells(maps, final)
    chosen = model.find_cells(scores)
    taken = scores.flatten(2).gather(2, chosen) / model.lesion_cells
    places = [model.cnn_features - 1, head.features.shape[1] - 1]
    seen = head.gradient[:, places, None] * taken
    away = head.beta[:, places, None] * (taken - normal[:, :, None] / model.lesion_cells)
    blank = torch.zeros_like(scores).flatten(2)
    return tuple(blank.scatter(2, chosen, values).view_as(scores) for values in (seen, away))  # type: ignore[return-value]


def _allocate(relevance: Tensor, total: Tensor) -> Tensor:
    """Spread `total` (N,) over patches by the relevance that points its way, evenly where there is none."""
    direction = total.sign()[:, None, None]
    share = (relevance * direction).clamp_min(0)
    whole = share.sum((1, 2), keepdim=True)
    even = torch.full_like(share, 1 / (share.shape[1] * share.shape[2]))
    share = torch.where(whole > 0, share / whole.clamp_min(torch.finfo(share.dtype).tiny), even)
    return share * total[:, None, None]
