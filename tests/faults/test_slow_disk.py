"""A disk on which everything that must be durable takes seconds."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from common.rundir import RunDir, read_json, read_jsonl
from tests.faults.running import FACTS, exactly_once, small_run
from tests.integration.runs import call

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.thorough]
_EPOCHS = 2
# Preloaded, it makes both calls three seconds longer in every process of the run.
_SLOW = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

static int slowly(const char *name, int file) {
    int (*call)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    sleep(3);
    return call(file);
}

int fsync(int file) { return slowly("fsync", file); }
int fdatasync(int file) { return slowly("fdatasync", file); }
"""


@pytest.fixture
def slow_disk(tmp_path, monkeypatch):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, library = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(_SLOW)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, timeout=60
    )
    monkeypatch.setenv("LD_PRELOAD", str(library))


def test_a_disk_that_takes_three_seconds_for_a_sync_makes_a_run_slow_and_no_more(
    tmp_path, tiny_model, slow_disk
):
    learner = {"dtype": "float32", "epochs": _EPOCHS, "batch_size": 8, "checkpoint_every": 10}
    path = small_run(
        tmp_path,
        "slow",
        tiny_model,
        method={"name": "sft"},
        learner=learner,
        evaluator={"actors": 0},
    )
    call(tmp_path, "up", path)
    run = RunDir(tmp_path / "slow")
    found = read_json(run.status)
    assert found is not None
    assert {name: role["restarts"] for name, role in found["roles"].items()} == {
        "replay": 0,
        "rollout-0": 0,
        "learner": 0,
    }
    texts = [event["text"] for event in read_jsonl(run.events)]
    assert not [text for text in texts if "no answer" in text or "without progress" in text]
    exactly_once(run, FACTS * _EPOCHS)
    assert Path(run.root / "report.html").exists()
