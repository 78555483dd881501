"""How many rollout actors a live run should have. Pure.

Two signals say who is too slow. A learner that waits for batches wants more
actors; actors that wait for room want fewer. A schedule sets counts by time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.config.sections import AutoscaleSettings, ScheduledCount
from deploy.control.health import Report


@dataclass(frozen=True, slots=True)
class WaitedSeconds:
    """Seconds that each side has waited since the run began, summed."""

    learner: float
    actors: float


class Autoscaler:
    """Decides once a period, by the shares of it that each side waited.

    Args:
        settings: bounds, period and the share that is tolerated.
        now: seconds, monotonic; as everywhere here.
    """

    def __init__(self, settings: AutoscaleSettings, now: float) -> None:
        self._settings = settings
        self._since = now
        self._before: WaitedSeconds | None = None

    def decide(self, count: int, blocked: WaitedSeconds, now: float) -> int:
        """The number of actors there should be, given that there are ``count``.

        One at a time: the next period shows what it changed.
        """
        settings = self._settings
        bounded = min(max(count, settings.min), settings.max)
        if self._before is None:
            self._since, self._before = now, blocked
            return bounded
        seconds = now - self._since
        if seconds < settings.period_s:
            return bounded
        before, self._before, self._since = self._before, blocked, now
        # Counters of a restarted role begin again.
        learner = max(0.0, blocked.learner - before.learner) / seconds
        actors = max(0.0, blocked.actors - before.actors) / seconds
        if learner > settings.target_blocked_fraction >= actors:
            return min(bounded + 1, settings.max)
        if actors > settings.target_blocked_fraction >= learner:
            return max(bounded - 1, settings.min)
        return bounded


def blocked(reports: Mapping[str, Report]) -> WaitedSeconds:
    """What learner and queue report of it."""

    def value(actor: str, metric: str) -> float | Mapping[str, float]:
        report = reports.get(actor)
        return ((report and report.snapshot) or {}).get(metric, 0.0)

    learner = value("learner-0", "mixsd_learner_wait_seconds_total")
    by_side_and_reason = value("replay", "mixsd_replay_blocked_seconds_total") or {}
    assert isinstance(learner, (int, float))
    assert isinstance(by_side_and_reason, Mapping)
    return WaitedSeconds(
        learner=learner,
        actors=sum(s for key, s in by_side_and_reason.items() if key.startswith("insert,")),
    )


def scheduled(schedule: Sequence[ScheduledCount], age_s: float) -> int | None:
    """The count that the schedule asks for at ``age_s`` seconds of the run, if any."""
    due = [entry for entry in schedule if entry.after_s <= age_s]
    return max(due, key=lambda entry: entry.after_s).actors if due else None
