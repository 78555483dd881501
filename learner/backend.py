"""Where weights, gradients and optimizer state live: on every rank, or sharded by DeepSpeed."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from common.config.sections import LearnerSettings
from common.errors import UserError
from learner.model import StudentModel

# AdamW's state of a weight, beside its float32 master copy.
MOMENTS = ("exp_avg", "exp_avg_sq")


class Backend(Protocol):
    """One rank's model and optimizer; all ranks make the same calls in the same order."""

    device: torch.device
    num_updates: int

    def loss(self, inputs: tuple[Any, ...], *, last: bool) -> torch.Tensor: ...
    def backward(self, loss: torch.Tensor) -> None: ...
    def step(self, lr: float) -> float: ...
    def master(self, parameter: nn.Parameter) -> torch.Tensor: ...
    def masters(self) -> list[torch.Tensor]: ...
    def state(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]: ...
    def set_state(self, parameter: nn.Parameter, state: dict[str, torch.Tensor]) -> None: ...
    def weight(self, parameter: nn.Parameter) -> torch.Tensor: ...


def create(student: StudentModel, settings: LearnerSettings) -> Backend:
    """The backend for ``learner.zero_stage``.

    Raises:
        UserError: offload without a GPU.
    """
    groups = student.decay_groups(settings.weight_decay)
    if settings.offload != "none" and settings.resolved_device == "cpu":
        raise UserError(
            f"learner.offload is {settings.offload}, but this machine has no GPU to offload from; "
            "set it to none"
        )
    if settings.zero_stage == 0:
        from learner.unsharded import UnshardedBackend

        return UnshardedBackend(student, groups, settings)
    from learner.deepspeed_adapter import DeepSpeedBackend

    return DeepSpeedBackend(student, groups, settings)
