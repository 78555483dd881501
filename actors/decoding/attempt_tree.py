"""The attempt tree: what was drawn after which prefix, so that no token is drawn twice.

At temperature 0 the next token is a function of (side, prefix). Attempts at
one fact share prefixes until their picks lead them apart, so a further attempt
walks what is known and begins to draw where it leaves it.

The walk is as exact as the engine is deterministic: an engine whose argmax
depends on what else is in the batch (bfloat16) might have drawn another token;
the tree then repeats the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.decoding.picks import DrawnTokens, SegmentSchedule


@dataclass(slots=True)
class _Node:
    """A prefix. ``drawn``: side -> (token, its log-probability); sides may agree on a child."""

    drawn: dict[bool, tuple[int, float]] = field(default_factory=dict)
    children: dict[int, _Node] = field(default_factory=dict)


class AttemptTree:
    """Tokens known of one fact's attempts; at most ``max_tokens`` of them are kept."""

    def __init__(self, max_tokens: int) -> None:
        self._root = _Node()
        self._room = max_tokens

    def walk(self, plan: SegmentSchedule) -> DrawnTokens:
        """The tokens that an attempt of this plan is known to begin with; maybe all of them."""
        known, node = DrawnTokens(), self._root
        while len(known.token_ids) < plan.num_tokens:
            naive = plan.draws_naive(known.token_ids)
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
        """Remember what an attempt drew, as far as there is room."""
        node = self._root
        for token, logprob, side in zip(token_ids, logprobs, naive, strict=True):
            if bool(side) not in node.drawn:
                if self._room == 0:
                    return
                self._room -= 1
                node.drawn[bool(side)] = (token, logprob)
            node = node.children.setdefault(token, _Node())
