"""When an actor turns to the queue: asks for work, shows what it holds, hands over what is done.

Each call stops the engine for a moment, so none is made that can be joined to another.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from actors.replay.queue import Grant
from common.records import Rollout, pack_rollout

_HEARTBEAT_S = 5.0


class LeasePoller:
    """Asks at once where there is room, unless the queue just had too little; else as a heartbeat.

    Args:
        idle_s: time until a queue that had too little, or holds nothing of ours, is asked again.

    Attributes:
        is_starved: whether the queue had less work than there was room for.
    """

    def __init__(self, idle_s: float) -> None:
        self.is_starved = False
        self._idle_s = idle_s
        self._asked = 0.0

    def is_due(self, room: int, holds_some: bool) -> bool:
        """Whether to ask now, with room for so many items and some in hand."""
        waited = time.monotonic() - self._asked
        if room > 0 and (not self.is_starved or waited > self._idle_s):
            return True
        return waited >= (_HEARTBEAT_S if holds_some else self._idle_s)

    def asked(self, room: int, grant: Grant) -> None:
        """The queue gave this where there was room for so many items."""
        self._asked = time.monotonic()
        self.is_starved = len(grant.work) < room


class Receiver(Protocol):
    """The queue as it takes rollouts."""

    def insert_many(self, items: Sequence[tuple[bytes, int]]) -> list[bool]: ...


class Outbox:
    """Rollouts that are done; sent before the queue is next shown what is held."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._items: list[tuple[bytes, int]] = []

    def put(self, rollout: Rollout, attempts: int) -> None:
        """One more to send."""
        self._items.append((pack_rollout(rollout), attempts))

    def send(self) -> int:
        """Hand over what there is; how many the queue had not got from elsewhere."""
        if not self._items:
            return 0
        items, self._items = self._items, []
        return sum(self._receiver.insert_many(items))
