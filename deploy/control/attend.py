"""Follows a run from the foreground, and starts it again if its own cluster dies.

Ray restarts actors, and the controller restarts roles; a head that dies takes all of them with
it. The command that started the run is then the only one left to act.
"""

from __future__ import annotations

from collections.abc import Callable

from common.config.run_config import RunConfig
from common.errors import RunInterrupted
from common.rundir import RunDir
from deploy.cluster import ray_cluster
from deploy.control import launch
from deploy.control.health import Budget
from deploy.observability import status as view
from deploy.observability.run_status import RunStatus


def attend(config: RunConfig, run: RunDir, start: Callable[[], None]) -> None:
    """Follow ``run`` to its end, or until Ctrl-C.

    Args:
        config: of the run.
        run: its folder.
        start: starts it again; in a process of its own, since Ray keeps a cluster's token.

    Raises:
        RunInterrupted: its cluster died more often in a row than ``cluster.max_restarts``
            allows, or is not its own.
        RunError: it failed.
    """
    budget = Budget(config.cluster.max_restarts)
    while True:
        try:
            if view.follow(run):
                launch.leave(run)
            return
        except RunInterrupted:
            budget.reached(_milestone(run))
            if config.cluster.address is not None or ray_cluster.head_pid(run) is not None:
                raise
            if budget.next_pause() is None:
                raise
            start()


def _milestone(run: RunDir) -> float:
    """How far the run has come."""
    status = RunStatus.load(run)
    queue = None if status is None else status.queue
    return 0.0 if queue is None else queue.accepted + queue.exposures_trained
