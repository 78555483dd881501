"""Waits until a GPU's memory is free.

The memory of a process that was killed comes back a little later, and vLLM gives up at once if it
finds less than its share. A restart would cost the imports, and count as a failure of the role.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable

_PATIENCE_S = 60.0

_log = logging.getLogger(__name__)


def wait_until_free(
    share: float,
    memory: Callable[[], tuple[int, int]],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Return once ``share`` of the memory is free, or after a minute; whether it is.

    Args:
        share: of the GPU's memory, in (0, 1].
        memory: bytes that are free, and in all.
        clock: seconds, monotonic.
        sleep: waits for seconds.
    """
    deadline = clock() + _PATIENCE_S
    free, total = memory()
    if free < share * total:
        _log.warning(
            "waiting for GPU memory: %.1f GiB are free, the engine's share is %.1f of %.1f",
            free / 2**30,
            share * total / 2**30,
            total / 2**30,
        )
    while free < share * total and clock() < deadline:
        sleep(0.5)
        free, total = memory()
    return free >= share * total


def free_cached() -> None:
    """Give memory that torch holds for reuse back to the device, for others to take."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
