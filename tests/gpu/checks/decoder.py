"""Mixed decoding in float32 against the oracle, under memory pressure, and above T = 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.decoding.attempt import Attempt, FinishedAttempt
from actors.inference.engine import Engine
from common.hardware import Device
from tests.decoding import (
    MAX_TOKENS,
    STOPS,
    VOCABULARY,
    decode,
    mixture_p_value,
    random_attempts,
    seeded,
    tokens,
)
from tests.gpu.checks.engines import block_size, choose, describe, open_on
from tests.tiny import make_model

RATES = (0.0, 0.1, 0.3, 0.5, 1.0)


def tokens_at_0(
    device: Device,
    folder: Path,
    runner: str = "",
    attention: str = "",
    precision: str = "",
    mixing: str = "auto",
) -> dict[str, Any]:
    """Tokens that are not the oracle's, and how much likelier the oracle's are.

    The oracle reads each rollout as the engine drew it, on the CPU, so the tokens after a
    difference are compared too. The engine's own log-probabilities show the rounding even where
    no token differs.
    """
    choose(runner, precision)
    from tests.oracle import Oracle

    model = make_model(folder / "model", vocabulary=VOCABULARY, scale=0.2)
    oracle = Oracle(model)
    engine = open_on(device, model, attention=attention, mixing=mixing)
    found: dict[str, Any] = {**describe(engine), "prompts": 0, "tokens": 0, "wrong_ends": 0}
    differences: list[dict[str, Any]] = []
    errors = []
    for rate in RATES:
        attempts = random_attempts(100, rate)
        drawn = decode(engine, attempts)
        found["prompts"] += len(attempts)
        for attempt in attempts:
            result = drawn[attempt.key]
            gaps, error = _gaps(oracle, attempt, result)
            found["tokens"] += len(gaps)
            found["wrong_ends"] += not _ends_rightly(result.token_ids)
            errors.append(error)
            wrong = [(at, gap) for at, gap in enumerate(gaps) if gap > 0]
            if wrong:
                at, gap = wrong[0]
                differences.append(
                    {"rate": rate, "key": attempt.key, "position": at, "gap": gap}
                    | {"largest_gap": max(gaps)}
                )
    engine.close()
    return found | {
        "differing_prompts": len(differences),
        "differences": differences,
        "largest_gap": max((one["largest_gap"] for one in differences), default=0.0),
        "largest_logprob_error": max(errors),
    }


def logprobs_of(oracle: Any, attempt: Attempt, token_ids: Sequence[int]) -> Any:
    """log p, given what was drawn before, of every token under the side that drew; (T, V)."""
    import torch

    expert_TV, naive_TV = (
        oracle.logprobs(prompt, token_ids)
        for prompt in (attempt.expert_prompt, attempt.naive_prompt)
    )
    naive_T1 = torch.tensor(attempt.picks[: len(token_ids)])[:, None]
    return torch.where(naive_T1, naive_TV, expert_TV)


def _gaps(oracle: Any, attempt: Attempt, result: FinishedAttempt) -> tuple[list[float], float]:
    """By how much the likeliest token is likelier than the drawn one, at each position, nats.

    Second, the largest error of the engine's log-probabilities.
    """
    import torch

    logprobs_TV = logprobs_of(oracle, attempt, result.token_ids)
    ours_T = logprobs_TV.gather(1, torch.tensor(result.token_ids)[:, None])[:, 0]
    error = (ours_T - torch.tensor(result.logprobs, dtype=torch.float64)).abs().max()
    return (logprobs_TV.amax(-1) - ours_T).tolist(), float(error)


def _ends_rightly(token_ids: Sequence[int]) -> bool:
    """At the first stop token, or with the last token that may be drawn."""
    stops = [at for at, token in enumerate(token_ids) if token in STOPS]
    return stops == [len(token_ids) - 1] or (not stops and len(token_ids) == MAX_TOKENS)


def pressure(device: Device, folder: Path, runner: str = "") -> dict[str, Any]:
    """Rollouts of engines that are short of something, against one that is not."""
    choose(runner)
    model = make_model(folder / "model", vocabulary=VOCABULARY, scale=0.2)
    greedy = random_attempts(30, 0.4, longest=150)
    drawn_at_1 = [replace(attempt, sampling=seeded(attempt.key)) for attempt in greedy]
    calm = open_on(device, model)
    size, found = block_size(calm), describe(calm)
    expected = [tokens(decode(calm, attempts)) for attempts in (greedy, drawn_at_1)]
    assert calm.num_dropped == 0
    calm.close()
    # 1,024 tokens, and vLLM's null block. Attempts have up to 174 tokens a side.
    few_blocks = {"num_blocks": 1 + 1024 // size}
    short: dict[str, tuple[int, dict[str, Any]]] = {
        "few_blocks": (16, few_blocks),
        "few_requests": (5, {"max_requests": 5}),
        "small_steps": (16, {"max_batched_tokens": 32, "max_requests": 32}),
    }
    for name, (slots, settings) in short.items():
        engine = open_on(device, model, **settings)
        drawn = [tokens(decode(engine, some, slots)) for some in (greedy, drawn_at_1)]
        found[name] = {
            "differing_at_0": _differing(drawn[0], expected[0]),
            "differing_at_1": _differing(drawn[1], expected[1]),
            "evicted": engine.num_dropped,
            "blocks_lost": engine.num_blocks - engine.num_free_blocks,
        }
        engine.close()
    return found


def sampled(device: Device, folder: Path, runner: str = "") -> dict[str, Any]:
    """Rollouts at T = 1: p-values under the oracle's mixture, and what they depend on."""
    choose(runner)
    small = make_model(folder / "small", vocabulary=8, scale=0.3)
    engine = open_on(device, small, stops=())
    found = describe(engine)
    found["p_value"] = mixture_p_value(engine, small)
    found["p_value_top_k_top_p"] = mixture_p_value(engine, small, top_k=5, top_p=0.9)
    engine.close()
    model = make_model(folder / "model", vocabulary=VOCABULARY, scale=0.2)
    return found | {"differing": _repeated(device, model)}


def _repeated(device: Device, model: Path) -> dict[str, int]:
    """Rollouts that are not those of the first time, by what was done differently."""
    attempts = [
        replace(attempt, sampling=seeded(attempt.key, top_p=0.95))
        for attempt in random_attempts(60, 0.4, longest=90)
    ]
    first = open_on(device, model)
    expected = tokens(decode(first, attempts))

    def differing(engine: Engine, some: Sequence[Attempt] = attempts, slots: int = 16) -> int:
        return _differing(tokens(decode(engine, some, slots)), expected)

    found = {
        "again": differing(first),
        "five slots": differing(first, slots=5),
        "reversed": differing(first, attempts[::-1], slots=32),
    }
    first.close()
    for name, mixing in (("another engine", "auto"), ("plain requests", "portable")):
        engine = open_on(device, model, mixing=mixing)
        found[name] = differing(engine)
        engine.close()
    return found


def _differing(drawn: dict[str, list[int]], expected: dict[str, list[int]]) -> int:
    assert drawn.keys() == expected.keys()
    return sum(drawn[key] != expected[key] for key in expected)
