from __future__ import annotations

import os
import time

from deploy.cluster import process


def _spawn(tmp_path, *command: str):
    child = process.spawn(command, tmp_path / "log", {})
    started = process.start_time(child.pid)
    assert started is not None
    return child, started


def test_output_goes_to_the_log_and_the_environment_is_extended(tmp_path):
    command = ["sh", "-c", "echo $GREETING $HOME; exit 3"]
    child = process.spawn(command, tmp_path / "log", {"GREETING": "hello"})
    assert child.wait(10) == 3
    assert (tmp_path / "log").read_text() == f"hello {os.environ['HOME']}\n"


def test_a_process_that_obeys_is_ended_by_request(tmp_path):
    child, started = _spawn(tmp_path, "sleep", "60")
    assert process.is_alive(child.pid, started)
    assert process.end(child.pid, started)
    assert child.wait(10) == -15
    assert not process.is_alive(child.pid, started)


def test_one_that_does_not_obey_is_killed_with_its_children(tmp_path):
    script = "trap '' TERM; sleep 60 & echo $!; wait; wait"
    child, started = _spawn(tmp_path, "sh", "-c", script)
    log = tmp_path / "log"
    while not log.read_text():
        time.sleep(0.01)
    grandchild = int(log.read_text())
    assert process.end(child.pid, started, patience_s=0.3)
    assert child.wait(10) == -9
    deadline = time.monotonic() + 10
    while process.start_time(grandchild) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.start_time(grandchild) is None


def test_a_process_that_took_over_the_id_is_left_alone(tmp_path):
    child, started = _spawn(tmp_path, "sleep", "60")
    assert not process.end(child.pid, started - 1)
    assert child.poll() is None
    process.end(child.pid, started)
    child.wait(10)


def test_a_process_is_found_by_an_argument_of_its_command_line(tmp_path):
    argument = f"--temp-dir={tmp_path}/mixsd-x"
    assert process.find(argument) is None
    child, started = _spawn(tmp_path, "sh", "-c", "sleep 60; :", argument)
    try:
        # Its command line appears a moment after it was started.
        deadline = time.monotonic() + 10
        while process.find(argument) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.find(argument) == (child.pid, started)
        # Only as a whole.
        assert process.find(argument[:-1]) is None
    finally:
        child.kill()
        child.wait()
