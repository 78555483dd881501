"""The door to DeepSpeed: one rank's model, optimizer and sharded state.

Knows rows and steps; it does not know where batches come from or when to
checkpoint. All ranks must make the same calls in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import deepspeed
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from common.config import LearnerSettings
from learner.losses import LOSSES
from learner.packing import Row

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_STATE_TAG = "state"


class _RowLoss(nn.Module):
    """A causal LM with its loss, so that DeepSpeed wraps both.

    Only target positions go through the head: at vocabulary 49k the head
    costs as much as several layers.
    """

    def __init__(self, model: nn.Module, loss: str) -> None:
        super().__init__()
        self.model = model
        self._loss = LOSSES[loss]

    def forward(
        self,
        inputs_1T: torch.Tensor,
        positions_1T: torch.Tensor,
        mask_11TT: torch.Tensor,
        predict_K: torch.Tensor,
        targets_K: torch.Tensor,
    ) -> torch.Tensor:
        hidden_1TD = self.model.model(
            input_ids=inputs_1T,
            position_ids=positions_1T,
            attention_mask=mask_11TT,
            use_cache=False,
        ).last_hidden_state
        logits_KV = self.model.lm_head(hidden_1TD[0, predict_K])
        return self._loss(logits_KV, targets_K)


class TrainingEngine:
    """One rank of the learner.

    The process group is described by RANK, LOCAL_RANK, WORLD_SIZE,
    MASTER_ADDR and MASTER_PORT, which must be set before construction.

    Args:
        model_dir: Hugging Face folder to start from.
        settings: the learner section.
        loss: name in ``learner.losses.LOSSES``.
        seed: of dropout and the like; the same on every rank.
    """

    def __init__(self, model_dir: Path, settings: LearnerSettings, *, loss: str, seed: int) -> None:
        on_cpu = settings.resolved_device == "cpu"
        torch.manual_seed(seed)
        deepspeed.init_distributed("gloo" if on_cpu else "nccl", verbose=False)
        self._settings = settings
        self._world_size = int(os.environ["WORLD_SIZE"])
        self._is_first = os.environ["RANK"] == "0"
        model = AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=_DTYPES[settings.dtype], attn_implementation="sdpa"
        )
        if settings.gradient_checkpointing:
            model.gradient_checkpointing_enable()
        model.train()
        optimizer = torch.optim.AdamW(
            _decay_groups(model, settings.weight_decay),
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            # One pass over the parameters; several times faster than per-tensor on CPU.
            fused=True,
        )
        self._engine, *_ = deepspeed.initialize(
            model=_RowLoss(model, loss),
            optimizer=optimizer,
            config=_deepspeed_config(settings),
        )
        self._device = self._engine.device

    def step(
        self, rows: Sequence[Row | None], num_target_tokens: int, lr: float
    ) -> tuple[float, float]:
        """One optimizer step.

        Args:
            rows: this rank's rows; None counts nothing. As many on every rank.
            num_target_tokens: of the global batch; the loss is divided by it,
                so it does not depend on ranks or packing.
            lr: learning rate of the step.

        Returns:
            The loss of the global batch (nats a token) and the gradient's norm
            before clipping.
        """
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        total = 0.0
        for index, row in enumerate(rows):
            self._engine.set_gradient_accumulation_boundary(index == len(rows) - 1)
            loss = self._forward(row) / num_target_tokens
            total += float(loss.detach())
            # DeepSpeed averages gradients over ranks; the loss is a sum over them.
            self._engine.backward(loss * self._world_size)
        norm = self._plain_norm()
        self._engine.step()
        if norm is None:
            norm = float(self._engine.get_global_grad_norm())
        return self._sum(total), norm

    def save_state(self, folder: Path) -> None:
        """Write this rank's shards under ``folder``; all ranks call it."""
        self._engine.save_checkpoint(str(folder), tag=_STATE_TAG, save_latest=False)

    def load_state(self, folder: Path) -> None:
        """Continue from :meth:`save_state`'s folder; all ranks call it."""
        loaded, _ = self._engine.load_checkpoint(str(folder), tag=_STATE_TAG)
        if loaded is None:
            raise RuntimeError(f"{folder}: DeepSpeed found no state in it")

    def export(self, folder: Path) -> None:
        """Write the weights as a Hugging Face folder; all ranks call it, rank 0 writes."""
        model = self._engine.module.model
        with deepspeed.zero.GatheredParameters(
            list(model.parameters()), enabled=self._settings.zero_stage == 3
        ):
            if self._is_first:
                model.save_pretrained(folder)
        self.barrier()

    def barrier(self) -> None:
        """Wait for every rank."""
        deepspeed.comm.barrier()

    def _plain_norm(self) -> float | None:
        """The gradient's norm where DeepSpeed keeps none: float32 without sharding."""
        if self._settings.zero_stage > 0 or self._settings.dtype != "float32":
            return None
        gradients = [p.grad for p in self._engine.module.parameters() if p.grad is not None]
        return float(nn.utils.get_total_norm(gradients))

    def _sum(self, value: float) -> float:
        tensor = torch.tensor(value, dtype=torch.float64, device=self._device)
        deepspeed.comm.all_reduce(tensor)
        return float(tensor)

    def _forward(self, row: Row | None) -> torch.Tensor:
        if row is None:
            token = torch.zeros((1, 1), dtype=torch.long, device=self._device)
            mask = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=self._device)
            loss = self._engine(token, token, mask, token[0], token[0])
            return loss * 0.0
        return self._engine(
            self._tensor(row.inputs_T)[None],
            self._tensor(row.positions_T)[None],
            self._tensor(row.mask_TT())[None, None],
            self._tensor(row.predict_K),
            self._tensor(row.targets_K),
        )

    def _tensor(self, array: Any) -> torch.Tensor:
        return torch.as_tensor(array, device=self._device)


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; norms and biases (one axis) do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _deepspeed_config(settings: LearnerSettings) -> dict[str, Any]:
    return {
        # Rows of a step vary in number; the engine is told where a step ends.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.clip,
        "bf16": {"enabled": settings.dtype == "bfloat16"},
        "zero_optimization": {"stage": settings.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
