"""The sequence of exposures of a run.

Epoch 0 streams, in order of arrival or in order of the work items. The latter waits for every
item in turn, so it is the same after any delay or restart. Later epochs are permutations of
the work items that depend only on the seed and the epoch; items without a rollout are skipped.
Exposures of a rollout that kills the learner are left out from a place on (see suspects.py).
The sequence is computed, not stored, and any place in it is reached in constant time.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
import struct
from collections.abc import Iterator
from typing import Literal, NamedTuple

FirstEpoch = Literal["arrival", "work"]


class Permutation:
    """A keyed bijection of range(size): memory O(√size), time O(1).

    Four rounds of a Feistel network with random tables (Luby and Rackoff 1988)
    on the smallest 2^k ≥ size; a result outside the range is permuted again.
    """

    def __init__(self, size: int, key: str) -> None:
        bits = max(2, (size - 1).bit_length())
        self._size = size
        self._low_bits = bits // 2
        low, high = 2**self._low_bits, 2 ** (bits - self._low_bits)
        self._low_mask, self._high_mask = low - 1, high - 1
        words = struct.unpack(
            f"<{2 * (low + high)}I", hashlib.shake_256(key.encode()).digest(8 * (low + high))
        )
        self._from_low = words[:low], words[low : 2 * low]
        self._from_high = words[2 * low : 2 * low + high], words[2 * low + high :]

    def __call__(self, index: int) -> int:
        """The image of ``index``."""
        while True:
            low, high = index & self._low_mask, index >> self._low_bits
            for from_low, from_high in zip(self._from_low, self._from_high, strict=True):
                high ^= from_low[low] & self._high_mask
                low ^= from_high[high] & self._low_mask
            index = high << self._low_bits | low
            if index < self._size:
                return index


# An epoch is read in order, and its last batch may extend into the next.
@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, size: int) -> Permutation:
    """The permutation of ``size`` work items in ``epoch`` (1 or later)."""
    return Permutation(size, f"{seed}/{epoch}")


class Place(NamedTuple):
    """One exposure: its place in its epoch, from 1, and the work item of its rollout."""

    epoch: int
    place: int
    work_id: int


class EpochSequence:
    """Iterates over the exposures of a run from any place."""

    def __init__(self, connection: sqlite3.Connection, first_epoch: FirstEpoch, seed: int) -> None:
        self._db = connection
        self.first_epoch: FirstEpoch = first_epoch
        self._seed = seed

    def after(
        self, epoch: int, place: int, *, size: int, epochs: int, chunk: int
    ) -> Iterator[Place]:
        """The exposures after (epoch, place), as far as they are known.

        Args:
            size: number of work items.
            epochs: end of the sequence; 1 while work is open.
            chunk: records per query; about as many as the caller takes.
        """
        # Few or none: each had to kill several learners.
        poison = {
            work_id: since
            for work_id, *since in self._db.execute("SELECT work_id, epoch, place FROM poison")
        }
        for found in self._all_after(epoch, place, size, epochs, chunk):
            if found.work_id not in poison or [*found[:2]] < poison[found.work_id]:
                yield found

    def _all_after(
        self, epoch: int, place: int, size: int, epochs: int, chunk: int
    ) -> Iterator[Place]:
        if epoch == 0:
            after = self._by_arrival if self.first_epoch == "arrival" else self._by_work
            yield from after(place, chunk)
        for later in range(max(epoch, 1), epochs):
            yield from self._permuted(later, place if later == epoch else 0, size, chunk)

    def _by_arrival(self, place: int, chunk: int) -> Iterator[Place]:
        while rows := self._db.execute(
            "SELECT id, work_id FROM rollouts WHERE id > ? ORDER BY id LIMIT ?", (place, chunk)
        ).fetchall():
            for place, work_id in rows:
                yield Place(0, place, work_id)

    def _by_work(self, place: int, chunk: int) -> Iterator[Place]:
        while rows := self._db.execute(
            "SELECT id, outcome FROM work WHERE id > ? ORDER BY id LIMIT ?", (place, chunk)
        ).fetchall():
            for place, outcome in rows:
                if outcome is None:
                    return
                if outcome == "accepted":
                    yield Place(0, place, place)

    def _permuted(self, epoch: int, place: int, size: int, chunk: int) -> Iterator[Place]:
        order = epoch_order(self._seed, epoch, size)
        for first in range(place, size, chunk):
            ids = [order(index) + 1 for index in range(first, min(first + chunk, size))]
            accepted = {
                row[0]
                for row in self._db.execute(
                    "SELECT work_id FROM rollouts"
                    " WHERE work_id IN (SELECT value FROM json_each(?))",
                    (json.dumps(ids),),
                )
            }
            for at, work_id in enumerate(ids, first + 1):
                if work_id in accepted:
                    yield Place(epoch, at, work_id)
