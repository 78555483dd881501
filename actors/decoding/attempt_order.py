"""The attempts of one fact: which may start, which can no longer win, which has won.

Several may be in flight and finish in any order; the winner is the first accepted one
*in attempt order*, so the result does not depend on timing. Where the first few are compared,
all of them that are accepted win. Pure bookkeeping.
"""

from __future__ import annotations


class AttemptOrder:
    """Attempts 0 … ``limit`` − 1 of one fact.

    Attempts before ``num_compared`` are made whatever becomes of the others.
    """

    def __init__(self, limit: int, num_compared: int = 1) -> None:
        self.limit = limit
        self._num_compared = num_compared
        self._next = 0
        self._accepted: set[int] = set()
        self.running: set[int] = set()

    @property
    def may_start(self) -> bool:
        """Whether a further attempt exists and could still win."""
        return self._next < (self._num_compared if self._accepted else self.limit)

    @property
    def winners(self) -> list[int]:
        """The accepted attempts, once no other can join or replace them; empty before."""
        if not self._accepted or self.may_start or self.running:
            return []
        compared = sorted(number for number in self._accepted if number < self._num_compared)
        return compared or [min(self._accepted)]

    @property
    def is_exhausted(self) -> bool:
        """Whether all attempts have failed."""
        return not self._accepted and self._next == self.limit and not self.running

    def start(self) -> int:
        """Begin the next attempt; returns its number."""
        assert self.may_start
        self.running.add(self._next)
        self._next += 1
        return self._next - 1

    def finish(self, attempt: int, accepted: bool) -> list[int]:
        """Record a verification result; returns the attempts that it ends, which no longer run."""
        self.running.remove(attempt)
        if not accepted:
            return []
        self._accepted.add(attempt)
        beaten = sorted(
            number for number in self.running if number > max(attempt, self._num_compared - 1)
        )
        self.running.difference_update(beaten)
        return beaten
