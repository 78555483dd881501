"""How the roles of one run divide the memory of one GPU (``cluster.placement: shared``)."""

from __future__ import annotations

import math
from collections.abc import Iterator

from common.config.run_config import RunConfig
from deploy.planning.architecture import Architecture
from deploy.planning.devices import Device
from deploy.planning.memory import Need, engine_bytes, kv_bytes_of_one_context, processes_of
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
    slots = max(need.parts.get("KV cache", 0) for need in processes)
    longest = kv_bytes_of_one_context(config, architecture, device)
    # vLLM refuses a cache that does not hold the longest context, and keeps a block for itself.
    kv_cache = max(slots, longest)
    engine = engine_bytes(processes) + kv_cache - slots
    chosen = {
        "kv_cache_gib": math.ceil(kv_cache / 2**30 * 100 + 1) / 100,
        "gpu_memory_utilization": math.ceil(engine / device.memory_bytes * 1000) / 1000,
    }
    mine = config.engine.model_fields_set
    changes = {key: value for key, value in chosen.items() if key not in mine}
    return config.model_copy(update={"engine": config.engine.model_copy(update=changes)})


def table(processes: list[Need], config: RunConfig, device: Device) -> Iterator[str]:
    """One line for each role: GiB of the GPU that it takes with others, or in its turn."""
    for need in processes:
        parts = ", ".join(
            f"{name} {size / 2**30:.1f}" for name, size in need.parts.items() if size >= 2**26
        )
        yield f"  {need.role}: {need.total / 2**30:.1f} GiB ({parts})"
    if config.cluster.placement != "shared":
        return
    engines = config.engine.gpu_memory_utilization * device.memory_bytes / 2**30
    learner = config.learner_share * device.memory_bytes / 2**30
    yield (
        f"  each engine may use {engines:.1f} GiB, the learner {learner:.1f} of "
        f"{device.memory_bytes / 2**30:.1f}"
    )
