"""Every process is killed for real; then every (fact, epoch) was trained exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from common.ledger import Ledger
from common.rundir import RunDir, read_jsonl
from tests.integration.runs import call, command, counts, status, wait, write_config

pytestmark = [pytest.mark.slow, pytest.mark.faults]
FACTS, EPOCHS, BATCH = 120, 16, 8


def _config(runs: Path, name: str, model: Path, **changes) -> Path:
    settings = {
        "name": name,
        "model": str(model),
        "prompts": "short-sentence",
        "method": {"name": "mixsd", "mix_rate": 0.3},
        "data": {"kgfact": {"domains": 5, "entities": 12}},
        "engine": {"dtype": "float32", "max_model_len": 256},
        "rollout": {"slots": 4, "max_tokens": 24, "max_retries": 1, "on_exhausted": "canonical"},
        "learner": {
            "dtype": "float32",
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "lr": 1e-3,
            "checkpoint_every": 25,
        },
        "evaluator": {"suites": ["recall"], "max_tokens": 8},
        "cluster": {"stall_s": 20},
    }
    return write_config(runs, **{**settings, **changes})


def _exactly_once(run: RunDir) -> None:
    ledger = Ledger(run.ledger, epochs=EPOCHS, seed=0)
    trained = ledger.trained()
    ledger.close()
    assert len(set(trained)) == len(trained) == FACTS * EPOCHS
    seen = [tuple(exposure) for line in read_jsonl(run.steps) for exposure in line["exposures"]]
    assert sorted(seen) == trained


def _kill(found: dict, role: str, how: int = signal.SIGKILL) -> int:
    pids = found["roles"][role]["pids"]
    pid = list(pids.values())[-1]
    os.kill(pid, how)
    return pid


def _wait_step(runs: Path, name: str, step: int) -> dict:
    return wait(runs, name, lambda found: found["learner"].get("step", 0) > step, 120)


def _replaced(runs: Path, name: str, role: str, pid: int) -> dict:
    """Wait for another process in the role, at work."""

    def back(found):
        actor = found["roles"][role]
        return actor["state"] in ("up", "done") and pid not in actor["pids"].values()

    return wait(runs, name, back, 120)


def test_a_run_outlives_every_one_of_its_processes(tmp_path, tiny_model):
    path = _config(tmp_path, "battered", tiny_model)
    follower = subprocess.Popen(
        command(tmp_path, "up", path), stdout=subprocess.DEVNULL, start_new_session=True
    )
    run = RunDir(tmp_path / "battered")
    deadline = time.monotonic() + 120
    while not run.status.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    try:
        found = wait(tmp_path, "battered", lambda f: counts(f)["accepted"] > 5, 120)
        os.killpg(follower.pid, signal.SIGKILL)
        # A hang: it answers nothing, and is replaced after cluster.stall_s.
        pid = _kill(found, "rollout-0", signal.SIGSTOP)
        found = _replaced(tmp_path, "battered", "rollout-0", pid)
        assert list(run.logs.glob("rollout-0.*.stack"))
        for role in ("rollout-0", "replay", "learner", "evaluator-0"):
            if found["roles"][role]["state"] == "done":
                continue
            pid = _kill(found, role)
            found = _replaced(tmp_path, "battered", role, pid)
        os.kill(found["pid"], signal.SIGKILL)
        pid = found["pid"]
        found = wait(tmp_path, "battered", lambda f: f["pid"] != pid, 60)
        assert any("took over" in event["text"] for event in found["events"])
        wait(tmp_path, "battered", lambda f: f["state"] == "finished", 300)
    finally:
        call(tmp_path, "down", "battered")
    _exactly_once(run)


def test_a_killed_learner_trains_the_same_losses_again(tmp_path, tiny_model):
    """SFT in float32: the order of targets and the arithmetic are fixed."""
    curves = {}
    for name in ("calm", "killed"):
        path = _config(tmp_path, name, tiny_model, method={"name": "sft"}, evaluator={"actors": 0})
        call(tmp_path, "up", path, "--detach")
        try:
            if name == "killed":
                for role, step in (("learner", 40), ("replay", 90), ("learner", 140)):
                    found = _wait_step(tmp_path, name, step)
                    _replaced(tmp_path, name, role, _kill(found, role))
            wait(tmp_path, name, lambda f: f["state"] == "finished", 300)
        finally:
            call(tmp_path, "down", name)
        run = RunDir(tmp_path / name)
        _exactly_once(run)
        curves[name] = [line["loss"] for line in read_jsonl(run.steps)]
    assert status(tmp_path, "killed")["roles"]["learner"]["restarts"] == 2
    assert curves["killed"] == pytest.approx(curves["calm"], rel=1e-5)


def test_scaling_up_and_down_loses_no_work(tmp_path, tiny_model):
    path = _config(
        tmp_path,
        "scaled",
        tiny_model,
        rollout={"slots": 1, "max_tokens": 24, "max_retries": 6, "on_exhausted": "canonical"},
    )
    call(tmp_path, "up", path, "--detach")
    try:
        wait(tmp_path, "scaled", lambda f: counts(f)["accepted"] > 1, 120)
        call(tmp_path, "scale", "scaled", "rollout=2")
        found = wait(
            tmp_path, "scaled", lambda f: f["roles"].get("rollout-1", {}).get("state") == "up", 120
        )
        assert found["queue"]["accepted"] < FACTS
        call(tmp_path, "scale", "scaled", "rollout=1")
        wait(tmp_path, "scaled", lambda f: "rollout-1" not in f["roles"], 120)
        call(tmp_path, "set", "scaled", "replay.max_bytes=70000")
        found = wait(tmp_path, "scaled", lambda f: f["queue"]["settings"]["max_bytes"] == 70000, 30)
        wait(tmp_path, "scaled", lambda f: f["state"] == "finished", 300)
    finally:
        call(tmp_path, "down", "scaled")
    _exactly_once(RunDir(tmp_path / "scaled"))
