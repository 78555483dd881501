"""Actors that come and go by themselves on a live run: by who waits, and by time."""

from __future__ import annotations

import os
import signal

import pytest

from common.rundir import RunDir, read_jsonl
from tests.faults.recovery import Killer
from tests.faults.running import exactly_once, small_run
from tests.integration.runs import call, wait

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.thorough]
# One slot and seven attempts a fact: the learner waits for rollouts, and there is time.
ROLLOUT = {"slots": 1, "max_tokens": 24, "max_retries": 6, "on_exhausted": "canonical"}


def _second_is_up(found: dict) -> bool:
    return found["roles"].get("rollout-1", {}).get("state") == "up"


def _second_is_gone(found: dict) -> bool:
    return "rollout-1" not in found["roles"]


def _counts(run: RunDir) -> list[str]:
    """What became of the number of rollout actors, in order."""
    texts = [event["text"] for event in read_jsonl(run.events)]
    return [text.partition(": ")[2] for text in texts if text.startswith("rollout actors: ")]


def test_an_actor_comes_while_the_learner_waits_and_goes_while_actors_wait(tmp_path, tiny_model):
    autoscale = {"max": 2, "target_blocked_fraction": 0.1, "period_s": 3}
    path = small_run(
        tmp_path,
        "breathing",
        tiny_model,
        rollout={**ROLLOUT, "autoscale": autoscale},
        # Actors may be this far ahead of the learner.
        replay={"samples_per_insert": 1, "tolerance": 8},
        cluster={"stall_s": 120},
        evaluator={"actors": 0},
    )
    call(tmp_path, "up", path, "--detach")
    run = RunDir(tmp_path / "breathing")
    try:
        wait(tmp_path, "breathing", _second_is_up, 240)
        # A learner that takes nothing lets the queue fill up.
        pid = Killer(tmp_path, "breathing").pid("learner")
        os.kill(pid, signal.SIGSTOP)
        wait(tmp_path, "breathing", _second_is_gone, 100)
        os.kill(pid, signal.SIGCONT)
        found = wait(tmp_path, "breathing", lambda f: f["state"] == "finished", 400)
    finally:
        call(tmp_path, "down", "breathing")
    assert _counts(run)[:2] == ["1 -> 2", "2 -> 1"]
    assert found["roles"]["learner"]["restarts"] == 0
    exactly_once(run)


def test_the_number_of_actors_follows_the_schedule(tmp_path, tiny_model):
    schedule = [{"after_s": 2, "actors": 2}, {"after_s": 75, "actors": 1}]
    rollout = {**ROLLOUT, "schedule": schedule}
    path = small_run(tmp_path, "timed", tiny_model, rollout=rollout, evaluator={"actors": 0})
    call(tmp_path, "up", path, "--detach")
    run = RunDir(tmp_path / "timed")
    try:
        wait(tmp_path, "timed", lambda f: "rollout-1" in f["roles"], 60)
        wait(tmp_path, "timed", _second_is_gone, 150)
        wait(tmp_path, "timed", lambda f: f["state"] == "finished", 400)
    finally:
        call(tmp_path, "down", "timed")
    assert _counts(run) == ["1 -> 2", "2 -> 1"]
    exactly_once(run)
