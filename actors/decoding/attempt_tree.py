"""The attempt tree: tokens drawn after each prefix, so that no token is drawn twice.

At temperature 0 the next token is a function of (side, prefix). Attempts at one fact
share a prefix until their picks differ, so a further attempt walks the known tokens and
draws only what follows.

The walk is as exact as the engine is deterministic: if the argmax depends on the rest of
the batch (bfloat16), the engine might have drawn another token; the tree repeats the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from actors.decoding.picks import DrawnTokens, SegmentSchedule


@dataclass(slots=True)
class _Node:
    """A prefix. ``drawn``: side -> what :meth:`DrawnTokens.add` takes; sides may share a child."""

    drawn: dict[bool, tuple[int, float, bool, float | None]] = field(default_factory=dict)
    children: dict[int, _Node] = field(default_factory=dict)


class AttemptTree:
    """Known tokens of one fact's attempts; at most ``max_tokens`` are kept."""

    def __init__(self, max_tokens: int) -> None:
        self._root = _Node()
        self._num_free = max_tokens

    def walk(self, schedule: SegmentSchedule) -> DrawnTokens:
        """The known first tokens of an attempt with this schedule; maybe all of its tokens."""
        known, node = DrawnTokens(), self._root
        while len(known.token_ids) < schedule.num_tokens:
            naive = schedule.draws_naive(known.token_ids)
            if naive not in node.drawn:
                break
            known.add(*node.drawn[naive])
            node = node.children[known.token_ids[-1]]
        return known

    def record(
        self,
        token_ids: Sequence[int],
        logprobs: Sequence[float],
        naive: Sequence[int],
        beside: Mapping[int, float] = MappingProxyType({}),
    ) -> None:
        """Store an attempt, by the lists of :class:`DrawnTokens`, until the tree is full."""
        node = self._root
        drawn = zip(token_ids, logprobs, naive, strict=True)
        for at, (token, logprob, side) in enumerate(drawn):
            if bool(side) not in node.drawn:
                if self._num_free == 0:
                    return
                self._num_free -= 1
                node.drawn[bool(side)] = (token, logprob, bool(side), beside.get(at))
            node = node.children.setdefault(token, _Node())
