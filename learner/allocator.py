"""What the process keeps of the machine's memory, and may take of the GPU's.

glibc returns the memory of a large tensor to the system when it is freed. The next
tensor then costs new pages, mapped and zeroed one by one: 0.3 of 3.3 s of a step of the
135 M model, whose tensors have the same sizes in every step. Kept memory is reused; the
process then stays at its peak, which it reaches in every step anyway.
"""

from __future__ import annotations

import ctypes

# From <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Make glibc keep freed memory; does nothing with another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


def limit_gpu_memory(share: float) -> None:
    """Let this process take no more than ``share`` of its GPU, which others need too."""
    import torch

    if share < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)
