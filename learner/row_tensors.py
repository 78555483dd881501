"""Moves the integers of a row to the learner's device in one copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def to_device(arrays: Sequence[np.ndarray], device: torch.device | str) -> tuple[torch.Tensor, ...]:
    """Integer arrays as int64 tensors of their shapes: views of one tensor on ``device``.

    To a GPU the copy comes from pinned memory, so that the host does not wait for it.
    """
    packed = torch.from_numpy(
        np.concatenate([np.asarray(array, dtype=np.int64).ravel() for array in arrays])
    )
    if torch.device(device).type == "cuda":
        packed = packed.pin_memory()
    parts = packed.to(device, non_blocking=True).split([array.size for array in arrays])
    return tuple(part.view(array.shape) for part, array in zip(parts, arrays, strict=True))
