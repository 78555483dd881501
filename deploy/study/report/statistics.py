"""Estimates over seeds, paired tests, corrections for several tests, and correlations.

Pure functions of numbers; nothing here knows runs or benchmarks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from common.estimates import Z_95

# With fewer points a correlation has no interval (Fisher's z needs n > 3).
LEAST_POINTS = 4
_RESAMPLES = 10_000
_BISECTIONS = 60
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over ``n`` values with its 95 % interval; a single value has none."""

    value: float
    low: float | None
    high: float | None
    n: int

    def text(self, form: str = ".3f") -> str:
        """``0.812 [0.790, 0.834]``."""
        if self.low is None or self.high is None:
            return f"{self.value:{form}}"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"


def mean_interval(values: Sequence[float]) -> Estimate:
    """Mean of at least one value and its 95 % Student t interval (Student 1908)."""
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Estimate(mean, None, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = t_quantile(count - 1) * math.sqrt(variance / count)
    return Estimate(mean, mean - half, mean + half, count)


@cache
def t_quantile(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t with ``freedom`` degrees, at least 1."""
    low, high = 0.0, math.pi / 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _within(middle, freedom) < 0.95:
            low = middle
        else:
            high = middle
    return math.tan((low + high) / 2) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """P(|T| <= √freedom · tan(angle)): Abramowitz and Stegun (1964), 26.7.3 and 26.7.4."""
    cosine = math.cos(angle)
    odd = freedom % 2
    total, term = 0.0, cosine if odd else 1.0
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine * cosine * (power - 1) / power
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def sign_flip_p(differences: Sequence[int]) -> float:
    """Exact two-sided p of "every item's difference is as likely with the other sign".

    The sum of ``differences`` is compared with its distribution over all choices of signs. If
    all of them are −1, 0 or 1 this is McNemar's exact test (binomial with p = ½). Doubled tail,
    as there.
    """
    sizes = Counter(abs(one) for one in differences if one)
    # Probability of each sum of the positive parts: the sum over d is 2 · it − the total.
    chances = np.ones(1)
    for size, count in sizes.items():
        chances = np.convolve(chances, _spread(_binomial(count), size))
    total = sum(size * count for size, count in sizes.items())
    positive = (total + sum(differences)) // 2
    tail = chances[: min(positive, total - positive) + 1].sum()
    return float(min(1.0, 2 * tail))


def _binomial(count: int) -> np.ndarray:
    """Probabilities of 0 to ``count`` heads of as many fair coins."""
    whole = math.lgamma(count + 1) - count * math.log(2)
    return np.exp(
        [whole - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in range(count + 1)]
    )


def _spread(chances: np.ndarray, size: int) -> np.ndarray:
    """The distribution of ``size`` times a number."""
    wide = np.zeros((len(chances) - 1) * size + 1)
    wide[::size] = chances
    return wide


def paired_bootstrap(pairs: Mapping[tuple[int, int], int], seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of Σ difference / Σ trials, with items drawn anew (Efron 1979).

    Args:
        pairs: number of items by (difference, trials), where an item's difference is summed
            over its trials (seeds, samples); they stay together.
        seed: draws the resamples.
    """
    kinds = np.array(list(pairs))
    counts = np.array(list(pairs.values()))
    items = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(items, counts / items, size=_RESAMPLES)
    means = (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), in the given order."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = highest
    return corrected


@dataclass(frozen=True, slots=True)
class Correlation:
    """A coefficient over ``n`` points with its 95 % interval, None where |value| is 1."""

    value: float
    low: float | None
    high: float | None
    n: int


def pearson(x: Sequence[float], y: Sequence[float], controlled: int = 0) -> Correlation | None:
    """Pearson's correlation; its interval by Fisher's z (1921), 1 / √(n − 3) wide.

    Args:
        x, y: the points; fewer than ``LEAST_POINTS`` + ``controlled``, or equal values, give None.
        controlled: number of means besides the first that were subtracted from the points. Each
            takes one degree of freedom (Fisher 1924).
    """
    value = _coefficient(x, y, controlled)
    return None if value is None else _fisher_z(value, len(x), controlled, 1.0)


def spearman(x: Sequence[float], y: Sequence[float], controlled: int = 0) -> Correlation | None:
    """Spearman's rank correlation, ties at their mean rank.

    The interval is by Fisher's z with variance (1 + ρ² / 2) / (n − 3) (Bonett and Wright 2000).
    Arguments as in :func:`pearson`.
    """
    value = _coefficient(ranks(x), ranks(y), controlled)
    return None if value is None else _fisher_z(value, len(x), controlled, 1 + value * value / 2)


def ranks(values: Sequence[float]) -> list[float]:
    """1 for the smallest; equal values have their mean rank."""
    ordered = sorted(values)
    first = {value: at for at, value in reversed(list(enumerate(ordered)))}
    ties = Counter(values)
    return [first[value] + (ties[value] + 1) / 2 for value in values]


def _coefficient(x: Sequence[float], y: Sequence[float], controlled: int) -> float | None:
    if len(x) < LEAST_POINTS + controlled:
        return None
    left, right = np.asarray(x) - np.mean(x), np.asarray(y) - np.mean(y)
    scale = math.sqrt(float(left @ left) * float(right @ right))
    if scale <= _TINY * (1e-300 + float(np.abs(x).max()) * float(np.abs(y).max())):
        return None
    return max(-1.0, min(1.0, float(left @ right) / scale))


def _fisher_z(value: float, count: int, controlled: int, variance: float) -> Correlation:
    if abs(value) > 1 - _TINY:
        return Correlation(math.copysign(1.0, value), None, None, count)
    half = Z_95 * math.sqrt(variance / (count - controlled - 3))
    centre = math.atanh(value)
    return Correlation(value, math.tanh(centre - half), math.tanh(centre + half), count)
