"""What the tests of mixed decoding share: attempts of random prompts, and running them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from actors.decoding.mixed_decoder import Attempt, FinishedAttempt, MixedDecoder
from actors.decoding.picks import draw_picks, sampling_seed
from actors.inference.batch import BatchRunner
from actors.inference.engine import Engine
from actors.inference.requests import EngineOutput, Sampling
from common.config.sections import EngineSettings

MAX_TOKENS = 24
VOCABULARY = 64
STOPS = (3, 17)


def greedy(position: int) -> Sampling:
    return Sampling()


def seeded(key: str, **sampling):
    return lambda position: Sampling(
        temperature=1.0, seed=sampling_seed(0, key, 0, 0, position), **sampling
    )


def decode(
    engine: Engine, attempts: Iterable[Attempt], slots: int = 16
) -> dict[str, FinishedAttempt]:
    decoder = MixedDecoder(engine, slots)
    for attempt in attempts:
        decoder.submit(attempt)
    done: dict[str, FinishedAttempt] = {}
    while not decoder.idle:
        done.update((drawn.key, drawn) for drawn in decoder.step())
    return done


def tokens(drawn: dict[str, FinishedAttempt]) -> dict[str, list[int]]:
    return {key: result.token_ids for key, result in drawn.items()}


def open_engine(
    folder: Path,
    sessions: bool = True,
    stops=STOPS,
    max_requests: int = 64,
    speculative_tokens: int = 0,
    **settings,
) -> Engine:
    settings = {"dtype": "float32", "max_model_len": 512, "sessions": sessions} | settings
    return Engine(
        folder,
        EngineSettings(**settings),
        max_requests=max_requests,
        stop_token_ids=stops,
        speculative_tokens=speculative_tokens,
    )


class SharedEngine:
    """An engine that a decoder and batches use in turns; each gets its own outputs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._others: list[EngineOutput] = []

    def __getattr__(self, name: str):
        return getattr(self._engine, name)

    def generate(self, prompts, max_tokens: int, sampling: Sampling) -> list[list[int]]:
        """Complete each prompt; the decoder's requests go on meanwhile."""
        runner = BatchRunner(_BatchSide(self), len(prompts))
        return runner.generate(prompts, [max_tokens] * len(prompts), [sampling] * len(prompts))

    def score(self, sequences) -> list[list[float]]:
        """Score each (prompt, target); the decoder's requests go on meanwhile."""
        return BatchRunner(_BatchSide(self), len(sequences)).score(sequences)

    def release(self, key: str) -> None:
        self._engine.release(key)
        self._others = [output for output in self._others if output.key != key]

    def step(self) -> list[EngineOutput]:
        others, self._others = self._others, []
        return [*others, *self._engine.step()]

    def step_batch(self) -> list[EngineOutput]:
        """One iteration; the outputs of the decoder are kept for its next :meth:`step`."""
        outputs = self.step()
        self._others = [output for output in outputs if not output.key.startswith("batch-")]
        return [output for output in outputs if output.key.startswith("batch-")]


class _BatchSide:
    def __init__(self, shared: SharedEngine) -> None:
        self._shared, self.step = shared, shared.step_batch

    def __getattr__(self, name: str):
        return getattr(self._shared, name)


def random_attempts(count: int, rate: float, longest: int = 300) -> list[Attempt]:
    """Attempts whose prompts have between 1 and ``longest`` random ids."""
    draw = random.Random(7)
    attempts = []
    for index in range(count):
        sides = [
            [draw.randrange(VOCABULARY) for _ in range(draw.randint(1, longest))] for _ in "ne"
        ]
        picks = draw_picks(0, f"t{index}", 0, 0, rate, MAX_TOKENS)
        attempts.append(Attempt(f"t{index}", sides[0], sides[1], picks, greedy))
    return attempts
