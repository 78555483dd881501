"""The attempts of one fact: which may start, which can no longer win, which has won.

Several may be in flight and finish in any order; the winner is the first accepted one
*in attempt order*, so the result does not depend on timing. Pure bookkeeping.
"""

from __future__ import annotations


class AttemptOrder:
    """Attempts 0 … ``limit`` − 1 of one fact."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._next = 0
        self._accepted: int | None = None
        self.running: set[int] = set()

    @property
    def may_start(self) -> bool:
        """Whether a further attempt exists and could still win."""
        return self._accepted is None and self._next < self.limit

    @property
    def winner(self) -> int | None:
        """The accepted attempt, once no earlier one can still be accepted."""
        if self._accepted is None or any(number < self._accepted for number in self.running):
            return None
        return self._accepted

    @property
    def is_exhausted(self) -> bool:
        """Whether all attempts have failed."""
        return self._accepted is None and self._next == self.limit and not self.running

    def start(self) -> int:
        """Begin the next attempt; returns its number."""
        assert self.may_start
        self.running.add(self._next)
        self._next += 1
        return self._next - 1

    def finish(self, attempt: int, accepted: bool) -> list[int]:
        """Record a verification result; returns the attempts that it ends, which no longer run."""
        self.running.remove(attempt)
        if accepted:
            # Only attempts before an accepted one are still running, so this one precedes it.
            self._accepted = attempt
            beaten = sorted(number for number in self.running if number > attempt)
            self.running.difference_update(beaten)
            return beaten
        return []
