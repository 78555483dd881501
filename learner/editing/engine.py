"""The learner's engine of method memit: each batch is one edit of a few weight matrices.

It has the interface of the training engine, so queue, checkpoints and resuming work as in
training. A second batch edits what the first has left, with the same covariance of the base model.
Everything is computed in float32, and the closed form in float64, on one rank. Not run on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import torch
from safetensors import safe_open

from common import files
from common.config.learner import LearnerSettings
from common.methods import MemoryEdit
from learner.checkpoint import read_manifest, state_files
from learner.checkpoint_writer import TrainingState
from learner.editing.closed_form import second_moments, weight_change
from learner.editing.deltas import Batch, find
from learner.editing.model import EditedModel
from learner.editing.requests import Request, Sites, chunks, requests_of
from learner.editing.support import edited_layers
from learner.model import DTYPES
from learner.packing import Row
from learner.teacher_inputs import TeacherInputs


class EditingEngine:
    """Edits MLP down-projections in closed form.

    Args:
        model_dir: Hugging Face folder to start from.
        settings: the learner section; ``row_tokens`` bounds the tokens of a pass.
        edit: the method's edit.
        seed: of the samples for the covariance.
        sites: where the prompts are edited.
        text_ids: tokens for the covariance; empty: samples of the base model.
        log: receives a line for each edit.

    Raises:
        UserError: the model cannot be edited.
    """

    def __init__(
        self,
        model_dir: Path,
        settings: LearnerSettings,
        edit: MemoryEdit,
        *,
        seed: int,
        sites: Sites,
        text_ids: Sequence[int],
        log: Callable[[str], None],
    ) -> None:
        layers = edited_layers(files.read_json(model_dir / "config.json"), edit)
        device = torch.device("cpu" if settings.resolved_device == "cpu" else "cuda")
        self._model = EditedModel(model_dir, layers, device)
        self._base = [weight.clone() for weight in self._model.weights]
        self._dtype = DTYPES[settings.resolved_dtype]
        self._chunk_tokens = settings.row_tokens
        self._edit, self._seed, self._sites, self._text_ids = edit, seed, sites, text_ids
        self._log = log
        self._moments: list[torch.Tensor] = []
        self._num_edits = 0
        self.progress = 0

    def step(
        self,
        rows: Sequence[Row | None],
        num_target_tokens: int,
        lr: float,
        teacher_inputs: Sequence[TeacherInputs | None] = (),
    ) -> tuple[float, float]:
        """One edit that writes all facts of a batch.

        Args:
            rows: the facts, one a row.
            num_target_tokens: of the batch.
            lr: unused; the method has a learning rate of its own.
            teacher_inputs: unused; an edit has no teacher.

        Returns:
            The loss before the edit (nats per token), and the norm of the weights' change. If
            the norm is not finite, nothing was changed.
        """
        before = [weight.clone() for weight in self._model.weights]
        requests = requests_of(rows, self._sites)
        batches = self._batches(requests)
        deltas = [find(self._model, batch, self._edit, self._made_progress) for batch in batches]
        start = self._loss(batches, num_target_tokens)
        wanted = self._loss(batches, num_target_tokens, deltas)
        hidden_ND = torch.cat([batch.hidden_ND for batch in batches])
        self._write(requests, hidden_ND + torch.cat(deltas))
        changes = zip(self._model.weights, before, strict=True)
        norm = math.hypot(*(float((after - old).norm()) for after, old in changes))
        if not math.isfinite(norm):
            self._set_weights(before)
            return start, math.inf
        self._num_edits += 1
        end = self._loss(self._batches(requests), num_target_tokens)
        self._log(
            f"{len(requests)} facts edited in layers {self._model.layers[0]} to "
            f"{self._model.layers[-1]}; loss {start:.3g} before, {wanted:.3g} with the wanted "
            f"hidden states, {end:.3g} with the new weights (nats/token)"
        )
        return start, norm

    def snapshot(self, with_state: bool = True) -> TrainingState:
        """The model in the learner's dtype, and the edited matrices in float32, in CPU memory."""
        weights = {name: weight.cpu().clone() for name, weight in self.policy()}
        config = self._model.model.config
        config.dtype = self._dtype
        content = config.to_json_string(use_diff=True).encode()
        state = {}
        if with_state:
            named = zip(self._model.layers, self._model.weights, strict=True)
            state = {_stored(layer): weight.cpu().clone() for layer, weight in named}
        return TrainingState(0, 1, weights, state, self._num_edits, {"config.json": content})

    def load_state(self, folder: Path) -> None:
        """Resume from the checkpoint ``folder``."""
        (path,) = state_files(folder)
        with safe_open(path, "pt") as stored:
            self._set_weights([stored.get_tensor(_stored(layer)) for layer in self._model.layers])
        self._num_edits = read_manifest(folder).num_updates

    def policy(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every current weight by Hugging Face name, in the learner's dtype."""
        for name, parameter in self._model.model.named_parameters():
            yield name, parameter.detach().to(self._dtype)

    def factors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """None: an edit has no adapters."""
        return iter(())

    def barrier(self) -> None:
        """Nothing: there is one rank."""

    def agree(self, values: tuple[int, ...]) -> tuple[int, ...]:
        """``values``: there is one rank."""
        return values

    def _write(self, requests: Sequence[Request], wanted_ND: torch.Tensor) -> None:
        """Change one matrix after another so that the last layer gives the wanted states.

        Each layer takes an equal share of what is still missing (arXiv 2210.07229, §4.3).
        """
        moments = self._second_moments()
        for index, weight in enumerate(self._model.weights):
            batches = self._batches(requests)
            keys_NF = torch.cat([batch.keys_LNF[index] for batch in batches])
            missing_ND = wanted_ND - torch.cat([batch.hidden_ND for batch in batches])
            share_ND = missing_ND / (len(moments) - index)
            # λ in units of the width: kᵀ E[k kᵀ]⁻¹ k is the width on average.
            old_FF = moments[index] * (self._edit.preserve * weight.shape[1])
            weight += weight_change(keys_NF, share_ND, old_FF).to(weight)
            self._made_progress()

    def _second_moments(self) -> list[torch.Tensor]:
        """E[k kᵀ] of the inputs of each edited matrix of the base model; computed once."""
        if not self._moments:
            edited = [weight.clone() for weight in self._model.weights]
            self._set_weights(self._base)
            self._moments = second_moments(self._old_keys())
            self._set_weights(edited)
        return self._moments

    def _old_keys(self) -> Iterator[list[torch.Tensor]]:
        """Inputs of each edited matrix at the tokens that the covariance is estimated on."""
        tokens = self._edit.tokens
        texts = (
            self._model.passages(self._text_ids[:tokens])
            if self._text_ids
            else self._model.samples(tokens, self._seed, self._made_progress)
        )
        for batch_NT in texts:
            for ids_NT in batch_NT.split(max(1, self._chunk_tokens // batch_NT.shape[1])):
                yield [keys.flatten(0, 1) for keys in self._model.lower(ids_NT)[0]]
                self._made_progress()

    def _batches(self, requests: Sequence[Request]) -> list[Batch]:
        """The lower layers' pass over all facts, with the current weights."""
        batches = []
        for chunk in chunks(requests, self._chunk_tokens):
            batches.append(Batch.of(self._model, chunk))
            self._made_progress()
        return batches

    def _loss(
        self, batches: Sequence[Batch], num_tokens: int, deltas: Sequence[torch.Tensor] = ()
    ) -> float:
        """NLL of the targets (nats/token), with or without the changes of the hidden states."""
        with torch.no_grad():
            total = sum(
                float(batch.target_nll(self._model, delta).sum())
                for batch, delta in zip_longest(batches, deltas)
            )
        return total / num_tokens

    def _set_weights(self, weights: Sequence[torch.Tensor]) -> None:
        for weight, value in zip(self._model.weights, weights, strict=True):
            weight.copy_(value)

    def _made_progress(self) -> None:
        self.progress += 1


def _stored(layer: int) -> str:
    return f"master/layers.{layer}.mlp.down_proj"
