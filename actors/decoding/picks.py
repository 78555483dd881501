"""Which side draws which token: picks b_t, and the segments of equal picks. Pure.

Picks, seeds and the choice of what is scored are functions of (run seed, fact,
draw, attempt), so they depend neither on the number and order of actors nor on
the machine.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive tokens that one side draws."""

    naive: bool
    length: int


@dataclass(slots=True)
class DrawnTokens:
    """What an attempt has drawn so far; three lists of one length.

    ``logprobs`` are under the side that drew the token, nats; ``naive`` is 1
    where that was the naive side. ``beside``: position -> log-probability under the
    naive side of a token that the expert drew, where the engine gave it.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    naive: list[int] = field(default_factory=list)
    beside: dict[int, float] = field(default_factory=dict)

    def copy(self) -> DrawnTokens:
        """The same, apart."""
        return DrawnTokens(
            list(self.token_ids), list(self.logprobs), list(self.naive), dict(self.beside)
        )

    def add(self, token: int, logprob: float, naive: bool, beside: float | None = None) -> None:
        """One more token; ``beside`` as above, None if unknown."""
        if beside is not None and not naive:
            self.beside[len(self.token_ids)] = beside
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        self.naive.append(int(naive))


class SegmentSchedule:
    """The segments of an attempt, decided as its text grows.

    Args:
        picks: which side draws each token; their number is the attempt's longest
            length.
        protects: whether the expert draws the token after the given ones whatever was
            picked. A naive segment is then one token long, since the next token may
            be protected.
        check_at: position where a segment ends, so that the text is examined there.
    """

    def __init__(
        self,
        picks: Sequence[bool],
        protects: Callable[[Sequence[int]], bool] | None = None,
        check_at: int = 0,
    ) -> None:
        self._picks = picks
        self._protects = protects
        self._check_at = check_at
        # Position -> where its segment ends.
        self._ends: list[int] = []
        for segment in segments_of(picks):
            self._ends += [len(self._ends) + segment.length] * segment.length

    @property
    def num_tokens(self) -> int:
        """The longest length of the attempt."""
        return len(self._picks)

    def draws_naive(self, token_ids: Sequence[int]) -> bool:
        """Whether the naive side draws the token after ``token_ids``."""
        picked = self._picks[len(token_ids)]
        return picked and not (self._protects is not None and self._protects(token_ids))

    def next_segment(self, token_ids: Sequence[int]) -> Segment | None:
        """The segment after ``token_ids``; None if the attempt has its longest length."""
        position = len(token_ids)
        if position == len(self._picks):
            return None
        naive = self.draws_naive(token_ids)
        if naive != self._picks[position] or (naive and self._protects is not None):
            return Segment(naive, 1)
        end = self._ends[position]
        if position < self._check_at:
            end = min(end, self._check_at)
        return Segment(naive, end - position)

    def may_draw(self, naive: bool, position: int) -> bool:
        """Whether a side may draw a token at ``position`` or later."""
        if position >= len(self._picks):
            return False
        if not naive and self._protects is not None:
            return True
        # Either it draws now, or after this segment.
        return self._picks[position] == naive or self._ends[position] < len(self._picks)


def _digest(seed: int, fact_id: str, draw: int, attempt: int, purpose: str) -> int:
    text = f"{seed}\x00{fact_id}\x00{draw}\x00{attempt}\x00{purpose}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


def draw_picks(
    seed: int, fact_id: str, draw: int, attempt: int, mix_rate: float, num_tokens: int
) -> list[bool]:
    """b_1 … b_n ~ Bernoulli(``mix_rate``), independent; True takes the naive conditional.

    Args:
        seed: the run's.
        fact_id, draw, attempt: whose picks; equal arguments give equal picks.
        mix_rate: λ in [0, 1].
        num_tokens: n.
    """
    bits = np.random.Philox(key=_digest(seed, fact_id, draw, attempt, "picks"))
    uniform = np.random.Generator(bits).random(num_tokens)
    return [bool(value) for value in uniform < mix_rate]


def is_scored(seed: int, fact_id: str, draw: int, fraction: float) -> bool:
    """Whether the target of (``fact_id``, ``draw``) belongs to the scored ``fraction``."""
    return _digest(seed, fact_id, draw, 0, "score") < fraction * 2**128


def sampling_seed(seed: int, fact_id: str, draw: int, attempt: int, position: int) -> int:
    """Seed of the sampler for the segment that begins at ``position``; 63 bits.

    Args:
        seed: the run's.
        fact_id, draw, attempt: which attempt.
        position: of the segment's first token in the target, from 0.
    """
    return _digest(seed, fact_id, draw, attempt, f"tokens {position}") % 2**63


def student_seed(seed: int, fact_id: str, draw: int, version: int) -> int:
    """Seed of the student's sample ``draw`` of a fact under weights of ``version``; 63 bits."""
    return _digest(seed, fact_id, draw, version, "student") % 2**63


def segments_of(picks: Sequence[bool]) -> list[Segment]:
    """Group equal neighbours; the lengths sum to ``len(picks)``."""
    return [Segment(naive, len(list(group))) for naive, group in itertools.groupby(picks)]
