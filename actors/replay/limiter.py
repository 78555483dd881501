"""When actors may take work and the learner may take a batch. Pure.

Both sides ask before they go on and are told to go on, or why to wait. The
bounds are the user's and may contradict each other or the run; three rules
make sure that one side can always go on:

1. Once all work is settled the learner is free: what is there must be drained.
2. Otherwise the learner waits for a full batch and, unless the queue is full
   (``max_bytes``), for ``min_size`` rollouts and for the ratio.
3. Actors wait, for room or for the ratio, only if the learner could go on with
   what is there or on lease.

The ratio, as in Reverb's rate limiter (Cassirer et al. 2021, section 3.4):
exposures sampled ≈ ``samples_per_insert`` × rollouts that came in. Work on
lease counts as come in where actors ask, so that many actors do not overshoot.
In the first epoch a rollout is sampled once, so values above 1 make actors wait
for the learner as much as rule 3 lets them.

Where rollouts grow too old, weights may draw no more than the steps that will
still take them can use; the rest would be drawn for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from common.config.sections import ReplaySettings

Side = Literal["insert", "sample"]
Reason = Literal["max_bytes", "ratio", "min_size", "batch", "lag"]

UNBOUNDED = 2**31


@dataclass(frozen=True, slots=True)
class Level:
    """What is in the queue.

    Args:
        inserted: rollouts accepted so far.
        leased: work items on their way.
        sampled: exposures given out.
        ready: of these, what the next batch may take as its first exposure.
        waiting_bytes: payload bytes of all that had no exposure.
        settled: no rollouts will come.
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
    """May the learner take a batch of ``batch`` exposures?"""
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


def room(
    settings: ReplaySettings, level: Level, batch: int, useful: int | None = None
) -> int | Wait:
    """How many further work items may actors take? At least one, or the reason for none.

    Args:
        useful: rollouts of the asker's weights that come in time for a step; None: any.
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
        return Wait(
            "lag",
            f"{coming.ready} rollouts, with those on lease, are as many as the learner can train "
            f"before they are older than replay.max_lag={settings.max_lag}",
        )
    # Whoever waits for more than a batch gets it, though some of it grows too old.
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
        f"than replay.samples_per_insert={ratio:g} asks for",
    )


@dataclass(slots=True)
class BlockedTime:
    """How long each side has been made to wait, by reason, and since when.

    Times are the caller's, in seconds.
    """

    _totals: dict[tuple[Side, Reason], float] = field(default_factory=dict)
    _open: dict[Side, tuple[Wait, float, float]] = field(default_factory=dict)

    def note(self, side: Side, wait: Wait | None, now: float) -> None:
        """``side`` is told at ``now`` to go on (None) or to wait."""
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
        """Who waits now: (side, why, since)."""
        for side, (wait, since, _) in self._open.items():
            yield side, wait, since
