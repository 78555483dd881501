"""One rank's training step: rows in, loss and gradient norm out.

This module knows neither where batches come from nor when to write a checkpoint. All
ranks must make the same calls in the same order.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as serialize
from torch import distributed, nn

from common.config.learner import LearnerSettings
from common.errors import UserError
from common.methods import Divergence, Loss
from learner import adapters
from learner.allocator import keep_freed_memory
from learner.backend import MOMENTS, Backend
from learner.checkpoint import read_manifest, state_files
from learner.checkpoint_writer import TrainingState
from learner.divergences import Teacher, TopKTeacher
from learner.layout import Layout
from learner.model import StudentModel
from learner.packing import Block, Row
from learner.row_tensors import to_device
from learner.teacher import Reference
from learner.teacher_inputs import TeacherForward, TeacherInputs


class TrainingEngine:
    """One rank of the learner.

    The environment variables RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT
    describe the process group; they must be set before construction.

    Args:
        model_dir: Hugging Face folder to start from.
        settings: the learner section.
        loss: the method's loss; a teacher in the learner is the model of ``model_dir``.
        seed: for dropout and other random numbers; the same on every rank.
    """

    def __init__(
        self, model_dir: Path, settings: LearnerSettings, *, loss: Loss, seed: int
    ) -> None:
        torch.manual_seed(seed)
        if settings.resolved_device == "cpu":
            keep_freed_memory()
        if not distributed.is_initialized():
            distributed.init_process_group("gloo" if settings.resolved_device == "cpu" else "nccl")
        self.rank = int(os.environ["RANK"])
        self.world_size = int(os.environ["WORLD_SIZE"])
        self._student = StudentModel(model_dir, settings, loss)
        self._backend = _create_backend(self._student, settings)
        self._has_teacher = isinstance(loss, Divergence)
        self._reference: Reference | None = None
        if isinstance(loss, Divergence) and loss.teacher == "learner":
            model, device = self._student.model, self._backend.device
            if settings.teacher_is_base:
                self._reference = Reference(model, device, partial(adapters.without, model))
            else:
                self._reference = Reference.copy(model_dir, settings, device)
        by_name = dict(self._student.named_weights())
        self._adapters = {by_name[n]: adapter for n, adapter in self._student.adapters.items()}
        self._average_decay = settings.average or 0.0
        self._average: list[torch.Tensor] | None = None
        if settings.average is not None:
            self._average = [master.clone() for master in self._backend.masters()]

    def step(
        self,
        rows: Sequence[Row | None],
        num_target_tokens: int,
        lr: float,
        teacher_inputs: Sequence[TeacherInputs | None] = (),
    ) -> tuple[float, float]:
        """One optimizer step.

        Args:
            rows: this rank's rows, one forward pass each; None is an empty row. Every
                rank has the same number.
            num_target_tokens: of the global batch; the loss is divided by it,
                so it does not depend on ranks or packing.
            lr: learning rate of the step.
            teacher_inputs: the teacher's inputs for each row; empty without a teacher.

        Returns:
            The loss of the global batch (nats per token) and the gradient norm before
            clipping. If the norm is not finite, nothing was updated.
        """
        total = torch.zeros((), dtype=torch.float64, device=self._backend.device)
        for index, (row, teacher_input) in enumerate(zip_longest(rows, teacher_inputs)):
            inputs = (*self._inputs(row), self._teacher(teacher_input))
            loss = self._backend.loss(inputs, last=index == len(rows) - 1)
            # An empty row still takes part in collective calls, with weight 0.
            loss = loss / num_target_tokens if row is not None else loss * 0.0
            total += loss.detach()
            # Gradients are averaged over ranks; the loss is a sum over them.
            self._backend.backward(loss * self.world_size)
        norm = self._backend.step(lr)
        distributed.all_reduce(total)
        # The one time that a step without DeepSpeed waits for the device.
        loss, gradient_norm = torch.stack([total, norm.to(total)]).tolist()
        if not math.isfinite(gradient_norm):
            return loss, math.inf
        if self._average is not None:
            weight = 1.0 - self._average_decay
            torch._foreach_lerp_(self._average, self._backend.masters(), weight)
        return loss, gradient_norm

    def snapshot(self, with_state: bool = True) -> TrainingState:
        """This rank's part of a checkpoint, in CPU memory; all ranks call it.

        Parameters are gathered one at a time. Each is kept by the rank that holds the
        least so far, so no rank ever has the whole model twice. With ``learner.average``
        the average is exported; training continues from the master weights.

        Args:
            with_state: False: only what is exported.
        """
        state = self._state() if with_state else {}
        if self._average is not None:
            self._swap_average()
            if with_state:
                state |= self._masters("average")
        weights: dict[str, torch.Tensor] = {}
        for name, parameter in self._owned():
            weight = self._exported(parameter)
            if name is not None and weight is not None:
                weights[name.replace(".base_layer.", ".")] = _to_cpu(weight)
        files = self._files()
        if self._average is not None:
            self._swap_average()
        return TrainingState(
            self.rank, self.world_size, weights, state, self._backend.num_updates, files
        )

    def _state(self) -> dict[str, torch.Tensor]:
        """What this rank needs to resume, the average of the weights apart."""
        state = {"rng": torch.get_rng_state()}
        for name, parameter in self._owned():
            if not parameter.requires_grad:
                continue
            whole = self._backend.state(parameter)
            if name is not None:
                state |= {f"{key}/{name}": _to_cpu(value) for key, value in whole.items()}
        return state

    def _masters(self, kind: str) -> dict[str, torch.Tensor]:
        """This rank's master weights as they are now, as ``KIND/NAME``."""
        masters = {}
        for name, parameter in self._owned():
            if parameter.requires_grad:
                master = self._backend.master(parameter)
                if name is not None:
                    masters[f"{kind}/{name}"] = _to_cpu(master)
        return masters

    def load_state(self, folder: Path) -> None:
        """Resume from the checkpoint ``folder``; all ranks call it.

        Any number of ranks, at any ZeRO stage, may have written it.
        """
        parts = [safe_open(path, "pt") for path in state_files(folder)]
        where = {key: part for part in parts for key in part.keys()}  # noqa: SIM118

        def load(master: str) -> None:
            for name, parameter in self._student.named_weights():
                if not parameter.requires_grad:
                    continue
                keys = {"master": master, **{key: key for key in MOMENTS}}
                state = {
                    key: where[f"{stored}/{name}"]
                    .get_tensor(f"{stored}/{name}")
                    .to(self._backend.device)
                    for key, stored in keys.items()
                }
                self._backend.set_state(parameter, state)

        if self._average is not None:
            has_average = any(key.startswith("average/") for key in where)
            load("average" if has_average else "master")
            self._average = [master.clone() for master in self._backend.masters()]
        load("master")
        self._backend.num_updates = read_manifest(folder).num_updates
        if len(parts) == self.world_size:
            torch.set_rng_state(parts[self.rank].get_tensor("rng"))

    def weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every weight as the forward pass uses it, one at a time; all ranks iterate."""
        for name, parameter in self._student.named_weights():
            yield name, self._backend.weight(parameter)

    def policy(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The student's current weights by Hugging Face name, adapters merged, never the average.

        One at a time; all ranks iterate.
        """
        for name, parameter in self._student.named_weights():
            weight = self._exported(parameter)
            if weight is not None:
                yield name.replace(".base_layer.", "."), weight

    def factors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The adapters' factors by the names of ``peft``, B times the scale.

        One at a time; all ranks iterate.
        """
        for adapter in self._student.adapters.values():
            yield adapters.stored_name(adapter, "A"), self._weight(adapter.a_RD)
            yield adapters.stored_name(adapter, "B"), adapter.scale * self._weight(adapter.b_ER)

    def barrier(self) -> None:
        """Wait for every rank."""
        distributed.barrier()

    def agree(self, values: tuple[int, ...]) -> tuple[int, ...]:
        """Rank 0's ``values`` on every rank; all ranks call it."""
        box = [values]
        distributed.broadcast_object_list(box)
        return box[0]

    def _owned(self) -> Iterator[tuple[str | None, nn.Parameter]]:
        """Every parameter; its name only on the rank that owns it in checkpoints."""
        held = [0] * self.world_size
        for name, parameter in self._student.named_weights():
            owner = held.index(min(held))
            # Under ZeRO-3 numel() of a parameter that is not gathered is 0.
            held[owner] += getattr(parameter, "ds_numel", parameter.numel())
            yield (name if owner == self.rank else None), parameter

    def _weight(self, parameter: nn.Parameter) -> torch.Tensor:
        """A full weight in export precision; frozen ones have no master."""
        if not parameter.requires_grad:
            return self._backend.weight(parameter)
        return self._backend.master(parameter).to(parameter.dtype)

    def _exported(self, parameter: nn.Parameter) -> torch.Tensor | None:
        """A weight with its adapter merged into it; None for the adapter's factors."""
        if self._student.adapters and parameter.requires_grad:
            return None
        weight = self._weight(parameter)
        adapter = self._adapters.get(parameter)
        if adapter is None:
            return weight
        a_RD, b_ER = self._weight(adapter.a_RD), self._weight(adapter.b_ER)
        return adapters.merged(weight, a_RD, b_ER, adapter.scale)

    def _files(self) -> dict[str, bytes]:
        """Configuration, and the adapter alone as ``peft`` loads it; on rank 0."""
        factors = {}
        for adapter in self._student.adapters.values():
            for letter, parameter in (("A", adapter.a_RD), ("B", adapter.b_ER)):
                factor = self._weight(parameter)
                if self.rank == 0:
                    factors[adapters.stored_name(adapter, letter)] = _to_cpu(factor)
        if self.rank > 0:
            return {}
        files = self._student.config_files()
        if factors:
            files["adapter/adapter_model.safetensors"] = serialize(factors)
        return files

    def _swap_average(self) -> None:
        """Exchange master weights and their average: collective calls gather masters only."""
        assert self._average is not None
        for master, average in zip(self._backend.masters(), self._average, strict=True):
            kept = master.clone()
            master.copy_(average)
            average.copy_(kept)

    def _inputs(self, row: Row | None) -> tuple[Any, ...]:
        device = self._backend.device
        if row is None:
            token = torch.zeros((1, 1), dtype=torch.long, device=device)
            return token, token, Layout([Block(0, 1)], 1, device), token[0], token[0]
        inputs_T, positions_T, predict_K, targets_K = to_device(
            (row.inputs_T, row.positions_T, row.predict_K, row.targets_K), device
        )
        layout = Layout(row.blocks, len(row.inputs_T), device)
        return inputs_T[None], positions_T[None], layout, predict_K, targets_K

    def _teacher(self, teacher_input: TeacherInputs | None) -> Teacher | None:
        if not self._has_teacher:
            return None
        if isinstance(teacher_input, TeacherForward):
            assert self._reference is not None, "the loss has no teacher in the learner"
            return self._reference.forward(teacher_input)
        device = self._backend.device
        if teacher_input is not None:
            return TopKTeacher(
                torch.as_tensor(teacher_input.ids_KN, device=device),
                torch.as_tensor(teacher_input.logprobs_KN, device=device),
            )
        if self._reference is not None:
            return self._reference.empty()
        nothing = torch.zeros((1, 1), dtype=torch.long, device=device)
        return TopKTeacher(nothing, nothing.float())


def _create_backend(student: StudentModel, settings: LearnerSettings) -> Backend:
    """The backend for ``learner.zero_stage``.

    Raises:
        UserError: offload without a GPU.
    """
    groups = student.decay_groups(settings)
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


def _to_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A copy, even if the tensor is already on the CPU."""
    return tensor.detach().to("cpu", copy=True).contiguous()
