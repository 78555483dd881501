"""How the checks open vLLM's engine: on which device, model runner, attention and precision."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

from actors.inference import engine as adapter
from actors.inference.arguments import vllm_arguments
from actors.inference.engine import Engine
from common.hardware import Device
from tests.asynchronous import is_ahead
from tests.decoding import open_engine

# Enough for every check, and little memory: a closed engine does not return all of its own.
SETTINGS: dict[str, Any] = {"gpu_memory_utilization": 0.2, "num_blocks": 2048}


def choose(runner: str = "", precision: str = "") -> None:
    """Set what vLLM and Triton read from the environment; before torch is imported.

    Args:
        runner: V1 or V2, vLLM's model runner; empty: its own choice.
        precision: ``tf32``, float32 as Triton computes it unless told otherwise; empty: as shipped.
    """
    if runner:
        os.environ["VLLM_USE_V2_MODEL_RUNNER"] = {"V1": "0", "V2": "1"}[runner]
    if precision:
        os.environ["TRITON_F32_DEFAULT"] = precision
        # Beside the usual one, which may have these kernels in the other precision.
        os.environ["TRITON_CACHE_DIR"] = str(Path.home() / ".triton" / precision)


def open_on(device: Device, model: Path, *, attention: str = "", **settings: Any) -> Engine:
    """An engine on ``device``, by default with vLLM's choice of ``attention`` backend."""

    def arguments(*given: Any) -> dict[str, Any]:
        return vllm_arguments(*given) | ({"attention_backend": attention} if attention else {})

    with mock.patch.object(adapter, "vllm_arguments", arguments):
        return open_engine(model, device=device, **(SETTINGS | settings))


def describe(engine: Engine) -> dict[str, Any]:
    """What the engine really computes with."""
    import torch

    runner = engine._core.engine_core.vllm_config.use_v2_model_runner
    return {
        "runner": "V2" if runner else "V1",
        "schedules_ahead": is_ahead(engine),
        "attention": engine._core.collective_rpc(_attention)[0],
        "torch_precision": torch.get_float32_matmul_precision(),
        "torch_tf32": torch.backends.cuda.matmul.allow_tf32,
        "triton_precision": os.environ.get("TRITON_F32_DEFAULT", "its default"),
    }


def _attention(worker: Any) -> list[str]:
    groups = [group for groups in worker.model_runner.attn_groups for group in groups]
    return sorted({group.backend.get_name() for group in groups})


def block_size(engine: Engine) -> int:
    """Tokens that one KV block holds."""
    size = 1
    while engine.blocks_for(size + 1) == 1:
        size += 1
    return size
