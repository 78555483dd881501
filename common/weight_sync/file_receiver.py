"""Loads published weights from a file into a running engine.

An update has three phases. *drain*: the caller finishes the requests that run under the
old weights. *load*: the engine reads the file. *check*: bit sums of sampled weights, read
back from the engine, must equal the published ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from common.weight_sync.store import WeightStore
from common.weights import BitSum, difference


class PolicyEngine(Protocol):
    """The part of :class:`actors.inference.engine.Engine` that a receiver uses."""

    def load_weights(self, model_dir: Path) -> None: ...
    def sum_weights(self, names: Sequence[str]) -> Sequence[Mapping[str, BitSum]]: ...


class FileWeightReceiver:
    """Keeps an engine at the newest version of a weight store.

    Args:
        engine: the engine to update.
        store: where the learner publishes.
        reader: a unique name of this receiver.
        deadline_s: longest time to load a version, seconds.

    Attributes:
        version: the engine's version; None before the first, and then it gets no work.
        seconds: duration of each phase of the last update.
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
        """Whether a newer version is published; if so, no new request may start."""
        newest = self._store.version()
        behind = newest is not None and newest != self.version
        if not behind:
            self._seen = None
        elif self._seen is None:
            self._seen = time.monotonic()
        return behind

    def load(self) -> None:
        """Load the newest version; no request may be running.

        Raises:
            RuntimeError: the engine's weights differ from the published ones.
            TimeoutError: loading took longer than ``publish.deadline_s``.
        """
        began = time.monotonic()
        with self._store.pin(self._reader) as published:
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
