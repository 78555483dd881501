"""How many rollout actors a live run should have. Pure.

Two signals show which side is too slow. If the learner waits for batches, the run
needs more actors; if actors wait to insert, fewer. A schedule sets counts by time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.config.sections import AutoscaleSettings, RolloutSettings, ScheduledCount
from deploy.control.health import Report
from deploy.control.role_kind import FIRST_LEARNER, REPLAY_ACTOR


@dataclass(frozen=True, slots=True)
class WaitedSeconds:
    """Seconds that each side has waited since the run began, summed."""

    learner: float
    actors: float


class Autoscaler:
    """Decides once per period, by the share of the period that each side waited.

    Args:
        settings: bounds, period and the tolerated share.
        now: seconds, monotonic; as in all methods.
    """

    def __init__(self, settings: AutoscaleSettings, now: float) -> None:
        self._settings = settings
        self._since = now
        self._before: WaitedSeconds | None = None

    def decide(self, count: int, blocked: WaitedSeconds, now: float) -> int:
        """The number of actors that a run with ``count`` should have.

        It changes by one: the next period shows the effect.
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
        # Counters of a restarted role start at zero.
        learner = max(0.0, blocked.learner - before.learner) / seconds
        actors = max(0.0, blocked.actors - before.actors) / seconds
        if learner > settings.target_blocked_fraction >= actors:
            return min(bounded + 1, settings.max)
        if actors > settings.target_blocked_fraction >= learner:
            return max(bounded - 1, settings.min)
        return bounded


def blocked(reports: Mapping[str, Report]) -> WaitedSeconds:
    """The seconds in the reports of learner and queue."""

    def value(actor: str, metric: str) -> float | Mapping[str, float]:
        report = reports.get(actor)
        return ((report and report.metrics) or {}).get(metric, 0.0)

    learner = value(FIRST_LEARNER, "mixsd_learner_wait_seconds_total")
    by_side_and_reason = value(REPLAY_ACTOR, "mixsd_replay_blocked_seconds_total") or {}
    assert isinstance(learner, (int, float))
    assert isinstance(by_side_and_reason, Mapping)
    return WaitedSeconds(
        learner=learner,
        actors=sum(s for key, s in by_side_and_reason.items() if key.startswith("insert,")),
    )


def scheduled(schedule: Sequence[ScheduledCount], age_s: float) -> int | None:
    """The count in the schedule at ``age_s`` seconds of the run, if any."""
    due = [entry for entry in schedule if entry.after_s <= age_s]
    return max(due, key=lambda entry: entry.after_s).actors if due else None


class RolloutScaling:
    """Applies the schedule and the autoscaler of a run.

    Args:
        settings: the rollout section.
        now: seconds, monotonic.
    """

    def __init__(self, settings: RolloutSettings, now: float) -> None:
        self._schedule = settings.schedule
        autoscale = settings.autoscale
        self._autoscaler = Autoscaler(autoscale, now) if autoscale else None
        self._scheduled: int | None = None

    def decide(self, count: int, age_s: float, reports: Mapping[str, Report], now: float) -> int:
        """The number of actors that a run with ``count`` should have.

        An entry of the schedule applies once, when it is due; commands may change it later.

        Args:
            count: the number desired so far.
            age_s: seconds since the run began.
            reports: the latest report of each actor.
            now: seconds, monotonic.
        """
        due = scheduled(self._schedule, age_s)
        if due != self._scheduled and due is not None:
            count = due
        self._scheduled = due
        if self._autoscaler is not None:
            count = self._autoscaler.decide(count, blocked(reports), now)
        return count
