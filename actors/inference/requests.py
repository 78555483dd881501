"""What an engine receives and returns. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm import SamplingParams

_MASK = 2**64 - 1
# What the parameters of a row tell :class:`actors.inference.paired_rows.PairedRows`.
PAIR, NAIVE, PICKS = "pair", "naive", "picks"
# Its draws' seeds, for :mod:`actors.inference.token_rng`.
SEEDS = "seeds"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn. ``temperature`` 0 is argmax; ``top_k`` 0 keeps all ids."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(slots=True)
class ContinuedRequest:
    """What vLLM's scheduler reads of a request that continues a session."""

    request_id: str
    prompt_token_ids: list[int]
    max_tokens: int
    sampling_params: SamplingParams
    mm_features: None = None
    arrival_time: float = 0.0
    resumable: bool = True


@dataclass(frozen=True, slots=True)
class TopLogprobs:
    """At each of T positions the token that is there, then the likeliest; ids and nats, [T, N]."""

    ids_TN: Any
    logprobs_TN: Any


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """Tokens that ``key`` generated in one go, with raw log-probabilities (nats).

    ``prompt_logprobs``: for :meth:`Engine.begin_score`, one per token after the
    first of the scored sequence; else empty. ``prompt_top``: the likeliest tokens at
    the same positions, if they were requested.
    """

    key: str
    token_ids: list[int]
    logprobs: list[float]
    prompt_logprobs: list[float]
    prompt_top: TopLogprobs | None = None


def row_key(pair: str, naive: bool) -> str:
    """The request that is one side of a pair."""
    return f"{pair}/n" if naive else f"{pair}/e"


def token_seed(seed: int, index: int) -> int:
    """Seed of token ``index`` of a segment: SplitMix64 (Steele et al. 2014) of both; 63 bits."""
    mixed = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return (mixed ^ (mixed >> 31)) >> 1
