"""The engine's keys as requests of vLLM's scheduler.

Each request has a name of its own, however often a key is used: where vLLM schedules
asynchronously, a step that is under way may still answer a request of before.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actors.inference.requests import ContinuedRequest
from actors.inference.session_parking import park, unpark
from actors.inference.session_rewind import keep_shared

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest


class VllmRequests:
    """Adds, continues, parks and aborts them.

    Args:
        core: vLLM's in-process client.
        make: vLLM's class of a request.
    """

    def __init__(self, core: Any, make: Any) -> None:
        self._core, self._make = core, make
        self._scheduler = core.engine_core.scheduler
        self._names: dict[str, str] = {}
        self._num_added = 0
        self._to_abort: list[str] = []

    def add(
        self,
        key: str,
        token_ids: Sequence[int],
        params: SamplingParams,
        adapter: LoRARequest | None,
        resumable: bool = False,
    ) -> None:
        """A new request; ``resumable``: a session."""
        self._num_added += 1
        name = self._names[key] = f"{key}#{self._num_added}"
        request = self._make(
            request_id=name,
            prompt_token_ids=list(token_ids),
            sampling_params=params,
            pooling_params=None,
            arrival_time=0.0,
            lora_request=adapter,
            block_hasher=self._core.engine_core.request_block_hasher,
            resumable=resumable,
        )
        if resumable:
            # vLLM copies it into its batch at each continuation; an array is five times faster.
            request.prompt_token_ids = array("q", token_ids)
        self._scheduler.add_request(request)

    def resume(
        self,
        key: str,
        context: Sequence[int],
        num_tokens: int,
        params: SamplingParams,
        last: bool,
    ) -> bool:
        """Continue a parked session from what ``context`` shares with it.

        Returns:
            Whether it shares anything; if not, the session is gone.
        """
        name = self._names[key]
        num_kept = keep_shared(self._scheduler, name, context)
        unpark(self._scheduler, name)
        if not num_kept:
            self._core.abort_requests([name])
            return False
        # The last token a session sampled is not in its cache, so the chunk begins there.
        self._scheduler.add_request(
            ContinuedRequest(name, list(context[num_kept:]), num_tokens, params)
        )
        if last:
            # vLLM then frees it as it frees any request that has finished.
            self._scheduler.requests[name].resumable = False
        return True

    def key_of(self, name: str) -> str | None:
        """Whose request this is; None if the key has another by now, or none."""
        key, _, _ = name.rpartition("#")
        return key if self._names.get(key) == name else None

    def end(self, key: str, waits: bool) -> None:
        """A request has generated what it should; ``waits``: it is a session and stays."""
        if waits:
            park(self._scheduler, self._names[key])
        else:
            del self._names[key]

    def drop(self, key: str, waits: bool) -> None:
        """Let a request go with the next :meth:`abort`; ``waits``: it is a parked session."""
        name = self._names.pop(key)
        if waits:
            unpark(self._scheduler, name)
        self._to_abort.append(name)

    def abort(self) -> None:
        """Abort what was dropped."""
        if self._to_abort:
            self._core.abort_requests(self._to_abort)
            self._to_abort.clear()
