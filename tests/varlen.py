"""What FlashAttention computes, segment by segment, for machines without its kernel."""

from __future__ import annotations

import torch


def varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """(T, H, D): ``torch.nn.attention.varlen.varlen_attn``, with masks aligned to the last key."""
    left, right = window_size
    assert query.shape[1] == key.shape[1] or enable_gqa
    groups = query.shape[1] // key.shape[1]
    starts_q, starts_k = cu_seq_q.tolist(), cu_seq_k.tolist()
    outputs = []
    for at in range(len(starts_q) - 1):
        q = query[starts_q[at] : starts_q[at + 1]]
        k, v = (
            tensor[starts_k[at] : starts_k[at + 1]].repeat_interleave(groups, 1)
            for tensor in (key, value)
        )
        assert len(q) <= max_q
        assert len(k) <= max_k
        last = torch.arange(len(q))[:, None] + len(k) - len(q)
        number = torch.arange(len(k))
        hidden = number > last + right
        if left >= 0:
            hidden |= number < last - left
        scores = torch.einsum("qhd,khd->hqk", q, k) * scale
        weights = scores.masked_fill(hidden.to(scores.device), float("-inf")).softmax(-1)
        outputs.append(torch.einsum("hqk,khd->qhd", weights, v))
    return torch.cat(outputs)
