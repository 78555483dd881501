"""A small discrete-event simulator: processes as generators, one clock, shared cores.

A process yields what it waits for and is resumed when the wait is over:

- :class:`Sleep`: seconds that pass independently of all else (a poll, a load from disk);
- :class:`Compute`: seconds of work on an otherwise idle machine. All computing
  processes share ``cores`` equally, so work slows down once they need more cores than
  there are;
- :class:`Call`: a request to a :class:`Server`, which serves one at a time in order.

Independent of what is simulated.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Generator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Compute:
    """Work this many seconds on ``cores`` cores."""

    seconds: float
    cores: int = 1


@dataclass(slots=True)
class Server:
    """Serves calls one at a time; ``latency_s`` passes each way without occupying it."""

    latency_s: float
    busy_s: float = 0.0
    free_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """Request ``seconds`` of service from ``server`` and wait for the reply."""

    server: Server
    seconds: float


Process = Generator[Sleep | Compute | Call, None, None]


@dataclass(slots=True)
class Loop:
    """Runs processes to their end.

    All computing processes progress at the same rate, so one *virtual* time, which
    passes at that rate, is enough: each piece of work ends at a virtual time that is
    fixed when it begins, and an event costs no work per process.

    Args:
        cores: shared by all processes.
        core_gain: speed that each further busy core adds, relative to the first, in [0, 1];
            less than 1 if cores share caches, memory and clock.
        elastic: whether processes that compute use all cores, however few they are.
    """

    cores: float = math.inf
    core_gain: float = 1.0
    elastic: bool = False
    now: float = 0.0
    _virtual: float = 0.0
    _wanted: int = 0
    _serial: int = 0
    _timers: list[tuple[float, int, Process]] = field(default_factory=list)
    _work: list[tuple[float, int, Process, int]] = field(default_factory=list)

    def start(self, process: Process, at: float = 0.0) -> None:
        """Add a process that begins at ``at`` seconds."""
        self._push_timer(at, process)

    def run(self) -> float:
        """Resume processes in order of time until none is left; returns the final time."""
        while self._timers or self._work:
            rate = self._rate()
            work_at = (
                self.now + (self._work[0][0] - self._virtual) / rate if self._work else math.inf
            )
            if self._timers and self._timers[0][0] <= work_at:
                at, _, process = heapq.heappop(self._timers)
                self._advance(at, rate)
            else:
                ends, _, process, cores = heapq.heappop(self._work)
                self._advance(work_at, rate)
                self._virtual = ends
                self._wanted -= cores
            self._resume(process)
        return self.now

    def _rate(self) -> float:
        """Progress of each computing process per second."""
        if not self._wanted:
            return 1.0
        busy = self.cores if self.elastic else min(self._wanted, self.cores)
        return (1 + self.core_gain * (busy - 1)) / self._wanted

    def _advance(self, at: float, rate: float) -> None:
        self._virtual += (at - self.now) * rate
        self.now = at

    def _resume(self, process: Process) -> None:
        try:
            wait = next(process)
        except StopIteration:
            return
        if isinstance(wait, Call):
            server = wait.server
            begin = max(self.now + server.latency_s, server.free_at)
            server.free_at = begin + wait.seconds
            server.busy_s += wait.seconds
            self._push_timer(server.free_at + server.latency_s, process)
        elif isinstance(wait, Sleep):
            self._push_timer(self.now + wait.seconds, process)
        else:
            self._serial += 1
            self._wanted += wait.cores
            heapq.heappush(
                self._work, (self._virtual + wait.seconds, self._serial, process, wait.cores)
            )

    def _push_timer(self, at: float, process: Process) -> None:
        self._serial += 1
        heapq.heappush(self._timers, (at, self._serial, process))
