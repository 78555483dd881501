"""Who owes what: work, rollouts and exposures, in one SQLite file.

A pure state machine: it knows no clocks (callers pass ``now``), no processes
and no models. Every public method is one transaction, so a kill at any point
leaves either the state before it or the state after it.

Work item    one (fact, draw): pending -> leased -> accepted | exhausted.
Rollout      the payload accepted for a work item; one each, whatever arrives.
Exposure     one (rollout, epoch), bound to the step that trains it. The
             primary key makes a second exposure impossible.

An exposure is *trained* once its step is committed, which the learner does
after the checkpoint that contains the step is safe on disk.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.records import Work

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS work (
    id INTEGER PRIMARY KEY,
    fact_id TEXT NOT NULL,
    draw INTEGER NOT NULL,
    owner TEXT,                            -- NULL: not leased
    deadline REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    outcome TEXT CHECK (outcome IN ('accepted', 'exhausted')),
    reason TEXT,
    UNIQUE (fact_id, draw)
);
CREATE INDEX IF NOT EXISTS work_open ON work (id) WHERE outcome IS NULL;
CREATE TABLE IF NOT EXISTS rollouts (
    id INTEGER PRIMARY KEY,                -- order of arrival
    work_id INTEGER NOT NULL UNIQUE REFERENCES work (id),
    payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS exposures (
    epoch INTEGER NOT NULL,
    rollout_id INTEGER NOT NULL REFERENCES rollouts (id),
    step INTEGER NOT NULL,
    position INTEGER NOT NULL,             -- within the step
    PRIMARY KEY (epoch, rollout_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS exposures_step ON exposures (step, position);
"""


