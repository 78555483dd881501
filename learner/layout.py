"""Where the queries and keys of a packed row are, for either way to compute its attention.

Both are built when a layer first asks for them, and serve every layer.

Shape suffixes: N blocks of a bucket, Q and S its longest query and key spans, G queries per key
head, T tokens of the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from learner.packing import Block, Span
from learner.row_tensors import to_device
from learner.varlen_attention import Spans

# Blocks share a bucket while the shortest is at least this part of the longest.
_LEAST_FILL = 0.7


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Blocks of similar length, padded to the longest.

    ``age_NQS``: how many tokens a key is older than a query; negative if it is younger.
    """

    query_NQ: torch.Tensor
    key_NS: torch.Tensor
    visible_NQS: torch.Tensor
    age_NQS: torch.Tensor


class Layout:
    """Positions of each block's queries and keys in a row of ``num_tokens``."""

    def __init__(
        self, blocks: Sequence[Block], num_tokens: int, device: torch.device | str
    ) -> None:
        self._blocks = blocks
        self._num_tokens = num_tokens
        self._device = device
        self._sharing = any(block.context for block in blocks)
        self._queries: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._biases: dict[tuple[int, int, torch.dtype, int | None], torch.Tensor] = {}

    @cached_property
    def spans(self) -> Spans:
        """The blocks as segments of one call."""
        return Spans.of(self._blocks, self._device)

    @cached_property
    def buckets(self) -> list[_Bucket]:
        """The blocks in groups of similar length, padded."""
        groups = _similar(self._blocks)
        arrays = [array for group in groups for array in _positions(group)]
        moved = to_device(arrays, self._device)
        return [_bucket(*moved[at : at + 4]) for at in range(0, len(moved), 4)]

    @cached_property
    def keys(self) -> torch.Tensor:
        """Row position of each key slot, over all buckets."""
        return torch.cat([bucket.key_NS.flatten() for bucket in self.buckets])

    @cached_property
    def key_slots(self) -> torch.Tensor | None:
        """Slot of each row position; None if shared prefixes give one position several slots."""
        return None if self._sharing else self._inverse(self.keys, self._num_tokens)

    def queries(self, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Positions of the query slots in a (G·T) axis, and the slot of each position."""
        if groups not in self._queries:
            offset_G11 = torch.arange(groups, device=self._device)[:, None] * self._num_tokens
            index = torch.cat(
                [(b.query_NQ[:, None, :] + offset_G11).flatten() for b in self.buckets]
            )
            self._queries[groups] = (index, self._inverse(index, groups * self._num_tokens))
        return self._queries[groups]

    def visible(self, index: int, window: int | None = None) -> torch.Tensor:
        """(N, Q, S): which keys a query attends to, with a sliding window in tokens."""
        bucket = self.buckets[index]
        if window is None or bucket.key_NS.shape[1] <= window:
            return bucket.visible_NQS
        return bucket.visible_NQS & (bucket.age_NQS < window)

    def bias(
        self, index: int, groups: int, dtype: torch.dtype, window: int | None = None
    ) -> torch.Tensor:
        """(N, G·Q, S): 0 where visible, −∞ elsewhere; the same in every layer of a window."""
        key = (index, groups, dtype, window)
        if key not in self._biases:
            visible_NQS = self.visible(index, window)
            zero = torch.zeros(visible_NQS.shape, dtype=dtype, device=self._device)
            bias_NQS = zero.masked_fill_(~visible_NQS, float("-inf"))
            self._biases[key] = bias_NQS.repeat(1, groups, 1)
        return self._biases[key]

    def _inverse(self, index: torch.Tensor, size: int) -> torch.Tensor:
        """First slot of each position; padding slots repeat a position after its real one."""
        slots = torch.full((size,), index.numel(), dtype=torch.long, device=self._device)
        numbers = torch.arange(index.numel(), device=self._device)
        return slots.scatter_reduce_(0, index, numbers, "amin")


def _similar(blocks: Sequence[Block]) -> list[list[Block]]:
    """Group blocks of similar length, to keep padding small."""
    buckets: list[list[Block]] = []
    for block in sorted(blocks, key=_spans, reverse=True):
        longest = _spans(buckets[-1][0]) if buckets else (0, 0)
        if not buckets or any(
            own < _LEAST_FILL * most for own, most in zip(_spans(block), longest, strict=True)
        ):
            buckets.append([])
        buckets[-1].append(block)
    return buckets


def _spans(block: Block) -> tuple[int, int]:
    """Numbers of keys and queries of a block."""
    queries = block.stop - block.start
    return queries + block.context_tokens, queries


def _positions(blocks: Sequence[Block]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Query and key positions of a bucket, and each block's own and context tokens."""

    def padded(spans: Sequence[Sequence[Span]]) -> np.ndarray:
        """Positions of each block's spans, padded to the longest with the last one."""
        found = [np.concatenate([np.arange(*span) for span in block]) for block in spans]
        width = max(map(len, found))
        return np.stack([np.pad(one, (0, width - len(one)), mode="edge") for one in found])

    query_NQ = padded([[(block.start, block.stop)] for block in blocks])
    key_NS = padded([[*block.context, (block.start, block.stop)] for block in blocks])
    own_N = np.array([block.stop - block.start for block in blocks])
    return query_NQ, key_NS, own_N, np.array([block.context_tokens for block in blocks])


def _bucket(
    query_NQ: torch.Tensor, key_NS: torch.Tensor, own_N: torch.Tensor, context_N: torch.Tensor
) -> _Bucket:
    device = query_NQ.device
    own_N1, context_N1 = own_N[:, None], context_N[:, None]
    # Padding queries see what the last one sees: with nothing visible they would give NaN.
    query_NQ1 = torch.minimum(torch.arange(query_NQ.shape[1], device=device), own_N1 - 1)[..., None]
    own_key_NS = torch.arange(key_NS.shape[1], device=device) - context_N1
    age_NQS = query_NQ1 - own_key_NS[:, None, :]
    visible_NQS = (age_NQS >= 0) & (own_key_NS < own_N1)[:, None, :]
    return _Bucket(query_NQ, key_NS, visible_NQS, age_NQS)
