"""The adapter of DeepSpeed: ZeRO stages 1 to 3, optional offload to CPU memory.

The one module that imports DeepSpeed. It knows parameters and gradients, not rows. All
ranks must make the same calls in the same order.
"""

from __future__ import annotations

import math
from typing import Any

import deepspeed
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import nn

from common.config.learner import LearnerSettings
from learner.backend import MOMENTS, Penalty
from learner.compiled_ops import exclusive_build

# On CPU, DeepSpeed would compile an all-reduce (a minute or two) that only its inference calls.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class DeepSpeedBackend:
    """One rank's share of the student and of AdamW's state."""

    def __init__(
        self, student: nn.Module, groups: list[dict[str, Any]], settings: LearnerSettings
    ) -> None:
        self._stage = settings.zero_stage
        offload = settings.offload != "none"
        # step() sets lr; with 0 nothing before it moves the weights.
        adam = {"lr": 0.0, "betas": settings.betas, "eps": settings.eps}
        optimizer: torch.optim.Optimizer
        if offload:
            with exclusive_build(torch.__version__):
                optimizer = deepspeed.ops.adam.DeepSpeedCPUAdam(groups, **adam)
        else:
            optimizer = torch.optim.AdamW(groups, fused=True, **adam)
        self._engine, *_ = deepspeed.initialize(
            model=student, optimizer=optimizer, config=deepspeed_config(settings)
        )
        self.device = self._engine.device
        self._zero = self._engine.optimizer
        if self._stage < 3:
            # DeepSpeed skips a step with a non-finite norm only while this is set. The search
            # through every gradient that comes with it finds nothing more and takes as long
            # as AdamW.
            self._zero.check_grad_overflow = True
            self._zero.check_overflow = lambda **_: None
        self._adam = self._zero.optimizer
        flats = self._flats()
        for flat in flats:
            self._adam.state[flat] = {
                "step": 0 if offload else torch.zeros((), device=flat.device),
                **{key: torch.zeros_like(flat.data) for key in MOMENTS},
            }
        if self._stage < 3:
            self._zero._lazy_init_hp_params_optimizer_state()

    def loss(self, inputs: tuple[Any, ...], *, last: bool) -> torch.Tensor:
        """Forward pass; the backward of the ``last`` one of a step completes the gradients."""
        self._engine.set_gradient_accumulation_boundary(last)
        return self._engine(*inputs)

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate gradients."""
        self._engine.backward(loss)

    def step(self, lr: float, penalty: Penalty | None = None) -> torch.Tensor:
        """Clip, update and drop the gradients; returns their norm. Not finite: no update."""
        assert penalty is None, "gradients are sharded; the configuration refuses this"
        for group in self._zero.param_groups:
            group["lr"] = lr
        self._engine.step()
        # After a skipped step, stage 3 still reports the norm of the step before.
        applied = self._engine.was_step_applied()
        norm = self._engine.get_global_grad_norm() if applied else math.inf
        return torch.as_tensor(norm, device=self.device)

    def masters(self) -> list[torch.Tensor]:
        """This rank's float32 weights, in the optimizer's layout."""
        return [flat.data for flat in self._flats()]

    def master(self, parameter: nn.Parameter) -> torch.Tensor:
        """A full weight in float32, on every rank."""
        return safe_get_full_fp32_param(parameter)

    def state(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        """Full master weight and moments of a parameter, on every rank."""
        return {
            "master": self.master(parameter),
            **{key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS},
        }

    def set_state(self, parameter: nn.Parameter, state: dict[str, torch.Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        with (
            deepspeed.zero.GatheredParameters(
                [parameter], modifier_rank=0, enabled=self._stage == 3
            ),
            torch.no_grad(),
        ):
            parameter.copy_(state["master"])
        if self._stage < 3:
            safe_set_full_fp32_param(parameter, state["master"])
            for key in MOMENTS:
                safe_set_full_optimizer_state(parameter, state[key], key)
            return
        safe_set_local_fp32_param(parameter, self._own(parameter, state["master"]))
        for key in MOMENTS:
            safe_set_local_optimizer_state(parameter, self._own(parameter, state[key]), key)

    def weight(self, parameter: nn.Parameter) -> torch.Tensor:
        """A full weight, as the forward pass uses it; gathers this one only, never the model."""
        with deepspeed.zero.GatheredParameters([parameter], enabled=self._stage == 3):
            return parameter.detach().clone()

    @property
    def num_updates(self) -> int:
        """Updates so far; AdamW's bias correction counts them."""
        return int(next(iter(self._adam.state.values()))["step"])

    @num_updates.setter
    def num_updates(self, value: int) -> None:
        for state in self._adam.state.values():
            step = state["step"]
            state["step"] = torch.full_like(step, value) if torch.is_tensor(step) else value

    def _flats(self) -> list[nn.Parameter]:
        flats: list[nn.Parameter] = (
            self._zero.fp32_partitioned_groups_flat
            if self._stage == 3
            else self._zero.single_partition_of_fp32_groups
        )
        return flats

    def _own(self, parameter: nn.Parameter, whole: torch.Tensor) -> torch.Tensor:
        """This rank's partition of a stage-3 parameter; the last rank's is padded."""
        size = parameter.ds_tensor.numel()
        padded = whole.new_zeros(size * deepspeed.comm.get_world_size())
        padded[: whole.numel()] = whole.flatten()
        return padded.narrow(0, size * deepspeed.comm.get_rank(), size)


def deepspeed_config(settings: LearnerSettings) -> dict[str, Any]:
    """DeepSpeed's configuration."""
    zero: dict[str, Any] = {"stage": settings.zero_stage}
    if settings.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if settings.offload == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    return {
        # The number of rows in a step varies; loss() marks the last one instead.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.clip,
        "bf16": {"enabled": settings.resolved_dtype == "bfloat16"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
