"""N-gram speculation in mixed decoding of text that repeats its prompt. Not run on a GPU.

The packaged model on facts whose solution is in the expert's prompt, by sessions, T 0, λ 0.1: long
segments, or a draft ends with its segment.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from actors.inference.engine import Engine
from common import models
from common.config.sections import EngineSettings
from common.hardware import Device
from common.prompts import PRESETS, Prompts
from tests.benchmarks.gpu.processes import Figures, Rows
from tests.benchmarks.rollout import fact_items, worked_facts
from tests.benchmarks.ways import Regime, ours, warm_up

MIX_RATE, DRAFT_TOKENS = 0.1, 4
# Facts, tokens of a target, slots.
SIZES: dict[Device, tuple[int, int, int]] = {"cuda": (256, 104, 64), "cpu": (4, 12, 4)}


def speculation(device: Device, folder: Path) -> Rows:
    """Four draft tokens a step against none."""
    without, drafted = (_decode(device, tokens) for tokens in (0, DRAFT_TOKENS))
    yield (
        "speculation",
        {
            "tokens_per_s": drafted["tokens_per_s"],
            "without_tokens_per_s": without["tokens_per_s"],
            "speedup": drafted["tokens_per_s"] / without["tokens_per_s"],
            "accepted_per_step": drafted["tokens_per_step"] - 1,
        },
    )


def _decode(device: Device, speculative_tokens: int) -> Figures:
    model = models.load(models.resolve(models.PACKAGED))
    count, max_tokens, slots = SIZES[device]
    # Eager: both engines start in this process, and a closed one keeps some memory.
    engine = Engine(
        model.folder,
        EngineSettings(device=device, max_model_len=512, gpu_memory_utilization=0.3),
        max_requests=2 * slots,
        stop_token_ids=(),
        speculative_tokens=speculative_tokens,
    )
    prompts = Prompts(model.tokenizer, PRESETS["short-sentence"], model.stop_token_ids[0])
    items = fact_items(prompts, worked_facts(count))
    sizes = _output_sizes(engine)
    for some in (items[:slots], items):
        regime = Regime("repeats", some, max_tokens, warm=True)
        warm_up(engine, regime, slots)
        sizes.clear()
        began = time.perf_counter()
        tokens = ours(engine, regime, MIX_RATE, slots)
        seconds = time.perf_counter() - began
    engine.close()
    return {"tokens_per_s": tokens / seconds, "tokens_per_step": sum(sizes) / len(sizes)}


def _output_sizes(engine: Engine) -> list[int]:
    """Tokens that a request draws in a step, of every request and step from here on."""
    get_output = engine._core.get_output
    sizes: list[int] = []

    def get() -> Any:
        found = get_output()
        sizes.extend(len(one.new_token_ids) for one in found.outputs if one.new_token_ids)
        return found

    engine._core.get_output = get
    return sizes
