"""The queue's interface to other processes, and its clients."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from actors.replay.replies import Grant, Sampled
from common.config.sections import ReplaySettings
from common.errors import RunError
from common.ledger import Counts, LedgerReader, LedgerUnavailable, Order
from common.records import PackedRollout
from deploy.control.role_kind import REPLAY_ACTOR

if TYPE_CHECKING:
    from learner.interfaces import Batch

_ANSWER_S = 30.0

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class RemoteQueue(Protocol):
    """Methods of :class:`actors.replay.queue.ReplayQueue` that its Ray actor serves."""

    def lease(
        self, owner: str, count: int, holding: Sequence[int], version: int | None = None
    ) -> Grant: ...
    def insert_many(self, items: Sequence[PackedRollout]) -> list[bool]: ...
    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool: ...
    def release(self, owner: str, died: bool = False) -> int: ...

    def register(self, token: str) -> int: ...
    def sample(self, generation: int, step: int) -> Sampled: ...
    def last_step(self) -> int: ...
    def note_trained(self, generation: int, step: int) -> None: ...
    def prepare(self, generation: int, step: int) -> None: ...
    def commit(self, generation: int, step: int) -> None: ...
    def restore(self, generation: int, step: int) -> str: ...

    def counts(self) -> Counts: ...
    def lost(self, most: int = -1) -> list[tuple[str, str, str]]: ...
    def page(self, order: Order, after: int) -> list[tuple[int, bytes]]: ...

    def configure(self, settings: ReplaySettings) -> None: ...
    def end(self) -> None: ...


class QueueClient(LedgerReader):
    """The queue as actors, learners and reports use it: blocking calls that survive its restart.

    Every call is idempotent, so a lost one is repeated.

    Args:
        patience_s: longest time without an answer; then a call raises a RunError.
        namespace: of the queue's actor; None: that of this process.
    """

    def __init__(self, patience_s: float, namespace: str | None = None) -> None:
        self._patience_s = patience_s
        self._namespace = namespace
        self._handle: Any = None

    def lease(
        self, owner: str, count: int, holding: Sequence[int], version: int | None = None
    ) -> Grant:
        return self._call(RemoteQueue.lease, owner, count, holding, version)

    def insert_many(self, items: Sequence[PackedRollout]) -> list[bool]:
        return self._call(RemoteQueue.insert_many, items)

    def exhaust(self, fact_id: str, draw: int, reason: str, attempts: int) -> bool:
        return self._call(RemoteQueue.exhaust, fact_id, draw, reason, attempts)

    def register(self, token: str) -> int:
        return self._call(RemoteQueue.register, token)

    def sample(self, generation: int, step: int) -> Batch:
        from learner.interfaces import Batch

        return Batch(*self._call(RemoteQueue.sample, generation, step))

    def last_step(self) -> int:
        return self._call(RemoteQueue.last_step)

    def note_trained(self, generation: int, step: int) -> None:
        self._call(RemoteQueue.note_trained, generation, step)

    def prepare(self, generation: int, step: int) -> None:
        self._call(RemoteQueue.prepare, generation, step)

    def commit(self, generation: int, step: int) -> None:
        self._call(RemoteQueue.commit, generation, step)

    def restore(self, generation: int, step: int) -> str:
        return self._call(RemoteQueue.restore, generation, step)

    def counts(self) -> Counts:
        return self._call(RemoteQueue.counts)

    def lost(self, most: int = -1) -> list[tuple[str, str, str]]:
        return self._call(RemoteQueue.lost, most)

    def page(self, order: Order, after: int) -> list[tuple[int, bytes]]:
        return self._call(RemoteQueue.page, order, after)

    def _call(
        self,
        method: Callable[Concatenate[RemoteQueue, _Arguments], _Result],
        *arguments: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> _Result:
        import ray

        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                if self._handle is None:
                    self._handle = ray.get_actor(REPLAY_ACTOR, namespace=self._namespace)
                remote = getattr(self._handle, method.__name__).remote
                result: _Result = ray.get(remote(*arguments, **named), timeout=_ANSWER_S)
                return result
            except LedgerUnavailable:
                # The disk is full, perhaps not for long.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            except (ValueError, ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as e:
                if isinstance(e, ray.exceptions.RayTaskError):
                    raise
                if time.monotonic() > deadline:
                    raise RunError(f"no answer of the queue for {self._patience_s:.0f} s") from e
                # The controller restarts the queue, perhaps as another actor.
                self._handle = None
                time.sleep(0.5)


class QueueControl:
    """The queue as the controller uses it: messages without an answer.

    A lost message does no harm: leases expire, and the controller sends settings again.
    """

    def release(self, owner: str, *, died: bool) -> None:
        self._send(RemoteQueue.release, owner, died)

    def configure(self, settings: ReplaySettings) -> None:
        self._send(RemoteQueue.configure, settings)

    def end(self) -> None:
        self._send(RemoteQueue.end)

    def _send(
        self,
        method: Callable[Concatenate[RemoteQueue, _Arguments], object],
        *arguments: _Arguments.args,
        **named: _Arguments.kwargs,
    ) -> None:
        import ray

        with contextlib.suppress(ValueError):  # the queue is not up
            getattr(ray.get_actor(REPLAY_ACTOR), method.__name__).remote(*arguments, **named)
