"""The hardware of a joined Ray cluster, as its nodes see it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from common.config.run_config import RunConfig
from common.errors import RunError, UserError
from common.hardware import Device, Dtype, Hardware, detect

# Ray's names of NVIDIA GPUs that do not compute in bfloat16.
_WITHOUT_BFLOAT16 = {"K80", "K520", "P100", "P4", "T4", "V100"}
_TIMEOUT_S = 60.0


def hardware_of(ray: Any) -> Hardware:
    """What ``auto`` stands for on the connected cluster.

    GPUs if a node has one; a dtype is used only where every node is fast at it.

    Raises:
        RunError: a node does not answer.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    resources = {name for node in nodes for name in node["Resources"]}
    device: Device = "cuda" if "GPU" in resources else "cpu"
    slow = {f"accelerator_type:{name}" for name in _WITHOUT_BFLOAT16} & resources
    cuda_dtype: Dtype = "float32" if slow else "bfloat16"
    look = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = [
        look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in nodes
    ]
    try:
        found = ray.get(asked, timeout=_TIMEOUT_S)
    except ray.exceptions.RayError as error:
        raise RunError(f"a node of the cluster does not tell its hardware: {error}") from error
    same = all(one.cpu_dtype == "bfloat16" for one in found)
    # The smallest of all, since a role may be placed on any.
    gpu = min((one for one in found if one.gpus), key=lambda one: one.gpu_bytes, default=None)
    return Hardware(
        device,
        "bfloat16" if same else "float32",
        cuda_dtype,
        gpus=num_gpus(nodes),
        gpu=gpu.gpu if gpu is not None else "",
        gpu_bytes=gpu.gpu_bytes if gpu is not None else 0,
    )


def num_gpus(nodes: list[dict[str, Any]]) -> int:
    """GPUs of the nodes that are alive, as Ray lists them."""
    return int(sum(node["Resources"].get("GPU", 0) for node in nodes if node["Alive"]))


def wait_for_gpus(
    nodes: Callable[[], list[dict[str, Any]]],
    config: RunConfig,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the cluster has the GPUs of a run, or after ``cluster.start_timeout_s``.

    The nodes of a job may join one after another. Nothing is waited for where the roles compute
    on CPUs, or where the cluster grows when actors ask for more.

    Args:
        nodes: lists them, as ``ray.nodes`` does.
        config: of the run, settled.
        say: receives what is waited for.
        clock: seconds, monotonic.
        sleep: waits for seconds.

    Raises:
        UserError: no node has the GPUs of one engine.
    """
    if config.engine.device == "cpu" or config.cluster.autoscales:
        return
    needed, told = config.num_gpus(), -1
    deadline = clock() + config.cluster.patience_s
    while (there := num_gpus(nodes())) < needed and clock() < deadline:
        if there != told:
            say(f"waiting for nodes: the roles need {needed} GPUs, the cluster has {there} …")
        told = there
        sleep(1.0)
    most = max((num_gpus([node]) for node in nodes()), default=0)
    if there >= needed and most < config.engine.tensor_parallel_size:
        raise UserError(
            f"engine.tensor_parallel_size is {config.engine.tensor_parallel_size}, but no node has "
            f"more than {most} GPUs; lower it"
        )


def _look() -> Hardware:
    return detect()
