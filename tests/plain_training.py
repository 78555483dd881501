"""Training in plain PyTorch: one example at a time, on the CPU, without our code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM


class PlainTraining:
    """AdamW in float32 with clipping, and decay of matrices, or of all weights."""

    def __init__(
        self,
        folder: Path,
        *,
        lr: float,
        weight_decay: float,
        clip: float,
        eps: float,
        decay_all: bool = False,
    ) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self._clip = clip
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": weight_decay},
                {"params": vectors, "weight_decay": weight_decay if decay_all else 0.0},
            ],
            lr=lr,
            betas=(0.9, 0.95),
            eps=eps,
        )

    def steps(
        self, examples: Sequence[tuple[Sequence[int], Sequence[int]]], count: int
    ) -> Iterator[tuple[float, float]]:
        """(loss, nats a target token; gradient norm before clipping) of each step."""
        num_targets = sum(len(target) for _, target in examples)
        for _ in range(count):
            loss = torch.zeros(())
            for prompt, target in examples:
                ids = torch.tensor([*prompt, *target])
                logits = self.model(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1]
                loss = loss + torch.nn.functional.cross_entropy(
                    logits, torch.tensor(list(target)), reduction="sum"
                )
            loss = loss / num_targets
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip)
            self._optimizer.step()
            self._optimizer.zero_grad()
            yield float(loss.detach()), float(norm)
