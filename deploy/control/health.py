"""Health of roles by progress, not only by liveness. Pure: no Ray, no clocks.

A role is *stuck* if it does not answer, does not get ready, or works without
progress. A role that waits is not stuck: it reports what it waits for, and another
role must make progress (see :class:`DeadlockDetector`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from actors.replay.status import QueueStatus
from common.metrics import MetricValues

State = Literal["idle", "starting", "working", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Report:
    """A role's answer to a poll.

    ``state``     ``idle``: constructed, not started
    ``progress``  grows with all work the role completes; in units of its own
    ``milestone`` of that, what a restart does not repeat: results, or the learner's step
    ``waiting``   what it waits for, or empty
    ``queue``     of the queue: its status
    ``cause``     why it failed; ``permanent`` if a retry would fail too
    ``disk_full`` it failed, or waits, because the disk is full
    ``notes``     the last events that it has to tell, and ``noted`` how many there were in all
    """

    state: State
    pid: int
    node: str
    address: tuple[str, int]
    progress: float = 0.0
    milestone: float = 0.0
    waiting: str = ""
    cause: str = ""
    permanent: bool = False
    disk_full: bool = False
    metrics: MetricValues | None = None
    queue: QueueStatus | None = None
    notes: tuple[str, ...] = ()
    noted: int = 0


# Polls come twice a second.
_RECENT_S = 10.0


class Health:
    """Health of one member of a group since its creation.

    Args:
        start_s: longest time until it works.
        stall_s: longest time without an answer, or at work without progress.
        now: seconds, monotonic; as in all methods.
    """

    def __init__(self, start_s: float, stall_s: float, now: float) -> None:
        self._start_s = start_s
        self._stall_s = stall_s
        self._answered = now
        self._moved = now
        self._created = now
        self._ready = math.inf
        self._noted = 0
        self.report: Report | None = None

    def answered(self, report: Report, now: float) -> bool:
        """Take a report; True once the role has worked for ``stall_s``.

        An evaluator, say, may wait for days; its failures before no longer count then.
        """
        before, self.report = self.report, report
        self._answered = now
        progressed = before is not None and report.progress > before.progress
        first = report.state == "working" and (before is None or before.state != "working")
        if first:
            self._ready = now
        if progressed or first or report.waiting:
            self._moved = now
        return now - self._ready >= self._stall_s

    def waiting(self, now: float) -> str:
        """What the role waits for; empty if it does not, or has not answered of late.

        One that is paused may have waited before; it is stuck, and not part of a deadlock.
        """
        if self.report is None or now - self._answered > _RECENT_S:
            return ""
        return self.report.waiting

    def new_notes(self) -> Sequence[str]:
        """What the last report has to tell and no report before it had."""
        if self.report is None or self.report.noted == self._noted:
            return ()
        new = self.report.noted - self._noted
        self._noted = self.report.noted
        return self.report.notes[-new:]

    def stall_reason(self, now: float) -> str:
        """Why the member is stuck; empty if it is not."""
        state = self.report.state if self.report is not None else "idle"
        if state in ("idle", "starting") and now - self._created > self._start_s:
            return f"not ready after {self._start_s:.0f} s (cluster.start_timeout_s)"
        if self.report is None:
            # The queue, say, opens its ledger before it answers.
            return ""
        if now - self._answered > self._stall_s:
            return f"no answer for {self._stall_s:.0f} s (cluster.stall_s)"
        if state == "working" and now - self._moved > self._stall_s:
            return f"works without progress for {self._stall_s:.0f} s (cluster.stall_s)"
        return ""


# Only people can free a full disk, so retries on a full disk do not count.
_ROOM_PAUSE_S, _LONGEST_ROOM_PAUSE_S = 5.0, 60.0


class Budget:
    """Restarts with growing pauses; it ends after ``most`` failures without a new milestone.

    A role that repeats old work and then fails again gets no further. So what counts is the
    furthest it has ever come, and not that it moves.

    Args:
        most: restarts in a row before giving up.
    """

    def __init__(self, most: int, restarts: int = 0) -> None:
        self._most = most
        self.restarts = restarts
        self.failures = 0
        self.furthest = 0.0
        self._room_pause = _ROOM_PAUSE_S

    def reached(self, milestone: float) -> None:
        """Take note of a milestone; a new one makes past failures no longer count."""
        if milestone > self.furthest:
            self.furthest = milestone
            self.forgive()

    def forgive(self) -> None:
        """Past failures no longer count."""
        self.failures = 0
        self._room_pause = _ROOM_PAUSE_S

    def room_pause(self) -> float:
        """Seconds to wait for free disk space before the next try."""
        pause = self._room_pause
        self._room_pause = min(2 * pause, _LONGEST_ROOM_PAUSE_S)
        return pause

    def next_pause(self, *, counts: bool = True) -> float | None:
        """Seconds to wait before the restart, or None to give up.

        Args:
            counts: whether this failure counts. One that helps to find a rollout that kills
                the learner does not: that search ends by itself.
        """
        if not counts:
            self.restarts += 1
            return 1.0
        if self.failures >= self._most:
            return None
        pause = 2.0**self.failures
        self.failures += 1
        self.restarts += 1
        return pause


class DeadlockDetector:
    """Detects that all roles wait for each other.

    Args:
        stall_s: longest time without progress.
        now: seconds, monotonic.
    """

    def __init__(self, stall_s: float, now: float) -> None:
        self._stall_s = stall_s
        self._since = now
        self._progress: float | None = None

    def stall_reason(self, waits: Mapping[str, str], progress: float, now: float) -> str:
        """What each role waits for, if all have waited too long without progress; else empty.

        Args:
            waits: role -> what it waits for, or empty.
            progress: of all roles together; any change counts.
        """
        if not waits or not all(waits.values()) or progress != self._progress:
            self._since, self._progress = now, progress
        if now - self._since <= self._stall_s:
            return ""
        reasons = "; ".join(f"{role} waits for {what}" for role, what in waits.items())
        return f"no progress for {self._stall_s:.0f} s (cluster.stall_s): {reasons}"
