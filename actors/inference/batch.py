"""Many requests through one engine, a bounded number in flight.

A slot is refilled at once, so a long response holds nobody up. Knows tokens and
requests only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from actors.inference.requests import EngineOutput, Sampling

Done = Callable[[int], None]


class BatchEngine(Protocol):
    """What is needed of :class:`actors.inference.engine.BatchEngine`."""

    max_model_len: int

    def extend(
        self, key: str, context: Sequence[int], num_tokens: int, sampling: Sampling
    ) -> None: ...
    def begin_score(self, key: str, token_ids: Sequence[int]) -> None: ...
    def release(self, key: str) -> None: ...
    def step(self) -> list[EngineOutput]: ...


class BatchRunner:
    """Runs requests to their end.

    Args:
        engine: nobody else may use it meanwhile.
        slots: requests in flight.
    """

    def __init__(self, engine: BatchEngine, slots: int) -> None:
        self._engine = engine
        self._slots = slots

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_tokens: Sequence[int],
        samplings: Sequence[Sampling],
        done: Done,
    ) -> list[list[int]]:
        """Complete each prompt; ``done`` is told how many have ended. Stop tokens are kept."""

        def start(index: int, key: str) -> None:
            self._engine.extend(key, prompts[index], max_tokens[index], samplings[index])

        return [segment.token_ids for segment in self._run(len(prompts), start, done)]

    def score(
        self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]], done: Done
    ) -> list[list[float]]:
        """Log-probability (nats) of every token of each (prefix, target)'s target."""

        def start(index: int, key: str) -> None:
            prefix, target = sequences[index]
            self._engine.begin_score(key, [*prefix, *target])

        segments = self._run(len(sequences), start, done)
        return [
            segment.prompt_logprobs[len(prefix) - 1 :]
            for segment, (prefix, _) in zip(segments, sequences, strict=True)
        ]

    def _run(self, count: int, start: Callable[[int, str], None], done: Done) -> list[EngineOutput]:
        ended: dict[str, EngineOutput] = {}
        flying: set[str] = set()
        keys = [f"evaluation-{index}" for index in range(count)]
        for index, key in enumerate(keys):
            while len(flying) >= self._slots:
                self._step(flying, ended, done)
            start(index, key)
            flying.add(key)
        while flying:
            self._step(flying, ended, done)
        return [ended[key] for key in keys]

    def _step(self, flying: set[str], ended: dict[str, EngineOutput], done: Done) -> None:
        for segment in self._engine.step():
            # A request that could be continued would go on holding its cache.
            self._engine.release(segment.key)
            flying.discard(segment.key)
            ended[segment.key] = segment
            done(len(ended))
