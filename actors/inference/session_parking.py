"""Takes sessions that wait between two segments out of vLLM's queue, and puts them back.

vLLM walks that queue in every step. This module knows its scheduler's private parts, and no more.
"""

from __future__ import annotations

from typing import Any


def park(scheduler: Any, key: str) -> None:
    """Take a waiting session out of the queue; its KV cache stays."""
    session = scheduler.requests[key]
    # Correct draft tokens beyond the end of the segment are not part of it, though
    # vLLM counts them as computed.
    session.num_computed_tokens = session.num_tokens - 1
    scheduler.kv_holding_waiting.remove_request(session)
    scheduler.deferred_waiting.discard(session)
    scheduler.num_waiting_for_streaming_input -= 1


def unpark(scheduler: Any, key: str) -> None:
    """Put a session back before it continues, or ends."""
    scheduler.num_waiting_for_streaming_input += 1
    scheduler._enqueue_waiting_request(scheduler.requests[key])
