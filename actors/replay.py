"""The replay queue: the ledger behind a clock, a limiter and a wire format.

Actors wait here for work or for room, the learner waits for a full batch.
Neither call blocks: a caller that must wait is told so and asks again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from common.config import ReplaySettings
from common.ledger import Exposure, Ledger
from common.limiter import Limiter
from common.metrics import Snapshot
from common.records import Work, unpack_rollout


@dataclass(frozen=True, slots=True)
class Grant:
    """Reply to "give me work". ``over``: there will be none, ever."""

    work: list[Work]
    over: bool


class ReplayQueue:
    """Serves one run; thread-safe.

    Args:
        ledger: the run's ledger, owned from now on.
        settings: the replay section.
        epochs: exposures of each rollout.
        batch_size: exposures of a step.
    """

    def __init__(
        self, ledger: Ledger, settings: ReplaySettings, *, epochs: int, batch_size: int
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._epochs = epochs
        self._batch_size = batch_size
        self._limiter = Limiter(settings.min_size, settings.max_bytes)
        self._waits: dict[str, str | None] = {"insert": None, "sample": None}
        self._lock = threading.Lock()

    @property
    def settings(self) -> ReplaySettings:
        """Those in force."""
        return self._settings

    def configure(self, settings: ReplaySettings) -> None:
        """Change the settings of the live queue."""
        with self._lock:
            self._settings = settings
            self._limiter.min_size = settings.min_size
            self._limiter.max_bytes = settings.max_bytes

    def add_work(self, items: Iterable[tuple[str, int]]) -> None:
        """Register what is to be rolled out; what is known is left alone."""
        with self._lock:
            self._ledger.add_work(items)

    def lease(self, owner: str, count: int, holding: Sequence[int]) -> Grant:
        """Up to ``count`` more work items for ``owner``, which holds ``holding`` (work ids)."""
        with self._lock:
            now = time.time()
            self._ledger.heartbeat(owner, holding, now=now, duration=self._settings.lease_s)
            counts = self._ledger.counts()
            if counts.settled:
                return Grant([], over=True)
            wait = self._limiter.may_insert(counts.waiting_bytes)
            self._note("insert", wait)
            if wait or count == 0:
                return Grant([], over=False)
            work = self._ledger.lease(owner, count, now=now, duration=self._settings.lease_s)
            return Grant(work, over=False)

    def release(self, owner: str) -> int:
        """Take back everything leased to ``owner``, at once."""
        with self._lock:
            return self._ledger.release(owner)

    def insert(self, payload: bytes, attempts: int) -> bool:
        """Accept a packed rollout; False if its work item was settled before.

        Raises:
            WireError: the payload is not a rollout.
        """
        rollout = unpack_rollout(payload)
        with self._lock:
            return self._ledger.insert(rollout.fact_id, rollout.draw, payload, attempts=attempts)

    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool:
        """Give a work item up."""
        with self._lock:
            return self._ledger.exhaust(fact_id, draw, reason, attempts=attempts)

    def sample(self, step: int) -> tuple[bool, list[tuple[int, bytes]], int | None]:
        """The batch of ``step``: (ready, [(epoch, payload)], exposures of the run or None)."""
        with self._lock:
            counts = self._ledger.counts()
            wait = self._limiter.may_sample(counts.accepted, counts.settled)
            exposures: list[Exposure] | None = None
            if wait is None:
                exposures = self._ledger.sample(step, self._batch_size)
                if exposures is None:
                    wait = f"{counts.waiting} rollouts wait, fewer than a batch"
            self._note("sample", wait)
            total = counts.accepted * self._epochs if counts.settled else None
            if exposures is None:
                return False, [], total
            return True, [(item.epoch, item.payload) for item in exposures], total

    def commit(self, step: int) -> None:
        """The checkpoint that contains ``step`` is safe."""
        with self._lock:
            self._ledger.commit(step)

    def restore(self, step: int) -> None:
        """The learner continues after ``step``."""
        with self._lock:
            self._ledger.restore(step)

    def status(self) -> dict[str, Any]:
        """Counts, and who waits for what."""
        with self._lock:
            counts = self._ledger.counts()
            items = self._ledger.attempts_per_item()
        most = counts.work - counts.exhausted
        return {
            "facts": counts.work,
            "accepted": counts.accepted,
            "exhausted": counts.exhausted,
            "attempts": counts.attempts,
            "leased": counts.leased,
            "depth": counts.waiting,
            "depth_bytes": counts.waiting_bytes,
            "settled": counts.settled,
            "exposures_expected": most * self._epochs,
            "exposures_sampled": counts.sampled,
            "exposures_trained": counts.trained,
            "committed_step": counts.committed_step,
            "total_steps": math.ceil(most * self._epochs / self._batch_size),
            "first_attempt_accepted": sum(ok and attempts == 1 for attempts, ok in items),
            "waiting": {side: reason for side, reason in self._waits.items() if reason},
        }

    def snapshot(self) -> Snapshot:
        """Current metrics."""
        with self._lock:
            counts = self._ledger.counts()
            blocked = {str(side): value for side, value in self._limiter.blocked_s.items()}
        return {
            "mixsd_replay_rollouts": counts.accepted,
            "mixsd_replay_waiting": counts.waiting,
            "mixsd_replay_waiting_bytes": counts.waiting_bytes,
            "mixsd_replay_leased": counts.leased,
            "mixsd_replay_sampled_total": counts.sampled,
            "mixsd_replay_trained": counts.trained,
            "mixsd_replay_committed_step": counts.committed_step,
            "mixsd_replay_blocked_seconds_total": blocked,
        }

    def _note(self, side: Any, wait: str | None) -> None:
        self._waits[side] = wait
        self._limiter.note(side, wait is not None, time.monotonic())
