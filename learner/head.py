"""The head and the loss on it, a chunk of target positions at a time.

The logits of a step would be its largest tensor, so they never exist as a whole. Each
chunk computes its gradient in the forward pass, while its logits exist; the backward
pass only scales it.

Shape suffixes: K target tokens, C of them in a chunk, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

# Args: a chunk's float32 logits (C, V), which may be overwritten, and its positions.
# Returns: the summed loss, and its gradient with respect to the logits (C, V).
LossAndGradient = Callable[[torch.Tensor, slice], tuple[torch.Tensor, torch.Tensor]]


def logits(
    hidden_CD: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    softcap: float | None = None,
) -> torch.Tensor:
    """(C, V) logits in float32; ``softcap`` bounds them to ± its value, by tanh (Gemma 2)."""
    logits_CV = F.linear(hidden_CD, weight_VD, bias_V).float()
    return logits_CV if softcap is None else logits_CV.div_(softcap).tanh_().mul_(softcap)


def chunked_loss(
    hidden_KD: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    loss_and_gradient: LossAndGradient,
    max_logits: int,
    softcap: float | None = None,
) -> torch.Tensor:
    """Sum of a loss over all positions, float32; the first three are differentiable, once.

    Args:
        hidden_KD: hidden states at the target positions.
        weight_VD: the head's weight.
        bias_V: its bias, if any.
        loss_and_gradient: the loss of a chunk.
        max_logits: most logits in a chunk; a chunk has at least one position.
        softcap: of the logits, if any.
    """
    total: torch.Tensor = _ChunkedLoss.apply(
        hidden_KD, weight_VD, bias_V, loss_and_gradient, max_logits, softcap
    )
    return total


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_KD: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        loss_and_gradient: LossAndGradient,
        max_logits: int,
        softcap: float | None,
    ) -> torch.Tensor:
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_hidden_KD = torch.empty_like(hidden_KD) if wants_hidden else None
        d_weight_VD = d_bias_V = None
        total = torch.zeros((), device=hidden_KD.device)
        size = max(1, max_logits // len(weight_VD))
        for at in range(0, len(hidden_KD), size):
            chunk = slice(at, at + size)
            hidden_CD = hidden_KD[chunk]
            logits_CV = logits(hidden_CD, weight_VD, bias_V, softcap)
            # d tanh(x) = 1 - tanh(x)²; the loss may overwrite the logits.
            slope_CV = None if softcap is None else 1 - (logits_CV / softcap).square_()
            part, d_logits_CV = loss_and_gradient(logits_CV, chunk)
            total += part
            if slope_CV is not None:
                d_logits_CV = d_logits_CV * slope_CV
            if wants_bias:
                d_bias_V = _plus(d_bias_V, d_logits_CV.sum(0))
            d_logits_CV = d_logits_CV.to(hidden_KD.dtype)
            if d_hidden_KD is not None:
                d_hidden_KD[chunk] = d_logits_CV @ weight_VD
            if wants_weight:
                d_weight_VD = _plus(d_weight_VD, d_logits_CV.T @ hidden_CD)
            # Freed before the next chunk is computed.
            del logits_CV, slope_CV, d_logits_CV
        ctx.gradients = (d_hidden_KD, d_weight_VD, d_bias_V)
        ctx.dtypes = (hidden_KD.dtype, weight_VD.dtype, weight_VD.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # In place, so only once: the head's gradient may be the largest tensor of a step.
        held, ctx.gradients = ctx.gradients, None
        gradients = [
            None if gradient is None else gradient.mul_(upstream[0]).to(dtype)
            for gradient, dtype in zip(held, ctx.dtypes, strict=True)
        ]
        return (*gradients, None, None, None)


def _plus(total: torch.Tensor | None, part: torch.Tensor) -> torch.Tensor:
    """A sum over chunks, in float32 from the second chunk on."""
    return part if total is None else total.float().add_(part)
