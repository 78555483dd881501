"""How the roles of one run divide the memory of one GPU (``cluster.placement: shared``)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from common.config.run_config import RunConfig
from deploy.planning.architecture import Architecture
from deploy.planning.devices import Device
from deploy.planning.memory import (
    Need,
    engine_bytes,
    kv_bytes_of_one_context,
    processes_of,
    settings_of,
)
from deploy.planning.workload import Workload


def divide(
    config: RunConfig, architecture: Architecture, device: Device, workload: Workload
) -> RunConfig:
    """``config`` with a share of the GPU, and a KV cache, for each engine.

    vLLM would measure what is left of the GPU while others fill it, so both are fixed before
    anything starts. What is set by hand stays. The learner gets the rest
    (:attr:`RunConfig.learner_share`).
    """
    processes = processes_of(config, architecture, device, workload)

    def share(role: str) -> dict[str, float]:
        kv_cache = max(
            (need.parts["KV cache"] for need in processes if need.role == role), default=0
        )
        longest = kv_bytes_of_one_context(settings_of(role, config), architecture, device)
        # vLLM refuses a cache that does not hold the longest context, and keeps a block for itself.
        size = max(kv_cache, longest)
        total = engine_bytes(role, config, processes) + size - kv_cache
        return {
            "kv_cache_gib": math.ceil(size / 2**30 * 100 + 1) / 100,
            "gpu_memory_utilization": math.ceil(total / device.memory_bytes * 1000) / 1000,
        }

    by_hand = config.engine.model_fields_set
    drawing = {key: value for key, value in share("rollout").items() if key not in by_hand}
    own = config.evaluator.engine.model_dump(exclude_none=True)
    measuring = {
        key: value
        for key, value in share("evaluator").items()
        if key not in by_hand and key not in own
    }
    section = config.evaluator.engine.model_copy(update=measuring)
    return config.model_copy(
        update={
            "engine": config.engine.model_copy(update=drawing),
            "evaluator": config.evaluator.model_copy(update={"engine": section}),
        }
    )


def table(processes: list[Need], config: RunConfig, device: Device) -> Iterator[str]:
    """One line for each role: GiB of the GPU that it takes with others, or in its turn."""
    for need in processes:
        parts = ", ".join(
            f"{name} {size / 2**30:.1f}" for name, size in need.parts.items() if size >= 2**26
        )
        yield f"  {need.role}: {need.total / 2**30:.1f} GiB ({parts})"
    if config.cluster.placement != "shared":
        return
    whole = device.memory_bytes / 2**30
    drawing = config.engine.gpu_memory_utilization * whole
    measuring = config.evaluator_engine.gpu_memory_utilization * whole
    yield (
        f"  an engine that draws may use {drawing:.1f} GiB, one that measures {measuring:.1f}, the "
        f"learner {config.learner_share * whole:.1f} of {whole:.1f}"
    )