class LedgerError(RuntimeError):
    """A caller broke the protocol; the state is unchanged."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """One rollout as trained in one epoch."""

    epoch: int
    rollout_id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """Sizes of everything; the ledger's part of a run's status."""

    work: int
    leased: int
    accepted: int
    exhausted: int
    attempts: int
    waiting: int
    waiting_bytes: int
    sampled: int
    trained: int
    committed_step: int

    @property
    def settled(self) -> bool:
        """Every work item has its outcome."""
        return self.accepted + self.exhausted == self.work


class Ledger:
    """Opens or creates the file at ``path``.

    Args:
        path: SQLite file; its folder must exist.
        epochs: exposures of each rollout.
        seed: fixes the permutation of every epoch after the first.
    """

    def __init__(self, path: Path, *, epochs: int, seed: int) -> None:
        self._epochs = epochs
        self._seed = seed
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        self._order: tuple[int, list[int]] = (-1, [])

    def close(self) -> None:
        """Close the file; uncommitted work does not exist by construction."""
        self._db.close()

    # -- work -------------------------------------------------------------

    def add_work(self, items: Iterable[tuple[str, int]]) -> None:
        """Register (fact id, draw) pairs; those already known are left alone."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO work (fact_id, draw) VALUES (?, ?)", list(items)
            )

    def lease(self, owner: str, count: int, *, now: float, duration: float) -> list[Work]:
        """Give ``owner`` up to ``count`` items, expired leases of others included."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            rows = self._db.execute(
                "UPDATE work SET owner = ?, deadline = ? WHERE id IN ("
                " SELECT id FROM work WHERE outcome IS NULL"
                " AND (owner IS NULL OR deadline <= ?) ORDER BY id LIMIT ?)"
                " RETURNING id, fact_id, draw",
                (owner, now + duration, now, count),
            ).fetchall()
        return [Work(*row) for row in sorted(rows)]

    def heartbeat(self, owner: str, holding: Sequence[int], *, now: float, duration: float) -> None:
        """Extend the leases that ``owner`` says it holds; take back the others.

        A grant whose reply was lost is not held by anybody, and returns here.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "UPDATE work SET deadline = ? WHERE owner = ? AND outcome IS NULL",
                (now + duration, owner),
            )
            self._db.execute(
                "UPDATE work SET owner = NULL WHERE owner = ? AND outcome IS NULL"
                " AND id NOT IN (SELECT value FROM json_each(?))",
                (owner, json.dumps(list(holding))),
            )

    def release(self, owner: str) -> int:
        """Return all that ``owner`` holds, at once; the number of items."""
        with self._db:
            return self._db.execute(
                "UPDATE work SET owner = NULL WHERE owner = ? AND outcome IS NULL", (owner,)
            ).rowcount

    def insert(self, fact_id: str, draw: int, payload: bytes, *, attempts: int) -> bool:
        """Accept a rollout; False if its work item already has an outcome.

        Late results count: whoever leased the item meanwhile finds it settled.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            work_id = self._settle(fact_id, draw, "accepted", "", attempts)
            if work_id is None:
                return False
            self._db.execute(
                "INSERT INTO rollouts (work_id, payload) VALUES (?, ?)", (work_id, payload)
            )
        return True

    def exhaust(self, fact_id: str, draw: int, reason: str, *, attempts: int) -> bool:
        """Close a work item without a rollout; False if it has an outcome."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            return self._settle(fact_id, draw, "exhausted", reason, attempts) is not None

    def _settle(
        self, fact_id: str, draw: int, outcome: str, reason: str, attempts: int
    ) -> int | None:
        row = self._db.execute(
            "SELECT id, outcome FROM work WHERE fact_id = ? AND draw = ?", (fact_id, draw)
        ).fetchone()
        if row is None:
            raise LedgerError(f"no work item for fact {fact_id!r}, draw {draw}")
        work_id, settled = row
        if settled is not None:
            return None
        self._db.execute(
            "UPDATE work SET outcome = ?, reason = ?, attempts = ?, owner = NULL WHERE id = ?",
            (outcome, reason, attempts, work_id),
        )
        return int(work_id)

    # -- exposures --------------------------------------------------------

    def sample(self, step: int, count: int) -> list[Exposure] | None:
        """The exposures of ``step``: the same list however often it is asked.

        Epoch 0 goes in order of arrival; later epochs are seeded permutations
        and begin once all work is settled. The last step of a run may be
        short.

        Returns:
            None while a full batch is not there yet; an empty list when every
            exposure belongs to an earlier step.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if step <= self._committed_step():
                raise LedgerError(f"step {step} is committed; it cannot be sampled again")
            bound = self._of_step(step)
            if bound:
                return bound
            last = self._db.execute("SELECT max(step) FROM exposures").fetchone()[0]
            if last is not None and last >= step:
                raise LedgerError(f"step {step} was passed over; the last sampled is {last}")
            chosen = self._next(count)
            if chosen is None:
                return None
            self._db.executemany(
                "INSERT INTO exposures (epoch, rollout_id, step, position) VALUES (?, ?, ?, ?)",
                [(epoch, rollout, step, index) for index, (epoch, rollout) in enumerate(chosen)],
            )
            return self._of_step(step)

    def commit(self, step: int) -> None:
        """Make every exposure up to ``step`` final. Never moves backwards."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if step > self._committed_step():
                self._set_committed(step)

    def restore(self, step: int) -> None:
        """The learner continues from ``step``: exposures of later steps return."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM exposures WHERE step > ?", (step,))
            self._set_committed(step)

    def trained(self) -> list[tuple[str, int, int]]:
        """Every committed (fact id, draw, epoch), sorted."""
        return sorted(
            self._db.execute(
                "SELECT work.fact_id, work.draw, exposures.epoch FROM exposures"
                " JOIN rollouts ON rollouts.id = exposures.rollout_id"
                " JOIN work ON work.id = rollouts.work_id WHERE exposures.step <= ?",
                (self._committed_step(),),
            )
        )

    # -- reading ----------------------------------------------------------

    def counts(self) -> Counts:
        """One consistent view of all sizes."""
        with self._db:
            self._db.execute("BEGIN")
            work, leased, accepted, exhausted, attempts = self._db.execute(
                "SELECT count(*), count(owner), coalesce(sum(outcome = 'accepted'), 0),"
                " coalesce(sum(outcome = 'exhausted'), 0), coalesce(sum(attempts), 0) FROM work"
            ).fetchone()
            waiting, waiting_bytes = self._db.execute(
                "SELECT count(*), coalesce(sum(length(payload)), 0) FROM rollouts WHERE id >"
                " (SELECT coalesce(max(rollout_id), 0) FROM exposures WHERE epoch = 0)"
            ).fetchone()
            committed = self._committed_step()
            sampled, trained = self._db.execute(
                "SELECT count(*), coalesce(sum(step <= ?), 0) FROM exposures", (committed,)
            ).fetchone()
        return Counts(
            work=work,
            leased=leased,
            accepted=accepted,
            exhausted=exhausted,
            attempts=attempts,
            waiting=waiting,
            waiting_bytes=waiting_bytes,
            sampled=sampled,
            trained=trained,
            committed_step=committed,
        )

    def payloads(self) -> list[bytes]:
        """All accepted rollouts in order of arrival."""
        return [row[0] for row in self._db.execute("SELECT payload FROM rollouts ORDER BY id")]

    def exhausted(self) -> list[tuple[str, str]]:
        """(fact id, reason) of every item that ended without a rollout."""
        return self._db.execute(
            "SELECT fact_id, reason FROM work WHERE outcome = 'exhausted' ORDER BY id"
        ).fetchall()

    def attempts_per_item(self) -> list[tuple[int, bool]]:
        """(attempts used, accepted?) of every settled item."""
        return [
            (attempts, outcome == "accepted")
            for attempts, outcome in self._db.execute(
                "SELECT attempts, outcome FROM work WHERE outcome IS NOT NULL ORDER BY id"
            )
        ]

    # -- inside -----------------------------------------------------------

    def _of_step(self, step: int) -> list[Exposure]:
        return [
            Exposure(*row)
            for row in self._db.execute(
                "SELECT exposures.epoch, rollout_id, payload FROM exposures"
                " JOIN rollouts ON rollouts.id = rollout_id WHERE step = ? ORDER BY position",
                (step,),
            )
        ]

    def _next(self, count: int) -> list[tuple[int, int]] | None:
        """The next (epoch, rollout id) pairs, or None while too few are there."""
        unsettled = "SELECT 1 FROM work WHERE outcome IS NULL LIMIT 1"
        settled = self._db.execute(unsettled).fetchone() is None
        (total,) = self._db.execute("SELECT count(*) FROM rollouts").fetchone()
        (done,) = self._db.execute("SELECT count(*) FROM exposures").fetchone()
        end = total * self._epochs if settled else total
        if done + count > end and not settled:
            return None
        return [
            (index // total, self._epoch_order(index // total)[index % total])
            for index in range(done, min(done + count, end))
        ]

    def _epoch_order(self, epoch: int) -> Sequence[int]:
        if epoch == 0:
            # Grows while rollouts arrive, so it is never kept.
            return [row[0] for row in self._db.execute("SELECT id FROM rollouts ORDER BY id")]
        if self._order[0] != epoch:
            rows = self._db.execute(
                "SELECT rollouts.id, fact_id, draw FROM rollouts JOIN work ON work.id = work_id"
            ).fetchall()
            rows.sort(key=lambda row: self._rank(epoch, row[1], row[2]))
            self._order = (epoch, [row[0] for row in rows])
        return self._order[1]

    def _rank(self, epoch: int, fact_id: str, draw: int) -> bytes:
        text = f"{self._seed}\x00{epoch}\x00{fact_id}\x00{draw}"
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    def _committed_step(self) -> int:
        row = self._db.execute("SELECT value FROM meta WHERE key = 'committed_step'").fetchone()
        return int(row[0]) if row else 0

    def _set_committed(self, step: int) -> None:
        self._db.execute(
            "INSERT INTO meta (key, value) VALUES ('committed_step', ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (step,),
        )
