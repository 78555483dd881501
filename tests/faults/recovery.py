"""Kills a process of a live run and measures how long until its work goes on.

What "goes on" means is asked of the files of the run, as each role leaves them:
a rollout that a new actor delivered, a step that a new learner trained, and so
on. Without a GPU the engine is in its actor's process and dies with it.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from common.rundir import RunDir, read_jsonl
from deploy.cluster import process
from deploy.observability import status as view
from deploy.observability.run_status import RunView

# What people call a role, and the name of its actor.
ROLES = {
    "rollout": "rollout-0",
    "queue": "replay",
    "learner": "learner",
    "evaluator": "evaluator-0",
    "controller": "controller",
}
_POLL_S = 0.1


class Killer:
    """Kills processes of one run, one at a time.

    Args:
        runs: the folder of runs.
        name: of the run.
        patience_s: longest time to recover.
    """

    def __init__(self, runs: Path, name: str, patience_s: float = 240.0) -> None:
        self.run = RunDir(runs / name)
        self._patience_s = patience_s

    def pid(self, role: str) -> int | None:
        """The process in a role; None where it has none, or is done."""
        found = view.read(self.run)
        return None if found.state == "finished" else _pid(found, role)

    def kill(self, role: str, how: signal.Signals = signal.SIGKILL) -> float | None:
        """Kill the process in ``role``, or stop it; seconds until its work went on.

        None if the role was done before it had more to do.
        """
        pid = self.pid(role)
        assert pid is not None, f"{role} has no process"
        started = process.start_time(pid)
        assert started is not None, f"{role} is gone already"
        killed, began = time.time(), time.monotonic()
        os.kill(pid, how)
        while how == signal.SIGKILL and process.is_alive(pid, started):
            time.sleep(0.005)
        goes_on = self._goes_on(role, pid, killed)
        while not goes_on(found := view.read(self.run)):
            actor = found.roles.get(ROLES[role])
            if (actor is not None and actor.state == "done") or found.state == "finished":
                return None
            assert found.live, found.cause
            assert time.monotonic() - began < self._patience_s, f"{role} did not recover: {found}"
            time.sleep(_POLL_S)
        return time.monotonic() - began

    def engine_start(self, role: str) -> float:
        """Seconds that the newest process in ``role`` took to load its engine; 0 without one."""
        log = self.run.logs / f"{ROLES[role]}{'-0' if role == 'learner' else ''}.log"
        found = re.findall(r"ready after ([0-9.]+) s", log.read_text(errors="replace"))
        return float(found[-1]) if found else 0.0

    def _goes_on(self, role: str, pid: int, killed: float) -> Callable[[RunView], bool]:
        """What is true of the status once the work of ``role`` goes on; called again and again."""
        before = self._counts()

        def replaced(found: RunView) -> bool:
            return _pid(found, role) not in (pid, None)

        def rollout(found: RunView) -> bool:
            nonlocal before
            if replaced(found):
                return self._counts()[0] > before[0]
            # What the dead actor had sent may still arrive.
            before = self._counts()
            return False

        def queue(found: RunView) -> bool:
            return self._counts() != before

        def learner(found: RunView) -> bool:
            last = read_jsonl(self.run.steps, 1)
            return replaced(found) and bool(last) and last[0]["time"] > killed

        def evaluator(found: RunView) -> bool:
            return replaced(found) and (
                found.roles[ROLES[role]].waiting != "" or self._measured_items()
            )

        def controller(found: RunView) -> bool:
            # A new controller reports "starting" until it has taken over the roles.
            return replaced(found) and found.state != "starting"

        conditions = [rollout, queue, learner, evaluator, controller]
        return dict(zip(ROLES, conditions, strict=True))[role]

    def _counts(self) -> tuple[int, int]:
        """Rollouts accepted and exposures sampled."""
        queue = view.read(self.run).queue
        return (0, 0) if queue is None else (queue.accepted, queue.exposures_sampled)

    def _measured_items(self) -> bool:
        """Whether the evaluator's process has measured an item."""
        last = read_jsonl(self.run.metrics, 1)
        series = last[0]["series"].get(ROLES["evaluator"], {}) if last else {}
        return bool(series.get("mixsd_eval_items_done"))


def _pid(found: RunView, role: str) -> int | None:
    if role == "controller":
        return found.pid
    actor = found.roles.get(ROLES[role])
    if actor is None or actor.state == "done":
        return None
    return next(iter(actor.pids.values()), None)
