"""Disks that fill up and files that rot."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time

import pytest

from common.rundir import RunDir, read_jsonl
from tests.faults.running import exactly_once, small_run, wait_step
from tests.integration.runs import call, command, status, wait

pytestmark = [pytest.mark.slow, pytest.mark.faults]
NO_EVAL = {"actors": 0}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 192 MiB, as a folder."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(folder):
    """Leave no byte free; returns the file to delete again."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        block = bytes(2**16)
        try:
            while True:
                file.write(block)
        except OSError:
            return ballast


@pytest.mark.thorough
def test_a_full_disk_halts_the_run_which_continues_once_there_is_space(small_disk, tiny_model):
    path = small_run(small_disk, "full", tiny_model, method={"name": "sft"})
    call(small_disk, "up", path, "--detach")
    try:
        wait_step(small_disk, "full", 30)
        ballast = _fill(small_disk)
        found = wait(small_disk, "full", lambda f: "no space left" in f["cause"], 120)
        assert found["state"] != "failed"
        ballast.unlink()
        found = wait(small_disk, "full", lambda f: f["state"] == "finished", 300)
        assert found["cause"] == ""
    finally:
        call(small_disk, "down", "full")
    exactly_once(RunDir(small_disk / "full"))


@pytest.mark.thorough
def test_a_checkpoint_that_does_not_fit_is_waited_for_by_the_learner_that_has_it(
    small_disk, tiny_model
):
    """Little space is left: enough for everything but a checkpoint."""
    path = small_run(small_disk, "tight", tiny_model, method={"name": "sft"}, evaluator=NO_EVAL)
    call(small_disk, "up", path, "--detach")
    try:
        wait_step(small_disk, "tight", 30)
        ballast = _fill(small_disk)
        with ballast.open("ab") as file:
            file.truncate(ballast.stat().st_size - 3 * 2**20)
        found = wait(small_disk, "tight", lambda f: "no space left" in f["cause"], 120)
        time.sleep(30)
        found = status(small_disk, "tight")
        assert found["state"] == "running"
        assert "disk space" in found["roles"]["learner"]["waiting"]
        assert sum("no space left" in event["text"] for event in found["events"]) == 1
        ballast.unlink()
        found = wait(small_disk, "tight", lambda f: f["state"] == "finished", 300)
        assert found["cause"] == ""
        assert found["roles"]["learner"]["restarts"] == 0
    finally:
        call(small_disk, "down", "tight")
    exactly_once(RunDir(small_disk / "tight"))


def test_a_rotten_checkpoint_is_passed_over_and_named(tmp_path, tiny_model):
    path = small_run(tmp_path, "rotten", tiny_model, method={"name": "sft"}, evaluator=NO_EVAL)
    call(tmp_path, "up", path, "--detach")
    wait_step(tmp_path, "rotten", 80)
    call(tmp_path, "down", "rotten")
    run = RunDir(tmp_path / "rotten")
    newest = max(run.checkpoints.glob("step_*"), key=lambda folder: int(folder.name[5:]))
    weights = newest / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    call(tmp_path, "up", path)
    kept = f"checkpoints/.superseded/{newest.name}"
    why = "model.safetensors does not match its hash"
    events = [event["text"] for event in read_jsonl(run.events)]
    assert f"checkpoint {newest.name} is set aside as {kept}: {why}" in events
    assert (run.root / kept / "model.safetensors").read_bytes() == content
    assert status(tmp_path, "rotten")["state"] == "finished"
    exactly_once(run)


@pytest.mark.thorough
def test_shared_memory_that_fills_up_moves_the_students_weights_to_the_runs_folder(
    tmp_path, tiny_model
):
    """The run has a /dev/shm of its own, so that no other program's is filled."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
        pytest.skip("a /dev/shm of our own needs root")
    path = small_run(
        tmp_path,
        "shared",
        tiny_model,
        method={"name": "opsd"},
        replay={"max_lag": 0},
        learner={"dtype": "float32", "epochs": 2, "batch_size": 8, "lr": 1e-4},
        evaluator=NO_EVAL,
    )
    start = shlex.join(command(tmp_path, "up", path, "--detach"))
    mount = "mount -t tmpfs -o size=512m tmpfs /dev/shm"
    subprocess.run(["unshare", "-m", "sh", "-c", f"{mount} && exec {start}"], check=True)
    run = RunDir(tmp_path / "shared")
    try:
        found = wait_step(tmp_path, "shared", 3)
        before = json.loads(run.weights.read_text())["folder"]
        assert before.startswith("/dev/shm/")
        fill = "dd if=/dev/zero of=/dev/shm/ballast bs=64k; true"
        enter = ["nsenter", "-t", str(found["pid"]), "-m", "sh", "-c", fill]
        subprocess.run(enter, check=True, capture_output=True)
        found = wait(tmp_path, "shared", lambda f: f["state"] == "finished", 300)
        texts = [event["text"] for event in read_jsonl(run.events)]
        moved = "/dev/shm is full: published weights go to the run's folder from now on"
        assert moved in texts
        assert found["roles"]["learner"]["restarts"] == 0
    finally:
        call(tmp_path, "down", "shared")
