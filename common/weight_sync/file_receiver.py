"""The student's newest published weights in a warm engine.

Taking a version has three phases: *drain* (from its being seen to the last request
under the old weights, which is the caller's), *load*, and *check*: sums of sampled
weights, read back from the engine, must be those that were published.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from common.weight_sync.store import WeightStore
from common.weights import BitSum, difference


class PolicyEngine(Protocol):
    """What is needed of :class:`actors.inference.engine.Engine`."""

    def load_weights(self, model_dir: Path) -> None: ...
    def sum_weights(self, names: Sequence[str]) -> Sequence[Mapping[str, BitSum]]: ...


class FileWeightReceiver:
    """Follows a shelf.

    Args:
        engine: whose weights are replaced.
        store: where the learner publishes.
        reader: a name that no other reader has.
        deadline_s: longest time to load a version.

    Attributes:
        version: in the engine; None before the first, so that it gets no work.
        seconds: by phase, of the newest version.
    """

    def __init__(
        self, engine: PolicyEngine, store: WeightStore, reader: str, deadline_s: float
    ) -> None:
        self._engine = engine
        self._store = store
        self._reader = reader
        self._deadline_s = deadline_s
        self._seen: float | None = None
        self.version: int | None = None
        self.seconds: dict[str, float] = {}

    def is_behind(self) -> bool:
        """Whether there is another version than the engine's; nothing must begin under that."""
        newest = self._store.version()
        behind = newest is not None and newest != self.version
        if not behind:
            self._seen = None
        elif self._seen is None:
            self._seen = time.monotonic()
        return behind

    def load(self) -> None:
        """Take what is there now; no request may be running.

        Raises:
            RuntimeError: the engine then holds something else than was published.
            TimeoutError: it took longer than ``publish.deadline_s``.
        """
        began = time.monotonic()
        with self._store.take(self._reader) as published:
            self._engine.load_weights(published.folder)
        loaded = time.monotonic()
        ranks = self._engine.sum_weights(list(published.sums))
        problem = difference(published.sums, ranks)
        if problem is not None:
            raise RuntimeError(f"weights of step {published.version}: {problem}")
        ended = time.monotonic()
        if ended - began > self._deadline_s:
            raise TimeoutError(
                f"the weights of step {published.version} took {ended - began:.1f} s to load; "
                f"publish.deadline_s is {self._deadline_s:g}"
            )
        seen = began if self._seen is None else self._seen
        self.seconds = {"drain": began - seen, "load": loaded - began, "check": ended - loaded}
        self.version, self._seen = published.version, None
