"""How work items end: with a rollout, or without one."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from common.ledger.schema import LedgerError


@dataclass(frozen=True, slots=True)
class Accepted:
    """A rollout to insert; ``attempts`` is the number of attempts it took."""

    fact_id: str
    draw: int
    payload: bytes
    attempts: int
    policy_version: int = 0


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A work item to close because its rollout cannot be trained; ``reason`` says why."""

    fact_id: str
    draw: int
    reason: str
    attempts: int


class Outcomes:
    """The outcomes in the ``work`` table, and the rollouts; the caller holds the transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def take(self, result: Accepted | Quarantined) -> bool:
        """Take one result; False if it leaves no rollout.

        Raises:
            LedgerError: it belongs to an unknown work item.
        """
        fact_id, draw, attempts = result.fact_id, result.draw, result.attempts
        if isinstance(result, Quarantined):
            self.settle(fact_id, draw, "quarantined", result.reason, attempts)
            return False
        work_id = self.settle(fact_id, draw, "accepted", None, attempts)
        if work_id is None:
            return False
        self._db.execute(
            "INSERT INTO rollouts (work_id, policy_version, payload) VALUES (?, ?, ?)",
            (work_id, result.policy_version, result.payload),
        )
        return True

    def settle(
        self, fact_id: str, draw: int, outcome: str, reason: str | None, attempts: int
    ) -> int | None:
        """Give a work item its outcome; its id, or None if it has one already.

        Raises:
            LedgerError: it is unknown.
        """
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

    def drop_if_older(self, work_id: int, oldest: int | None) -> bool:
        """Drop a rollout of an older policy version; then its work is pending again.

        False if it is not older, as is none where ``oldest`` is None.
        """
        if oldest is None:
            return False
        dropped = self._db.execute(
            "DELETE FROM rollouts WHERE work_id = ? AND policy_version < ?", (work_id, oldest)
        ).rowcount
        if dropped:
            self._db.execute(
                "UPDATE work SET outcome = NULL, attempts = 0, group_size = 0, deaths = 0"
                " WHERE id = ?",
                (work_id,),
            )
        return bool(dropped)
