"""Losses over target positions, from hidden states on.

Shape suffixes: K target tokens, C of them in a chunk, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from common.methods import NLL, Loss
from learner.divergences import Teacher, distill
from learner.head import chunked_loss

# Most logits in a chunk: 128 MiB in float32 on a CPU, 512 MiB on a GPU. Each chunk reads the head
# and its gradient, which takes a GPU longer than to compute with few positions.
CHUNK_NUMBERS = {"cpu": 2**25, "cuda": 2**27}

# Args: the student's hidden_KD, weight_VD, bias_V, targets_K, and the teacher, if any.
Criterion = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor, Teacher | None], torch.Tensor
]


def criterion(loss: Loss, softcap: float | None = None) -> Criterion:
    """A method's loss as a function; it returns nats, summed over K.

    Args:
        loss: the method's.
        softcap: of the model's logits, if any.
    """
    if isinstance(loss, NLL):
        return lambda hidden, weight, bias, targets, _: nll(hidden, weight, bias, targets, softcap)

    def divergence(
        hidden_KD: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_K: torch.Tensor,
        teacher: Teacher | None,
    ) -> torch.Tensor:
        assert teacher is not None, "a divergence needs a teacher"
        return distill(hidden_KD, weight_VD, bias_V, teacher, loss, softcap, targets_K)

    return divergence


def nll(
    hidden_KD: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    targets_K: torch.Tensor,
    softcap: float | None = None,
) -> torch.Tensor:
    """−Σ log p(y_t), summed over K in float32 (paper, eq. of the MixSD objective); a scalar.

    The logits would be the largest tensor of a step, so they never exist as a whole. torch's own
    ``linear_cross_entropy`` took 8 times as long on a CPU and returned the sum in bfloat16.
    Liger's takes about K · D / V positions at a time, few with a large vocabulary, reads the head
    and its gradient for each, and waits for the device twice.
    """

    def loss_and_gradient(
        logits_CV: torch.Tensor, chunk: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # In place: torch's logsumexp would allocate another tensor of their size.
        index_C1 = targets_K[chunk, None]
        logits_CV -= logits_CV.amax(-1, keepdim=True)
        picked_C1 = logits_CV.gather(1, index_C1)
        sum_C1 = logits_CV.exp_().sum(-1, keepdim=True)
        softmax_CV = logits_CV.div_(sum_C1)
        minus_one = softmax_CV.new_full(index_C1.shape, -1.0)
        return (sum_C1.log() - picked_C1).sum(), softmax_CV.scatter_add_(1, index_C1, minus_one)

    most = CHUNK_NUMBERS[hidden_KD.device.type]
    return chunked_loss(hidden_KD, weight_VD, bias_V, loss_and_gradient, most, softcap)
