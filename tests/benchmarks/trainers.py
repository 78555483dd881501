"""Trainers of the same examples: ours, plain PyTorch on a Hugging Face model, and TRL's.

Useful tokens are prompt and target, without padding. A first step is warm-up.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from common import models
from common.config.learner import LearnerSettings
from common.hardware import Device
from learner.packing import Example, pack, rows_of_rank
from tests.gpu.checks.learner import be_one_rank

Batch = Sequence[Example]
LEARNING_RATE = 1e-5


class Trainer(Protocol):
    """One model and its optimizer."""

    device: Device

    def step(self, batch: Batch) -> int:
        """Train on a batch; the tokens that it computed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One step: seconds, useful tokens and computed ones."""

    seconds: float
    tokens: int
    computed: int


def timed(trainer: Trainer, batches: Sequence[Batch]) -> list[Reading]:
    """One step a batch; the first is warm-up and has no reading."""
    readings = []
    for batch in batches:
        began = time.perf_counter()
        computed = trainer.step(batch)
        synchronize(trainer.device)
        readings.append(Reading(time.perf_counter() - began, num_tokens(batch), computed))
    return readings[1:]


def rate(readings: Sequence[Reading]) -> float:
    """Median of useful tokens/s."""
    return statistics.median(reading.tokens / reading.seconds for reading in readings)


def num_tokens(batch: Batch) -> int:
    return sum(len(prompt) + len(target) for prompt, target in batch)


def num_targets(batch: Batch) -> int:
    return sum(len(target) for _, target in batch)


def random_batches(
    count: int, size: int, vocabulary: int, prompt: range, target: range
) -> list[list[Example]]:
    """Batches of ``size`` examples of random ids, as long as one of each range."""
    draw = random.Random(0)

    def ids(lengths: range) -> list[int]:
        return [draw.randrange(vocabulary) for _ in range(draw.choice(lengths))]

    return [[(ids(prompt), ids(target)) for _ in range(size)] for _ in range(count)]


def synchronize(device: Device) -> None:
    """Wait for what the device still computes."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def matrix_flops(device: Device, size: int) -> float:
    """FLOP/s of the device's bfloat16 matrix product of ``size``: median of 9."""
    import torch

    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    rates = []
    for _ in range(10):
        synchronize(device)
        began = time.perf_counter()
        left @ right
        synchronize(device)
        rates.append(2 * size**3 / (time.perf_counter() - began))
    return statistics.median(rates[1:])


class Ours:
    """The learner's own step, on one rank.

    Attributes:
        engine: the training engine.
        device: where it trains.
        settings: those by which examples are packed into rows.
    """

    def __init__(self, model: Path, settings: LearnerSettings) -> None:
        self.device = settings.resolved_device
        be_one_rank(self.device)
        from common.methods import NLL
        from learner.engine import TrainingEngine

        self.engine = TrainingEngine(model, settings, loss=NLL(), seed=0)
        self.settings = settings

    def step(self, batch: Batch) -> int:
        """Train on a batch; the tokens that it computed: a shared prompt prefix counts once."""
        rows = rows_of_rank(batch, self.settings, 0)
        self.engine.step(rows, num_targets(batch), LEARNING_RATE)
        return sum(len(row.inputs_T) for row in rows if row is not None)


class Bare:
    """Plain PyTorch: packed rows, all positions through the head, fused AdamW on bfloat16."""

    def __init__(self, model: Path, device: Device, row_tokens: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.device = device
        self._row_tokens = row_tokens
        self.model = AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.bfloat16, attn_implementation="sdpa"
        ).to(device)
        self.model.train()
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, fused=True)

    def step(self, batch: Batch) -> int:
        """Train on a batch; the tokens that it computed."""
        import torch

        rows = pack(batch, self._row_tokens)
        for row in rows:
            loss = self._loss(row.inputs_T, row.positions_T, row.predict_K, row.targets_K)
            (loss / num_targets(batch)).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return sum(len(row.inputs_T) for row in rows)

    def _loss(self, *arrays: Any) -> Any:
        import torch
        import torch.nn.functional as F

        inputs_T, positions_T, predict_K, targets_K = (
            torch.as_tensor(array, device=self.device) for array in arrays
        )
        labels_T = torch.full_like(inputs_T, -100)
        labels_T[predict_K] = targets_K
        logits_TV = self.model(
            input_ids=inputs_T[None], position_ids=positions_T[None], use_cache=False
        ).logits[0]
        return F.cross_entropy(logits_TV.float(), labels_T, reduction="sum")


def trl(
    model: Path,
    device: Device,
    examples: Sequence[Example],
    *,
    rows: int,
    steps: int,
    row_tokens: int | None = None,
) -> list[Reading]:
    """Steps of TRL's SFTTrainer as it comes, on bfloat16 weights; the first has no reading.

    Args:
        model: its folder.
        device: where it trains.
        examples: enough for all steps.
        rows: of a step.
        steps: to train.
        row_tokens: of packed rows; None: one example a row.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    dataset = Dataset.from_list(
        [
            {
                "input_ids": [*prompt, *target],
                "completion_mask": [0] * len(prompt) + [1] * len(target),
            }
            for prompt, target in examples
        ]
    )
    tokens: list[int] = []
    clock = _clock(device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=str(model),
            args=SFTConfig(
                output_dir=folder,
                packing=row_tokens is not None,
                per_device_train_batch_size=rows,
                max_steps=steps,
                use_cpu=device == "cpu",
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                model_init_kwargs={"dtype": "bfloat16"},
                **({} if row_tokens is None else {"max_length": row_tokens}),
            ),
            train_dataset=dataset,
            # It only pads: the examples are ids.
            processing_class=models.load(models.resolve(models.PACKAGED)).tokenizer,
            callbacks=[clock],
        )
        trainer.data_collator = _counting(trainer.data_collator, tokens)
        trainer.train()
    return [
        Reading(seconds, count, count)
        for seconds, count in zip(clock.seconds, tokens, strict=False)
    ][1:]


def _counting(collate: Callable[..., Any], tokens: list[int]) -> Callable[..., Any]:
    """``collate``, with the tokens of each batch kept."""

    def counted(features: list[dict[str, list[int]]]) -> Any:
        tokens.append(sum(len(feature["input_ids"]) for feature in features))
        return collate(features)

    return counted


def _clock(device: Device) -> Any:
    """A callback with the seconds of each step."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_step_begin(self, *_: object, **__: object) -> None:
            synchronize(device)
            self._began = time.perf_counter()

        def on_step_end(self, *_: object, **__: object) -> None:
            synchronize(device)
            self.seconds.append(time.perf_counter() - self._began)

    return Clock()
