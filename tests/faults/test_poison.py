"""A poison fact, which kills every engine that processes it."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from tests.faults.running import small_run
from tests.integration.runs import call, status

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.thorough]
FACTS, POISON = 12, "f7"


def _holder(found: dict[str, Any]) -> str | None:
    """The actor that holds the poison fact now."""
    holding = (found["queue"] or {}).get("holding", {})
    owners = [owner for owner, facts in holding.items() if POISON in facts]
    return owners[0].partition("@")[0] if owners else None


def test_a_fact_that_kills_engines_is_quarantined_and_the_run_goes_on(tmp_path, tiny_model):
    facts = tmp_path / "facts.jsonl"
    lines = [
        {"id": f"f{i}", "question": f"What is thing {i}?", "answer": f"name {i}"}
        for i in range(FACTS)
    ]
    facts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Nothing verifies, so a fact takes 31 attempts: long enough to be caught with it in hand.
    rollout = {"slots": 4, "max_tokens": 100, "max_retries": 30, "on_exhausted": "canonical"}
    path = small_run(
        tmp_path,
        "poisoned",
        tiny_model,
        data={"facts": str(facts)},
        rollout=rollout,
        evaluator={"actors": 0},
    )
    call(tmp_path, "up", path, "--detach")
    kills, deadline = 0, time.monotonic() + 400
    try:
        while (found := status(tmp_path, "poisoned"))["state"] != "finished":
            assert found["state"] != "failed", found["cause"]
            assert time.monotonic() < deadline, found
            owner = _holder(found)
            for pid in found["roles"].get(owner, {}).get("pids", {}).values():
                try:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
                except ProcessLookupError:
                    pass
            time.sleep(0.2)
    finally:
        call(tmp_path, "down", "poisoned")
    assert kills >= 3
    assert found["queue"]["quarantined"] == 1
    assert found["queue"]["accepted"] == FACTS - 1
    assert found["queue"]["exposures_trained"] == found["queue"]["exposures_expected"]
