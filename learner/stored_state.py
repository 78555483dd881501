"""Reads the training state in a checkpoint, whichever ranks wrote it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open

from learner.checkpoint import state_files


class StoredState:
    """Tensors by kind (``master``, a moment, an average) and the name of their weight.

    Args:
        folder: of the checkpoint.
        device: where tensors are read to.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._device = device
        self._parts = [safe_open(path, "pt") for path in state_files(folder)]
        self._where = {key: part for part in self._parts for key in part.offset_keys()}

    @property
    def num_ranks(self) -> int:
        """Of the learner that wrote it."""
        return len(self._parts)

    def read(self, kind: str, name: str) -> torch.Tensor:
        """A whole tensor."""
        key = f"{kind}/{name}"
        return self._where[key].get_tensor(key).to(self._device)

    def average(self, kind: str) -> str:
        """``kind``, or ``master`` if it has none: an average starts at the weights."""
        return kind if any(key.startswith(f"{kind}/") for key in self._where) else "master"

    def rng(self, rank: int) -> torch.Tensor:
        """The state of a rank's random number generator."""
        state: torch.Tensor = self._parts[rank].get_tensor("rng")
        return state
