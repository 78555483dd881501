"""Who gets which work, and who is to blame for a death.

All that an owner holds is due when its last call is old enough. An owner that
dies holding one item leaves a *lone death* on it; at ``max_deaths`` the item
is quarantined. One that dies holding n > 1 proves nothing about any: the n
become suspects, leased from now on to an owner that holds nothing, in crowds
of at most n/8. So a poisonous item is alone after about log8(n) deaths, and
the others are cleared by being settled.

The items with the fewest lone deaths go first. A host that kills whatever it
is given therefore spreads its deaths over all that is pending, and no item is
quarantined before every other pending one has ``max_deaths - 1`` too; a
poisonous item gathers its deaths alone, after everything else is done.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from common.records import Work

_CROWD_SHARE = 8
_PENDING = "FROM work WHERE outcome IS NULL AND owner IS NULL"


class Leases:
    """The owner's side of the ``work`` table; the caller holds the transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def renew(self, owner: str, deadline: float) -> None:
        """All that ``owner`` holds is due at ``deadline``."""
        self._db.execute("INSERT OR REPLACE INTO owners VALUES (?, ?)", (owner, deadline))

    def expire(self, now: float) -> None:
        """Return what is overdue; nobody is blamed for being late."""
        late = self._db.execute("SELECT name FROM owners WHERE deadline <= ?", (now,)).fetchall()
        for (owner,) in late:
            self.give_back(owner)

    def give_back(self, owner: str) -> int:
        """Return all that ``owner`` holds; the number of items."""
        self._db.execute("DELETE FROM owners WHERE name = ?", (owner,))
        return self._db.execute("UPDATE work SET owner = NULL WHERE owner = ?", (owner,)).rowcount

    def keep_only(self, owner: str, holding: Sequence[int]) -> None:
        """Return what ``owner`` does not say it holds."""
        self._db.execute(
            "UPDATE work SET owner = NULL WHERE owner = ?"
            " AND id NOT IN (SELECT value FROM json_each(?))",
            (owner, json.dumps(list(holding))),
        )

    def grant(self, owner: str, count: int) -> list[Work]:
        """Lease up to ``count`` pending items to ``owner``."""
        rows = self._db.execute(
            "UPDATE work SET owner = ? WHERE id IN (SELECT value FROM json_each(?))"
            " RETURNING id, fact_id, draw",
            (owner, json.dumps(self._choose(owner, count))),
        ).fetchall()
        return [Work(*row) for row in sorted(rows)]

    def _choose(self, owner: str, count: int) -> list[int]:
        held, suspect = self._db.execute(
            "SELECT count(*), coalesce(max(crowd), 0) FROM work WHERE owner = ?", (owner,)
        ).fetchone()
        if suspect:
            return []
        first = self._db.execute(
            f"SELECT deaths, crowd {_PENDING} ORDER BY deaths, crowd DESC, id LIMIT 1"
        ).fetchone()
        if first is None:
            return []
        deaths, crowd = (0, 0) if held else first
        rows = self._db.execute(
            f"SELECT id {_PENDING} AND deaths = ? AND crowd = ? ORDER BY id LIMIT ?",
            (deaths, crowd, min(count, crowd) if crowd else count),
        )
        return [row[0] for row in rows]

    def blame(self, owner: str, max_deaths: int) -> None:
        """``owner`` died; what that says about what it held."""
        held = self._db.execute("SELECT id, deaths FROM work WHERE owner = ?", (owner,)).fetchall()
        if len(held) > 1:
            self._db.execute(
                "UPDATE work SET crowd = ? WHERE owner = ?",
                (max(1, len(held) // _CROWD_SHARE), owner),
            )
        elif held:
            work_id, deaths = held[0][0], held[0][1] + 1
            self._db.execute(
                "UPDATE work SET crowd = 1, deaths = ? WHERE id = ?", (deaths, work_id)
            )
            if deaths >= max_deaths:
                self._db.execute(
                    "UPDATE work SET outcome = 'quarantined', reason = ?, owner = NULL"
                    " WHERE id = ?",
                    (f"{deaths} actors died while they held nothing else", work_id),
                )
