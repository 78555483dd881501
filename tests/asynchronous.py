"""Asynchronous scheduling on a CPU, where vLLM turns it off: its own scheduler and queue.

A step is scheduled before the tokens of the last one are known, as on a GPU. Only streams and
events, which would let the device run meanwhile, do nothing here.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest


class _Nothing:
    """A stream or an event without a device to wait for."""

    device = "cpu"

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def record(self) -> None: ...
    def synchronize(self) -> None: ...
    def wait_stream(self, stream: Any) -> None: ...


def schedule_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every engine that is opened from now on have what it asked vLLM for."""
    import torch
    from vllm.engine.arg_utils import EngineArgs
    from vllm.platforms.cpu import CpuPlatform

    monkeypatch.setattr(torch.cuda, "Event", _Nothing)
    monkeypatch.setattr(torch.cuda, "Stream", _Nothing)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", _Nothing)
    asked = []
    create, check = EngineArgs.create_engine_config, CpuPlatform.check_and_update_config

    def remembered(arguments: Any, *others: Any, **options: Any) -> Any:
        asked.append(arguments.async_scheduling)
        return create(arguments, *others, **options)

    def checked(config: Any) -> None:
        check(config)
        config.scheduler_config.async_scheduling = asked[-1]

    monkeypatch.setattr(EngineArgs, "create_engine_config", remembered)
    monkeypatch.setattr(CpuPlatform, "check_and_update_config", staticmethod(checked))


def is_ahead(engine: Any) -> bool:
    """Whether the engine schedules a step before the last one is known."""
    return engine._core.engine_core.batch_queue is not None
