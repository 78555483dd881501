"""Changing a ledger. Every public method is one transaction: a kill at any
point leaves either the state before it or the state after it.

Work item    one (fact, draw): pending -> leased -> accepted, exhausted or
             quarantined. A lease ends with its owner's deadline or release.
Rollout      the payload accepted for a work item; one each, whatever arrives.
Exposure     one (work item, epoch); a step is an interval of their sequence.

A learner registers, restores the step of the checkpoint that it resumes from, and
samples the steps after it, one by one. It prepares a step before the checkpoint that
contains it gets its name, and commits it after; then its exposures are *trained*.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from common.errors import UserError
from common.ledger import schema
from common.ledger.learners import Learners
from common.ledger.leases import Leases
from common.ledger.order import FirstEpoch, Place
from common.ledger.outcomes import Accepted, Outcomes, Quarantined
from common.ledger.schema import LedgerError, LedgerUnavailable
from common.ledger.suspects import Suspects
from common.ledger.view import Exposure, LedgerView
from common.records import Work


class Ledger(LedgerView):
    """Opens or creates the file at ``path``.

    Args:
        path: SQLite file; its folder must exist.
        epochs: exposures of each rollout.
        seed: fixes the permutation of every epoch after the first.
        first_epoch: order of the first epoch (see ``order.py``).

    Attributes:
        trouble: why the last change failed, or empty.

    Raises:
        UserError: the file is not a ledger of this run, or is damaged.
    """

    def __init__(
        self, path: Path, *, epochs: int, seed: int, first_epoch: FirstEpoch = "arrival"
    ) -> None:
        super().__init__(schema.open_file(path, seed, first_epoch))
        self._path = path
        self.trouble = ""
        self._epochs = epochs
        self._leases = Leases(self._db)
        self._learners = Learners(self._db)
        self._suspects = Suspects(self._db, epochs)
        self._outcomes = Outcomes(self._db)
        counts, recount = self.counts(), self.recount()
        if counts != recount or counts.committed_step > counts.last_step:
            self.close()
            raise schema.damaged(path, f"its totals are {counts}, its tables have {recount}")

    # -- work -------------------------------------------------------------

    def add_work(self, items: Iterable[tuple[str, int]]) -> None:
        """Register (fact id, draw) pairs; known ones are unchanged.

        Raises:
            UserError: some are new and a later epoch has started; its permutation
                covers only the earlier work.
        """
        with self._transaction():
            before = self.counts().work
            self._db.executemany(
                "INSERT OR IGNORE INTO work (fact_id, draw) VALUES (?, ?)", list(items)
            )
            added = self.counts().work - before
            if added and self._db.execute("SELECT 1 FROM steps WHERE epoch > 0").fetchone():
                raise UserError(
                    f"{added} new facts came after the second epoch had started; train them in a "
                    "run of another name"
                )

    def lease(self, owner: str, count: int, *, now: float, duration: float) -> list[Work]:
        """Lease up to ``count`` pending items to ``owner``, after expiring overdue leases.

        All leases of an owner expire ``duration`` seconds after its last call.
        """
        with self._transaction():
            self._leases.renew(owner, now + duration)
            self._leases.expire(now)
            return self._leases.grant(owner, count)

    def heartbeat(self, owner: str, holding: Sequence[int], *, now: float, duration: float) -> None:
        """Extend the leases in ``holding``; return the owner's others and all expired ones.

        If the reply to a lease was lost, its items return here, and so do those of an earlier
        process of the same actor.
        """
        with self._transaction():
            self._leases.replace_predecessors(owner)
            self._leases.renew(owner, now + duration)
            self._leases.expire(now)
            self._leases.keep_only(owner, holding)

    def renew_leases(self, deadline: float) -> None:
        """Move the deadline of all leases."""
        with self._transaction():
            self._leases.renew_all(deadline)

    def release(self, owner: str, *, died: bool = False, max_deaths: int = 3) -> int:
        """Return all items of ``owner`` at once; gives their number.

        Args:
            died: its process died, possibly because of an item.
            max_deaths: deaths on an item alone after which it is quarantined.
        """
        with self._transaction():
            if died:
                self._leases.blame(owner, max_deaths)
            return self._leases.give_back(owner)

    def insert(self, fact_id: str, draw: int, payload: bytes, *, attempts: int) -> bool:
        """Accept one rollout; see :meth:`insert_many`."""
        return self.insert_many([Accepted(fact_id, draw, payload, attempts)])[0]

    def insert_many(self, rollouts: Sequence[Accepted]) -> list[bool]:
        """Accept rollouts; see :meth:`settle_many`."""
        return self.settle_many(rollouts)

    def settle_many(self, results: Sequence[Accepted | Quarantined]) -> list[bool]:
        """Take results of work items, all or none; False for each that leaves no rollout.

        That is a quarantined one, or one whose work item has an outcome.

        Late results are accepted; a later result of another owner then gets False.

        Raises:
            LedgerError: a rollout belongs to an unknown work item.
        """
        with self._transaction():
            return [self._outcomes.take(result) for result in results]

    def exhaust(self, fact_id: str, draw: int, reason: str, *, attempts: int) -> bool:
        """Close a work item without a rollout; False if it has an outcome."""
        with self._transaction():
            settled = self._outcomes.settle(fact_id, draw, "exhausted", reason, attempts)
            return settled is not None

    # -- exposures --------------------------------------------------------

    def register(self, token: str) -> int:
        """Register a learner, durably; gives its generation, which its other calls name.

        From now on all earlier generations are refused. A repeated call changes nothing.
        """
        with self._transaction(durable=True):
            return self._learners.register(token)

    def sample(
        self, generation: int, step: int, count: int, *, oldest: int | None = None
    ) -> list[Exposure] | None:
        """Bind exposures to ``step``, durably; repeated calls return the same list.

        Ranks ask one after the other, and all must get the same. Later epochs start once all
        work is settled. The last step of a run may have fewer, and so may those in which the
        cause of a death is searched.

        Args:
            generation: of the learner.
            step: optimizer step: the one after the last, or one that is not committed.
            count: exposures per step.
            oldest: rollouts of an older policy version that have no exposure yet
                are dropped, and their work is pending again.

        Returns:
            None while there is no full batch yet; an empty list if every
            exposure belongs to an earlier step.

        Raises:
            LedgerError: any other step, or not the newest learner.
        """
        with self._transaction(durable=True):
            self._learners.check(generation)
            counts = self.counts()
            if step <= counts.committed_step:
                raise LedgerError(f"step {step} is committed; it cannot be sampled again")
            if step <= counts.last_step:
                self._learners.gets(generation, step)
                return self.of_step(step)
            if step > counts.last_step + 1:
                raise LedgerError(f"step {step} cannot come after step {counts.last_step}")
            if not counts.settled and counts.waiting < count:
                return None
            chosen = self._choose_exposures(step, count, oldest)
            # Dropping a stale rollout reopens its work item.
            if len(chosen) < count and not self.counts().settled:
                return None
            if not chosen:
                return []
            chosen = chosen[: self._suspects.limit(chosen)]
            exposures = self._exposures(chosen)
            firsts = [len(exposure.payload) for exposure in exposures if exposure.epoch == 0]
            self._db.execute(
                "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?)",
                (step, *chosen[-1][:2], len(chosen), len(firsts), sum(firsts)),
            )
            self._learners.gets(generation, step)
        return exposures

    def note_trained(self, generation: int, step: int) -> None:
        """The learner has taken ``step``; its death from now on does not count against the batch.

        Raises:
            LedgerError: the ledger has no such step, or not the newest learner.
        """
        with self._transaction():
            self._check_bound(generation, step)
            self._learners.has_trained(generation, step)
            self._suspects.trained_a_step()

    def prepare(self, generation: int, step: int) -> None:
        """Put every step up to ``step`` on disk: a checkpoint that contains them gets its name.

        Raises:
            LedgerError: the ledger has no such step, or not the newest learner.
        """
        with self._transaction(durable=True):
            self._check_bound(generation, step)
            # Only a transaction that writes waits for the disk.
            self._db.execute("UPDATE totals SET committed_step = committed_step")

    def commit(self, generation: int, step: int) -> None:
        """Make every exposure up to ``step`` final and durable; earlier steps change nothing.

        Raises:
            LedgerError: the ledger has no such step, or not the newest learner.
        """
        with self._transaction(durable=True):
            self._check_bound(generation, step)
            self._db.execute(
                "UPDATE totals SET committed_step = :step, trained = trained + (SELECT"
                " coalesce(sum(exposures), 0) FROM steps"
                " WHERE step > committed_step AND step <= :step"
                ") WHERE committed_step < :step",
                {"step": step},
            )
            self._suspects.passed(*self._end_of(step))

    def restore(self, generation: int, step: int, *, max_deaths: int = 3) -> str:
        """Unbind, durably, the exposures of all steps after ``step``: the learner continues there.

        If its predecessor died in one of them, that counts against its exposures. A repeated
        call changes nothing, however late.

        Args:
            generation: of the learner.
            step: that of its checkpoint; 0 for the base model.
            max_deaths: deaths of learners on the same exposures after which they are suspects.

        Returns:
            What follows from the predecessor's death, if people should know; else empty.

        Raises:
            LedgerError: the ledger has no such step, or not the newest learner.
        """
        with self._transaction(durable=True):
            last = self.counts().last_step
            if step > last:
                raise LedgerError(f"the ledger has steps up to {last}, not step {step}")
            if self._learners.is_first_restore(generation, step):
                died_in = self._learners.died_in(generation)
                places = self._places_of(died_in) if step < died_in <= last else []
                self._db.execute("DELETE FROM steps WHERE step > ?", (step,))
                self._db.execute("UPDATE totals SET trained = sampled, committed_step = ?", (step,))
                if places:
                    return self._suspects.note_death(places, max_deaths)
        return ""

    def holding(self, most: int) -> dict[str, list[str]]:
        """The facts on lease by owner, ``most`` of them."""
        held: dict[str, list[str]] = {}
        for owner, fact_id in self._db.execute(
            "SELECT owner, fact_id FROM work WHERE owner IS NOT NULL ORDER BY owner, id LIMIT ?",
            (most,),
        ):
            held.setdefault(owner, []).append(fact_id)
        return held

    def num_suspects(self) -> int:
        """Exposures among which one that kills the learner is being searched."""
        return self._suspects.count()

    # -- private ----------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[None]:
        try:
            if durable:
                self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                yield
        except sqlite3.OperationalError as error:
            self.trouble = f"{self._path}: {error}"
            raise LedgerUnavailable(f"{self.trouble}; nothing was changed") from error
        else:
            self.trouble = ""
        finally:
            if durable:
                self._db.execute("PRAGMA synchronous=NORMAL")
        schema.checkpoint(self._path, self._db)

    def _check_bound(self, generation: int, step: int) -> None:
        self._learners.check(generation)
        last = self.counts().last_step
        if step > last:
            raise LedgerError(f"the ledger has steps up to {last}, not step {step}")

    def _choose_exposures(self, step: int, count: int, oldest: int | None) -> list[Place]:
        """Up to ``count`` exposures that are not bound yet; drops stale rollouts on the way."""
        counts = self.counts()
        epochs = self._epochs if counts.settled else 1
        chosen: list[Place] = []
        dropped = False
        for found in self._after_step(step, counts.work, chunk=count, epochs=epochs):
            # Only in order of arrival may later rollouts overtake a dropped one.
            is_blocked = dropped and (found.epoch > 0 or self._sequence.first_epoch == "work")
            if len(chosen) == count or is_blocked:
                break
            if found.epoch == 0 and self._outcomes.drop_if_older(found.work_id, oldest):
                dropped = True
            else:
                chosen.append(found)
        return chosen
