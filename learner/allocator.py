"""Freed memory stays with the process.

glibc gives a large tensor back to the system when it is freed and asks for another a
moment later, which the system has to map and zero page by page: 0.3 of 3.3 s of a step
of the 135 M model, whose tensors are the same in every step. Kept, they are used again;
the process then holds its peak, which it reaches in every step anyway.
"""

from __future__ import annotations

import ctypes

# Of <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Have glibc keep what is freed; does nothing with another C library."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
