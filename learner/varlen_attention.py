"""Attention of a packed row in one FlashAttention call: no padding and no masks.

A block is one segment. Its queries are its own tokens, which lie in the row in order. Its keys
are its context and then its own tokens. Where a segment has more keys than queries,
FlashAttention 2 aligns both to their ends: query i of q sees key j of k if
i + k - q - left <= j <= i + k - q + right, both ends included, with no left bound at -1
(``flash_attn/mask.h`` in torch). So (-1, 0) lets a block see its whole context and itself
causally, and (W - 1, 0) is a window of W tokens that counts the query's own.

The kernel was not run on a GPU here: tests replace it with a loop over segments.

Shape suffixes: T tokens of the row, Y keys of all blocks, B blocks, H query heads, J key heads,
D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from learner.packing import Block
from learner.row_tensors import to_device

_LARGEST_HEAD = 256
# Beyond this size the backward pass needs the shared memory of data-center GPUs.
_LARGEST_HEAD_ANYWHERE = 192
_DATA_CENTER = frozenset({(8, 0), (9, 0), (10, 0)})


@dataclass(frozen=True, slots=True)
class Spans:
    """The segments of a row on its device.

    Attributes:
        query_starts_B: (B + 1) first query of each block, and T; int32.
        key_starts_B: (B + 1) first key of each block, and Y; int32.
        longest_query: most queries of a block.
        longest_key: most keys of a block.
        keys_Y: row position of each key; None: the keys are the row's tokens, in order.
    """

    query_starts_B: torch.Tensor
    key_starts_B: torch.Tensor
    longest_query: int
    longest_key: int
    keys_Y: torch.Tensor | None

    @classmethod
    def of(cls, blocks: Sequence[Block], device: torch.device | str) -> Spans:
        """Computed on the CPU and moved in one copy; ``blocks`` cover the row in order."""
        queries_B = np.array([block.stop - block.start for block in blocks])
        keys_B = queries_B + np.array([block.context_tokens for block in blocks])
        starts_2B = np.zeros((2, len(blocks) + 1), dtype=np.int64)
        starts_2B[:, 1:] = np.cumsum([queries_B, keys_B], axis=1)
        arrays = [starts_2B]
        if any(block.context for block in blocks):
            arrays.append(key_positions(blocks))
        moved = to_device(arrays, device)
        query_starts_B, key_starts_B = moved[0].to(torch.int32)
        keys_Y = moved[1] if len(moved) > 1 else None
        return cls(query_starts_B, key_starts_B, int(queries_B.max()), int(keys_B.max()), keys_Y)


def key_positions(blocks: Sequence[Block]) -> np.ndarray:
    """Row positions of each block's context and of its own tokens, block after block."""
    spans = np.array(
        [span for block in blocks for span in (*block.context, (block.start, block.stop))]
    )
    lengths = spans[:, 1] - spans[:, 0]
    ends = np.cumsum(lengths)
    positions_Y: np.ndarray = np.arange(ends[-1]) + np.repeat(spans[:, 1] - ends, lengths)
    return positions_Y


def attention(
    query_THD: torch.Tensor,
    key_TJD: torch.Tensor,
    value_TJD: torch.Tensor,
    spans: Spans,
    scale: float,
    window: int | None = None,
) -> torch.Tensor:
    """(T, H, D): the attention of a row, if :func:`fits` its tensors.

    Args:
        query_THD: a query head attends to key head h · J / H.
        key_TJD: of the row's tokens.
        value_TJD: of the row's tokens.
        spans: of the row.
        scale: of the scores.
        window: tokens that a query sees, its own included; None: all earlier ones.
    """
    # It loads torch's compiler, which a CPU does not need.
    from torch.nn.attention.varlen import varlen_attn

    if spans.keys_Y is not None:
        key_TJD = _Shared.apply(key_TJD, spans.keys_Y)
        value_TJD = _Shared.apply(value_TJD, spans.keys_Y)
    output_THD: torch.Tensor = varlen_attn(
        query_THD,
        key_TJD,
        value_TJD,
        spans.query_starts_B,
        spans.key_starts_B,
        spans.longest_query,
        spans.longest_key,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query_THD.shape[1] != key_TJD.shape[1],
    )
    return output_THD


def fits(query: torch.Tensor) -> bool:
    """Whether the kernel takes a query of this device, dtype and head size (its last axis)."""
    if query.device.type != "cuda":
        return False
    return kernel_takes(query.dtype, query.shape[-1], _capability(query.device))


def kernel_takes(dtype: torch.dtype, head_size: int, capability: tuple[int, int]) -> bool:
    """Whether FlashAttention 2 computes forward and backward pass of this on such a GPU."""
    if dtype not in (torch.bfloat16, torch.float16) or head_size % 8 or capability < (8, 0):
        return False
    largest = _LARGEST_HEAD if capability in _DATA_CENTER else _LARGEST_HEAD_ANYWHERE
    return head_size <= largest


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


class _Shared(torch.autograd.Function):
    """``x[keys]`` whose gradient sums the copies of a position in float32.

    A prefix may have a copy for each of a hundred examples; autograd would add them in x's type.
    """

    @staticmethod
    def forward(ctx: Any, x_TJD: torch.Tensor, keys_Y: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(keys_Y)
        ctx.num_tokens = len(x_TJD)
        return x_TJD.index_select(0, keys_Y)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (keys_Y,) = ctx.saved_tensors
        copies_YJD = gradients[0]
        wide = torch.promote_types(copies_YJD.dtype, torch.float32)
        sum_TJD = copies_YJD.new_zeros((ctx.num_tokens, *copies_YJD.shape[1:]), dtype=wide)
        return sum_TJD.index_add_(0, keys_Y, copies_YJD.to(wide)).to(copies_YJD.dtype), None
