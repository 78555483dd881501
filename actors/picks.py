"""Who draws which token: picks b_t, and the runs of equal picks. Pure.

Everything here is a function of (run seed, fact, draw, attempt), so it does
not depend on how many actors run, in which order, or on which machine.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of tokens that one side draws."""

    naive: bool
    length: int


def _digest(seed: int, fact_id: str, draw: int, attempt: int, purpose: str) -> int:
    text = f"{seed}\x00{fact_id}\x00{draw}\x00{attempt}\x00{purpose}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


def draw_picks(
    seed: int, fact_id: str, draw: int, attempt: int, mix_rate: float, num_tokens: int
) -> list[bool]:
    """b_1 … b_n ~ Bernoulli(``mix_rate``), independent; True takes the naive conditional."""
    bits = np.random.Philox(key=_digest(seed, fact_id, draw, attempt, "picks"))
    uniform = np.random.Generator(bits).random(num_tokens)
    return [bool(value) for value in uniform < mix_rate]


def sampling_seed(seed: int, fact_id: str, draw: int, attempt: int, position: int) -> int:
    """Seed of the sampler for the run that begins at ``position``; 63 bits."""
    return _digest(seed, fact_id, draw, attempt, f"tokens {position}") % 2**63


def token_seed(seed: int, index: int) -> int:
    """Seed of a run's token ``index``: SplitMix64 (Steele et al. 2014) of both; 63 bits."""
    mixed = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return (mixed ^ (mixed >> 31)) >> 1


def runs_of(picks: Sequence[bool]) -> list[Run]:
    """Group equal neighbours; the lengths sum to ``len(picks)``."""
    return [Run(naive, len(list(group))) for naive, group in itertools.groupby(picks)]
