"""Many requests through one engine, a bounded number in flight.

A free slot is refilled at once, so one long response does not delay the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from actors.inference.requests import EngineOutput, Sampling

# Receives the number of requests that have finished so far.
Done = Callable[[int], None]


class BatchEngine(Protocol):
    """The part of :class:`actors.inference.engine.Engine` that a batch uses."""

    max_model_len: int

    def extend(
        self, key: str, context: Sequence[int], num_tokens: int, sampling: Sampling
    ) -> None: ...
    def begin_score(self, key: str, token_ids: Sequence[int]) -> None: ...
    def release(self, key: str) -> None: ...
    def step(self) -> list[EngineOutput]: ...


class BatchRunner:
    """Runs requests to completion.

    Args:
        engine: must have no other user meanwhile.
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
        done: Done | None = None,
    ) -> list[list[int]]:
        """Complete each prompt; returns the generated ids, the stop token included."""

        def start(index: int, key: str) -> None:
            self._engine.extend(key, prompts[index], max_tokens[index], samplings[index])

        return [output.token_ids for output in self._run(len(prompts), start, done)]

    def score(
        self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]], done: Done | None = None
    ) -> list[list[float]]:
        """Log-probability (nats) of every token of each (prefix, target)'s target."""

        def start(index: int, key: str) -> None:
            prefix, target = sequences[index]
            self._engine.begin_score(key, [*prefix, *target])

        outputs = self._run(len(sequences), start, done)
        return [
            output.prompt_logprobs[len(prefix) - 1 :]
            for output, (prefix, _) in zip(outputs, sequences, strict=True)
        ]

    def _run(
        self, count: int, start: Callable[[int, str], None], done: Done | None
    ) -> list[EngineOutput]:
        finished: dict[str, EngineOutput] = {}
        in_flight: set[str] = set()
        keys = [f"batch-{index}" for index in range(count)]

        def step() -> None:
            for output in self._engine.step():
                # Frees the cache of a request that could be continued.
                self._engine.release(output.key)
                in_flight.remove(output.key)
                finished[output.key] = output
                if done is not None:
                    done(len(finished))

        for index, key in enumerate(keys):
            while len(in_flight) >= self._slots:
                step()
            start(index, key)
            in_flight.add(key)
        while in_flight:
            step()
        return [finished[key] for key in keys]
