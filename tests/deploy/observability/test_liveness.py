"""A run counts as attended while its controller lives, whatever the clocks say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from common.rundir import RunDir
from deploy.cluster import process
from deploy.cluster.run_lock import CONTROLLER, STARTING, RunLock
from deploy.observability import status as view
from deploy.observability.liveness import has_controller, is_attended

HOLDER = """
import sys
from pathlib import Path
from common.rundir import RunDir
from deploy.cluster.run_lock import CONTROLLER, RunLock
lock = RunLock(RunDir(Path(sys.argv[1])), CONTROLLER)
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""
LONG_AGO = 1.0


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "mine")
    run.create()
    return run


@pytest.fixture
def controller(run):
    """A process that holds the controller's lock."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert holder.stdout.readline() == b"held\n"
    yield holder
    holder.kill()
    holder.wait()


def own_head(run, pid):
    started = process.start_time(pid)
    head = {"address": "127.0.0.1:1", "pid": pid, "started": started, "temp_dir": "/none"}
    run.cluster.write_text(json.dumps(head))


def test_a_paused_controller_still_has_the_run_however_old_its_status_is(run, controller):
    controller.send_signal(signal.SIGSTOP)
    assert has_controller(run, updated=LONG_AGO)
    assert has_controller(run, updated=time.time() + 1e6)


def test_once_it_is_killed_the_run_is_left_alone_if_its_head_is_gone_too(run, controller):
    own_head(run, controller.pid)
    controller.kill()
    controller.wait()
    assert not has_controller(run, updated=time.time())


def test_a_controller_that_died_may_come_back_while_its_head_lives(run, controller):
    own_head(run, os.getpid())
    controller.kill()
    controller.wait()
    assert has_controller(run, updated=time.time() - 3)
    assert not has_controller(run, updated=LONG_AGO)


def test_a_run_that_is_being_started_is_attended(run):
    assert not is_attended(run, updated=LONG_AGO)
    lock = RunLock(run, STARTING)
    lock.acquire()
    assert is_attended(run, updated=LONG_AGO)
    lock.release()


def test_the_lock_is_had_by_one_and_free_again_after_its_process(run, controller):
    assert not RunLock(run, CONTROLLER).acquire(wait=False)
    controller.kill()
    controller.wait()
    assert RunLock(run, CONTROLLER).acquire(wait=False)


def test_the_status_says_interrupted_only_without_a_controller(run, controller):
    status = {"run": "mine", "state": "running", "updated": LONG_AGO, "began": LONG_AGO}
    run.status.write_text(json.dumps(status))
    found = view.read(run)
    assert found.state == "running"
    assert found.cause.startswith("the controller has told nothing for ")
    controller.kill()
    controller.wait()
    assert view.read(run).state == "interrupted"
