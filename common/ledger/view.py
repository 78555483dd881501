"""Read-only access to a ledger: counts, outcomes and trained exposures."""

from __future__ import annotations

import json
import sqlite3
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from common.ledger.order import EpochSequence, Place
from common.ledger.schema import open_for_reading
from common.records import draw_name


@dataclass(frozen=True, slots=True)
class Exposure:
    """One training example: a rollout in one epoch."""

    epoch: int
    work_id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Counts:
    """All counts; the ledger's part of a run's status.

    ``leased`` includes expired leases that were not given to another owner yet;
    ``waiting`` rollouts have had no exposure yet; ``stale`` counts rollouts that
    became too old before their first; ``last_step`` is the last sampled step.
    ``poisoned`` rollouts kill the learner, and ``skipped`` exposures of them are left out.
    """

    work: int
    leased: int
    accepted: int
    first_attempt: int
    exhausted: int
    quarantined: int
    attempts: int
    waiting: int
    waiting_bytes: int
    sampled: int
    trained: int
    stale: int
    poisoned: int
    skipped: int
    committed_step: int
    last_step: int

    @property
    def lost(self) -> int:
        """Work items that ended without a rollout."""
        return self.exhausted + self.quarantined

    @property
    def settled(self) -> bool:
        """Whether every work item has an outcome."""
        return self.accepted + self.lost == self.work

    def exposures(self, epochs: int) -> int:
        """Exposures of the whole run, as far as is known: all open work may yet be accepted."""
        return (self.work - self.lost) * epochs - self.skipped


@dataclass(frozen=True, slots=True)
class SettledWork:
    """A work item with its rollout; without one, ``payload`` is None and ``reason`` says why."""

    fact_id: str
    draw: int
    attempts: int
    payload: bytes | None
    reason: str | None


_TOTALS = ", ".join(name for name in Counts.__slots__ if name != "last_step")
_LAST_STEP = "coalesce((SELECT max(step) FROM steps), 0)"

# The same counts from the tables themselves; the totals must never differ.
_RECOUNT = f"""
SELECT work.*, rollouts.arrived - steps.firsts - poison.firsts,
    rollouts.bytes - steps.first_bytes - poison.first_bytes,
    steps.sampled, steps.trained, stale, poison.poisoned, poison.skipped, committed_step,
    {_LAST_STEP} FROM
    (SELECT count(*), count(owner), total(outcome = 'accepted'),
        total(outcome = 'accepted' AND attempts = 1), total(outcome = 'exhausted'),
        total(outcome = 'quarantined'), total(attempts) FROM work) AS work,
    (SELECT count(*) AS arrived, total(length(payload)) AS bytes FROM rollouts) AS rollouts,
    (SELECT total(exposures) AS sampled, total(firsts) AS firsts,
        total(first_bytes) AS first_bytes,
        total(exposures * (step <= (SELECT committed_step FROM totals))) AS trained FROM steps)
        AS steps,
    (SELECT count(*) AS poisoned, total(skipped) AS skipped, total(epoch = 0) AS firsts,
        total((epoch = 0) * length(payload)) AS first_bytes
        FROM poison JOIN rollouts USING (work_id)) AS poison,
    totals
"""
# Records per query in a full scan.
_CHUNK = 1000
# Payloads per query: together at most 256 MiB, mostly a few.
_PAYLOADS = 16


Order = Literal["arrival", "work", "shuffled"]


class LedgerReader(ABC):
    """What reports need of a ledger, from its file or through the queue that has it open.

    Rollouts are read a few at a time. One that comes or goes meanwhile may or may not be seen.
    """

    @abstractmethod
    def counts(self) -> Counts:
        """All counts, in constant time."""

    @abstractmethod
    def lost(self, most: int = -1) -> list[tuple[str, str, str]]:
        """(name, outcome, reason) of the work items that are not trained, or not to the end.

        The name is that of :func:`common.records.draw_name`. With ``most`` only so many, the first.
        """

    @abstractmethod
    def page(self, order: Order, after: int) -> list[tuple[int, bytes]]:
        """The next few (place, payload) in ``order`` after a place; 0 is before the first."""

    def payloads(self) -> Iterator[bytes]:
        """The accepted rollouts in order of arrival."""
        return self._all_in("arrival")

    def targets(self) -> Iterator[bytes]:
        """The accepted rollouts in the order of their work items, which timing does not change."""
        return self._all_in("work")

    def shuffled(self) -> Iterator[bytes]:
        """The accepted rollouts in a random order, that of the second epoch.

        The run's seed fixes it, so the first few are a sample that timing does not change.
        What kills the learner is left out.
        """
        return self._all_in("shuffled")

    def _all_in(self, order: Order) -> Iterator[bytes]:
        place = 0
        while rows := self.page(order, place):
            yield from (payload for _, payload in rows)
            place = rows[-1][0]


