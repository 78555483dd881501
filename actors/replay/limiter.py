"""When actors may take work and the learner may take a batch. Pure.

Both sides request permission before they continue; the reply is permission or the
reason to wait. The bounds are the user's and may contradict each other or the run. Three
rules ensure that one side can always continue:

1. Once all work is settled the learner never waits, so that the queue is drained.
2. Otherwise the learner waits for a full batch and, unless the queue is full
   (``max_bytes``), for ``min_size`` rollouts and for the ratio.
3. Actors wait, for space or for the ratio, only if the learner can continue with
   what is stored or on lease.

The ratio, as in Reverb's rate limiter (Cassirer et al. 2021, section 3.4):
exposures sampled ≈ ``samples_per_insert`` × rollouts inserted. For actors, leased work
counts as inserted, so that many actors do not overshoot. In the first epoch a rollout is
sampled once, so values above 1 make actors wait for the learner as far as rule 3 allows.

With a bound on policy lag, a version of the weights draws no more rollouts than the steps
that still accept it can train; further ones would be wasted. Where the frozen reference draws
anew for every epoch, actors draw no further than the epoch after the learner's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from common.config.sections import ReplaySettings

Side = Literal["insert", "sample"]
Reason = Literal["max_bytes", "ratio", "min_size", "batch", "lag", "epoch"]

UNBOUNDED = 2**31


@dataclass(frozen=True, slots=True)
class Level:
    """The state of the queue.

    Args:
        inserted: rollouts accepted so far.
        leased: work items in progress.
        sampled: exposures bound to a step.
        ready: rollouts that the next batch may take for the first time.
        waiting_bytes: payload bytes of rollouts that were never sampled.
        settled: no further rollouts will come, or none is needed.
    """

    inserted: int
    leased: int
    sampled: int
    ready: int
    waiting_bytes: int
    settled: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a side waits: ``reason`` for metrics, ``detail`` for people."""

    reason: Reason
    detail: str


def may_sample(settings: ReplaySettings, level: Level, batch: int) -> Wait | None:
    """The reason why the learner cannot take a batch of ``batch`` exposures; None if it can."""
    if level.settled:
        return None
    if level.ready < batch:
        return Wait("batch", f"{level.ready} rollouts are ready, fewer than a batch of {batch}")
    if level.waiting_bytes >= settings.max_bytes:
        return None
    if level.inserted < settings.min_size:
        return Wait(
            "min_size", f"{level.inserted} rollouts, fewer than replay.min_size={settings.min_size}"
        )
    ratio = settings.samples_per_insert
    if ratio is not None and level.sampled + batch > ratio * level.inserted + settings.tolerance:
        return Wait(
            "ratio",
            f"{level.sampled} samples of {level.inserted} rollouts are as many as "
            f"replay.samples_per_insert={ratio:g} allows",
        )
    return None


def max_new_work(
    settings: ReplaySettings, level: Level, batch: int, useful: int | None = None
) -> int | Wait:
    """How many more work items actors may lease: at least one, or the reason for none.

    Args:
        useful: rollouts that are wanted now: with ``max_lag`` those of the actor's weights that
            some step can still accept, else :func:`wanted_by_next_epoch`; None: any number.
    """
    coming = replace(
        level,
        inserted=level.inserted + level.leased,
        ready=level.ready + level.leased,
        leased=0,
    )
    starved = may_sample(settings, coming, batch) is not None
    if not starved and level.waiting_bytes >= settings.max_bytes:
        return Wait(
            "max_bytes",
            f"{level.waiting_bytes} bytes wait for the learner "
            f"(replay.max_bytes={settings.max_bytes})",
        )
    if useful is not None and useful < 1 and not starved:
        return _too_early(settings, coming)
    # A learner that waits for a batch gets one, even if some of it becomes too old.
    most = UNBOUNDED if useful is None else max(useful, batch - coming.ready, 1)
    ratio = settings.samples_per_insert
    if ratio is None:
        return most
    # The learner must reach min_size and a batch before it can follow at all.
    lead = max(settings.min_size, math.ceil(batch / ratio)) + settings.tolerance / ratio
    left = math.floor(min(level.sampled / ratio + lead - coming.inserted, UNBOUNDED))
    if left >= 1:
        return min(left, most)
    if starved:
        return min(batch, most)
    return Wait(
        "ratio",
        f"{level.sampled} samples of {coming.inserted} rollouts (with those on lease) are fewer "
        f"than replay.samples_per_insert={ratio:g} requires",
    )


def wanted_by_next_epoch(per_epoch: int, begun: int, passed: int) -> int:
    """Work items left until all of the epoch after the learner's are drawn or in progress.

    Args:
        per_epoch: work items of an epoch.
        begun: work items that are settled or on lease.
        passed: of these, those that the learner has trained or will not get.
    """
    return (passed // per_epoch + 2) * per_epoch - begun


def _too_early(settings: ReplaySettings, coming: Level) -> Wait:
    if settings.max_lag is None:
        return Wait("epoch", "all targets of the next epoch are drawn or in progress")
    return Wait(
        "lag",
        f"{coming.ready} rollouts, with those on lease, are as many as the learner can train "
        f"before they are older than replay.max_lag={settings.max_lag}",
    )


@dataclass(slots=True)
class BlockedTime:
    """How long each side has waited, by reason, and since when.

    Times are the caller's, in seconds.
    """

    _totals: dict[tuple[Side, Reason], float] = field(default_factory=dict)
    _open: dict[Side, tuple[Wait, float, float]] = field(default_factory=dict)

    def note(self, side: Side, wait: Wait | None, now: float) -> None:
        """Record that ``side`` continues (``wait`` is None) or waits from ``now`` on."""
        last = self._open.pop(side, None)
        since = now
        if last is not None:
            before, since, counted = last
            key = side, before.reason
            self._totals[key] = self._totals.get(key, 0.0) + now - counted
            if wait is None or wait.reason != before.reason:
                since = now
        if wait is not None:
            self._open[side] = wait, since, now

    def totals(self, now: float) -> dict[tuple[Side, Reason], float]:
        """Seconds by (side, reason), the wait in progress included."""
        totals = dict(self._totals)
        for side, (wait, _, counted) in self._open.items():
            totals[side, wait.reason] = totals.get((side, wait.reason), 0.0) + now - counted
        return totals

    def current(self) -> Iterator[tuple[Side, Wait, float]]:
        """The sides that wait now: (side, reason, since)."""
        for side, (wait, since, _) in self._open.items():
            yield side, wait, since
