"""What the tests of mixed decoding share: attempts of random prompts, and running them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from actors.decoding.attempt import Attempt, FinishedAttempt
from actors.decoding.paired_decoder import open_decoder
from actors.decoding.picks import draw_picks, sampling_seed
from actors.inference.batch import BatchRunner
from actors.inference.engine import Engine
from actors.inference.requests import EngineOutput, Sampling
from common.config.learner import Transfer
from common.config.sections import EngineSettings

MAX_TOKENS = 24
VOCABULARY = 64
STOPS = (3, 17)


def greedy(position: int) -> Sampling:
    return Sampling()


def seeded(key: str, **sampling: Any) -> Callable[[int], Sampling]:
    return lambda position: Sampling(
        temperature=1.0, seed=sampling_seed(0, key, 0, 0, position), **sampling
    )


def decode(
    engine: Engine, attempts: Iterable[Attempt], slots: int = 16
) -> dict[str, FinishedAttempt]:
    decoder = open_decoder(engine, slots)
    for attempt in attempts:
        decoder.submit(attempt)
    done: dict[str, FinishedAttempt] = {}
    while not decoder.idle:
        done.update(
            (drawn.key, drawn) for drawn in decoder.step() if isinstance(drawn, FinishedAttempt)
        )
    return done


def tokens(drawn: dict[str, FinishedAttempt]) -> dict[str, list[int]]:
    return {key: result.token_ids for key, result in drawn.items()}


def open_engine(
    folder: Path,
    mixing: str = "auto",
    stops: Sequence[int] = STOPS,
    max_requests: int = 64,
    speculative_tokens: int = 0,
    receives_weights: Transfer | None = None,
    **settings: Any,
) -> Engine:
    chosen: dict[str, Any] = {"dtype": "float32", "max_model_len": 512, "mixing": mixing}
    return Engine(
        folder,
        EngineSettings(**(chosen | settings)),
        max_requests=max_requests,
        stop_token_ids=stops,
        speculative_tokens=speculative_tokens,
        receives_weights=receives_weights,
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


def mixture_p_value(engine: Engine, folder: Path, count: int = 6000, **sampling: Any) -> float:
    """Chi-square of three tokens drawn at λ 0.4 and T 1, against the mixture of the oracle.

    The model in ``folder`` has a vocabulary of 8, and the engine no stop tokens.
    """
    import torch

    from tests.oracle import Oracle

    rate, length = 0.4, 3
    naive, expert = [1, 2, 3], [1, 2, 3, 4, 5, 6]
    drawn = decode(
        engine,
        (
            Attempt(
                str(index),
                naive,
                expert,
                draw_picks(0, str(index), 0, 0, rate, length),
                seeded(str(index), **sampling),
            )
            for index in range(count)
        ),
        slots=32,
    )
    seen = Counter(tuple(result.token_ids) for result in drawn.values())

    # Picks are independent, so each token's law is the mixture given the prefix.
    oracle = Oracle(folder)
    limits = {"top_k": 0, "top_p": 1.0} | sampling
    expected: dict[tuple[int, ...], float] = {(): float(count)}
    for _ in range(length):
        expected = {
            (*prefix, token): mass * float(probability)
            for prefix, mass in expected.items()
            for token, probability in enumerate(
                rate * oracle.probabilities([*naive, *prefix], **limits)
                + (1 - rate) * oracle.probabilities([*expert, *prefix], **limits)
            )
            if probability > 0
        }
    assert abs(sum(expected.values()) - count) < 1e-6 * count
    if seen.keys() - expected.keys():
        return 0.0
    cells = [(seen[text], mass) for text, mass in expected.items() if mass >= 5]
    rare = [(seen[text], mass) for text, mass in expected.items() if mass < 5]
    if sum(mass for _, mass in rare) >= 5:
        cells.append((sum(n for n, _ in rare), sum(mass for _, mass in rare)))
    assert len(cells) > 20
    statistic = sum((number - mass) ** 2 / mass for number, mass in cells)
    freedom = torch.tensor((len(cells) - 1) / 2, dtype=torch.float64)
    half = torch.tensor(statistic / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, half))


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
