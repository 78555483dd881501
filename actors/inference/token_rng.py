"""Per-token random numbers in vLLM's worker.

vLLM's first model runner seeds a request once. It keeps the generator when a
session continues, so a later segment would depend on how many tokens the side
drew before, and it rewinds the generator after a partial prefill, which a CPU
generator cannot do. Here every token's draw is seeded by itself instead: a
draw depends on its seed alone, and there is nothing to rewind.

vLLM mixes :class:`PerTokenRNG` into its worker (``worker_extension``). This module
knows no engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


class PerTokenRNG:
    """Methods that the engine calls in every worker."""

    model_runner: Any

    def adopt_generators(self) -> None:
        """Replace, from now on, the generator of each request that the runner creates."""
        self.model_runner.requests = _Requests(self.model_runner.requests)

    def seed_draws(self, seeds: Mapping[str, int]) -> None:
        """Seed the next draw of these requests; new requests get their seed from their params."""
        requests = self.model_runner.requests
        for key, seed in seeds.items():
            # One that was aborted is still here until the next step; a new one of its key
            # has its first seed from its params, whether or not the old one drew greedily.
            if key in requests and requests[key].generator is not None:
                requests[key].generator.manual_seed(seed)


class _Generator(torch.Generator):
    """Needs no rewinding, since it is seeded before each draw."""

    def get_offset(self) -> int:
        return 0

    def set_offset(self, offset: int) -> None:
        pass


class _Requests(dict[str, Any]):
    def __setitem__(self, key: str, state: Any) -> None:
        if state.generator is not None:
            seed = state.generator.initial_seed()
            state.generator = _Generator(device=state.generator.device)
            state.generator.manual_seed(seed)
        super().__setitem__(key, state)
