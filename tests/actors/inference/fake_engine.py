"""An engine whose response to a prompt is a function of it, one segment a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from actors.inference.requests import EngineOutput, Sampling

STOP = 0


class FakeEngine:
    """``answer(text, weights)`` is the response; a token is a character.

    Scores give every token of a text the log-probability −1, or −2 for an ``x``.
    """

    max_model_len = 10_000

    def __init__(self, answer: Callable[[str, str], str]) -> None:
        self.weights = "base"
        self.loaded: list[str] = []
        self.most = 0
        self.seeds: list[int | None] = []
        self._answer = answer
        self._flying: dict[str, EngineOutput] = {}

    def extend(self, key: str, context: Sequence[int], num_tokens: int, sampling: Sampling) -> None:
        self.seeds.append(sampling.seed)
        text = self._answer("".join(map(chr, context)), self.weights)
        ids = [*map(ord, text), STOP][:num_tokens]
        self._add(EngineOutput(key, ids, [0.0] * len(ids), []))

    def begin_score(self, key: str, token_ids: Sequence[int]) -> None:
        logprobs = [-2.0 if chr(token) == "x" else -1.0 for token in token_ids[1:]]
        self._add(EngineOutput(key, [], [], logprobs))

    def step(self) -> list[EngineOutput]:
        # The latest first: order of ends is not order of starts.
        key = list(self._flying)[-1]
        return [self._flying.pop(key)]

    def release(self, key: str) -> None:
        self._flying.pop(key, None)

    def load_weights(self, model_dir: Path) -> None:
        self.weights = model_dir.name
        self.loaded.append(model_dir.name)

    def _add(self, segment: EngineOutput) -> None:
        self._flying[segment.key] = segment
        self.most = max(self.most, len(self._flying))
