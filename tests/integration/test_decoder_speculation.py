"""vLLM's n-gram speculation under mixed decoding: the same tokens in fewer steps.

In a process of its own: n-gram speculation loads numba, after which vLLM 0.32 cannot
start another engine in the process.
"""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace

import pytest

from tests.decoding import VOCABULARY, decode, open_engine, random_attempts
from tests.tiny import make_model

pytestmark = [pytest.mark.slow, pytest.mark.decoder, pytest.mark.one_core]
RATES = (0.0, 0.1, 0.3)


def _decoded(folder, mixing, draft_tokens):
    """Tokens and log-probabilities by rate, steps in all, and whether every block came back."""
    engine = open_engine(folder, mixing, stops=(), speculative_tokens=draft_tokens)
    steps, step = 0, engine.step

    def counted():
        nonlocal steps
        steps += 1
        return step()

    engine.step = counted
    found = []
    for rate in RATES:
        # Three times the picks: long enough for what is drawn to repeat itself.
        attempts = [
            replace(attempt, picks=[*attempt.picks] * 3) for attempt in random_attempts(40, rate)
        ]
        drawn = decode(engine, attempts)
        found.append({key: (one.token_ids, one.logprobs) for key, one in drawn.items()})
    clean = engine.num_free_blocks == engine.num_blocks
    engine.close()
    return found, steps, clean


def _compare(folder, mixing, answer):
    plain, plain_steps, _ = _decoded(folder, mixing, 0)
    drafted, steps, clean = _decoded(folder, mixing, 3)
    different = [
        key
        for before, after in zip(plain, drafted, strict=True)
        for key in before
        if before[key][0] != after[key][0]
    ]
    furthest = max(
        abs(one - other)
        for before, after in zip(plain, drafted, strict=True)
        for key in before
        for one, other in zip(before[key][1], after[key][1], strict=True)
    )
    answer.send(json.dumps([different, furthest, steps / plain_steps, clean]))


@pytest.mark.parametrize("mixing", ["sessions", "portable"])
def test_draft_tokens_change_no_token_and_save_steps(tmp_path, mixing):
    # Tied and flat: it repeats itself, so draft tokens are accepted, often beyond a segment.
    folder = make_model(tmp_path, vocabulary=VOCABULARY, scale=0.1, tied=True)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_compare, args=(folder, mixing, sender))
    process.start()
    sender.close()
    try:
        assert receiver.poll(120)
        different, furthest, share, clean = json.loads(receiver.recv())
    finally:
        process.kill()
        process.join()
    assert different == []
    assert furthest < 1e-3
    assert share < 0.95
    assert clean
