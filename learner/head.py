"""The head and the loss on it, a chunk of target positions at a time.

A step's logits would be its largest tensor. Chunk by chunk they never are whole, in the
forward pass or the backward: a chunk's gradients are taken while its logits are there,
since a loss is only ever scaled afterwards.

Shape suffixes: K target tokens, C of them in a chunk, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

# Of a chunk's float32 logits (C, V), which it may overwrite, and its positions: the summed
# loss and its gradient by the logits.
LossAndGradient = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]


def logits(
    hidden_CD: torch.Tensor, weight_VD: torch.Tensor, bias_V: torch.Tensor | None
) -> torch.Tensor:
    """(C, V) logits in float32."""
    return F.linear(hidden_CD, weight_VD, bias_V).float()


def loss_by_chunks(
    hidden_KD: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    loss_and_gradient: LossAndGradient,
    numbers: int,
) -> torch.Tensor:
    """Sum of a loss over all positions, float32; differentiable by the first three, once.

    Args:
        loss_and_gradient: the loss of a chunk.
        numbers: logits of a chunk, at most; a position at the least.
    """
    total: torch.Tensor = _ByChunks.apply(hidden_KD, weight_VD, bias_V, loss_and_gradient, numbers)
    return total


class _ByChunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_KD: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        loss_and_gradient: LossAndGradient,
        numbers: int,
    ) -> torch.Tensor:
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_hidden_KD = torch.empty_like(hidden_KD) if wants_hidden else None
        d_weight_VD = d_bias_V = None
        total = torch.zeros((), device=hidden_KD.device)
        size = max(1, numbers // len(weight_VD))
        for at in range(0, len(hidden_KD), size):
            chunk = slice(at, at + size)
            hidden_CD = hidden_KD[chunk]
            part, d_logits_CV = loss_and_gradient(logits(hidden_CD, weight_VD, bias_V), chunk)
            total += part
            if wants_bias:
                d_bias_V = _plus(d_bias_V, d_logits_CV.sum(0))
            d_logits_CV = d_logits_CV.to(hidden_KD.dtype)
            if d_hidden_KD is not None:
                d_hidden_KD[chunk] = d_logits_CV @ weight_VD
            if wants_weight:
                d_weight_VD = _plus(d_weight_VD, d_logits_CV.T @ hidden_CD)
            # The next chunk is computed in its place, not beside it.
            del d_logits_CV
        ctx.gradients = (d_hidden_KD, d_weight_VD, d_bias_V)
        ctx.dtypes = (hidden_KD.dtype, weight_VD.dtype, weight_VD.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # In place: the head's gradient may be the largest tensor of a step. So only once.
        held, ctx.gradients = ctx.gradients, None
        gradients = [
            None if gradient is None else gradient.mul_(upstream[0]).to(dtype)
            for gradient, dtype in zip(held, ctx.dtypes, strict=True)
        ]
        return (*gradients, None, None)


def _plus(total: torch.Tensor | None, part: torch.Tensor) -> torch.Tensor:
    """A sum over chunks, in float32 from the second on."""
    return part if total is None else total.float().add_(part)
