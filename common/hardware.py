"""What this machine computes with: its device, the dtype that is fast there, its cores.

Imports torch only where there is an NVIDIA driver.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda"]
Dtype = Literal["bfloat16", "float32"]

# Present with the driver alone, in containers too.
_DRIVER = Path("/proc/driver/nvidia/version")
_CPUINFO = Path("/proc/cpuinfo")
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# Of the second version of control groups and of the first.
_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
# Of x86 (AVX-512 BF16, AMX), and of Arm.
_BFLOAT16_UNITS = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True, slots=True)
class Hardware:
    """What ``auto`` stands for on one machine.

    Attributes:
        device: the GPU if the installed torch can use one, else the CPU.
        cpu_dtype: bfloat16 on a CPU with units for it, else float32: without them bfloat16 is
            more than 10 times slower.
        cuda_dtype: bfloat16 on GPUs that compute in it (compute capability 8.0 and later), else
            float32; float16 never, since its gradients overflow without loss scaling.
        remark: why a GPU is not used, or empty.
        gpus: how many there are.
        gpu: name of the first.
        gpu_bytes: memory of the smallest.
    """

    device: Device
    cpu_dtype: Dtype
    cuda_dtype: Dtype = "bfloat16"
    remark: str = ""
    gpus: int = 0
    gpu: str = ""
    gpu_bytes: int = 0

    def dtype(self, device: Device) -> Dtype:
        """The dtype that is fast on ``device``."""
        return self.cpu_dtype if device == "cpu" else self.cuda_dtype


@cache
def detect() -> Hardware:
    """The hardware of this machine, as the packages installed in this process see it."""
    cpu_dtype: Dtype = "bfloat16" if _has_bfloat16_units() else "float32"
    if not _DRIVER.exists():
        return Hardware("cpu", cpu_dtype)
    import torch

    if torch.version.cuda is None:
        remark = f"the GPU is not used: torch {torch.__version__} is built without CUDA"
        return Hardware("cpu", cpu_dtype, remark=remark)
    if not torch.cuda.is_available():
        remark = f"the GPU is not used: CUDA {torch.version.cuda} finds none it can work with"
        return Hardware("cpu", cpu_dtype, remark=remark)
    fast = torch.cuda.is_bf16_supported(including_emulation=False)
    found = [torch.cuda.get_device_properties(at) for at in range(torch.cuda.device_count())]
    return Hardware(
        "cuda",
        cpu_dtype,
        "bfloat16" if fast else "float32",
        gpus=len(found),
        gpu=found[0].name,
        gpu_bytes=min(one.total_memory for one in found),
    )


def num_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota, _, period = _read(_CPU_QUOTA).strip().partition(" ")
    if quota.isdecimal() and period.isdecimal():
        count = min(count or 1, max(1, int(quota) // int(period)))
    return count or 1


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, within the limit of its container."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [text for path in _MEMORY_LIMITS if (text := _read(path).strip()).isdecimal()]
    return min([physical, *map(int, limits)])


def _has_bfloat16_units() -> bool:
    """Units that no setting of torch's libraries masks."""
    if os.environ.get("ATEN_CPU_CAPABILITY", "").lower() in ("default", "avx2"):
        return False
    return not _BFLOAT16_UNITS.isdisjoint(_read(_CPUINFO).split())


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
