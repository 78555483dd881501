"""Scores that are shares of right responses, with their 95 % intervals."""

from __future__ import annotations

import random
from collections.abc import Sequence

from common.estimates import Score, wilson

_RESAMPLES = 1000


def proportion(successes: int, trials: int) -> Score:
    """A share of items, each counted once, with Wilson's interval."""
    low, high = wilson(successes, trials)
    share = successes / trials
    # At 0 and 1 a bound equals the share but for rounding.
    return Score(share, min(low, share), max(high, share), trials, "fraction")


def mean_share(shares: Sequence[float], seed: int = 0) -> Score:
    """Mean of one share an item (several samples each), with the percentile bootstrap.

    Items are drawn again, not samples: samples of one item are not independent
    evidence about the benchmark. Where all were right, or none, drawing again shows
    no doubt; Wilson's interval over the items does.
    """
    if set(shares) in ({0.0}, {1.0}):
        return proportion(round(sum(shares)), len(shares))
    rng = random.Random(seed)
    count = len(shares)
    means = sorted(sum(rng.choices(shares, k=count)) / count for _ in range(_RESAMPLES))
    tail = round(_RESAMPLES * 0.025)
    return Score(sum(shares) / count, means[tail], means[-1 - tail], count, "fraction")
