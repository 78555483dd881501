"""ZeRO stage 0: every rank holds everything; plain PyTorch, no DeepSpeed.

With nothing to shard, DeepSpeed's wrapper only costs: it takes an empty optimizer step
when it is built (bias correction then starts at step 2: the first update is 0.73 of
AdamW's, and weights decay once too often), and it checks every gradient three times.
This module knows parameters and gradients, not rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from common.config.learner import LearnerSettings
from learner.backend import MOMENTS, Penalty


class UnshardedBackend:
    """One rank's student and AdamW on float32 master weights."""

    def __init__(
        self, student: nn.Module, groups: list[dict[str, Any]], settings: LearnerSettings
    ) -> None:
        self._clip = settings.clip
        self.device = torch.device("cpu" if settings.resolved_device == "cpu" else "cuda")
        student.to(self.device)
        self._parameters = [p for group in groups for p in group["params"]]
        # In float32 the weights are their own masters.
        self._masters = {
            p: p if p.dtype == torch.float32 else nn.Parameter(p.detach().float())
            for p in self._parameters
        }
        self._rounded = [(p, master) for p, master in self._masters.items() if p is not master]
        self._optimizer = torch.optim.AdamW(
            [{**group, "params": [self._masters[p] for p in group["params"]]} for group in groups],
            betas=settings.betas,
            eps=settings.eps,
            # One pass over the parameters; several times faster than per-tensor on CPU.
            fused=True,
        )
        for master in self._masters.values():
            self._optimizer.state[master] = {
                "step": torch.zeros((), device=self.device),
                **{key: torch.zeros_like(master) for key in MOMENTS},
            }
        self._replicas = distributed.get_world_size() > 1
        self._module = (
            DistributedDataParallel(student, gradient_as_bucket_view=True)
            if self._replicas
            else student
        )

    def loss(self, inputs: tuple[Any, ...], *, last: bool) -> torch.Tensor:
        """Forward pass; the backward of the ``last`` one of a step reduces the gradients."""
        if self._replicas:
            self._module.require_backward_grad_sync = last
        return self._module(*inputs)

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate gradients."""
        loss.backward()

    def step(self, lr: float, penalty: Penalty | None = None) -> torch.Tensor:
        """Clip, update and drop the gradients; returns their norm. Not finite: no update.

        The penalty adds to the gradients before they are clipped. Nothing here waits for the
        device: it alone decides whether it updates.
        """
        self._widen_gradients()
        if penalty is not None:
            penalty.add_gradients(self._masters)
        gradients = [m.grad for m in self._masters.values() if m.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        # The fused kernel divides the gradients itself: clipping needs no extra pass. If
        # found_inf is 1 it leaves weights, moments and the count of updates as they are.
        self._optimizer.grad_scale = ((norm + 1e-6) / self._clip).clamp(min=1.0)
        self._optimizer.found_inf = (~torch.isfinite(norm)).float()
        self._optimizer.step()
        self._copy_masters()
        self.discard()
        return norm

    def discard(self) -> None:
        """Drop the gradients."""
        for parameter, master in self._masters.items():
            parameter.grad = None
            # On a CPU fresh pages cost more than the copy, so the float32 buffers stay.
            if self.device.type != "cpu":
                master.grad = None

    def masters(self) -> list[torch.Tensor]:
        """This rank's float32 weights, in the optimizer's layout."""
        return [master.detach() for master in self._masters.values()]

    def master(self, parameter: nn.Parameter) -> torch.Tensor:
        """A full weight in float32, on every rank."""
        return self._masters[parameter].detach()

    def state(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        """Full master weight and moments of a parameter, on every rank."""
        moments = self._optimizer.state[self._masters[parameter]]
        return {"master": self.master(parameter), **{key: moments[key] for key in MOMENTS}}

    def set_state(self, parameter: nn.Parameter, state: dict[str, torch.Tensor]) -> None:
        """Restore what :meth:`state` returned."""
        for key, value in self.state(parameter).items():
            value.copy_(state[key])
        with torch.no_grad():
            parameter.copy_(state["master"])

    def weight(self, parameter: nn.Parameter) -> torch.Tensor:
        """A full weight, as the forward pass uses it."""
        return parameter.detach()

    @property
    def num_updates(self) -> int:
        """Updates so far; AdamW's bias correction counts them."""
        return int(next(iter(self._optimizer.state.values()))["step"])

    @num_updates.setter
    def num_updates(self, value: int) -> None:
        for state in self._optimizer.state.values():
            state["step"].fill_(value)

    def _widen_gradients(self) -> None:
        """Give the master weights the gradients in float32, in the buffers that they have."""
        wide, narrow = [], []
        for parameter, master in self._rounded:
            if parameter.grad is None:
                master.grad = None
                continue
            if master.grad is None:
                master.grad = torch.empty_like(master)
            wide.append(master.grad)
            narrow.append(parameter.grad)
        if wide:
            torch._foreach_copy_(wide, narrow)

    def _copy_masters(self) -> None:
        """Round the master weights into the model."""
        if self._rounded:
            parameters, masters = zip(*self._rounded, strict=True)
            with torch.no_grad():
                torch._foreach_copy_(list(parameters), list(masters))
