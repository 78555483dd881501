"""Leases of work items to owners, and the isolation of poison items by group testing.

All leases of an owner expire a fixed time after its last call.

A *poison item* kills the process that works on it. If an owner dies while it holds one item,
that death counts against the item; at ``max_deaths`` the item is quarantined. If it holds
n > 1 items, any of them may be the cause: all n become suspects. Suspects are leased only to
an owner that holds nothing, in groups of at most n/8. So a poison item is alone after about
log8(n) deaths, and the others are cleared when they are settled.

Items with the fewest deaths come first. A faulty host that kills every owner therefore
spreads its deaths over all pending items, and no item is quarantined before all other pending
ones have ``max_deaths - 1`` deaths. A poison item collects its deaths alone, after all other
items are done.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from common.records import Work

# A group of suspects is split into this many.
_GROUP_SPLIT = 8
_PENDING = "FROM work WHERE outcome IS NULL AND owner IS NULL"


class Leases:
    """Leases in the ``work`` table; the caller holds the transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def renew(self, owner: str, deadline: float) -> None:
        """Move the deadline of all leases of ``owner`` to ``deadline``."""
        self._db.execute("INSERT OR REPLACE INTO owners VALUES (?, ?)", (owner, deadline))

    def replace_predecessors(self, owner: str) -> None:
        """Return the items of earlier owners of that name; ``NAME@…`` is one process of NAME."""
        name, separator, _ = owner.partition("@")
        if not separator:
            return
        earlier = self._db.execute(
            "SELECT name FROM owners WHERE name != ? AND substr(name, 1, ?) = ?",
            (owner, len(name) + 1, f"{name}@"),
        ).fetchall()
        for (each,) in earlier:
            self.give_back(each)

    def renew_all(self, deadline: float) -> None:
        """Move the deadline of the leases of every owner to ``deadline``."""
        self._db.execute("UPDATE owners SET deadline = ?", (deadline,))

    def expire(self, now: float) -> None:
        """Return overdue items; lateness does not count as a death."""
        late = self._db.execute("SELECT name FROM owners WHERE deadline <= ?", (now,)).fetchall()
        for (owner,) in late:
            self.give_back(owner)

    def give_back(self, owner: str) -> int:
        """Return all items of ``owner``; gives their number."""
        self._db.execute("DELETE FROM owners WHERE name = ?", (owner,))
        return self._db.execute("UPDATE work SET owner = NULL WHERE owner = ?", (owner,)).rowcount

    def keep_only(self, owner: str, holding: Sequence[int]) -> None:
        """Return the items of ``owner`` that are not in ``holding``."""
        self._db.execute(
            "UPDATE work SET owner = NULL WHERE owner = ?"
            " AND id NOT IN (SELECT value FROM json_each(?))",
            (owner, json.dumps(list(holding))),
        )

    def grant(self, owner: str, count: int) -> list[Work]:
        """Lease up to ``count`` pending items to ``owner``; none while it holds suspects."""
        rows = self._db.execute(
            "UPDATE work SET owner = ? WHERE id IN (SELECT value FROM json_each(?))"
            " RETURNING id, fact_id, draw",
            (owner, json.dumps(self._choose(owner, count))),
        ).fetchall()
        return [Work(*row) for row in sorted(rows)]

    def _choose(self, owner: str, count: int) -> list[int]:
        held, suspect = self._db.execute(
            "SELECT count(*), coalesce(max(group_size), 0) FROM work WHERE owner = ?", (owner,)
        ).fetchone()
        if suspect:
            return []
        first = self._db.execute(
            f"SELECT deaths, group_size {_PENDING} ORDER BY deaths, group_size DESC, id LIMIT 1"
        ).fetchone()
        if first is None:
            return []
        deaths, group_size = (0, 0) if held else first
        rows = self._db.execute(
            f"SELECT id {_PENDING} AND deaths = ? AND group_size = ? ORDER BY id LIMIT ?",
            (deaths, group_size, min(count, group_size) if group_size else count),
        )
        return [row[0] for row in rows]

    def blame(self, owner: str, max_deaths: int) -> None:
        """Record that ``owner`` died: a death of its only item, or suspicion of all its items."""
        held = self._db.execute("SELECT id, deaths FROM work WHERE owner = ?", (owner,)).fetchall()
        if len(held) > 1:
            self._db.execute(
                "UPDATE work SET group_size = ? WHERE owner = ?",
                (max(1, len(held) // _GROUP_SPLIT), owner),
            )
        elif held:
            work_id, deaths = held[0][0], held[0][1] + 1
            self._db.execute(
                "UPDATE work SET group_size = 1, deaths = ? WHERE id = ?", (deaths, work_id)
            )
            if deaths >= max_deaths:
                self._db.execute(
                    "UPDATE work SET outcome = 'quarantined', reason = ?, owner = NULL"
                    " WHERE id = ?",
                    (f"{deaths} actors died while they held nothing else", work_id),
                )
