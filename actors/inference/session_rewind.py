"""Rewinds a waiting session of vLLM to the last token that it shares with a new context.

vLLM continues a session only after everything it has computed. Here its end is cut off first,
so a retry finds the prompt cached up to its last token, where prefix caching finds only whole
blocks. Knows vLLM's objects but imports nothing from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def keep_shared(scheduler: Any, key: str, context: Sequence[int]) -> int:
    """Cut the waiting session ``key`` to what ``context`` begins with; tokens left in its cache.

    At least one token of the context is left to be computed. None are left where the session
    cannot be continued and is to be aborted.
    """
    session = scheduler.requests[key]
    token_ids = session._all_token_ids
    shared = min(session.num_computed_tokens, len(context) - 1)
    if token_ids[:shared] != context[:shared]:
        apart = (at for at in range(shared) if token_ids[at] != context[at])
        shared = next(apart, shared)
    return shared if shared == session.num_computed_tokens else rewind(scheduler, session, shared)


def rewind(scheduler: Any, session: Any, num_tokens: int) -> int:
    """Forget what ``session`` computed after its first ``num_tokens``; the tokens it keeps.

    Fewer are kept where the last block is read by another request too and must not be written
    to; none where a cache cannot be cut at any token (sliding windows, recurrent states). The
    session must wait, and be continued or aborted next.
    """
    managers = scheduler.kv_cache_manager.coordinator.single_type_managers
    if len(managers) != 1 or type(managers[0]).__name__ != "FullAttentionManager":
        return 0
    (manager,) = managers
    key, size, pool = session.request_id, manager.block_size, manager.block_pool
    blocks, num_full = manager.req_to_blocks[key], num_tokens // manager.block_size
    if num_tokens % size:
        cut = blocks[num_full]
        if cut.ref_cnt > 1:
            num_tokens = num_full * size
        elif cut.block_hash is not None:
            # It was full and may be found by its tokens, which are about to change.
            pool._maybe_evict_cached_block(cut)
    num_kept = -(-num_tokens // size)
    pool.free_blocks(reversed(blocks[num_kept:]))
    del blocks[num_kept:]
    # Blocks that can be found by their tokens; vLLM counts them from the first full one on.
    if key in manager.num_cached_block:
        manager.num_cached_block[key] = min(manager.num_cached_block[key], num_full)
    session.num_computed_tokens = num_tokens
    if num_tokens < session.num_prompt_tokens:
        # To vLLM everything before a continuation is prompt.
        del session.prompt_token_ids[num_tokens:]
        session.num_prompt_tokens = num_tokens
    return num_tokens
