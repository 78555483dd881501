"""Losses over target positions, from hidden states on.

Shape suffixes: K target tokens, C of them in a chunk, D hidden size, V vocabulary.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from common.methods import NLL, Loss
from learner.divergences import Teacher, distill

# Student's hidden_KD, weight_VD, bias_V, targets_K, and the teacher where the loss needs one.
Criterion = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor, Teacher | None], torch.Tensor
]


def criterion(loss: Loss) -> Criterion:
    """A method's loss as a function: nats, summed over K."""
    if isinstance(loss, NLL):
        return lambda hidden, weight, bias, targets, _: nll(hidden, weight, bias, targets)

    def divergence(
        hidden_KD: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        _: torch.Tensor,
        teacher: Teacher | None,
    ) -> torch.Tensor:
        assert teacher is not None, "a divergence is taken from a teacher"
        return distill(hidden_KD, weight_VD, bias_V, teacher, loss)

    return divergence


def nll(
    hidden_KD: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    targets_K: torch.Tensor,
) -> torch.Tensor:
    """−Σ log p(y_t), summed over K in float32 (paper, eq. of the MixSD objective); a scalar.

    The logits would be the largest tensor of a step, so they are never whole: on a GPU
    Liger's kernel sees to that if it is installed (not run on GPU), else chunks of positions.
    torch's own ``linear_cross_entropy`` took 8 times as long on a CPU, and gave the
    sum itself in bfloat16.
    """
    if hidden_KD.is_cuda and importlib.util.find_spec("liger_kernel") is not None:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        return LigerFusedLinearCrossEntropyLoss(reduction="sum")(
            weight_VD, hidden_KD, targets_K, bias_V
        )
    loss: torch.Tensor = _ChunkedNLL.apply(hidden_KD, weight_VD, bias_V, targets_K)
    return loss


# Logits computed at once, 128 MiB in float32.
_CHUNK_NUMBERS = 2**25


class _ChunkedNLL(torch.autograd.Function):
    """Takes a chunk's gradients while its logits are there, as the loss is only ever scaled."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_KD: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_K: torch.Tensor,
    ) -> torch.Tensor:
        wanted = ctx.needs_input_grad
        chunk = max(1, _CHUNK_NUMBERS // len(weight_VD))
        sums = _Sums(accumulates=len(hidden_KD) > chunk)
        total = hidden_KD.new_zeros((), dtype=torch.float32)
        by_hidden = []
        for hidden_CD, targets_C in zip(
            hidden_KD.split(chunk), targets_K.split(chunk), strict=True
        ):
            logits_CV = F.linear(hidden_CD, weight_VD, bias_V).float()
            norm_C1 = logits_CV.logsumexp(-1, keepdim=True)
            index_C1 = targets_C[:, None]
            total += (norm_C1 - logits_CV.gather(1, index_C1)).sum()
            # The gradient is softmax − one-hot; it takes the logits' place.
            softmax_CV = logits_CV.sub_(norm_C1).exp_()
            softmax_CV.scatter_add_(1, index_C1, softmax_CV.new_full(index_C1.shape, -1.0))
            gradient_CV = softmax_CV.to(hidden_KD.dtype)
            if wanted[0]:
                by_hidden.append(gradient_CV @ weight_VD)
            if wanted[1]:
                sums.add("weight", gradient_CV.T @ hidden_CD)
            if bias_V is not None and wanted[2]:
                sums.add("bias", softmax_CV.sum(0))
        ctx.gradients = (
            torch.cat(by_hidden) if by_hidden else None,
            sums.get("weight", weight_VD.dtype),
            sums.get("bias", weight_VD.dtype),
        )
        return total

    @staticmethod
    def backward(ctx: Any, *scales: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        return *(g if g is None else g * scales[0].to(g.dtype) for g in gradients), None


class _Sums:
    """Sums over chunks, in float32 where there are several."""

    def __init__(self, accumulates: bool) -> None:
        self._accumulates = accumulates
        self._sums: dict[str, torch.Tensor] = {}

    def add(self, name: str, part: torch.Tensor) -> None:
        if name in self._sums:
            self._sums[name] += part
        else:
            self._sums[name] = part.float() if self._accumulates else part

    def get(self, name: str, dtype: torch.dtype) -> torch.Tensor | None:
        found = self._sums.get(name)
        return None if found is None else found.to(dtype)
