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

import torch
from safetensors.torch import save as serialize
from torch import distributed, nn

from common.config.learner import LearnerSettings
from common.methods import Loss, WeightPenalty
from learner import adapters
from learner.allocator import keep_freed_memory
from learner.backend import MOMENTS
from learner.backend_choice import create_backend
from learner.checkpoint import read_manifest
from learner.checkpoint_writer import TrainingState
from learner.model import StudentModel, inputs_of
from learner.moving_average import MovingAverage
from learner.packing import Row
from learner.stored_state import StoredState
from learner.teacher import create_teacher, teacher_of
from learner.teacher_inputs import TeacherInputs
from learner.weight_penalty import QuadraticPenalty


class TrainingEngine:
    """One rank of the learner.

    The environment variables RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT
    describe the process group; they must be set before construction.

    Args:
        model_dir: Hugging Face folder to start from.
        settings: the learner section.
        loss: the method's loss; the reference is the model of ``model_dir``.
        seed: for dropout and other random numbers; the same on every rank.
        penalty: the method's penalty on the distance from the reference's weights; only where
            gradients are whole, at stage 0, and without adapters.
    """

    def __init__(
        self,
        model_dir: Path,
        settings: LearnerSettings,
        *,
        loss: Loss,
        seed: int,
        penalty: WeightPenalty | None = None,
    ) -> None:
        torch.manual_seed(seed)
        if settings.resolved_device == "cpu":
            keep_freed_memory()
        if not distributed.is_initialized():
            distributed.init_process_group("gloo" if settings.resolved_device == "cpu" else "nccl")
        self.rank = int(os.environ["RANK"])
        self.world_size = int(os.environ["WORLD_SIZE"])
        self.progress = 0
        self._student = StudentModel(model_dir, settings, loss)
        self._backend = create_backend(self._student, settings)
        device = self._backend.device
        by_name = dict(self._student.named_weights())
        trained = {name: weight for name, weight in by_name.items() if weight.requires_grad}
        self._penalty = QuadraticPenalty(penalty, trained) if penalty is not None else None
        self._divergence = loss.divergence
        self._teacher_average: MovingAverage | None = None
        if self._divergence is not None and self._divergence.weights == "ema":
            self._teacher_average = MovingAverage(trained, self._divergence.ema_decay)
        model = self._student.model
        self._teacher = create_teacher(
            self._divergence, model, self._teacher_average, model_dir, settings, device
        )
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
            The loss of the global batch (nats per token), with the penalty before the update,
            and the gradient norm before clipping. If the norm is not finite, nothing was updated.
        """
        device = self._backend.device
        total = torch.zeros((), dtype=torch.float64, device=device)
        for index, (row, teacher_input) in enumerate(zip_longest(rows, teacher_inputs)):
            teacher = teacher_of(teacher_input, self._teacher, device) if self._divergence else None
            inputs = (*inputs_of(row, device), teacher)
            loss = self._backend.loss(inputs, last=index == len(rows) - 1)
            # An empty row still takes part in collective calls, with weight 0.
            loss = loss / num_target_tokens if row is not None else loss * 0.0
            total += loss.detach()
            # Gradients are averaged over ranks; the loss is a sum over them.
            self._backend.backward(loss * self.world_size)
            self.progress += 1
        norm = self._backend.step(lr, self._penalty)
        distributed.all_reduce(total)
        if self._penalty is not None:
            total += self._penalty.value
        # The one time that a step without DeepSpeed waits for the device.
        loss, gradient_norm = torch.stack([total, norm.to(total)]).tolist()
        if not math.isfinite(gradient_norm):
            return loss, math.inf
        if self._average is not None:
            weight = 1.0 - self._average_decay
            torch._foreach_lerp_(self._average, self._backend.masters(), weight)
        if self._teacher_average is not None:
            self._teacher_average.update(self._backend.master)
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
            if self._teacher_average is not None:
                whole["teacher"] = self._teacher_average.of(parameter)
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
        stored = StoredState(folder, self._backend.device)

        def load(master: str) -> None:
            kinds = {"master": master, **{key: key for key in MOMENTS}}
            for name, parameter in self._student.named_weights():
                if parameter.requires_grad:
                    state = {key: stored.read(kind, name) for key, kind in kinds.items()}
                    self._backend.set_state(parameter, state)

        if self._average is not None:
            load(stored.average("average"))
            self._average = [master.clone() for master in self._backend.masters()]
        load("master")
        if self._teacher_average is not None:
            self._teacher_average.load(partial(stored.read, stored.average("teacher")))
        self._backend.num_updates = read_manifest(folder).num_updates
        if stored.num_ranks == self.world_size:
            torch.set_rng_state(stored.rng(self.rank))

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


def _to_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A copy, even if the tensor is already on the CPU."""
    return tensor.detach().to("cpu", copy=True).contiguous()
