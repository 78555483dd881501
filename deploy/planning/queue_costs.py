"""What calls of the queue cost, and how many actors one queue serves."""

from __future__ import annotations

import math
from dataclasses import dataclass

# A queue under this load rarely makes callers wait for each other.
_QUEUE_LOAD = 0.7


@dataclass(frozen=True, slots=True)
class QueueCosts:
    """Seconds that the queue actor is busy with a call; single measurements on a shared core.

    ``insert_s``: a call that inserts rollouts, plus ``rollout_s`` for each, including its
    lease. ``latency_s``: one way of an actor call (round trip 0.95 ms).
    """

    lease_s: float = 2.0e-3
    insert_s: float = 1.5e-3
    rollout_s: float = 0.1e-3
    sample_s: float = 3.0e-3
    latency_s: float = 0.5e-3


def actors_per_queue(
    rollouts_per_s: float, iterations_per_s: float, costs: QueueCosts | None = None
) -> int:
    """Rollout actors that the queue serves, at least one.

    An engine iteration that ends rollouts makes two calls, an insert of all of them and a
    lease; the queue may be busy 70 % of the time:
    N = ⌊0.7 / (calls/s · (insert + lease) + rollouts/s · seconds each)⌋.
    """
    costs = costs or QueueCosts()
    calls = min(rollouts_per_s, iterations_per_s)
    busy = calls * (costs.lease_s + costs.insert_s) + rollouts_per_s * costs.rollout_s
    return max(1, math.floor(_QUEUE_LOAD / busy))
