"""The queue as every other process sees it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from actors.replay.queue import Grant
from common.ledger import LedgerUnavailable

# Name of the queue's actor.
REPLAY = "replay"
_ANSWER_S = 30.0


class QueueClient:
    """The queue as everybody else sees it: plain calls that survive its restart.

    Every call may be repeated, so one that was lost is made again.

    Args:
        patience_s: longest time without an answer before a call fails.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._handle: Any = None

    def lease(
        self, owner: str, count: int, holding: Sequence[int], version: int | None = None
    ) -> Grant:
        grant: Grant = self._call("lease", owner, count, holding, version)
        return grant

    def insert_many(self, items: Sequence[tuple[bytes, int]]) -> list[bool]:
        accepted: list[bool] = self._call("insert_many", items)
        return accepted

    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool:
        return bool(self._call("exhaust", fact_id, draw, reason, attempts))

    def sample(self, step: int) -> Any:
        from learner.interfaces import Batch

        return Batch(*self._call("sample", step))

    def last_step(self) -> int:
        return int(self._call("last_step"))

    def commit(self, step: int) -> None:
        self._call("commit", step)

    def restore(self, step: int) -> None:
        self._call("restore", step)

    def _call(self, method: str, *arguments: Any) -> Any:
        import ray

        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                if self._handle is None:
                    self._handle = ray.get_actor(REPLAY)
                return ray.get(self._handle.call.remote(method, *arguments), timeout=_ANSWER_S)
            except LedgerUnavailable:
                # The disk is full, perhaps not for long.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            except (ValueError, ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as e:
                if isinstance(e, ray.exceptions.RayTaskError) or time.monotonic() > deadline:
                    raise
                # The controller is bringing it back, perhaps as another actor.
                self._handle = None
                time.sleep(0.5)
