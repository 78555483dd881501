"""The student draws its own rollouts while the processes that carry it are killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.ledger import open_view
from common.records import unpack_rollout
from common.rundir import RunDir, read_jsonl
from tests.faults.recovery import Killer
from tests.faults.running import small_run, wait_step
from tests.integration.runs import call, wait

pytestmark = [pytest.mark.slow, pytest.mark.faults]
FACTS, EPOCHS, SAMPLES, BATCH = 12, 8, 2, 8


@pytest.mark.parametrize("teacher", ["learner", "engine"])
def test_every_draw_is_trained_once_by_the_step_after_its_weights(tmp_path, tiny_model, teacher):
    support = {"learner": "full", "engine": "tail"}[teacher]
    path = small_run(
        tmp_path,
        "student",
        tiny_model,
        method={"name": "opsd", "samples": SAMPLES, "teacher": teacher, "support": support},
        data={"kgfact": {"domains": 3, "entities": 4}},
        rollout={"slots": 8, "max_tokens": 12},
        replay={"max_lag": 0},
        learner={
            "dtype": "float32",
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "lr": 1e-3,
            "checkpoint_every": 5,
        },
        evaluator={"actors": 0},
    )
    run = RunDir(tmp_path / "student")
    call(tmp_path, "up", path, "--detach")
    try:
        if teacher == "learner":
            killer = Killer(tmp_path, "student")
            for role, step in (("rollout", 2), ("learner", 8)):
                wait_step(tmp_path, "student", step)
                killer.kill(role)
        found = wait(tmp_path, "student", lambda _: run.weights.exists(), 60)
        store = Path(json.loads(run.weights.read_text())["folder"])
        found = wait(tmp_path, "student", lambda f: f["state"] == "finished", 120)
    finally:
        call(tmp_path, "down", "student")
    assert found["queue"]["stale"] == 0
    ledger = open_view(run.ledger)
    rollouts = [unpack_rollout(payload) for payload in ledger.payloads()]
    trained = ledger.trained()
    ledger.close()
    assert len(set(trained)) == len(trained) == FACTS * EPOCHS * SAMPLES
    version = {(one.fact_id, one.draw): one.policy_version for one in rollouts}
    seen = []
    for line in read_jsonl(run.steps):
        assert {version[fact, draw] for fact, draw, _ in line["exposures"]} == {line["step"] - 1}
        seen += [tuple(exposure) for exposure in line["exposures"]]
    assert sorted(seen) == trained
    if teacher == "engine":
        assert all(len(one.teacher_scores) == 8 * 64 * len(one.target_ids) for one in rollouts)
    assert not store.exists()
    assert not run.weights.exists()
