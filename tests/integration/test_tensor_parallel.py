"""An engine over two devices: vLLM's own worker processes, also inside a Ray actor."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.inference.requests import Sampling
from tests.decoding import open_engine
from tests.integration.runs import call, status, write_config
from tests.tiny import make_chat_model, make_model

pytestmark = pytest.mark.slow


def _draw(folder: Path, devices: int) -> list[list[int]]:
    """Greedy tokens of three sessions, of their continuations, and again after a reload."""
    engine = open_engine(folder, stops=(), tensor_parallel_size=devices, num_blocks=64)
    contexts, drawn = [[5, 6], [7, 8, 9], [10]], []
    for last in (False, True):
        for key, context in enumerate(contexts):
            engine.extend(str(key), context, 6, Sampling(), last=last)
        found: dict[str, list[int]] = {}
        while len(found) < len(contexts):
            found |= {output.key: list(output.token_ids) for output in engine.step()}
        drawn += [found[str(key)] for key in range(len(contexts))]
        contexts = [[*context, *drawn[key], 11] for key, context in enumerate(contexts)]
    engine.load_weights(folder)
    engine.extend("again", [5, 6], 6, Sampling(), last=True)
    while not (outputs := engine.step()):
        pass
    engine.close()
    return [*drawn, list(outputs[0].token_ids)]


def test_two_devices_draw_what_one_draws(tmp_path):
    make_model(tmp_path, vocabulary=64, scale=0.5)
    one, two = _draw(tmp_path, 1), _draw(tmp_path, 2)
    assert two == one
    assert one[0] == one[-1]
    assert len({tuple(tokens) for tokens in one}) > 1


def test_a_run_finishes_with_engines_over_two_devices(tmp_path):
    path = write_config(
        tmp_path,
        name="wide",
        model=str(make_chat_model(tmp_path / "model", heads=2)),
        prompts="short-sentence",
        method={"name": "mixsd", "mix_rate": 0.2},
        data={"kgfact": {"domains": 2, "entities": 4}},
        engine={"max_model_len": 256, "tensor_parallel_size": 2},
        rollout={"slots": 4, "max_tokens": 4, "max_retries": 0, "on_exhausted": "canonical"},
        learner={"epochs": 2, "batch_size": 4},
        # Its engine is another of the same kind.
        evaluator={"actors": 0},
    )
    said = call(tmp_path, "up", path)
    assert "8 of 8" in said
    assert status(tmp_path, "wide")["roles"]["rollout-0"]["restarts"] == 0
