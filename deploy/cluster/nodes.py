"""The hardware of a joined Ray cluster, as its nodes see it."""

from __future__ import annotations

from typing import Any

from common.errors import RunError
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
    gpus = int(sum(node["Resources"].get("GPU", 0) for node in nodes))
    return Hardware(device, "bfloat16" if same else "float32", cuda_dtype, gpus=gpus)


def _look() -> Hardware:
    return detect()
