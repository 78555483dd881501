"""Whether somebody still works on a run."""

from __future__ import annotations

import time

from common.rundir import RunDir
from deploy.cluster import ray_cluster
from deploy.cluster.run_lock import CONTROLLER, STARTING, RunLock

# Ray starts a controller that died again in about three seconds.
_RESTART_S = 60.0


def is_attended(run: RunDir, updated: float) -> bool:
    """Whether :func:`has_controller`, or a command is starting the run."""
    return RunLock(run, STARTING).is_held() or has_controller(run, updated)


def has_controller(run: RunDir, updated: float) -> bool:
    """Whether a controller has the run, or Ray is about to start one again.

    The lock says so, whatever the clocks: a controller may be paused, or busy for an hour.
    Only between the death of one and the start of the next does time count.

    Args:
        run: its folder.
        updated: when the status was written, Unix seconds.
    """
    if RunLock(run, CONTROLLER).is_held():
        return True
    has_own_cluster = run.cluster.exists()
    if has_own_cluster and ray_cluster.head_pid(run) is None:
        return False
    return time.time() - updated < _RESTART_S
