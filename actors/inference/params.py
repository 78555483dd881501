"""vLLM's sampling parameters of the engine's requests."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from actors.inference.requests import Sampling

if TYPE_CHECKING:
    from vllm import SamplingParams


class ParamsFactory:
    """Makes them, and keeps those that many requests share: vLLM checks each that is made.

    Args:
        make: vLLM's class.
        stop_token_ids: tokens that end a generation.
    """

    def __init__(
        self,
        make: Callable[..., SamplingParams],
        stop_token_ids: Sequence[int],
    ) -> None:
        self._make = make
        self._stop_token_ids = list(stop_token_ids)
        self._made: dict[tuple[int, float, int, float], SamplingParams] = {}

    def drawing(self, num_tokens: int, sampling: Sampling) -> SamplingParams:
        """Of a request that draws up to ``num_tokens``."""
        kind = (num_tokens, sampling.temperature, sampling.top_k, sampling.top_p)
        params = self._made.get(kind)
        if params is None:
            params = self._made[kind] = self._make(
                max_tokens=num_tokens,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                stop_token_ids=self._stop_token_ids,
                logprobs=0,
                detokenize=False,
            )
        if sampling.seed is not None:
            params = copy.copy(params)
            params.seed = sampling.seed
        return params

    def scoring(self, top: int) -> SamplingParams:
        """Of a request whose prompt is scored, with the ``top`` likeliest tokens there."""
        return self._make(temperature=0.0, max_tokens=1, prompt_logprobs=top, detokenize=False)
