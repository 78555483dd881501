"""The replay queue: the ledger behind a clock, a limiter and a wire format.

Actors wait here for work or for space, the learner waits for a full batch. No call
blocks: the reply says that the caller must wait, and the caller polls again. Every call
may be repeated; what it acknowledges is in the ledger's file.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from actors.replay.demand import Demand
from actors.replay.limiter import BlockedTime, Side, Wait, may_sample
from actors.replay.replies import Grant, Sampled
from actors.replay.status import BlockedSide, QueueStatus
from actors.replay.work import outcome_of, work_items
from common.config.run_config import RunConfig, live_change
from common.config.sections import ReplaySettings
from common.ledger import Counts, Exposure, Ledger, Order
from common.metrics import MetricValues
from common.records import PackedRollout

# Leases that the status shows.
_MOST_HELD = 64


class ReplayQueue:
    """Serves one run; thread-safe.

    Args:
        ledger: the run's ledger, owned from now on.
        config: the run's configuration; :meth:`configure` changes its replay section.
        clock: seconds, monotonic: the time of day may jump, and leases with it.
    """

    def __init__(
        self, ledger: Ledger, config: RunConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._demand = Demand(ledger, config)
        self._batch_size = config.learner.batch_size
        self._blocked = BlockedTime()
        self._lock = threading.Lock()
        # Deadlines in the ledger are of another clock if the machine was started anew.
        ledger.renew_leases(clock() + config.replay.lease_s)

    @property
    def settings(self) -> ReplaySettings:
        """Those in force."""
        return self._demand.config.replay

    @property
    def trouble(self) -> str:
        """Why the ledger could not be written when it was last tried, or empty."""
        return self._ledger.trouble

    def configure(self, settings: ReplaySettings) -> None:
        """Change the settings from the next call on.

        They are not stored here: the caller keeps them.

        Raises:
            UserError: a live run cannot take them.
        """
        with self._lock:
            self._demand.config = live_change(self._demand.config, settings)

    def end(self) -> None:
        """Begin no further step and lease no further work; what has begun may finish.

        Not stored either: the caller repeats the call after a restart.
        """
        with self._lock:
            self._demand.ended = True

    def add_facts(self, fact_ids: Sequence[str]) -> None:
        """Register the work of these facts: their draws, of every epoch if each has its own."""
        self.add_work(work_items(self._demand.config, fact_ids))

    def add_work(self, items: Iterable[tuple[str, int]]) -> None:
        """Register what is to be rolled out; what is known is left alone."""
        with self._lock:
            self._ledger.add_work(items)

    # -- actors -------------------------------------------------------------

    def lease(
        self, owner: str, count: int, holding: Sequence[int], version: int | None = None
    ) -> Grant:
        """Up to ``count`` more work items for ``owner``, which holds ``holding`` (work ids).

        ``version``: of the weights that will draw them, where rollouts grow too old.
        """
        with self._lock:
            now, duration = self._clock(), self.settings.lease_s
            self._ledger.heartbeat(owner, holding, now=now, duration=duration)
            counts = self._ledger.counts()
            if self._demand.is_over(counts):
                return Grant([], over=True)
            if count == 0 or self._demand.is_drawn(counts):
                return Grant([], over=False)
            free = self._demand.max_new_work(counts, version)
            self._note("insert", free if isinstance(free, Wait) else None)
            if isinstance(free, Wait):
                return Grant([], over=False)
            work = self._ledger.lease(owner, min(count, free), now=now, duration=duration)
            return Grant(work, over=False)

    def release(self, owner: str, died: bool = False) -> int:
        """Take back everything leased to ``owner``; ``died``: its process ended by itself."""
        with self._lock:
            return self._ledger.release(owner, died=died, max_deaths=self.settings.poison_after)

    def insert_many(self, items: Sequence[PackedRollout]) -> list[bool]:
        """Accept rollouts, in one transaction; one that is invalid is quarantined alone.

        False for a rollout that is invalid, or whose work item was settled before.
        """
        results = [outcome_of(item) for item in items]
        with self._lock:
            return self._ledger.settle_many(results)

    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool:
        """Give a work item up."""
        with self._lock:
            return self._ledger.exhaust(fact_id, draw, reason, attempts=attempts)

    # -- learner ------------------------------------------------------------

    def register(self, token: str) -> int:
        """Admit a learner, and none before it from now on; gives its generation."""
        with self._lock:
            return self._ledger.register(token)

    def sample(self, generation: int, step: int) -> Sampled:
        """The batch of ``step``."""
        with self._lock:
            counts = self._ledger.counts()
            exposures: list[Exposure] | None = None
            wait = None
            # A step that was bound before the limits changed is still the same.
            if step > counts.last_step:
                if self._demand.ended or counts.last_step == self._demand.max_steps:
                    return Sampled(True, [], counts.trained, 0)
                wait = may_sample(self.settings, self._demand.level(counts), self._batch_size)
            if wait is None:
                exposures = self._ledger.sample(
                    generation, step, self._batch_size, oldest=self._demand.oldest(step)
                )
                if exposures is None:
                    wait = Wait("batch", "the rollouts that are ready grew too old")
            self._note("sample", wait)
            total = None
            if self._demand.is_drawn(counts) or self._demand.config.method.draws_every_epoch:
                # In a run that draws to its end, the number of rollouts that may come is the best
                # that is known; the student's are trained whatever they are.
                total = self._demand.expected(counts)
            if exposures is None:
                return Sampled(False, [], total, None)
            left = None if total is None else total - self._ledger.sampled_up_to(step)
            if step == self._demand.max_steps:
                # Also where a search for a bad rollout has made some steps smaller.
                left = 0
            return Sampled(True, [(item.epoch, item.payload) for item in exposures], total, left)

    def last_step(self) -> int:
        """The last step that was sampled; no checkpoint after it can be resumed from."""
        with self._lock:
            return self._ledger.counts().last_step

    def note_trained(self, generation: int, step: int) -> None:
        """The learner has taken ``step``: if it dies now, the batch is not the cause."""
        with self._lock:
            self._ledger.note_trained(generation, step)

    def prepare(self, generation: int, step: int) -> None:
        """Put ``step`` on disk, before the checkpoint that contains it gets its name."""
        with self._lock:
            self._ledger.prepare(generation, step)

    def commit(self, generation: int, step: int) -> None:
        """The checkpoint that contains ``step`` is safe."""
        with self._lock:
            self._ledger.commit(generation, step)

    def restore(self, generation: int, step: int) -> str:
        """The learner continues after ``step``; returns what people should know, or nothing."""
        with self._lock:
            return self._ledger.restore(generation, step, max_deaths=self.settings.poison_after)

    # -- reports ------------------------------------------------------------

    def counts(self) -> Counts:
        """All counts of the ledger."""
        with self._lock:
            return self._ledger.counts()

    def lost(self, most: int = -1) -> list[tuple[str, str, str]]:
        """See :meth:`common.ledger.LedgerReader.lost`."""
        with self._lock:
            return self._ledger.lost(most)

    def page(self, order: Order, after: int) -> list[tuple[int, bytes]]:
        """See :meth:`common.ledger.LedgerReader.page`."""
        with self._lock:
            return self._ledger.page(order, after)

    # -- observability ------------------------------------------------------

    def status(self) -> QueueStatus:
        """Counts, settings in force, and who waits for what."""
        with self._lock:
            counts = self._ledger.counts()
            now = self._clock()
            waits = list(self._blocked.current())
            blocked = self._blocked_seconds(now)
            suspects = self._ledger.num_suspects()
            holding = self._ledger.holding(_MOST_HELD)
            is_drawn = self._demand.is_drawn(counts)
        expected = self._demand.expected(counts)
        return QueueStatus(
            work=counts.work,
            accepted=counts.accepted,
            exhausted=counts.exhausted,
            quarantined=counts.quarantined,
            poisoned=counts.poisoned,
            suspects=suspects,
            holding=holding,
            stale=counts.stale,
            attempts=counts.attempts,
            leased=counts.leased,
            depth=counts.waiting,
            depth_bytes=counts.waiting_bytes,
            settled=is_drawn,
            ended=self._demand.ended,
            exposures_expected=expected,
            exposures_sampled=counts.sampled,
            exposures_trained=counts.trained,
            sampled_step=counts.last_step,
            committed_step=counts.committed_step,
            total_steps=math.ceil(expected / self._batch_size),
            first_attempt_accepted=counts.first_attempt,
            waiting={
                side: f"{wait.detail}, for {now - since:.0f} s" for side, wait, since in waits
            },
            blocked={
                side: BlockedSide(reason=wait.reason, since=time.time() - (now - since))
                for side, wait, since in waits
            },
            blocked_seconds=blocked,
            settings=self.settings.model_dump(),
        )

    def metrics(self) -> MetricValues:
        """Current metrics."""
        with self._lock:
            counts = self._ledger.counts()
            blocked = self._blocked_seconds(self._clock())
        return {
            "mixsd_replay_rollouts": counts.accepted,
            "mixsd_replay_waiting": counts.waiting,
            "mixsd_replay_waiting_bytes": counts.waiting_bytes,
            "mixsd_replay_leased": counts.leased,
            "mixsd_replay_sampled_total": counts.sampled,
            "mixsd_replay_trained": counts.trained,
            "mixsd_replay_quarantined": counts.quarantined + counts.poisoned,
            "mixsd_replay_stale": counts.stale,
            "mixsd_replay_committed_step": counts.committed_step,
            "mixsd_replay_blocked_seconds_total": blocked,
        }

    # -- private ------------------------------------------------------------

    def _note(self, side: Side, wait: Wait | None) -> None:
        self._blocked.note(side, wait, self._clock())

    def _blocked_seconds(self, now: float) -> dict[str, float]:
        return {
            f"{side},{reason}": seconds
            for (side, reason), seconds in self._blocked.totals(now).items()
        }
