"""The learner, plain PyTorch and TRL at Qwen3's shapes on random ids. Not run on a GPU."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from common.config.learner import LearnerSettings
from common.hardware import Device
from learner.packing import Example
from tests.benchmarks.gpu.processes import Figures, Rows
from tests.benchmarks.gpu.profiling import profile
from tests.benchmarks.gpu.shapes import model_folder, num_parameters, vocabulary
from tests.benchmarks.trainers import (
    Bare,
    Ours,
    Reading,
    Trainer,
    random_batches,
    rate,
    synchronize,
    timed,
    trl,
)

# Lengths like KGFact's.
PROMPT, TARGET = range(40, 61), range(20, 41)
EXAMPLE_TOKENS = 80


@dataclass(frozen=True)
class Workload:
    """Examples of a step and tokens of a packed row; the first step is warm-up."""

    examples: int
    row_tokens: int
    steps: int

    def batches(self, shape: str) -> list[list[Example]]:
        """One batch a step."""
        return random_batches(self.steps, self.examples, vocabulary(shape), PROMPT, TARGET)


WORKLOADS: dict[Device, Workload] = {"cuda": Workload(128, 8192, 8), "cpu": Workload(8, 512, 3)}
# The batch of the paper.
SMALL: dict[Device, Workload] = {"cuda": Workload(20, 2048, 12), "cpu": Workload(4, 128, 3)}


def ours(
    device: Device, folder: Path, *, shape: str, row: str, small: str = "", zero_stage: int = 0
) -> Rows:
    """Our learner on one rank.

    Args:
        device: where it trains.
        folder: of the models.
        shape: of the model; on a CPU, tiny.
        row: name of the row.
        small: name of another row, for the small batch; empty: without it.
        zero_stage: of the learner.
    """
    shape = shape if device == "cuda" else "tiny"
    model = model_folder(folder, shape, device)
    workload = WORKLOADS[device]
    trainer = Ours(model, _settings(device, workload, zero_stage))
    yield row, _measure(trainer, workload, shape, folder)
    if small:
        workload = SMALL[device]
        trainer.settings = _settings(device, workload, zero_stage)
        yield small, _measure(trainer, workload, shape, folder)


def bare(device: Device, folder: Path, *, shape: str, row: str) -> Rows:
    """Plain PyTorch on the same packed rows, without float32 master weights."""
    shape = shape if device == "cuda" else "tiny"
    workload = WORKLOADS[device]
    trainer = Bare(model_folder(folder, shape, device), device, workload.row_tokens)
    yield row, _measure(trainer, workload, shape, folder)


def sft_trainer(device: Device, folder: Path, *, shape: str, row: str, packed: bool) -> Rows:
    """TRL's SFTTrainer as it comes, with about as many tokens a step.

    Its defaults are others than ours: it recomputes activations, and has no float32 master weights.

    Raises:
        RuntimeError: TRL is not installed.
    """
    if find_spec("trl") is None:
        raise RuntimeError("trl is not installed; pip install -r requirements/bench.txt adds it")
    shape = shape if device == "cuda" else "tiny"
    model = model_folder(folder, shape, device)
    workload = WORKLOADS[device]
    examples = [example for batch in workload.batches(shape) for example in batch]
    train = partial(trl, model, device, examples, steps=workload.steps)
    _reset_peak(device)
    if packed:
        readings = train(rows=2, row_tokens=workload.examples * EXAMPLE_TOKENS // 2)
    else:
        readings = train(rows=workload.examples)
    yield row, _figures(readings, shape, device)


def _settings(device: Device, workload: Workload, zero_stage: int) -> LearnerSettings:
    return LearnerSettings(
        device=device,
        batch_size=workload.examples,
        row_tokens=workload.row_tokens,
        zero_stage=zero_stage,
    )


def _measure(trainer: Trainer, workload: Workload, shape: str, folder: Path) -> Figures:
    """Figures of the steps, and of one more under the profiler."""
    batches = workload.batches(shape)
    _reset_peak(trainer.device)
    readings = timed(trainer, batches)
    figures = _figures(readings, shape, trainer.device)

    def step() -> None:
        trainer.step(batches[-1])
        synchronize(trainer.device)

    activity = profile(step, trainer.device, folder)
    on_gpu = trainer.device == "cuda"
    return figures | {
        # Of a step that is not profiled, which takes longer.
        "kernel_share": 1e3 * activity.busy_s / figures["step_ms"] if on_gpu else None,
        "launches": activity.launches if on_gpu else None,
    }


def _figures(readings: list[Reading], shape: str, device: Device) -> Figures:
    tokens_per_s = rate(readings)
    return {
        "tokens_per_s": tokens_per_s,
        "step_ms": 1e3 * statistics.median(reading.seconds for reading in readings),
        "tokens_a_step": statistics.median(reading.tokens for reading in readings),
        "train_flops": 6.0 * num_parameters(shape) * tokens_per_s,
        "peak_gib": _peak_gib(device),
    }


def _reset_peak(device: Device) -> None:
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def _peak_gib(device: Device) -> float | None:
    if device == "cpu":
        return None
    import torch

    return float(torch.cuda.max_memory_allocated() / 2**30)
