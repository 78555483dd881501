"""Losses over target positions, from hidden states on.

Shape suffixes: K target tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

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

    Where there are more target tokens than hidden units the logits would be the
    largest tensor of a step, so they are never whole: torch computes them in
    chunks, on a GPU Liger's kernel does if it is installed (not run on GPU).
    """
    if hidden_KD.is_cuda and importlib.util.find_spec("liger_kernel") is not None:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        return LigerFusedLinearCrossEntropyLoss(reduction="sum")(
            weight_VD, hidden_KD, targets_K, bias_V
        )
    if len(hidden_KD) < hidden_KD.shape[1]:
        logits_KV = F.linear(hidden_KD, weight_VD, bias_V)
        return F.cross_entropy(logits_KV.float(), targets_K, reduction="sum")
    return F.linear_cross_entropy(
        hidden_KD,
        weight_VD,
        targets_K,
        linear_bias=bias_V,
        reduction="sum",
        options=torch.nn.LinearCrossEntropyOptions(acc_policy="accurate"),
    )
