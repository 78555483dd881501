"""Per-token random numbers in vLLM's worker.

vLLM's first model runner seeds a request once. It keeps the generator when a
session continues, so a later segment would depend on how many tokens the side
drew before, and it rewinds the generator after a partial prefill, which a CPU
generator cannot do. Here every token's draw is seeded by itself instead: a
draw depends on its seed alone, and there is nothing to rewind. The worker knows
itself which token of a request is next, so the engine need not, and may be a step behind.

vLLM mixes :class:`PerTokenRNG` into its worker (``worker_extension``). This module
knows no engine.
"""

from __future__ import annotations

from typing import Any

import torch

from actors.inference.requests import SEEDS, token_seed


class PerTokenRNG:
    """A method that the engine calls in every worker."""

    model_runner: Any

    def seed_every_draw(self) -> None:
        """From now on, seed the generator of each request before each of its draws."""
        runner = self.model_runner
        runner.requests = _Requests(runner.requests)
        runner.sampler.register_forward_pre_hook(_seed, with_kwargs=True)


class _Generator(torch.Generator):
    """Needs no rewinding, since it is seeded before each draw; ``state`` is vLLM's of the request.

    A request's own seed is that of its tokens' draws together, unless it brings one for each.
    """

    state: Any

    def get_offset(self) -> int:
        return 0

    def set_offset(self, offset: int) -> None:
        pass

    def seed_next(self) -> None:
        params, index = self.state.sampling_params, len(self.state.output_token_ids)
        seeds = (params.extra_args or {}).get(SEEDS)
        if seeds is None:
            self.manual_seed(token_seed(params.seed, index))
        elif index < len(seeds):
            self.manual_seed(seeds[index])


class _Requests(dict[str, Any]):
    def __setitem__(self, key: str, state: Any) -> None:
        if state.generator is not None:
            state.generator = _Generator(device=state.generator.device)
            state.generator.state = state
        super().__setitem__(key, state)


def _seed(sampler: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Before vLLM's sampler runs; it takes the batch's metadata by name."""
    for generator in kwargs["sampling_metadata"].generators.values():
        generator.seed_next()
