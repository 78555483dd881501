"""Every process is killed for real; then every (fact, epoch) was trained exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from common.rundir import RunDir, read_jsonl
from tests.faults.recovery import Killer
from tests.faults.running import EPOCHS, exactly_once, small_run, wait_step
from tests.integration.runs import call, command, counts, status, wait

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def test_a_run_outlives_every_one_of_its_processes(tmp_path, tiny_model):
    path = small_run(tmp_path, "battered", tiny_model)
    follower = subprocess.Popen(
        command(tmp_path, "up", path), stdout=subprocess.DEVNULL, start_new_session=True
    )
    run = RunDir(tmp_path / "battered")
    deadline = time.monotonic() + 120
    while not run.status.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    try:
        wait(tmp_path, "battered", lambda f: counts(f)["accepted"] > 5, 120)
        os.killpg(follower.pid, signal.SIGKILL)
        killer = Killer(tmp_path, "battered")
        # A hang: it answers nothing, and is replaced after cluster.stall_s.
        killer.kill("rollout", signal.SIGSTOP)
        assert list(run.logs.glob("rollout-0.*.stack"))
        # All while most of the training is still to be done, the slowest to come back last.
        for role in ("rollout", "queue", "controller", "learner"):
            assert killer.kill(role) is not None, f"the {role} was done before it was killed"
        if killer.pid("evaluator") is not None:
            killer.kill("evaluator")
        assert any("took over" in event["text"] for event in read_jsonl(run.events))
        wait(tmp_path, "battered", lambda f: f["state"] == "finished", 300)
    finally:
        call(tmp_path, "down", "battered")
    exactly_once(run)


def test_a_killed_learner_trains_the_same_losses_again(tmp_path, tiny_model):
    """SFT in float32: the order of targets and the arithmetic are fixed."""
    curves = {}
    for name in ("calm", "killed"):
        path = small_run(
            tmp_path,
            name,
            tiny_model,
            method={"name": "sft"},
            evaluator={"actors": 0},
            # In the order of the facts, whichever role was restarted meanwhile.
            replay={"first_epoch": "work"},
        )
        call(tmp_path, "up", path, "--detach")
        try:
            if name == "killed":
                killer = Killer(tmp_path, name)
                for role, step in (("learner", 40), ("queue", 90), ("learner", 140)):
                    wait_step(tmp_path, name, step)
                    killer.kill(role)
            wait(tmp_path, name, lambda f: f["state"] == "finished", 300)
        finally:
            call(tmp_path, "down", name)
        run = RunDir(tmp_path / name)
        exactly_once(run)
        curves[name] = [line["loss"] for line in read_jsonl(run.steps)]
    assert status(tmp_path, "killed")["roles"]["learner"]["restarts"] == 2
    assert curves["killed"] == pytest.approx(curves["calm"], rel=1e-5)


def test_scaling_up_and_down_loses_no_work(tmp_path, tiny_model):
    facts = 80
    path = small_run(
        tmp_path,
        "scaled",
        tiny_model,
        data={"kgfact": {"domains": 5, "entities": 12}, "limit": facts},
        rollout={"slots": 1, "max_tokens": 24, "max_retries": 6, "on_exhausted": "canonical"},
        evaluator={"actors": 0},
    )
    call(tmp_path, "up", path, "--detach")
    try:
        wait(tmp_path, "scaled", lambda f: counts(f)["accepted"] > 1, 120)
        call(tmp_path, "scale", "scaled", "rollout=2")
        found = wait(
            tmp_path, "scaled", lambda f: f["roles"].get("rollout-1", {}).get("state") == "up", 120
        )
        assert found["queue"]["accepted"] < facts
        call(tmp_path, "scale", "scaled", "rollout=1")
        wait(tmp_path, "scaled", lambda f: "rollout-1" not in f["roles"], 120)
        call(tmp_path, "set", "scaled", "replay.max_bytes=70000")
        found = wait(tmp_path, "scaled", lambda f: f["queue"]["settings"]["max_bytes"] == 70000, 30)
        wait(tmp_path, "scaled", lambda f: f["state"] == "finished", 300)
    finally:
        call(tmp_path, "down", "scaled")
    exactly_once(RunDir(tmp_path / "scaled"), facts * EPOCHS)
