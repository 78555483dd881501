"""A run in phases: roles that share one device take turns, and nothing else changes."""

from __future__ import annotations

import pytest

from common.rundir import RunDir, read_jsonl
from tests.integration.runs import call, status, write_config

pytestmark = pytest.mark.slow


def test_targets_then_training_then_evaluation(tmp_path, tiny_model):
    path = write_config(
        tmp_path,
        name="turns",
        model=str(tiny_model),
        prompts="short-sentence",
        method={"name": "mixsd", "mix_rate": 0.2},
        data={"kgfact": {"domains": 2, "entities": 4}},
        engine={"max_model_len": 256},
        rollout={"slots": 4, "max_tokens": 4, "max_retries": 0, "on_exhausted": "canonical"},
        learner={"epochs": 2, "batch_size": 4, "checkpoint_every": 1},
        evaluator={"suites": ["recall"], "max_tokens": 4},
        cluster={"placement": "phases"},
    )
    said = call(tmp_path, "up", path)
    assert "placement: phases" in said
    assert "8 of 8" in said
    found = status(tmp_path, "turns")
    assert {f"step_{step}" for step in range(3)} == found["scores"].keys()
    assert all(role["restarts"] == 0 for role in found["roles"].values())
    run = RunDir(tmp_path / "turns")
    ended = {event["text"]: event["time"] for event in read_jsonl(run.events)}
    first, *_, last = (step["time"] for step in read_jsonl(run.steps))
    assert ended["rollout-0 is done"] < first < last < ended["learner is done"]
    assert ended["learner is done"] < ended["evaluator-0 is done"]
