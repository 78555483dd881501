"""A cluster of two hosts: their link is narrow, slow, lossy or cut, and one of them dies."""

from __future__ import annotations

import time

import pytest

from common.rundir import RunDir
from tests.faults.hosts import HEAD, PORT, two_hosts
from tests.faults.running import exactly_once, small_run
from tests.integration.runs import command, counts, wait

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def test_a_run_over_two_hosts_outlives_the_link_and_the_second_host(tmp_path, tiny_model):
    rollout = {"slots": 2, "max_tokens": 24, "max_retries": 4}
    path = small_run(
        tmp_path,
        "spread",
        tiny_model,
        rollout={**rollout, "on_exhausted": "canonical"},
        cluster={"stall_s": 30},
    )
    with two_hosts(tmp_path) as hosts:
        hosts.start(hosts.a, num_cpus=3)
        hosts.start(hosts.b, num_cpus=4)
        hosts.narrow("20mbit")
        up = command(tmp_path, "up", path, "--detach", "--address", f"{HEAD}:{PORT}")
        result = hosts.on(hosts.a, up)
        assert result.returncode == 0, result.stderr
        # Four roles on three slots: one is on the other host.
        wait(tmp_path, "spread", lambda f: counts(f)["accepted"] > 5 and _all_up(f), 180)

        hosts.link("down")
        found = wait(tmp_path, "spread", lambda f: _restarts(f) > 0, 120)
        hosts.link("up")
        hosts.kill(hosts.b)
        hosts.start(hosts.b, num_cpus=4)
        before = _restarts(found)
        wait(tmp_path, "spread", _all_up, 180)

        time.sleep(2)
        hosts.kill(hosts.b)
        found = wait(tmp_path, "spread", lambda f: _restarts(f) > before, 120)
        hosts.start(hosts.b, num_cpus=4)
        wait(tmp_path, "spread", lambda f: f["state"] == "finished", 300)
    exactly_once(RunDir(tmp_path / "spread"), steps=False)


@pytest.mark.thorough
def test_a_run_over_a_slow_link_that_loses_packets_finishes(tmp_path, tiny_model):
    rollout = {"actors": 2, "slots": 2, "max_tokens": 24, "max_retries": 1}
    path = small_run(
        tmp_path,
        "slow",
        tiny_model,
        rollout={**rollout, "on_exhausted": "canonical"},
        cluster={"stall_s": 60},
    )
    with two_hosts(tmp_path, delay_s=0.02) as hosts:
        hosts.start(hosts.a, num_cpus=3)
        assert hosts.connect_s() > 0.04
        hosts.lose(0.01)
        hosts.start(hosts.b, num_cpus=4)
        up = command(tmp_path, "up", path, "--detach", "--address", f"{HEAD}:{PORT}")
        result = hosts.on(hosts.a, up)
        assert result.returncode == 0, result.stderr
        wait(tmp_path, "slow", lambda f: f["roles"] and _all_up(f), 240)
        wait(tmp_path, "slow", lambda f: f["state"] == "finished", 300)
        assert hosts.lost(hosts.a) > 0
        assert hosts.lost(hosts.b) > 0
    exactly_once(RunDir(tmp_path / "slow"), steps=False)


def _restarts(found: dict) -> int:
    return sum(role["restarts"] for role in found["roles"].values())


def _all_up(found: dict) -> bool:
    return all(role["state"] in ("up", "done") for role in found["roles"].values())
