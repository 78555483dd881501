"""A long run under fire: ``make soak``, or ``make soak MINUTES=5``.

    python -m tests.faults.soak [--minutes 30] [--seed 0]

A run of the tiny model is made long enough for the minutes asked for. Every 20
to 60 seconds, by a seeded schedule, the process of a random role is killed
(SIGKILL); the next death waits until the work of that role goes on. Then the
run must finish with every (fact, epoch) trained exactly once. The last line is
JSON: kills survived and seconds to recover by role, exposures trained of those
expected.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from deploy.observability import status as view
from tests.faults.recovery import ROLES, Killer
from tests.faults.running import exactly_once, small_run
from tests.integration.runs import call
from tests.tiny import make_chat_model

PAUSE_S = (20.0, 60.0)
EPOCHS, DOMAINS = 8, 14
# One more entity gives this many facts more.
FACTS_AN_ENTITY = DOMAINS * (DOMAINS - 1) // 2
# Rollouts take some 20 of 30 minutes on one core, deaths included; later epochs the rest.
FACTS_A_MINUTE = 210


def long_run(runs: Path, name: str, minutes: float) -> tuple[Path, int]:
    """Configuration of a run that takes about ``minutes``, and its number of facts."""
    entities = max(2, round(minutes * FACTS_A_MINUTE / FACTS_AN_ENTITY))
    path = small_run(
        runs,
        name,
        make_chat_model(runs / "tiny"),
        data={"kgfact": {"domains": DOMAINS, "entities": entities}},
        rollout={"slots": 4, "max_tokens": 48, "max_retries": 3, "on_exhausted": "canonical"},
        learner={
            "dtype": "float32",
            "epochs": EPOCHS,
            "batch_size": 8,
            "lr": 1e-3,
            "checkpoint_every": 10,
            "keep_exports": 3,
        },
        evaluator={"suites": ["recall"], "max_tokens": 8, "limit": 20},
        # Two engines may start at once, on one core.
        cluster={"stall_s": 60, "start_timeout_s": 300},
    )
    return path, entities * FACTS_AN_ENTITY


def batter(killer: Killer, seconds: float, seed: int) -> dict[str, list[float]]:
    """Kill for ``seconds``, or until the run has ended; seconds to recover, by role."""
    rng = random.Random(seed)
    took: dict[str, list[float]] = {role: [] for role in ROLES}
    end = time.monotonic() + seconds
    due = time.monotonic()
    while True:
        due = max(due + rng.uniform(*PAUSE_S), time.monotonic())
        role = rng.choice(list(ROLES))
        if due > end:
            return took
        while time.monotonic() < due:
            time.sleep(0.5)
        found = view.read(killer.run)
        if not found.live:
            return took
        if killer.pid(role) is None:
            say(f"{role} is done already, or not there yet")
            continue
        recovered = killer.kill(role)
        if recovered is None:
            say(f"{role} was killed, and is done")
        else:
            took[role].append(recovered)
            say(f"{role} was killed, and went on after {recovered:.1f} s")


def await_end(killer: Killer, seconds: float) -> None:
    """Wait until the run has finished.

    Raises:
        AssertionError: it failed, or has not finished in time.
    """
    deadline = time.monotonic() + seconds
    while (found := view.read(killer.run)).live:
        assert time.monotonic() < deadline, f"not finished in {seconds:.0f} s: {found}"
        time.sleep(1)
    assert found.state == "finished", (found.state, found.cause)


def quantile(values: list[float], q: float) -> float:
    """The smallest of ``values`` that at least the share ``q`` of them does not exceed."""
    return sorted(values)[math.ceil(q * len(values)) - 1]


def say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mixsd-soak-") as folder:
        runs, began = Path(folder), time.monotonic()
        path, facts = long_run(runs, "soak", arguments.minutes)
        killer = Killer(runs, "soak")
        say(f"{facts} facts, {EPOCHS} epochs; kills for {arguments.minutes:g} minutes")
        call(runs, "up", path, "--detach")
        try:
            took = batter(killer, 60 * arguments.minutes, arguments.seed)
            say("no more kills; the run must finish")
            await_end(killer, 60 * (10 + arguments.minutes))
        except AssertionError as error:
            events = killer.run.events.read_text().splitlines()[-40:]
            sys.exit("\n".join([*events, str(error)]))
        finally:
            call(runs, "down", "soak")
        expected = facts * EPOCHS
        exactly_once(killer.run, expected)
        say(f"every one of {expected} exposures was trained exactly once")
        took = {role: seconds for role, seconds in took.items() if seconds}
        print(f"\n{'role':<11} {'kills':>5} {'p50 s':>6} {'p95 s':>6}")
        for role, seconds in took.items():
            p50, p95 = statistics.median(seconds), quantile(seconds, 0.95)
            print(f"{role:<11} {len(seconds):>5} {p50:>6.1f} {p95:>6.1f}")
        figures = {
            "minutes": round((time.monotonic() - began) / 60, 1),
            "kills": {role: len(seconds) for role, seconds in took.items()},
            "recovery_p50_s": {r: round(statistics.median(s), 1) for r, s in took.items()},
            "recovery_p95_s": {r: round(quantile(s, 0.95), 1) for r, s in took.items()},
            "exposures_trained": expected,
            "exposures_expected": expected,
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
