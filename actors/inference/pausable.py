"""An engine that makes room on its device for other work, and comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from actors.inference.engine import Engine
from actors.inference.gpu_memory import free_cached
from actors.inference.requests import EngineOutput, Sampling
from common.metrics import MetricValues


class PausableEngine:
    """Closed by :meth:`pause`, opened by the next request, with the weights that it held.

    No request may be in flight when it is paused.

    Args:
        open_engine: starts an engine with the weights of the base model.
    """

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._open = open_engine
        self._engine: Engine | None = open_engine()
        self.max_model_len = self._engine.max_model_len
        # None: the base.
        self._weights: Path | None = None

    def pause(self) -> None:
        """Close the engine: its memory is free when this returns."""
        if self._engine is not None:
            engine, self._engine = self._engine, None
            engine.close()
            del engine
            free_cached()

    def extend(self, key: str, context: Sequence[int], num_tokens: int, sampling: Sampling) -> None:
        """As :meth:`Engine.extend`."""
        self._running.extend(key, context, num_tokens, sampling)

    def begin_score(self, key: str, token_ids: Sequence[int]) -> None:
        """As :meth:`Engine.begin_score`."""
        self._running.begin_score(key, token_ids)

    def release(self, key: str) -> None:
        """As :meth:`Engine.release`."""
        self._running.release(key)

    def step(self) -> list[EngineOutput]:
        """As :meth:`Engine.step`."""
        return self._running.step()

    def load_weights(self, model_dir: Path) -> None:
        """As :meth:`Engine.load_weights`; a paused engine loads them when it is opened."""
        if self._engine is not None:
            self._engine.load_weights(model_dir)
        self._weights = model_dir

    def metrics(self) -> MetricValues:
        """As :meth:`Engine.metrics`, from another thread too; nothing while it is paused."""
        engine = self._engine
        return {} if engine is None else engine.metrics()

    def close(self) -> None:
        """Close it for good."""
        self.pause()

    @property
    def _running(self) -> Engine:
        if self._engine is None:
            self._engine = self._open()
            if self._weights is not None:
                self._engine.load_weights(self._weights)
        return self._engine
