"""Where weights, gradients and optimizer state live: on every rank, or sharded by DeepSpeed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

# AdamW's state of a weight, beside its float32 master copy.
MOMENTS = ("exp_avg", "exp_avg_sq")


class Penalty(Protocol):
    """Adds a gradient to that of the loss, on float32 master weights by the model's weights."""

    def add_gradients(self, masters: Mapping[nn.Parameter, nn.Parameter]) -> None: ...


class Backend(Protocol):
    """One rank's model and optimizer; all ranks make the same calls in the same order."""

    device: torch.device
    num_updates: int

    def loss(self, inputs: tuple[Any, ...], *, last: bool) -> torch.Tensor: ...
    def backward(self, loss: torch.Tensor) -> None: ...
    def step(self, lr: float, penalty: Penalty | None = None) -> torch.Tensor: ...
    def master(self, parameter: nn.Parameter) -> torch.Tensor: ...
    def masters(self) -> list[torch.Tensor]: ...
    def state(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]: ...
    def set_state(self, parameter: nn.Parameter, state: dict[str, torch.Tensor]) -> None: ...
    def weight(self, parameter: nn.Parameter) -> torch.Tensor: ...
