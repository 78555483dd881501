"""A run whose own cluster dies is started again by the command that follows it."""

from __future__ import annotations

import json

import pytest

from common.config.run_config import parse
from common.errors import RunInterrupted
from common.rundir import RunDir
from deploy.control import attend as attending


def config(**cluster):
    return parse(
        {
            "name": "mine",
            "method": {"name": "mixsd"},
            "data": {"kgfact": {}},
            "cluster": {"max_restarts": 2, **cluster},
        },
        "test",
    )


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """What ``follow`` meets in turn; the names of the calls that were made."""
    run = RunDir(tmp_path / "mine")
    run.create()
    ends, calls = [], []

    def follow(run):
        calls.append("follow")
        end = ends.pop(0)
        if type(end) is int:
            queue = {"accepted": end, "exposures_trained": 0}
            run.status.write_text(json.dumps({"state": "running", "queue": queue}))
            raise RunInterrupted("run mine was interrupted")
        return end

    monkeypatch.setattr(attending.view, "follow", follow)
    monkeypatch.setattr(attending.launch, "leave", lambda run: calls.append("leave"))
    return run, ends, calls


def test_it_is_started_again_and_left_once_it_has_ended(scene):
    run, ends, calls = scene
    ends += [3, True]
    attending.attend(config(), run, lambda: calls.append("start"))
    assert calls == ["follow", "start", "follow", "leave"]


def test_a_head_that_dies_without_progress_between_is_given_up(scene):
    run, ends, calls = scene
    ends += [3, 3, 3, 3]
    with pytest.raises(RunInterrupted):
        attending.attend(config(), run, lambda: calls.append("start"))
    assert calls.count("start") == 2


def test_progress_between_deaths_renews_the_tries(scene):
    run, ends, calls = scene
    ends += [1, 2, 3, 4, 5, False]
    attending.attend(config(), run, lambda: calls.append("start"))
    assert (calls.count("start"), calls[-1]) == (5, "follow")


def test_a_joined_cluster_is_not_ours_to_start(scene):
    run, ends, calls = scene
    ends += [3]
    with pytest.raises(RunInterrupted):
        attending.attend(config(address="10.0.0.1:6379"), run, pytest.fail)
    assert calls == ["follow"]
