"""Scores with 95 % confidence intervals, for fractions and for mean NLLs."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def mean_nll(logprobs: Sequence[Sequence[float]]) -> Score:
    """Mean −log p over all tokens of the given texts (windows, targets), none of them empty.

    The interval is that of the ratio estimator: texts are independent, tokens of one
    text are not. The interval of a single text is the value itself.
    """
    tokens = sum(map(len, logprobs))
    mean = -sum(map(sum, logprobs)) / tokens
    deviations = [-sum(text) - mean * len(text) for text in logprobs]
    count = len(logprobs)
    spread = math.sqrt(sum(d * d for d in deviations) * count / max(1, count - 1)) / tokens
    half = Z_95 * spread
    return Score(mean, mean - half, mean + half, tokens, "nats/token")
