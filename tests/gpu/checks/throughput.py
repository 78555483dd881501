"""Tokens per second, for the record: no bound is put on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.config.learner import LearnerSettings
from common.config.sections import EngineSettings
from common.hardware import Device
from tests.benchmarks.rollout import random_items
from tests.benchmarks.trainers import Ours, num_tokens, random_batches, rate, timed
from tests.benchmarks.ways import SLOTS, Regime, ours, plain, warm_up
from tests.gpu.checks.engines import describe, open_on
from tests.tiny import make_model

# About 200 million parameters on a GPU; on a CPU only so large that the code runs.
SHAPES: dict[Device, dict[str, Any]] = {
    "cuda": {"vocabulary": 32768, "hidden": 1024, "layers": 12, "heads": 16, "kv_heads": 4},
    "cpu": {"vocabulary": 512},
}
ITEMS: dict[Device, tuple[int, int]] = {"cuda": (256, 64), "cpu": (64, 8)}
BATCH, STEPS = 64, 6


def decoding(device: Device, folder: Path) -> dict[str, Any]:
    """Mixed decoding at λ 0.3 by sessions, and plain decoding of x+, without CUDA graphs."""
    model = make_model(folder / "model", **SHAPES[device])
    engine = open_on(device, model, dtype="auto", max_requests=2 * SLOTS, num_blocks=4096, stops=())
    count, max_tokens = ITEMS[device]
    items = random_items(count, SHAPES[device]["vocabulary"])
    regime = Regime("random", items, max_tokens, warm=False)
    found = {
        **describe(engine),
        "dtype": EngineSettings(device=device).resolved_dtype,
        "items": count,
        "tokens_each": max_tokens,
        "slots": SLOTS,
        "plain_tokens_per_s": _rate(lambda: plain(engine, regime), lambda: warm_up(engine, regime)),
        "mixed_tokens_per_s": _rate(lambda: ours(engine, regime), lambda: warm_up(engine, regime)),
    }
    engine.close()
    return found


def _rate(run: Callable[[], int], prepare: Callable[[], None]) -> float:
    """Tokens/s of the second run: the first compiles kernels."""
    for _ in range(2):
        prepare()
        began = time.perf_counter()
        count = run()
        seconds = time.perf_counter() - began
    return round(count / seconds, 1)


def training(device: Device, folder: Path) -> dict[str, Any]:
    """Useful tokens/s of steps of 64 packed examples, the median after the first."""
    from torch import distributed

    model = make_model(folder / "model", **SHAPES[device])
    settings = LearnerSettings(device=device, batch_size=BATCH)
    batches = random_batches(
        STEPS, BATCH, SHAPES[device]["vocabulary"], prompt=range(40, 41), target=range(10, 61)
    )
    readings = timed(Ours(model, settings), batches)
    distributed.destroy_process_group()
    return {
        "dtype": settings.resolved_dtype,
        "tokens_a_step": num_tokens(batches[-1]),
        "tokens_per_s": round(rate(readings), 1),
    }
