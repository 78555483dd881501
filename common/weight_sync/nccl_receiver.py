"""The student's weights as the learner sends them, from GPU to GPU, by vLLM's weight transfer.

Not run on GPU. The learner leads, with the four calls that vLLM's trainer makes:
``init_weight_transfer_engine`` when engines have come or gone, then for each version
``start_weight_update``, ``update_weights`` and ``finish_weight_update``. They arrive on
other threads; the actor's own makes them, once nothing runs under the old weights,
and the callers wait for that.
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
    """What is needed of :class:`actors.inference.engine.Engine`."""

    def call_workers(self, method: str, *arguments: Any) -> list[Any]: ...
    def sum_weights(self, names: Sequence[str]) -> Sequence[Mapping[str, BitSum]]: ...
    def forget(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    arguments: tuple[Any, ...]
    answer: Future[None] = field(default_factory=Future)


class NcclWeightReceiver:
    """Takes what the learner sends; follows like ``file_receiver.PolicyWeights``.

    Args:
        engine: whose weights are replaced.
        deadline_s: longest wait for the learner's next call once it has begun.

    Attributes:
        version: in the engine; None before the first.
        seconds: by phase, of the newest version.
    """

    def __init__(self, engine: ReceivingEngine, deadline_s: float) -> None:
        self._engine = engine
        self._deadline_s = deadline_s
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._seen: float | None = None
        self.version: int | None = None
        self.seconds: dict[str, float] = {}

    def call(self, method: str, *arguments: Any) -> None:
        """Have the actor's thread make a call, and wait for it; from another thread.

        The last call of a version takes the version and the sums of some of its weights.

        Raises:
            Exception: what the call raised.
        """
        assert method in CALLS
        asked = _Call(method, arguments)
        self._calls.put(asked)
        asked.answer.result()

    def is_behind(self) -> bool:
        """Whether the learner has begun to send; nothing must begin until it has ended."""
        behind = not self._calls.empty()
        if behind and self._seen is None:
            self._seen = time.monotonic()
        return behind

    def load(self) -> None:
        """Make the learner's calls up to the last one of a version; no request may be running.

        Raises:
            RuntimeError: the engine then holds something else than was sent.
            TimeoutError: the learner began and did not go on within ``publish.deadline_s``.
        """
        began = time.monotonic()
        while True:
            try:
                asked = self._calls.get(timeout=self._deadline_s)
            except queue.Empty:
                raise TimeoutError(
                    f"the learner began to send weights and then said nothing for "
                    f"{self._deadline_s:g} s (publish.deadline_s)"
                ) from None
            try:
                self._make(asked)
            except BaseException as error:
                asked.answer.set_exception(error)
                raise
            asked.answer.set_result(None)
            if asked.method == LAST_CALL:
                break
        seen = began if self._seen is None else self._seen
        self.seconds = {"drain": began - seen, "load": time.monotonic() - began}
        self._seen = None

    def _make(self, asked: _Call) -> None:
        if asked.method != LAST_CALL:
            self._engine.call_workers(asked.method, *asked.arguments)
            return
        version, sums = asked.arguments
        self._engine.call_workers(LAST_CALL)
        self._engine.forget()
        problem = difference(sums, self._engine.sum_weights(list(sums)))
        if problem is not None:
            raise RuntimeError(f"weights of step {version}: {problem}")
        self.version = version
