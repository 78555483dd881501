"""Weights loaded into a warm engine are the weights of an engine that starts with them."""

from __future__ import annotations

import pytest

from actors.inference.batch import BatchRunner
from actors.inference.engine import Engine
from actors.inference.pausable import PausableEngine
from common.config.sections import EngineSettings
from tests.tiny import make_model

pytestmark = [pytest.mark.slow, pytest.mark.one_core]
ITEMS = [([5, 6, 7], [8, 9, 10, 11]), ([20, 21], [22, 23, 24])]


def test_a_paused_engine_comes_back_with_the_weights_that_it_held(tmp_path):
    base, other = (
        make_model(tmp_path / str(seed), vocabulary=64, scale=0.3, seed=seed) for seed in (0, 1)
    )
    settings = EngineSettings(device="cpu", dtype="float32", max_model_len=64)
    engine = PausableEngine(lambda: Engine(base, settings, max_requests=4, stop_token_ids=[0]))

    def score():
        return BatchRunner(engine, 4).score(ITEMS)

    of_base = score()
    engine.pause()
    assert engine.metrics() == {}
    assert score() == of_base
    engine.load_weights(other)
    of_other = score()
    engine.pause()
    assert score() == of_other != of_base
    engine.pause()
    # Loaded when it is opened, and no other in between.
    engine.load_weights(base)
    assert score() == of_base
    engine.close()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied head", "head of its own"])
def test_a_reloaded_engine_scores_as_a_fresh_one(tmp_path, tied, dtype):
    base, other = (
        make_model(tmp_path / str(seed), vocabulary=64, tied=tied, scale=0.3, seed=seed)
        for seed in (0, 1)
    )
    settings = EngineSettings(device="cpu", dtype=dtype, max_model_len=64)

    def engine(folder):
        return Engine(folder, settings, max_requests=4, stop_token_ids=[0])

    def score(engine):
        return BatchRunner(engine, 4).score(ITEMS)

    fresh = engine(other)
    expected = score(fresh)
    fresh.close()
    warm = engine(base)
    before = score(warm)
    warm.load_weights(other)
    assert score(warm) == expected
    warm.load_weights(base)
    assert score(warm) == before != expected
    warm.close()
