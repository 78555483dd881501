"""When actors may take work and the learner may take a batch. Pure.

Each side asks before it goes on; the answer is None or the reason to wait.
The time a side spends waiting is summed by reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Side = Literal["insert", "sample"]


@dataclass(slots=True)
class Limiter:
    """Bounds on the queue.

    Args:
        min_size: rollouts present before the first batch.
        max_bytes: payload bytes that may wait for their first exposure.
    """

    min_size: int
    max_bytes: int
    blocked_s: dict[Side, float] = field(default_factory=lambda: {"insert": 0.0, "sample": 0.0})
    _since: dict[Side, float] = field(default_factory=dict)

    def may_insert(self, waiting_bytes: int) -> str | None:
        """May an actor take more work?"""
        if waiting_bytes >= self.max_bytes:
            return f"{waiting_bytes} bytes wait for the learner (replay.max_bytes={self.max_bytes})"
        return None

    def may_sample(self, num_rollouts: int, settled: bool) -> str | None:
        """May the learner begin? ``settled``: no more rollouts will come."""
        if num_rollouts < self.min_size and not settled:
            return f"{num_rollouts} rollouts, fewer than replay.min_size={self.min_size}"
        return None

    def note(self, side: Side, blocked: bool, now: float) -> None:
        """Record that ``side`` is or is not blocked at ``now`` (seconds, monotonic)."""
        since = self._since.pop(side, None)
        if since is not None:
            self.blocked_s[side] += now - since
        if blocked:
            self._since[side] = now
