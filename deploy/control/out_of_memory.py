"""Notices that the kernel kills processes of this machine because its memory is used up."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

# A death is noticed by a poll, of which there are two a second.
_RECENT_S = 10.0


def count_kills(vmstat: Path = Path("/proc/vmstat")) -> int:
    """Processes that the kernel has killed for memory since it started, in any container.

    Zero where the kernel does not tell.
    """
    try:
        lines = vmstat.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


class OutOfMemory:
    """Remembers the newest kill.

    Args:
        count: counts kills.
    """

    def __init__(self, count: Callable[[], int] = count_kills) -> None:
        self._count = count
        self._kills = count()
        self._last = -math.inf

    def watch(self, now: float) -> None:
        """Look for new kills; ``now`` in seconds, monotonic."""
        kills = self._count()
        if kills > self._kills:
            self._last = now
        self._kills = kills

    def explain(self, death: str, now: float) -> str:
        """Why a role died; a recent kill is added as the likely cause."""
        if now - self._last > _RECENT_S:
            return death
        return f"{death.rstrip('.')}; the head's machine was out of memory and killed a process"
