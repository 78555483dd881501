"""The teacher in the learner, for losses that need its distribution.

The reference is the student's own model without its adapters. Where it has none, and at ZeRO-3,
whose weights are spread over ranks, it is a copy beside each rank: whole, so that its forward pass
needs no collective call. A teacher with the student's current weights is the student's model
itself, and one with a moving average exchanges its weights for a forward pass. ``plan`` counts the
memory. This module knows rows and hidden states, not losses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch

from common.config.learner import LearnerSettings
from common.methods import Divergence
from learner import adapters, families
from learner.divergences import FullTeacher, Teacher, TopKTeacher
from learner.layout import Layout
from learner.model import load_reference
from learner.moving_average import MovingAverage
from learner.packing import Row
from learner.teacher_inputs import TeacherForward, TeacherInputs


class TeacherModel:
    """A model as a teacher; it gets no gradient.

    Args:
        model: computes as the teacher while ``as_teacher`` is entered.
        device: the device of its weights.
        as_teacher: makes it the teacher; by default it is nothing else.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device,
        as_teacher: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._model, self._as_teacher = model, as_teacher
        self._head = self._model.get_output_embeddings()
        self._softcap = families.softcap(self._model.config.to_dict())
        self._device = device

    @classmethod
    def copy(cls, model_dir: Path, settings: LearnerSettings, device: torch.device) -> Self:
        """A frozen copy of ``model_dir`` that computes like the student."""
        model = load_reference(model_dir, settings).to(device).eval().requires_grad_(False)
        return cls(model, device)

    @classmethod
    def of_student(
        cls, model: Any, device: torch.device, average: MovingAverage | None = None
    ) -> Self:
        """The student's model, without dropout, with its current weights or their ``average``."""

        @contextlib.contextmanager
        def as_teacher() -> Iterator[None]:
            training = model.training
            model.eval()
            try:
                with average.replacing() if average else contextlib.nullcontext():
                    yield
            finally:
                model.train(training)

        return cls(model, device, as_teacher)

    def forward(self, inputs: TeacherForward) -> FullTeacher:
        """Hidden states at the target positions, in the order of the student's row."""
        order_K = torch.as_tensor(inputs.order_K, device=self._device)
        with torch.no_grad(), self._as_teacher():
            hidden_KD = torch.cat([self._hidden(row) for row in inputs.rows])
            return self._with_head(hidden_KD.index_select(0, order_K))

    def empty(self) -> FullTeacher:
        """One position of zeros, for an empty row."""
        return self._with_head(self._head.weight.new_zeros((1, self._head.weight.shape[1])))

    def _hidden(self, row: Row) -> torch.Tensor:
        inputs_1T, positions_1T = (
            torch.as_tensor(array, device=self._device)[None]
            for array in (row.inputs_T, row.positions_T)
        )
        hidden_1TD = self._model.base_model(
            input_ids=inputs_1T,
            position_ids=positions_1T,
            layout=Layout(row.blocks, len(row.inputs_T), self._device),
            use_cache=False,
        ).last_hidden_state
        return hidden_1TD[0].index_select(0, torch.as_tensor(row.predict_K, device=self._device))

    def _with_head(self, hidden_KD: torch.Tensor) -> FullTeacher:
        weight_VD, bias_V = self._head.weight.detach(), self._head.bias
        bias_V = None if bias_V is None else bias_V.detach()
        return FullTeacher(hidden_KD, weight_VD, bias_V, self._softcap)


def create_teacher(
    divergence: Divergence | None,
    student: Any,
    average: MovingAverage | None,
    model_dir: Path,
    settings: LearnerSettings,
    device: torch.device,
) -> TeacherModel | None:
    """The teacher that a divergence needs in this process, if any.

    Args:
        divergence: the method's.
        student: the model that is trained.
        average: of its weights, for a teacher that follows it.
        model_dir: the reference.
        settings: the learner section.
        device: of the student.
    """
    if divergence is None or divergence.teacher == "engine":
        return None
    if divergence.weights != "base":
        return TeacherModel.of_student(student, device, average)
    if settings.teacher_is_base:
        return TeacherModel(student, device, partial(adapters.without, student))
    return TeacherModel.copy(model_dir, settings, device)


def teacher_of(
    inputs: TeacherInputs | None, model: TeacherModel | None, device: torch.device
) -> Teacher:
    """The teacher's side of a row.

    Args:
        inputs: of the row; None: it is empty.
        model: the teacher in this process; None: engines have scored the rollouts.
        device: of the student.
    """
    if isinstance(inputs, TeacherForward):
        assert model is not None, "the loss has no teacher in the learner"
        return model.forward(inputs)
    if inputs is not None:
        return TopKTeacher(
            torch.as_tensor(inputs.ids_KN, device=device),
            torch.as_tensor(inputs.logprobs_KN, device=device),
        )
    if model is not None:
        return model.empty()
    nothing = torch.zeros((1, 1), dtype=torch.long, device=device)
    return TopKTeacher(nothing, nothing.float())
