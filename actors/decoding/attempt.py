"""What a decoder takes and returns: an attempt at a target, and a scored target. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from actors.decoding.picks import DrawnTokens
from actors.inference.requests import Sampling, TopLogprobs


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a target: a prompt for each side, and which side draws which token.

    ``sampling(position)`` returns the sampling of the segment that begins there.
    ``known`` holds the first tokens, which need not be drawn again.
    ``protects`` and ``check_at`` are those of :class:`actors.decoding.picks.SegmentSchedule`.
    ``settled`` is called with the tokens so far, at the start and after every segment: True
    ends the attempt.
    Attempts of one ``prefix_group`` have the same prompts and reuse each other's sessions,
    which stay until :meth:`MixedDecoder.release_group`; empty: no reuse.
    """

    key: str
    naive_prompt: Sequence[int]
    expert_prompt: Sequence[int]
    picks: Sequence[bool]
    sampling: Callable[[int], Sampling]
    known: DrawnTokens = field(default_factory=DrawnTokens)
    protects: Callable[[Sequence[int]], bool] | None = None
    settled: Callable[[Sequence[int]], bool] | None = None
    check_at: int = 0
    prefix_group: str = ""


@dataclass(frozen=True, slots=True)
class FinishedAttempt:
    """A finished attempt; ``complete`` if a stop token ended it.

    The first ``num_known`` tokens were known before. ``beside`` is that of
    :class:`actors.decoding.picks.DrawnTokens`.
    """

    key: str
    token_ids: list[int]
    logprobs: list[float]
    naive: list[int]
    complete: bool
    num_known: int = 0
    beside: dict[int, float] = field(default_factory=dict)

    @property
    def naive_logprobs(self) -> list[float] | None:
        """Every token's log-probability under the naive side, nats; None unless all are known."""
        found = [
            logprob if naive else self.beside.get(at)
            for at, (logprob, naive) in enumerate(zip(self.logprobs, self.naive, strict=True))
        ]
        known = [logprob for logprob in found if logprob is not None]
        return known if len(known) == len(found) else None


@dataclass(frozen=True, slots=True)
class ScoredTarget:
    """Log-probabilities of a target's tokens given prompt and prefix, nats.

    ``top``: the likeliest tokens there, if requested.
    """

    key: str
    logprobs: list[float]
    top: TopLogprobs | None = None
