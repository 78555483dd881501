"""What a run still needs: how much work may begin, how much is left, and when it is over."""

from __future__ import annotations

from actors.replay.limiter import UNBOUNDED, Level, Wait, max_new_work, wanted_by_next_epoch
from common.config.run_config import RunConfig
from common.ledger import Counts, Ledger


class Demand:
    """Follows from the ledger and the configuration; stores nothing.

    Args:
        ledger: the run's ledger.
        config: the run's configuration.

    Attributes:
        config: may be replaced while the run is live.
        ended: no further step begins, and no further work.
        max_steps: of the learner; None: no bound.
    """

    def __init__(self, ledger: Ledger, config: RunConfig) -> None:
        self._ledger = ledger
        self.config = config
        self.ended = False
        self.max_steps = config.learner.max_steps if config.train else None
        self._epochs = config.exposures_per_rollout
        self._batch_size = config.learner.batch_size

    def is_over(self, counts: Counts) -> bool:
        """No work will be pending again; with a bound on age, not before all is committed."""
        if self.ended:
            return True
        if self.config.replay.max_lag is None:
            return self.is_drawn(counts)
        has_all_steps = counts.committed_step == self.max_steps
        has_all = counts.settled and counts.trained == counts.exposures(self._epochs)
        return has_all or has_all_steps

    def is_drawn(self, counts: Counts) -> bool:
        """Every work item has an outcome, or there are rollouts for all steps that are left."""
        if counts.settled or self.max_steps is None:
            return counts.settled
        needed = (self.max_steps - counts.last_step) * self._batch_size
        return self._ledger.ready(counts, needed) >= needed

    def expected(self, counts: Counts) -> int:
        """Exposures of the whole run, as far as is known."""
        return self.config.learner.within_max_steps(counts.exposures(self._epochs))

    def oldest(self, step: int) -> int | None:
        """The oldest policy version that ``step`` may train; None: any.

        Versions are optimizer steps: the weights that take ``step`` have taken step - 1.
        """
        lag = self.config.replay.max_lag
        return None if lag is None else step - 1 - lag

    def max_new_work(self, counts: Counts, version: int | None) -> int | Wait:
        """How many work items may begin now, or the reason for none.

        ``version``: of the weights that will draw them, where rollouts grow too old.
        """
        config = self.config
        if not config.train or config.cluster.placement == "phases":
            # No learner makes space.
            return UNBOUNDED
        level, lag = self.level(counts), config.replay.max_lag
        if version is None or lag is None:
            useful = self._wanted(counts) if config.method.draws_every_epoch else None
            return max_new_work(config.replay, level, self._batch_size, useful)
        # The last step that takes these weights, and how many are left until then.
        steps = version + lag + 1 - counts.last_step
        if steps < 1:
            return Wait(
                "lag",
                f"weights of step {version} are too old for step {counts.last_step + 1} "
                f"(replay.max_lag={lag})",
            )
        useful = steps * self._batch_size - counts.waiting - counts.leased
        return max_new_work(config.replay, level, self._batch_size, useful)

    def level(self, counts: Counts) -> Level:
        """What the limiter needs to know of the queue."""
        return Level(
            inserted=counts.accepted,
            leased=counts.leased,
            sampled=counts.sampled,
            ready=self._ledger.ready(counts, self._batch_size),
            waiting_bytes=counts.waiting_bytes,
            settled=self.is_drawn(counts),
        )

    def _wanted(self, counts: Counts) -> int:
        per_epoch = max(1, counts.work // self.config.learner.epochs)
        begun = counts.accepted + counts.lost + counts.leased
        passed = counts.sampled + counts.skipped + counts.lost
        return wanted_by_next_epoch(per_epoch, begun, passed)
