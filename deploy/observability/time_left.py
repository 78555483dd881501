"""How long a run still takes: by its plan in the first epoch, then by its own pace."""

from __future__ import annotations

import json

from actors.evaluation.scores import BenchmarkScore, Scores
from common.rundir import RunDir, read_json, write_atomic
from deploy.observability.run_status import RunStatus
from deploy.observability.throughput import Speed


def record_plan(run: RunDir, total_s: float, after_s: float) -> None:
    """Note how many seconds the run will take by its plan, and of them after training."""
    write_atomic(run.plan, json.dumps({"total_s": total_s, "after_s": after_s}))


def time_left(
    run: RunDir, status: RunStatus, scores: dict[str, Scores], speed: Speed
) -> float | None:
    """Seconds until everything is trained and measured; None if nobody can tell yet.

    Steps of the first of several epochs are slow: they wait for targets, and actors take their
    part of the machine. Their pace would promise several times too long.

    Args:
        run: the folder.
        status: of the run.
        scores: of each checkpoint so far.
        speed: of the last steps.
    """
    queue = status.queue
    if queue is None or not status.live:
        return None
    step = int(status.learner.step)
    if step >= queue.total_steps > 0:
        return None
    only_epoch = queue.exposures_expected <= queue.work
    pace = speed.step_seconds if only_epoch else speed.repeat_seconds
    plan = read_json(run.plan)
    if pace is not None:
        after_s = _last_evaluation(scores) if plan is None else float(plan["after_s"])
        return (queue.total_steps - step) * pace + after_s
    if plan is None:
        return None
    left = float(plan["total_s"]) - (status.updated - status.began)
    return left if left > 0 else None


def _last_evaluation(scores: dict[str, Scores]) -> float:
    """Seconds that the longest evaluation of a checkpoint took."""
    spent = [
        sum(score.seconds for score in found.values() if isinstance(score, BenchmarkScore))
        for found in scores.values()
    ]
    return max(spent, default=0.0)
