"""Whether a role is well: progress, not only life. Pure; knows no Ray and no clocks.

A role is *stuck* when it does not answer, does not get ready, or works without
moving. Waiting is not being stuck: a role says what it waits for, and then
somebody else must move (see :class:`DeadlockDetector`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from common.metrics import MetricValues

State = Literal["idle", "starting", "working", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Report:
    """A role's answer to "how are you?".

    ``idle``      constructed, not told to start
    ``progress``  grows with everything the role gets done; in units of its own
    ``waiting``   what it waits for, or empty
    ``detail``    more for the run's status
    ``cause``     why it failed; ``permanent`` if a further try would fail alike
    ``disk_full`` it failed, or waits, for want of room on the disk
    """

    state: State
    pid: int
    node: str
    address: tuple[str, int]
    progress: float = 0.0
    waiting: str = ""
    cause: str = ""
    permanent: bool = False
    disk_full: bool = False
    snapshot: MetricValues | None = None
    detail: dict[str, Any] = field(default_factory=dict)


class Health:
    """What is known of one member of a group since it was created.

    Args:
        start_s: longest time until it works.
        stall_s: longest time without an answer, or at work without progress.
        now: seconds, monotonic; as everywhere here.
    """

    def __init__(self, start_s: float, stall_s: float, now: float) -> None:
        self._start_s = start_s
        self._stall_s = stall_s
        self._answered = now
        self._moved = now
        self._created = now
        self._ready = math.inf
        self.report: Report | None = None

    def answered(self, report: Report, now: float) -> bool:
        """Take a report; whether it shows a role that is well, so that old deaths are forgiven.

        It is if it got something done since the last report, or has been at work for
        as long as may pass without progress: an evaluator may wait for days.
        """
        before, self.report = self.report, report
        self._answered = now
        progressed = before is not None and report.progress > before.progress
        first = report.state == "working" and (before is None or before.state != "working")
        if first:
            self._ready = now
        if progressed or first or report.waiting:
            self._moved = now
        return progressed or now - self._ready >= self._stall_s

    def stall_reason(self, now: float) -> str:
        """Why the member counts as stuck; empty while it does not."""
        state = self.report.state if self.report is not None else "idle"
        if state in ("idle", "starting") and now - self._created > self._start_s:
            return f"not ready after {self._start_s:.0f} s (cluster.start_timeout_s)"
        if now - self._answered > self._stall_s:
            return f"no answer for {self._stall_s:.0f} s (cluster.stall_s)"
        if state == "working" and now - self._moved > self._stall_s:
            return f"at work without progress for {self._stall_s:.0f} s (cluster.stall_s)"
        return ""


# A full disk is nobody's fault and only people can help, so tries for it are not counted.
_ROOM_PAUSE_S, _LONGEST_ROOM_PAUSE_S = 5.0, 60.0


class Budget:
    """Restarts with growing pauses, until one too many without progress in between.

    Args:
        most: restarts in a row before giving up.
    """

    def __init__(self, most: int, restarts: int = 0) -> None:
        self._most = most
        self.restarts = restarts
        self.failures = 0
        self._room_pause = _ROOM_PAUSE_S

    def progressed(self) -> None:
        """The role got something done: what failed before is forgiven."""
        self.failures = 0
        self._room_pause = _ROOM_PAUSE_S

    def room_pause(self) -> float:
        """Seconds to wait for room on the disk before the next try."""
        pause = self._room_pause
        self._room_pause = min(2 * pause, _LONGEST_ROOM_PAUSE_S)
        return pause

    def next_pause(self) -> float | None:
        """Count a failure; seconds to wait before the restart, or None to give up."""
        if self.failures >= self._most:
            return None
        pause = 2.0**self.failures
        self.failures += 1
        self.restarts += 1
        return pause


class DeadlockDetector:
    """Notices that everybody waits for everybody.

    Args:
        stall_s: longest time of that.
    """

    def __init__(self, stall_s: float, now: float) -> None:
        self._stall_s = stall_s
        self._since = now
        self._progress: float | None = None

    def stall_reason(self, waits: Mapping[str, str], progress: float, now: float) -> str:
        """Who waits for what, once nobody has moved for too long; else empty.

        Args:
            waits: role -> what it waits for, or empty.
            progress: of all roles together; any change counts.
        """
        if not waits or not all(waits.values()) or progress != self._progress:
            self._since, self._progress = now, progress
        if now - self._since <= self._stall_s:
            return ""
        told = "; ".join(f"{role} waits for {what}" for role, what in waits.items())
        return f"nothing moved for {self._stall_s:.0f} s (cluster.stall_s): {told}"
