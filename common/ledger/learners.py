"""Which learner may move the steps: only the one that registered last.

A learner that was paused or cut off may still send, or have sent, calls after its successor
has begun. Each learner registers once, under a token of its own, and its generation goes with
every call. So what an earlier one sends is refused, and what this one sends twice is done once.
"""

from __future__ import annotations

import sqlite3

from common.ledger.schema import LedgerError


class StaleLearner(LedgerError):
    """A call of a learner that has a successor; the state is unchanged."""


class Learners:
    """The ``learners`` table; the caller holds the transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def register(self, token: str) -> int:
        """The generation of the learner with ``token``: a new one unless it is known."""
        self._db.execute("INSERT OR IGNORE INTO learners (token) VALUES (?)", (token,))
        row = self._db.execute("SELECT generation FROM learners WHERE token = ?", (token,))
        return int(row.fetchone()[0])

    def check(self, generation: int) -> None:
        """Refuse any but the newest learner, which must have restored a step.

        Raises:
            StaleLearner: it has a successor.
            LedgerError: it has not restored a step.
        """
        if self._restored(generation) is None:
            raise LedgerError(f"learner {generation} has not restored a step yet")

    def gets(self, generation: int, step: int) -> None:
        """Note that a learner has the batch of ``step``."""
        self._db.execute(
            "UPDATE learners SET got = ? WHERE generation = ? AND got < ?",
            (step, generation, step),
        )

    def has_trained(self, generation: int, step: int) -> None:
        """Note that a learner has taken ``step``: if it dies now, its batch is not the cause."""
        self._db.execute(
            "UPDATE learners SET trained = max(trained, ?) WHERE generation = ?",
            (step, generation),
        )

    def died_in(self, generation: int) -> int:
        """The step that the predecessor of a learner was taking, or 0."""
        row = self._db.execute(
            "SELECT got, trained FROM learners WHERE generation < ? AND restored IS NOT NULL"
            " ORDER BY generation DESC LIMIT 1",
            (generation,),
        ).fetchone() or (0, 0)
        return int(row[0]) if row[0] > row[1] else 0

    def is_first_restore(self, generation: int, step: int) -> bool:
        """Note the step from which a learner continues; False if this is a repeated call.

        Raises:
            StaleLearner: it has a successor.
            LedgerError: it has restored another step.
        """
        restored = self._restored(generation)
        if restored is None:
            self._db.execute(
                "UPDATE learners SET restored = ? WHERE generation = ?", (step, generation)
            )
        elif restored != step:
            raise LedgerError(f"learner {generation} has restored step {restored}, not {step}")
        return restored is None

    def _restored(self, generation: int) -> int | None:
        newest, restored = self._db.execute(
            "SELECT generation, restored FROM learners ORDER BY generation DESC LIMIT 1"
        ).fetchone() or (0, None)
        if generation != newest:
            raise StaleLearner(f"learner {generation} has a successor, learner {newest}")
        return None if restored is None else int(restored)
