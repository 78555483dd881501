"""The attempt tree: tokens drawn after each prefix, so that no token is drawn twice.

At temperature 0 the next token is a function of (side, prefix). Attempts at one fact
share a prefix until their picks differ, so a further attempt walks the known tokens and
draws only what follows.

The walk is as exact as the engine is deterministic: if the argmax depends on the rest of
the batch (bfloat16), the engine might have drawn another token; the tree repeats the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.decoding.picks import DrawnTokens, SegmentSchedule


@dataclass(slots=True)
class _Node:
    """A prefix. ``drawn``: side -> (token, its log-probability); sides may share a child."""

    drawn: dict[bool, tuple[int, float]] = field(default_factory=dict)
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
            token, logprob = node.drawn[naive]
            known.token_ids.append(token)
            known.logprobs.append(logprob)
            known.naive.append(int(naive))
            node = node.children[token]
        return known

    def record(
        self, token_ids: Sequence[int], logprobs: Sequence[float], naive: Sequence[int]
    ) -> None:
        """Store the tokens of an attempt until the tree is full."""
        node = self._root
        for token, logprob, side in zip(token_ids, logprobs, naive, strict=True):
            if bool(side) not in node.drawn:
                if self._num_free == 0:
                    return
                self._num_free -= 1
                node.drawn[bool(side)] = (token, logprob)
            node = node.children.setdefault(token, _Node())
