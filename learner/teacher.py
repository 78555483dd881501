"""The frozen reference in the learner, for losses that need its distribution.

With adapters it is the student's own model without them. Else, and at ZeRO-3, whose weights are
spread over ranks, it is a copy beside each rank: whole, so that its forward pass needs no
collective call; ``plan`` counts its memory. This module knows rows and hidden states, not losses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from common.config.learner import LearnerSettings
from learner import families
from learner.divergences import FullTeacher
from learner.layout import Layout
from learner.model import load_reference
from learner.packing import Row
from learner.teacher_inputs import TeacherForward


class Reference:
    """The reference model as a teacher; it never trains.

    Args:
        model: computes as the reference while ``as_reference`` is entered.
        device: the device of its weights.
        as_reference: makes it the reference; by default it is nothing else.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device,
        as_reference: Callable[
            [], contextlib.AbstractContextManager[None]
        ] = contextlib.nullcontext,
    ) -> None:
        self._model, self._as_reference = model, as_reference
        self._head = self._model.get_output_embeddings()
        self._softcap = families.softcap(self._model.config.to_dict())
        self._device = device

    @classmethod
    def copy(cls, model_dir: Path, settings: LearnerSettings, device: torch.device) -> Reference:
        """A frozen copy of ``model_dir`` that computes like the student."""
        model = load_reference(model_dir, settings).to(device).eval().requires_grad_(False)
        return cls(model, device)

    def forward(self, inputs: TeacherForward) -> FullTeacher:
        """Hidden states at the target positions, in the order of the student's row."""
        with torch.no_grad(), self._as_reference():
            hidden_KD = torch.cat([self._hidden(row) for row in inputs.rows])
        order_K = torch.as_tensor(inputs.order_K, device=self._device)
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
        return FullTeacher(hidden_KD, self._head.weight, self._head.bias, self._softcap)