class LedgerView(LedgerReader):
    """A read-only ledger. Every method sees one consistent state."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        seed, first_epoch = connection.execute("SELECT seed, first_epoch FROM run").fetchone()
        self._sequence = EpochSequence(connection, first_epoch, seed)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def counts(self) -> Counts:
        """All counts, in constant time."""
        return Counts(*self._db.execute(f"SELECT {_TOTALS}, {_LAST_STEP} FROM totals").fetchone())

    def recount(self) -> Counts:
        """All counts from a full scan; equal to :meth:`counts` unless there is a bug."""
        return Counts(*map(int, self._db.execute(_RECOUNT).fetchone()))

    def trained(self) -> list[tuple[str, int, int]]:
        """Every committed (fact id, draw, epoch), sorted; a full scan."""
        counts = self.counts()
        names = dict(
            (work_id, (fact_id, draw))
            for work_id, fact_id, draw in self._db.execute("SELECT id, fact_id, draw FROM work")
        )
        walk = self._after_step(0, counts.work, chunk=_CHUNK)
        return sorted(
            (*names[place.work_id], place.epoch) for place in islice(walk, counts.trained)
        )

    def page(self, order: Order, after: int) -> list[tuple[int, bytes]]:
        """The next few (place, payload) in ``order`` after a place; 0 is before the first."""
        if order == "shuffled":
            size = self.counts().work
            places = self._sequence.after(1, after, size=size, epochs=2, chunk=_PAYLOADS)
            chosen = list(islice(places, _PAYLOADS))
            exposures = self._exposures(chosen)
            return [(p.place, one.payload) for p, one in zip(chosen, exposures, strict=True)]
        key = "id" if order == "arrival" else "work_id"
        return self._db.execute(
            f"SELECT {key}, payload FROM rollouts WHERE {key} > ? ORDER BY {key} LIMIT ?",
            (after, _PAYLOADS),
        ).fetchall()

    def lost(self, most: int = -1) -> list[tuple[str, str, str]]:
        """See :meth:`LedgerReader.lost`."""
        rows = self._db.execute(
            "SELECT fact_id, draw, outcome, reason FROM ("
            "SELECT id, fact_id, draw, outcome, reason FROM work"
            " WHERE outcome IN ('exhausted', 'quarantined')"
            " UNION ALL SELECT id, fact_id, draw, 'quarantined', poison.reason"
            " FROM poison JOIN work ON id = work_id) ORDER BY id LIMIT ?",
            (most,),
        )
        return [(draw_name(fact, draw), outcome, reason) for fact, draw, outcome, reason in rows]

    def settled_work(self) -> Iterator[SettledWork]:
        """The work items that have an outcome; those with a rollout in order of its arrival."""
        yield from (
            SettledWork(*row)
            for row in self._db.execute(
                "SELECT fact_id, draw, attempts, payload, reason FROM work"
                " JOIN rollouts ON work.id = work_id ORDER BY rollouts.id"
            )
        )
        yield from (
            SettledWork(fact_id, draw, attempts, None, reason)
            for fact_id, draw, attempts, reason in self._db.execute(
                "SELECT fact_id, draw, attempts, reason FROM work"
                " WHERE outcome IN ('exhausted', 'quarantined') ORDER BY id"
            )
        )

    def work_items(self) -> list[tuple[str, int]]:
        """Every (fact id, draw), in the order in which they were registered."""
        return self._db.execute("SELECT fact_id, draw FROM work ORDER BY id").fetchall()

    def ready(self, counts: Counts, most: int) -> int:
        """Number of first exposures that the next step can have, at most ``most``."""
        if self._sequence.first_epoch == "arrival":
            return min(counts.waiting, most)
        walk = self._after_step(counts.last_step, counts.work, chunk=most, epochs=1)
        return sum(1 for _ in islice(walk, most))

    def of_step(self, step: int) -> list[Exposure]:
        """The exposures bound to ``step``, in order."""
        return self._exposures(self._places_of(step))

    def sampled_up_to(self, step: int) -> int:
        """Exposures of all steps up to ``step``."""
        later = self._db.execute("SELECT total(exposures) FROM steps WHERE step > ?", (step,))
        return self.counts().sampled - int(later.fetchone()[0])

    def _places_of(self, step: int) -> list[Place]:
        row = self._db.execute("SELECT exposures FROM steps WHERE step = ?", (step,)).fetchone()
        if row is None:
            return []
        walk = self._after_step(step - 1, self.counts().work, chunk=row[0])
        return list(islice(walk, row[0]))

    def _end_of(self, step: int) -> tuple[int, int]:
        """Epoch and place of the last exposure of ``step``, or of the last step before it."""
        row: tuple[int, int] | None = self._db.execute(
            "SELECT epoch, place FROM steps WHERE step <= ? ORDER BY step DESC LIMIT 1", (step,)
        ).fetchone()
        return row or (0, 0)

    def _after_step(
        self, step: int, size: int, *, chunk: int, epochs: int = sys.maxsize
    ) -> Iterator[Place]:
        """The sequence from the end of ``step``, or of the last sampled step before it."""
        epoch, place = self._end_of(step)
        return self._sequence.after(epoch, place, size=size, epochs=epochs, chunk=chunk)

    def _exposures(self, places: list[Place]) -> list[Exposure]:
        payloads = dict(
            self._db.execute(
                "SELECT work_id, payload FROM rollouts"
                " WHERE work_id IN (SELECT value FROM json_each(?))",
                (json.dumps([place.work_id for place in places]),),
            )
        )
        return [Exposure(place.epoch, place.work_id, payloads[place.work_id]) for place in places]


def open_view(path: Path) -> LedgerView:
    """Open the ledger at ``path`` for reading; no process may have it open for writing.

    Raises:
        UserError: it is in use, missing or damaged.
    """
    return LedgerView(open_for_reading(path))
