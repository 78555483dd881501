"""Memory that is used up: the machine's, and that of Ray's object store."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.rundir import RunDir, read_json, read_jsonl
from tests.faults.running import EPOCHS, FACTS, exactly_once, small_run, wait_step
from tests.integration.runs import call, counts, status, wait

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.thorough]
_GROUPS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)


@pytest.fixture
def starve():
    """Leaves a process 1 MiB more memory than it has, so that the kernel kills it soon."""
    folder, limit = next(
        ((root / "mixsd-test", name) for root, name in _GROUPS if _can_limit(root, name)),
        (None, ""),
    )
    if folder is None:
        pytest.skip("needs root and a memory control group in which it may make others")
    folder.mkdir()
    (folder / limit).write_text(str(2**20))

    def act(pid: int) -> None:
        # What it has stays counted where it was.
        (folder / "cgroup.procs").write_text(str(pid))
        deadline = time.monotonic() + 120
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    yield act
    folder.rmdir()


def _can_limit(root: Path, limit: str) -> bool:
    probe = root / "mixsd-probe"
    try:
        probe.mkdir()
    except OSError:
        return False
    can = (probe / limit).exists()
    with contextlib.suppress(OSError):
        probe.rmdir()
    return can


def test_a_role_that_the_kernel_kills_for_memory_is_restarted_and_the_cause_named(
    tmp_path, tiny_model, starve
):
    path = small_run(tmp_path, "starved", tiny_model, method={"name": "sft"})
    call(tmp_path, "up", path, "--detach")
    run = RunDir(tmp_path / "starved")
    try:
        found = wait_step(tmp_path, "starved", 10)
        starve(next(iter(found["roles"]["learner"]["pids"].values())))
        killed = time.time()
        while not any(line["time"] > killed for line in read_jsonl(run.steps, 1)):
            assert time.time() - killed < 120
            time.sleep(0.2)
        print(f"\nlearner out of memory: trains again after {time.time() - killed:.1f} s")
        wait(tmp_path, "starved", lambda f: f["state"] == "finished", 300)
    finally:
        call(tmp_path, "down", "starved")
    texts = [event["text"] for event in read_jsonl(run.events)]
    assert any(text.startswith("learner-0 died") and "out of memory" in text for text in texts)
    exactly_once(run)


_FILL = """
import json, sys, time
from pathlib import Path
import numpy as np
from common.rundir import RunDir
from deploy.cluster import ray_cluster

run = RunDir(Path(sys.argv[1]))
with ray_cluster.connected(run, None) as ray:
    held = [ray.put(np.zeros(16 * 2**20, dtype=np.uint8)) for _ in range(int(sys.argv[2]))]
    print(len(held), flush=True)
    sys.stdin.read()
"""


def test_a_full_object_store_delays_nothing(tmp_path, tiny_model):
    path = small_run(
        tmp_path, "stuffed", tiny_model, method={"name": "sft"}, cluster={"object_store_mib": 80}
    )
    call(tmp_path, "up", path, "--detach")
    run = RunDir(tmp_path / "stuffed")
    # Three times what the store has; Ray moves what it can to its folder on the disk.
    fill = [sys.executable, "-c", _FILL, str(run.root), "15"]
    try:
        wait_step(tmp_path, "stuffed", 10)
        held = subprocess.Popen(
            fill, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        )
        assert held.stdout is not None
        assert held.stdout.readline() == "15\n"
        before = counts(status(tmp_path, "stuffed"))["committed_step"]
        wait(tmp_path, "stuffed", lambda f: counts(f)["committed_step"] > before, 60)
        wait(tmp_path, "stuffed", lambda f: f["state"] == "finished", 300)
        held.communicate("", timeout=60)
    finally:
        call(tmp_path, "down", "stuffed")
    assert read_json(run.status)["queue"]["exposures_trained"] == FACTS * EPOCHS
    exactly_once(run)
