"""Faults of whole processes besides kills: a head that dies, processes that only pause.

Each test prints how long it took until the work went on; docs/faults.md has the figures.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from common.rundir import RunDir, read_json, read_jsonl
from deploy.cluster import process
from tests.faults.recovery import Killer
from tests.faults.running import exactly_once, small_run, wait_step
from tests.integration.runs import call, command, counts, status, wait

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.thorough]


def _wait_file(path: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert path.exists()


def _of_head(run: RunDir, program: str) -> list[int]:
    """Processes of the run's own Ray that run ``program``."""
    description = read_json(run.cluster)
    assert description is not None
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if description["temp_dir"] in line and program in line.split()[0]:
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("program", ["gcs_server", "raylet", "ray start"])
def test_a_ray_head_that_dies_is_started_again_by_the_command_that_follows_the_run(
    tmp_path, tiny_model, program
):
    path = small_run(tmp_path, "beheaded", tiny_model, method={"name": "sft"})
    follower = subprocess.Popen(
        command(tmp_path, "up", path), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    run = RunDir(tmp_path / "beheaded")
    try:
        _wait_file(run.status)
        wait_step(tmp_path, "beheaded", 30)
        before = read_json(run.cluster)
        assert before is not None
        victims = [before["pid"]] if program == "ray start" else _of_head(run, program)
        assert victims
        began = time.monotonic()
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        while (read_json(run.cluster) or before)["pid"] == before["pid"]:
            assert time.monotonic() - began < 60, status(tmp_path, "beheaded")
            time.sleep(0.2)
        print(f"\nhead ({program}): noticed after {time.monotonic() - began:.1f} s")
        killed = time.time()
        while not any(line["time"] > killed for line in read_jsonl(run.steps, 1)):
            assert time.monotonic() - began < 240
            time.sleep(0.5)
        print(f"head ({program}): trains again after {time.monotonic() - began:.1f} s")
        out, _ = follower.communicate(timeout=300)
        assert follower.returncode == 0
        assert "the Ray head of run beheaded has died; the run is started again" in out
    finally:
        follower.kill()
        call(tmp_path, "down", "beheaded")
    exactly_once(run)


@pytest.mark.parametrize("role", ["queue", "learner", "evaluator"])
def test_a_role_that_is_paused_past_its_lease_is_replaced_and_named(tmp_path, tiny_model, role):
    path = small_run(tmp_path, "paused", tiny_model)
    call(tmp_path, "up", path, "--detach")
    run = RunDir(tmp_path / "paused")
    try:
        wait_step(tmp_path, "paused", 10)
        seconds = Killer(tmp_path, "paused").kill(role, signal.SIGSTOP)
        print(f"\n{role} paused: works again after {seconds or 0:.1f} s")
        texts = [event["text"] for event in read_jsonl(run.events)]
        assert any("no answer for 20 s (cluster.stall_s)" in text for text in texts), texts
        wait(tmp_path, "paused", lambda f: f["state"] == "finished", 300)
    finally:
        call(tmp_path, "down", "paused")
    exactly_once(run)


def test_a_controller_that_is_paused_is_named_and_goes_on(tmp_path, tiny_model):
    path = small_run(tmp_path, "halted", tiny_model, method={"name": "sft"})
    call(tmp_path, "up", path, "--detach")
    run = RunDir(tmp_path / "halted")
    try:
        found = wait(tmp_path, "halted", lambda f: counts(f)["committed_step"] >= 25, 120)
        os.kill(found["pid"], signal.SIGSTOP)
        found = wait(tmp_path, "halted", lambda f: "has told nothing" in f["cause"], 60)
        assert found["state"] == "running"
        os.kill(found["pid"], signal.SIGCONT)
        wait(tmp_path, "halted", lambda f: f["state"] == "finished", 300)
    finally:
        call(tmp_path, "down", "halted")
    exactly_once(run)


def test_a_command_that_is_killed_while_it_starts_leaves_no_head(tmp_path, tiny_model):
    path = small_run(tmp_path, "unborn", tiny_model, method={"name": "sft"})
    starter = subprocess.Popen(
        command(tmp_path, "up", path, "--detach"), stdout=subprocess.DEVNULL, start_new_session=True
    )
    run = RunDir(tmp_path / "unborn")
    _wait_file(run.cluster)
    os.killpg(starter.pid, signal.SIGKILL)
    starter.wait()
    time.sleep(5)
    left = [(pid, process.start_time(pid)) for pid in _of_head(run, "python")]
    call(tmp_path, "down", "unborn")
    assert not any(process.is_alive(pid, started or 0) for pid, started in left)
    assert not run.cluster.exists()
    call(tmp_path, "up", path)
    exactly_once(run)
