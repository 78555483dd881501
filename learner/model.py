"""The student as a training module: a causal LM together with its loss."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from common import files
from common.config.learner import LearnerSettings
from common.methods import Loss
from learner import attention, families, liger, norms
from learner.adapters import Adapter, adapt
from learner.compilation import compile_layers
from learner.divergences import Teacher
from learner.layout import Layout
from learner.losses import criterion
from learner.packing import Block, Row
from learner.row_tensors import to_device

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def load_reference(model_dir: Path, settings: LearnerSettings) -> Any:
    """Load a model with the learner's attention and norms; on CPU.

    Raises:
        UserError: the learner would compute this model's loss wrongly.
    """
    families.check(files.read_json(model_dir / "config.json"))
    model = AutoModelForCausalLM.from_pretrained(
        model_dir,
        dtype=DTYPES[settings.resolved_dtype],
        attn_implementation=attention.NAME,
        trust_remote_code=False,
    )
    if settings.resolved_device == "cpu":
        norms.fuse(model)
    elif not settings.compile:
        liger.fuse(model)
    return model


def inputs_of(row: Row | None, device: torch.device) -> tuple[Any, ...]:
    """What :class:`StudentModel` reads of a row; None: of an empty one."""
    if row is None:
        token = torch.zeros((1, 1), dtype=torch.long, device=device)
        return token, token, Layout([Block(0, 1)], 1, device), token[0], token[0]
    inputs_T, positions_T, predict_K, targets_K = to_device(
        (row.inputs_T, row.positions_T, row.predict_K, row.targets_K), device
    )
    layout = Layout(row.blocks, len(row.inputs_T), device)
    return inputs_T[None], positions_T[None], layout, predict_K, targets_K


class StudentModel(nn.Module):
    """A causal LM whose forward pass returns the loss of a row.

    Only target positions go through the head, which costs as much as several layers at
    vocabulary 49k.

    Args:
        model_dir: Hugging Face folder to start from.
        settings: the learner section.
        loss: the method's loss.
    """

    def __init__(self, model_dir: Path, settings: LearnerSettings, loss: Loss) -> None:
        super().__init__()
        self.model = load_reference(model_dir, settings)
        self.adapters: dict[str, Adapter] = {}
        self._files = {"config.json": self.model.config.to_json_string(use_diff=True).encode()}
        if settings.lora is not None:
            adapters, config = adapt(self.model, settings.lora)
            self.adapters = {adapter.weight: adapter for adapter in adapters}
            self._files["adapter/adapter_config.json"] = config
        if settings.gradient_checkpointing:
            self.model.gradient_checkpointing_enable()
        if settings.compile:
            compile_layers(self.model)
        softcap = families.softcap(self.model.config.to_dict())
        self.head = _Head(self.model.get_output_embeddings(), loss, softcap)
        self.train()

    def forward(
        self,
        inputs_1T: torch.Tensor,
        positions_1T: torch.Tensor,
        layout: Layout,
        predict_K: torch.Tensor,
        targets_K: torch.Tensor,
        teacher: Teacher | None = None,
    ) -> torch.Tensor:
        """Summed loss (nats) over the row's target tokens.

        Args:
            inputs_1T: token ids of the row.
            positions_1T: position of each token in its own example.
            layout: the attention blocks of the row.
            predict_K: row positions that predict a target token.
            targets_K: the target tokens.
            teacher: for a divergence, its side at the K positions.
        """
        hidden_1TD = self.model.base_model(
            input_ids=inputs_1T, position_ids=positions_1T, layout=layout, use_cache=False
        ).last_hidden_state
        return self.head(hidden_1TD[0].index_select(0, predict_K), targets_K, teacher)

    def named_weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every weight once, by its Hugging Face name (adapters included)."""
        yield from self.model.named_parameters()

    def config_files(self) -> dict[str, bytes]:
        """Content by relative path: the files beside exported weights in a Hugging Face folder."""
        return dict(self._files)

    def decay_groups(self, settings: LearnerSettings) -> list[dict[str, Any]]:
        """Optimizer parameter groups: matrices decay; norms and biases (one axis) if set so."""
        trained = [p for p in self.parameters() if p.requires_grad]
        rest = settings.weight_decay if settings.weight_decay_on == "all" else 0.0
        return [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": rest},
        ]


class _Head(nn.Module):
    """The output projection with the loss.

    It owns the weight, so that ZeRO-3's hooks, which gather per module, gather it for the
    loss.
    """

    def __init__(self, linear: nn.Linear, loss: Loss, softcap: float | None) -> None:
        super().__init__()
        self.weight = linear.weight
        self.register_parameter("bias", linear.bias)
        self._loss = criterion(loss, softcap)

    def forward(
        self, hidden_KD: torch.Tensor, targets_K: torch.Tensor, teacher: Teacher | None
    ) -> torch.Tensor:
        return self._loss(hidden_KD, self.weight, self.bias, targets_K, teacher)
