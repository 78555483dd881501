"""The KV blocks that requests claim, and which session is evicted when they run short. Pure.

A request either *generates* or is a session that *waits* between two segments. Both claim
KV blocks, each counted as if it shared none. Waiting sessions are only a cache: the one
that has waited longest is evicted first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from actors.inference.requests import EngineOutput, TopLogprobs


@dataclass(slots=True)
class ActiveRequest:
    """A request that generates; ``blocks`` is the most that it may fill."""

    num_context: int
    blocks: int
    continues: bool
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)
    prompt_top: TopLogprobs | None = None

    def collect(self, output: Any) -> None:
        """Add the output of a step, vLLM's ``EngineCoreOutput``."""
        self.token_ids += output.new_token_ids
        if output.new_logprobs is not None:
            self.logprobs += output.new_logprobs.logprobs[:, 0].tolist()
        scored = output.new_prompt_logprobs_tensors
        if scored is not None:
            # vLLM returns them at once, also for a prompt that it computed in chunks.
            self.prompt_logprobs += scored.logprobs[:, 0].tolist()
            ids, logprobs = scored.logprob_token_ids.numpy(), scored.logprobs.numpy()
            self.prompt_top = TopLogprobs(ids, logprobs) if ids.shape[1] > 1 else None

    def output(self, key: str) -> EngineOutput:
        """Everything generated so far, under ``key``."""
        return EngineOutput(
            key, self.token_ids, self.logprobs, self.prompt_logprobs, prompt_top=self.prompt_top
        )


class KVBudget:
    """Counts blocks and requests.

    Args:
        num_blocks: KV blocks in all.
        block_size: tokens per block.
        max_requests: requests alive at once.
    """

    def __init__(self, num_blocks: int, block_size: int, max_requests: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._max_requests = max_requests
        self.generating: dict[str, ActiveRequest] = {}
        # Sessions between two segments, and the blocks they fill.
        self.waiting: dict[str, int] = {}
        self._claimed = 0

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that ``num_tokens`` fill."""
        return -(-num_tokens // self.block_size)

    def begin(self, key: str, num_context: int, num_tokens: int, continues: bool) -> bool:
        """``key`` generates up to ``num_tokens``; returns whether it was waiting.

        Args:
            num_context: tokens before the generated ones.
            continues: whether it becomes a waiting session afterwards.
        """
        assert key not in self.generating, f"{key} is still generating"
        blocks = self.blocks_for(num_context + num_tokens)
        self.generating[key] = ActiveRequest(num_context, blocks, continues)
        self._claimed += blocks
        waited = key in self.waiting
        self._claimed -= self.waiting.pop(key, 0)
        return waited

    def end(self, key: str) -> bool:
        """``key`` has finished generating; returns whether it now waits to be continued."""
        request = self.generating.pop(key)
        self._claimed -= request.blocks
        if request.continues:
            # The last token drawn has not been computed yet.
            blocks = self.blocks_for(request.num_context + len(request.token_ids) - 1)
            self.waiting[key] = blocks
            self._claimed += blocks
        return request.continues

    def forget(self, key: str) -> bool:
        """Remove ``key``; returns whether it was known."""
        if key in self.generating:
            self._claimed -= self.generating.pop(key).blocks
        elif key in self.waiting:
            self._claimed -= self.waiting.pop(key)
        else:
            return False
        return True

    def eviction_victim(self) -> str | None:
        """The session to evict next, if requests that generate may need its blocks; else None."""
        short = (
            self._claimed > self.num_blocks
            or len(self.waiting) + len(self.generating) > self._max_requests
        )
        return next(iter(self.waiting), None) if short else None
