"""Scores with 95 % confidence intervals, for fractions and for mean NLLs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Two-sided 95 % quantile of the normal distribution.
Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Score:
    """One number with its 95 % interval over ``n`` items.

    ``unit`` is ``fraction`` (higher is better) or ``nats/token`` (lower is).
    """

    value: float
    low: float
    high: float
    n: int
    unit: str


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927)."""
    z = Z_95
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


class MeanNLL:
    """Mean −log p over all tokens of texts (windows, targets) that are added one at a time.

    The interval is that of the ratio estimator: texts are independent, tokens of one
    text are not. The interval of a single text is the value itself.
    """

    def __init__(self) -> None:
        self.texts = self._tokens = 0
        self._nll = 0.0
        # Sums over the texts, of n tokens each and d = NLL − n · pivot. The pivot is near the
        # mean, so that the squares of large sums are not subtracted from each other.
        self._pivot = self._dd = self._dn = self._nn = 0.0

    def add(self, logprobs: Sequence[float]) -> None:
        """Count one text by the log-probabilities (nats) of its tokens, at least one."""
        nll, tokens = -sum(logprobs), len(logprobs)
        if not self.texts:
            self._pivot = nll / tokens
        deviation = nll - self._pivot * tokens
        self.texts += 1
        self._tokens += tokens
        self._nll += nll
        self._dd += deviation * deviation
        self._dn += deviation * tokens
        self._nn += tokens * tokens

    def score(self) -> Score:
        """The mean so far, of at least one text."""
        mean = self._nll / self._tokens
        shift = mean - self._pivot
        squares = max(0.0, self._dd - 2 * shift * self._dn + shift * shift * self._nn)
        spread = math.sqrt(squares * self.texts / max(1, self.texts - 1)) / self._tokens
        half = Z_95 * spread
        return Score(mean, mean - half, mean + half, self._tokens, "nats/token")


def mean_nll(logprobs: Iterable[Sequence[float]]) -> Score:
    """:class:`MeanNLL` of the given texts, at least one, none of them empty."""
    mean = MeanNLL()
    for text in logprobs:
        mean.add(text)
    return mean.score()
