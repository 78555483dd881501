"""When an actor asks the queue for work, and shows it what it still holds. Knows no jobs."""

from __future__ import annotations

import time

from actors.replay import Grant

_HEARTBEAT_S = 5.0


class Asking:
    """Asks at once where there is room, unless the queue just had too little; else as a heartbeat.

    Args:
        idle_s: time until a queue that had too little, or holds nothing of ours, is asked again.

    Attributes:
        is_dry: whether the queue had less work than there was room for.
    """

    def __init__(self, idle_s: float) -> None:
        self.is_dry = False
        self._idle_s = idle_s
        self._asked = 0.0

    def is_due(self, room: int, holds_some: bool) -> bool:
        """Whether to ask now, with room for so many items and some in hand."""
        waited = time.monotonic() - self._asked
        if room > 0 and (not self.is_dry or waited > self._idle_s):
            return True
        return waited >= (_HEARTBEAT_S if holds_some else self._idle_s)

    def asked(self, room: int, grant: Grant) -> None:
        """The queue gave this where there was room for so many items."""
        self._asked = time.monotonic()
        self.is_dry = len(grant.work) < room
