"""From a kill to the next result: ``make bench-recovery``.

    python -m tests.benchmarks.recovery [--repeats 3]

Every role of a live run of the tiny model is killed in turn (SIGKILL), and the
seconds are taken until its work goes on: a rollout that the new actor
delivered, a step that the new learner trained, an item that the new evaluator
measured, a word of the new controller; after the queue's death whichever of
rollout and step comes first. What the new process spent on loading its engine
is taken off. Needs a core to itself. The last line is JSON: medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from tests.faults.recovery import ROLES, Killer
from tests.faults.soak import long_run
from tests.integration.runs import call, counts, wait

# Rollouts must not run out before the last kill.
MINUTES_A_ROUND = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    took: dict[str, list[float]] = {role: [] for role in ROLES}
    with tempfile.TemporaryDirectory(prefix="mixsd-recovery-") as folder:
        runs = Path(folder)
        path, _ = long_run(runs, "killed", MINUTES_A_ROUND * (1 + arguments.repeats))
        killer = Killer(runs, "killed")
        call(runs, "up", path, "--detach")
        try:
            wait(runs, "killed", lambda found: counts(found)["committed_step"] > 0, 300)
            print(f"{'killed':<11} {'all s':>6} {'engine s':>8} {'rest s':>6}")
            for role in list(ROLES) * arguments.repeats:
                seconds = killer.kill(role)
                assert seconds is not None, f"{role} was done"
                engine = killer.engine_start(role)
                took[role].append(seconds - engine)
                print(
                    f"{role:<11} {seconds:>6.1f} {engine:>8.1f} {took[role][-1]:>6.1f}", flush=True
                )
                time.sleep(5)
        finally:
            call(runs, "down", "killed")
    print(json.dumps({f"{r}_s": round(statistics.median(s), 1) for r, s in took.items()}))


if __name__ == "__main__":
    main()
