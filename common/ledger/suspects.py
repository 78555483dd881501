"""Finding the rollout that kills the learner.

A rollout may be valid and still kill each learner that trains it: a length at which memory
runs out, a bug of a kernel. Learners that die in one step ``max_deaths`` times make its
exposures suspects. From then on steps end at the edges of the suspects and have at most half of
them, so each further death halves them. One that is left alone and has killed ``max_deaths``
learners is *poison*: this exposure and all later ones of its rollout are left out.

Deaths anywhere else clear the suspects. And before a second rollout is left out, a learner must
have trained some step since the first: otherwise it is not the data that kills.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from common.ledger.order import Place


class Suspects:
    """The ``suspects`` and ``poison`` tables; the caller holds the transaction."""

    def __init__(self, connection: sqlite3.Connection, epochs: int) -> None:
        self._db = connection
        self._epochs = epochs

    def note_death(self, places: Sequence[Place], max_deaths: int) -> str:
        """A learner died in a step with the exposures ``places``; returns what follows, if new."""
        first, last, size = places[0][:2], places[-1][:2], len(places)
        deaths, is_split = 1, False
        for *edges, exposures, before, split in self._db.execute("SELECT * FROM suspects"):
            if tuple(edges[:2]) <= first and last <= tuple(edges[2:]):
                deaths, is_split = (before + 1 if exposures == size else 1), bool(split)
        is_split = is_split or deaths >= max_deaths
        self._db.execute("DELETE FROM suspects")
        if size == 1 and deaths >= max_deaths and self._may_leave_out():
            return self._leave_out(places[0], deaths)
        self._db.execute(
            "INSERT INTO suspects VALUES (?, ?, ?, ?, ?, ?, ?)",
            (*first, *last, size, deaths, is_split),
        )
        if not is_split:
            return ""
        return f"learners die in a step with {size} rollout(s); it is cut to find the cause"

    def limit(self, chosen: Sequence[Place]) -> int:
        """How many of ``chosen`` the next step may have: the suspects in it are divided."""
        row = self._db.execute("SELECT * FROM suspects WHERE is_split").fetchone()
        if row is None:
            return len(chosen)
        first, last, exposures = row[:2], row[2:4], int(row[4])
        before = len([place for place in chosen if place[:2] < first])
        if before or chosen[0][:2] > last:
            return before or len(chosen)
        return min((exposures + 1) // 2, len([place for place in chosen if place[:2] <= last]))

    def count(self) -> int:
        """Exposures among which the one that kills is being searched; 0 if none is."""
        row = self._db.execute("SELECT exposures FROM suspects WHERE is_split").fetchone()
        return int(row[0]) if row and self._may_leave_out() else 0

    def passed(self, epoch: int, place: int) -> None:
        """Everything up to this place is committed: no suspect is left in it."""
        self._db.execute(
            "DELETE FROM suspects WHERE (last_epoch, last_place) <= (?, ?)", (epoch, place)
        )

    def trained_a_step(self) -> None:
        """A learner has trained a step."""
        self._db.execute("UPDATE poison SET is_confirmed = 1 WHERE NOT is_confirmed")

    def _may_leave_out(self) -> bool:
        return not self._db.execute("SELECT 1 FROM poison WHERE NOT is_confirmed").fetchone()

    def _leave_out(self, place: Place, deaths: int) -> str:
        reason = f"{deaths} learners died while they trained nothing else"
        self._db.execute(
            "INSERT INTO poison VALUES (?, ?, ?, ?, ?, FALSE)",
            (place.work_id, place.epoch, place.place, self._epochs - place.epoch, reason),
        )
        fact_id, draw = self._db.execute(
            "SELECT fact_id, draw FROM work WHERE id = ?", (place.work_id,)
        ).fetchone()
        return f"fact {fact_id}, draw {draw}, is left out from epoch {place.epoch + 1} on: {reason}"
