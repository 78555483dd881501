"""``down`` in the middle and ``up`` again, with tokens drawn at T > 0."""

from __future__ import annotations

import pytest

from common.rundir import RunDir, read_jsonl
from tests.integration.runs import call, counts, status, wait, write_config

pytestmark = pytest.mark.slow
FACTS, EPOCHS, STEPS = 9, 80, 240


def test_a_run_that_was_stopped_continues_from_its_last_commit(tmp_path, tiny_model):
    path = write_config(
        tmp_path,
        name="stopped",
        model=str(tiny_model),
        prompts="short-sentence",
        method={"name": "mixsd", "mix_rate": 0.1},
        data={"kgfact": {"domains": 3, "entities": 3}},
        engine={"dtype": "float32", "max_model_len": 256},
        rollout={
            "slots": 4,
            "max_tokens": 24,
            "temperature": 1.0,
            "top_p": 0.95,
            "max_retries": 3,
            "on_exhausted": "canonical",
        },
        learner={
            "dtype": "float32",
            "epochs": EPOCHS,
            "batch_size": 3,
            "lr": 5e-5,
            "checkpoint_every": 20,
        },
        evaluator={"actors": 0},
    )
    call(tmp_path, "up", path, "--detach")
    wait(tmp_path, "stopped", lambda found: counts(found)["committed_step"] >= 20, 120)
    assert "is stopped" in call(tmp_path, "down", "stopped")
    halted = status(tmp_path, "stopped")
    assert halted["state"] == "stopped"
    assert 0 < halted["queue"]["committed_step"] < STEPS

    out = call(tmp_path, "up", path)
    assert "resuming run stopped" in out
    ended = status(tmp_path, "stopped")
    assert ended["queue"]["exposures_trained"] == FACTS * EPOCHS
    run = RunDir(tmp_path / "stopped")
    steps = read_jsonl(run.steps)
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    seen = [tuple(exposure) for line in steps for exposure in line["exposures"]]
    assert len(set(seen)) == len(seen) == FACTS * EPOCHS
    assert "learner resumes from step" in (run.logs / "learner-0.log").read_text()
