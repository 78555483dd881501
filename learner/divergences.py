"""Divergences of a student from a teacher at target positions, from hidden states on.

Only the logits of one chunk of positions exist at a time, never all K × V, and their
gradient is computed right away: what stays until the backward pass has the shapes of
the hidden states and of the head. This module knows neither models nor rows.

Shape suffixes: K target tokens, C those of a chunk, D hidden size, V vocabulary,
N tokens of a top-k teacher, B buckets of a support.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from common.methods import Divergence, PenalizedNLL
from learner.head import chunked_loss, logits

# Most logits in a chunk. A JSD holds up to 12 float32 tensors of that size at once, the others
# 8 (measured at vocabulary 150k): 384 MiB, independent of K.
CHUNK_NUMBERS = 2**23
CHUNK_TENSORS = 12
# Least mass of the teacher's tail: float32 sums resolve no smaller one.
_LEAST_REST = torch.finfo(torch.float32).eps


@dataclass(frozen=True, slots=True)
class FullTeacher:
    """A teacher's own hidden states and head; its width may differ from the student's."""

    hidden_KD: torch.Tensor
    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None
    softcap: float | None = None


@dataclass(frozen=True, slots=True)
class TopKTeacher:
    """A teacher's N likeliest tokens and their log-probabilities (nats) over the vocabulary."""

    ids_KN: torch.Tensor
    logprobs_KN: torch.Tensor


Teacher = FullTeacher | TopKTeacher


def distill(
    hidden_KD: torch.Tensor,
    weight_VD: torch.Tensor,
    bias_V: torch.Tensor | None,
    teacher: Teacher,
    loss: Divergence | PenalizedNLL,
    softcap: float | None = None,
    targets_K: torch.Tensor | None = None,
) -> torch.Tensor:
    """The divergence (nats), or the NLL that it penalizes, summed over K in float32; a scalar.

    Args:
        hidden_KD: the student's hidden states at the target positions.
        weight_VD: the weight of its head.
        bias_V: the bias of its head, if any.
        teacher: gets no gradient.
        loss: which divergence, on which support, and whether it is a penalty.
        softcap: of the student's logits, if any.
        targets_K: the target tokens, for a penalized NLL.

    Raises:
        ValueError: the teacher has another number of positions or another vocabulary.
    """
    if isinstance(teacher, FullTeacher):
        positions, vocabulary = len(teacher.hidden_KD), len(teacher.weight_VD)
        if vocabulary != len(weight_VD):
            raise ValueError(
                f"the teacher has {vocabulary} tokens in its vocabulary, the student "
                f"{len(weight_VD)}; a divergence needs the same vocabulary"
            )
    else:
        positions = len(teacher.ids_KN)
    if positions != len(hidden_KD):
        raise ValueError(
            f"the teacher has {positions} target positions, the student {len(hidden_KD)}"
        )

    def loss_and_gradient(
        logits_CV: torch.Tensor, chunk: slice
    ) -> tuple[torch.Tensor, torch.Tensor]:
        targets_C = None if targets_K is None else targets_K[chunk]
        return _loss_and_gradient(logits_CV, _part(teacher, chunk), loss, targets_C)

    return chunked_loss(hidden_KD, weight_VD, bias_V, loss_and_gradient, CHUNK_NUMBERS, softcap)


def divergence(
    student_CB: torch.Tensor, teacher_CB: torch.Tensor, loss: Divergence
) -> torch.Tensor:
    """(C,) divergences of log-probabilities (nats), one distribution per position.

    Forward Σ p_T (log p_T − log p_S), reverse Σ p_S (log p_S − log p_T), and their mixture;
    JSD_β = β KL(T‖M) + (1 − β) KL(S‖M) with M = β T + (1 − β) S, 0 ≤ JSD_½ ≤ ln 2.
    """
    if loss.kind == "forward":
        return _kl(teacher_CB, student_CB)
    if loss.kind == "reverse":
        return _kl(student_CB, teacher_CB)
    beta = loss.weight
    if loss.kind == "mixed":
        return beta * _kl(teacher_CB, student_CB) + (1 - beta) * _kl(student_CB, teacher_CB)
    middle_CB = torch.logaddexp(teacher_CB + math.log(beta), student_CB + math.log1p(-beta))
    return beta * _kl(teacher_CB, middle_CB) + (1 - beta) * _kl(student_CB, middle_CB)


def _kl(p_CB: torch.Tensor, q_CB: torch.Tensor) -> torch.Tensor:
    return (p_CB.exp() * (p_CB - q_CB)).sum(-1)


def _on_support(
    student_CV: torch.Tensor, teacher: Teacher, loss: Divergence
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (C, B) of student and teacher, from the student's (C, V)."""
    if isinstance(teacher, FullTeacher):
        teacher_CV = logits(
            teacher.hidden_KD, teacher.weight_VD, teacher.bias_V, teacher.softcap
        ).log_softmax(-1)
        if loss.support == "full":
            return student_CV, teacher_CV
        ids_CN = teacher_CV.topk(min(loss.top_k, teacher_CV.shape[-1])).indices
        kept_CN = teacher_CV.gather(-1, ids_CN)
    else:
        ids_CN, kept_CN = teacher.ids_KN, teacher.logprobs_KN
    ours_CN = student_CV.gather(-1, ids_CN)
    if loss.support == "top_k":
        return ours_CN.log_softmax(-1), kept_CN.log_softmax(-1)
    if ids_CN.shape[-1] == student_CV.shape[-1]:
        return ours_CN, kept_CN
    if isinstance(teacher, FullTeacher):
        rest_C1 = _rest(teacher_CV, ids_CN)
    else:
        rest_C1 = (1 - kept_CN.exp().sum(-1, keepdim=True)).clamp_min(_LEAST_REST).log()
    return torch.cat([ours_CN, _rest(student_CV, ids_CN)], -1), torch.cat([kept_CN, rest_C1], -1)


def _loss_and_gradient(
    logits_CV: torch.Tensor,
    teacher: Teacher,
    loss: Divergence | PenalizedNLL,
    targets_C: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed loss of a chunk, and its gradient for the student's logits (C, V)."""
    logits_CV.requires_grad_()
    with torch.enable_grad():
        student_CV = logits_CV.log_softmax(-1)
        student_CB, teacher_CB = _on_support(student_CV, teacher, loss.divergence)
        total = divergence(student_CB, teacher_CB, loss.divergence).sum()
        if isinstance(loss, PenalizedNLL):
            assert targets_C is not None, "an NLL needs targets"
            picked_C1 = student_CV.gather(1, targets_C[:, None])
            total = loss.strength * total - picked_C1.sum()
    (d_logits_CV,) = torch.autograd.grad(total, logits_CV)
    return total.detach(), d_logits_CV


def _rest(logprobs_CV: torch.Tensor, ids_CN: torch.Tensor) -> torch.Tensor:
    """(C, 1) log of the mass outside ``ids_CN``."""
    return logprobs_CV.scatter(-1, ids_CN, -math.inf).logsumexp(-1, keepdim=True)


def _part(teacher: Teacher, chunk: slice) -> Teacher:
    if isinstance(teacher, FullTeacher):
        return replace(teacher, hidden_KD=teacher.hidden_KD[chunk])
    return TopKTeacher(teacher.ids_KN[chunk], teacher.logprobs_KN[chunk])
