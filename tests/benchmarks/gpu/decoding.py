"""Mixed decoding in several ways, and plain decoding beside them. Not run on a GPU.

Qwen3-8B's shapes in bfloat16 with CUDA graphs, prompts of random ids that are in the prefix cache,
T 0, no stop tokens. vLLM makes up the weights: figures depend on shapes, not on values. Engines
that serve several rows start once; what an engine's start takes is a figure of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from actors.inference import engine as adapter
from actors.inference.arguments import vllm_arguments
from actors.inference.engine import Engine
from common.config.sections import EngineSettings
from common.hardware import Device
from tests.benchmarks.gpu.processes import Figures, Rows
from tests.benchmarks.gpu.shapes import config_folder, vocabulary
from tests.benchmarks.rollout import random_items
from tests.benchmarks.timing import timed_calls
from tests.benchmarks.ways import Regime, Yardstick, loop, ours, plain, warm_up

RATES = (0.3, 0.1)
_DUMMY = {"load_format": "dummy"}


@dataclass(frozen=True)
class Size:
    """What is decoded: ``items`` targets of ``max_tokens`` each, ``slots`` at a time."""

    shape: str
    slots: int
    items: int
    max_tokens: int
    repeats: int


SIZES: dict[Device, Size] = {
    "cuda": Size("8b", slots=128, items=512, max_tokens=64, repeats=3),
    "cpu": Size("tiny", slots=8, items=24, max_tokens=8, repeats=1),
}


def paired(device: Device, folder: Path) -> Rows:
    """Mixed decoding by pairs, at each rate, and plain decoding by the same engine."""
    return _ours(device, folder, "paired", "plain_async")


def sessions(device: Device, folder: Path) -> Rows:
    """Mixed decoding by sessions, at each rate, and plain decoding by the same engine."""
    return _ours(device, folder, "sessions", "plain")


def vllm(device: Device, folder: Path) -> Rows:
    """vLLM's public ``LLM`` with asynchronous scheduling, in this process.

    Plain decoding of all prompts at once, then mixed decoding by one call a token.
    """
    size, began = SIZES[device], time.perf_counter()
    engine = Yardstick(
        config_folder(folder, size.shape),
        _settings(device),
        (),
        size.slots,
        async_scheduling=True,
        **_DUMMY,
    )
    started = _describe(engine.llm.llm_engine.engine_core, began)

    def complete(regime: Regime) -> int:
        prompts = [item.expert for item in regime.items]
        return sum(map(len, engine.complete(prompts, regime.max_tokens)))

    steps = timed_calls(engine.llm.llm_engine, "step")
    yield "plain_vllm_async", started | _measure(size, engine, steps, complete)
    calls = timed_calls(engine, "generate")
    run = partial(loop, engine, mix_rate=RATES[0], slots=size.slots)
    once = replace(size, repeats=1)
    yield "one_call_a_token", started | _measure(once, engine, calls, run)
    engine.close()


def _ours(device: Device, folder: Path, mixing: str, plain_row: str) -> Rows:
    size = SIZES[device]
    engine, started = _open(device, folder, mixing)
    steps = timed_calls(engine, "step")
    for rate in RATES:
        run = partial(ours, engine, mix_rate=rate, slots=size.slots)
        yield f"{mixing}_{rate}", started | _measure(size, engine, steps, run)
    run = partial(plain, engine, slots=size.slots)
    yield plain_row, started | _measure(size, engine, steps, run)
    engine.close()


def _settings(device: Device, **settings: Any) -> EngineSettings:
    # On a CPU there are no graphs, and torch.compile takes minutes.
    return EngineSettings(
        device=device, max_model_len=512, enforce_eager=device == "cpu", **settings
    )


def _open(device: Device, folder: Path, mixing: str) -> tuple[Engine, Figures]:
    """Our engine, and figures of its start."""

    def arguments(*given: Any, **named: Any) -> dict[str, Any]:
        return vllm_arguments(*given, **named) | _DUMMY

    size, began = SIZES[device], time.perf_counter()
    with mock.patch.object(adapter, "vllm_arguments", arguments):
        engine = Engine(
            config_folder(folder, size.shape),
            _settings(device, mixing=mixing),
            max_requests=2 * size.slots,
            stop_token_ids=(),
        )
    return engine, _describe(engine._core, began)


def _describe(client: Any, began: float) -> Figures:
    """Of an engine in this process: seconds since ``began``, and what vLLM has chosen."""
    config = client.engine_core.vllm_config
    return {
        "start_s": time.perf_counter() - began,
        "runner": "V2" if config.use_v2_model_runner else "V1",
        "async_scheduling": bool(config.scheduler_config.async_scheduling),
    }


def _measure(
    size: Size, engine: Engine | Yardstick, steps: list[float], run: Callable[[Regime], int]
) -> Figures:
    """The median of several readings from the same state; ``steps`` grows with every step.

    One batch of items comes before and is not counted.
    """
    items = random_items(size.items, vocabulary(size.shape))
    every = Regime("warm", items, size.max_tokens, warm=True)
    readings = []
    for regime in (replace(every, items=items[: size.slots]), *[every] * size.repeats):
        warm_up(engine, regime, size.slots)
        steps.clear()
        began = time.perf_counter()
        tokens = run(regime)
        seconds = time.perf_counter() - began
        readings.append(
            {
                "tokens_per_s": tokens / seconds,
                "step_ms": 1e3 * seconds / len(steps),
                "outside_step_ms": 1e3 * (seconds - sum(steps)) / len(steps),
                "steps": len(steps),
                "tokens": tokens,
            }
        )
    counted = sorted(readings[1:], key=lambda reading: reading["tokens_per_s"])
    slowest, fastest = counted[0]["tokens_per_s"], counted[-1]["tokens_per_s"]
    return {**counted[(len(counted) - 1) // 2], "slowest": slowest, "fastest": fastest}
