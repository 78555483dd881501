"""The engine's side of vLLM's weight transfer, by NCCL or CUDA IPC.

Not run on GPU. The learner leads with the four calls of vLLM's trainer:
``init_weight_transfer_engine`` when engines have joined or left, then for each version
``start_weight_update``, ``update_weights`` (by IPC once for each chunk, which it may
overwrite when the call returns) and ``finish_weight_update``. They arrive on
other threads and wait in a queue; the actor's own thread makes them, once no request runs
under the old weights.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from common.weights import BitSum, difference

LAST_CALL = "finish_weight_update"
CALLS = ("init_weight_transfer_engine", "start_weight_update", "update_weights", LAST_CALL)


class ReceivingEngine(Protocol):
    """The part of :class:`actors.inference.engine.Engine` that a receiver uses."""

    def call_workers(self, method: str, *arguments: Any) -> list[Any]: ...
    def sum_weights(self, names: Sequence[str]) -> Sequence[Mapping[str, BitSum]]: ...
    def forget(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    arguments: tuple[Any, ...]
    done: Future[None] = field(default_factory=Future)


class TransferWeightReceiver:
    """Receives what the learner sends; same interface as ``FileWeightReceiver``.

    Args:
        engine: the engine to update.
        deadline_s: longest wait for the next call of an update, seconds.

    Attributes:
        version: the engine's version; None before the first.
        seconds: duration of each phase of the last update.
    """

    def __init__(self, engine: ReceivingEngine, deadline_s: float) -> None:
        self._engine = engine
        self._deadline_s = deadline_s
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._seen: float | None = None
        self.version: int | None = None
        self.seconds: dict[str, float] = {}

    def call(self, method: str, *arguments: Any) -> None:
        """Queue a call for the actor's thread and wait until it is made; for other threads.

        The last call of an update takes the version and the bit sums of some weights.

        Raises:
            Exception: whatever the call raised.
        """
        assert method in CALLS
        call = _Call(method, arguments)
        self._calls.put(call)
        call.done.result()

    def is_behind(self) -> bool:
        """Whether the learner has begun an update; if so, no new request may start."""
        behind = not self._calls.empty()
        if behind and self._seen is None:
            self._seen = time.monotonic()
        return behind

    def load(self) -> None:
        """Make the learner's calls up to the last one of an update; no request may be running.

        Raises:
            RuntimeError: the engine's weights differ from the sent ones.
            TimeoutError: the next call did not arrive within ``publish.deadline_s``.
        """
        began = time.monotonic()
        while True:
            try:
                call = self._calls.get(timeout=self._deadline_s)
            except queue.Empty:
                raise TimeoutError(
                    f"the learner began to send weights and then sent nothing for "
                    f"{self._deadline_s:g} s (publish.deadline_s)"
                ) from None
            try:
                self._make(call)
            except BaseException as error:
                call.done.set_exception(error)
                raise
            call.done.set_result(None)
            if call.method == LAST_CALL:
                break
        seen = began if self._seen is None else self._seen
        self.seconds = {"drain": began - seen, "load": time.monotonic() - began}
        self._seen = None

    def _make(self, call: _Call) -> None:
        if call.method != LAST_CALL:
            self._engine.call_workers(call.method, *call.arguments)
            return
        version, sums = call.arguments
        self._engine.call_workers(LAST_CALL)
        self._engine.forget()
        problem = difference(sums, self._engine.sum_weights(list(sums)))
        if problem is not None:
            raise RuntimeError(f"weights of step {version}: {problem}")
        self.version = version
