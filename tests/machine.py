"""What the machine under the tests is fast at."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch


@cache
def fast_dtype() -> str:
    """``bfloat16`` on CPUs with units for it, else ``float32``.

    Without such units bfloat16 is 10 to 50 times slower than float32, so a run whose precision
    is not what its test is about takes this. ``ATEN_CPU_CAPABILITY=avx2`` masks the units.
    """
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    has_units = "avx512_bf16" in flags or "amx_bf16" in flags
    masked = torch.backends.cpu.get_cpu_capability() != "AVX512"
    return "bfloat16" if has_units and not masked else "float32"
