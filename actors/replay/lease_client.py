"""An actor's side of the queue: when it polls for leases, and what it has yet to send.

Each call stops the engine for a moment, so calls are combined where possible.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from actors.replay.replies import Grant
from common.records import PackedRollout, Rollout

_HEARTBEAT_S = 5.0


class LeasePoller:
    """Decides when to poll the queue: at once if slots are free, otherwise as a heartbeat.

    Args:
        idle_s: seconds between polls when the queue had too little work, or no lease is held.

    Attributes:
        is_starved: whether the last poll returned less work than there were free slots.
    """

    def __init__(self, idle_s: float) -> None:
        self.is_starved = False
        self._idle_s = idle_s
        self._polled = 0.0

    def is_due(self, free: int, holds_leases: bool) -> bool:
        """Whether to poll now, with ``free`` slots."""
        waited = time.monotonic() - self._polled
        if free > 0 and (not self.is_starved or waited > self._idle_s):
            return True
        return waited >= (_HEARTBEAT_S if holds_leases else self._idle_s)

    def polled(self, free: int, grant: Grant) -> None:
        """Record the reply to a poll with ``free`` slots."""
        self._polled = time.monotonic()
        self.is_starved = len(grant.work) < free


class Receiver(Protocol):
    """The part of the queue that receives rollouts."""

    def insert_many(self, items: Sequence[PackedRollout]) -> list[bool]: ...


class Outbox:
    """Finished rollouts to send, always before the next lease call, which names the open jobs."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._items: list[PackedRollout] = []

    def put(self, rollout: Rollout, attempts: int) -> None:
        """Add a rollout."""
        self._items.append(PackedRollout.of(rollout, attempts))

    def send(self) -> int:
        """Send everything; returns how many rollouts the queue did not have yet."""
        if not self._items:
            return 0
        items, self._items = self._items, []
        return sum(self._receiver.insert_many(items))
