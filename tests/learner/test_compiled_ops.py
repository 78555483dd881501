"""Processes that compile take turns, and a killed one leaves nothing that stops the next."""

import os
import subprocess
import sys
import threading

from learner.compiled_ops import exclusive_build

BUILDER = """
import sys
from pathlib import Path
from learner.compiled_ops import exclusive_build
with exclusive_build("2", Path(sys.argv[1])) as folder:
    (folder / "adam").mkdir()
    (folder / "adam" / "lock").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


def builder(cache):
    process = subprocess.Popen(
        [sys.executable, "-c", BUILDER, cache],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    return process


def test_what_a_killed_build_left_is_removed_and_complete_builds_stay(tmp_path):
    with exclusive_build("2", tmp_path) as folder:
        (folder / "complete").mkdir()
    killed = builder(tmp_path)
    killed.kill()
    killed.wait()
    with exclusive_build("2", tmp_path) as folder:
        assert {path.name for path in folder.iterdir()} == {"building", "complete"}


def test_a_build_waits_for_one_that_lives(tmp_path):
    living = builder(tmp_path)
    entered = threading.Event()

    def build():
        with exclusive_build("2", tmp_path):
            entered.set()

    thread = threading.Thread(target=build)
    thread.start()
    assert not entered.wait(0.5)
    living.communicate("")
    assert entered.wait(30)
    thread.join()


def test_the_environment_is_as_before(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "somewhere")
    with exclusive_build("2", tmp_path) as folder:
        assert os.environ["TORCH_EXTENSIONS_DIR"] == str(folder)
    assert os.environ["TORCH_EXTENSIONS_DIR"] == "somewhere"
