"""Whole runs of a tiny random model: a frozen reference teaches; training ends at its peak."""

from __future__ import annotations

import json

import pytest

from common.rundir import RunDir, read_jsonl
from tests.integration.runs import call, wait, write_config

pytestmark = pytest.mark.slow


def finish(runs, model, **config):
    """Run to the end; (status, summary)."""
    from deploy.report import summary

    name = config["name"]
    path = write_config(
        runs,
        model=str(model),
        prompts="short-sentence",
        data={"kgfact": {"domains": 2, "entities": 3, "distractors": 2}},
        rollout={"slots": 4, "max_tokens": 24},
        **config,
    )
    call(runs, "up", path, "--detach")
    try:
        found = wait(runs, name, lambda found: found["state"] == "finished", 150)
        return found, summary(RunDir(runs / name))
    finally:
        call(runs, "down", name)


def test_a_student_learns_what_the_frozen_reference_says_of_the_fact(tmp_path, tiny_model):
    found, figures = finish(
        tmp_path,
        tiny_model,
        name="distilled",
        method={"name": "context_distill", "divergence": "mixed", "support": "tail", "top_k": 16},
        learner={"epochs": 8, "batch_size": 2, "lr": 1e-2, "dtype": "float32", "ranks": 1},
        evaluator={"actors": 0},
    )
    steps = read_jsonl(tmp_path / "distilled/steps.jsonl")
    assert len(steps) == figures["step"] == 12
    assert figures["exposures_trained"] == figures["exposures_expected"] == 24
    assert not figures["stopped_early"]
    assert min(step["loss"] for step in steps) >= 0
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert found["queue"]["ended"] is False


def test_a_run_ends_in_order_at_its_first_peak_of_recall(tmp_path, tiny_model):
    epochs = 20_000
    found, figures = finish(
        tmp_path,
        tiny_model,
        name="peaked",
        method={"name": "sft"},
        learner={
            "epochs": epochs,
            "batch_size": 3,
            "lr": 1e-2,
            "dtype": "float32",
            "checkpoint_every": 40,
            "early_stop": True,
        },
        evaluator={"suites": ["recall"], "max_tokens": 24, "patience": 1},
    )
    assert found["queue"]["ended"] is True
    assert 0 < figures["exposures_trained"] < figures["exposures_expected"] == 3 * epochs
    assert figures["exposures_trained"] == 3 * figures["step"]
    assert figures["stopped_early"]
    assert figures["exhausted"] == []
    assert figures["chosen"] < figures["step"]
    assert "is the first peak of recall" in figures["chosen_because"]
    events = [json.dumps(event) for event in read_jsonl(tmp_path / "peaked/events.jsonl")]
    assert sum("training ends early" in event for event in events) == 1
    assert "ended early" in (tmp_path / "peaked/report.html").read_text()
