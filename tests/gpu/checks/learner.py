"""The training engine on a device against plain PyTorch on the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from common.hardware import Device
from tests.tiny import make_student

STEPS = 10


def packing(device: Device, folder: Path) -> dict[str, Any]:
    """Training on packed rows, and on one example a row."""
    return _compare(
        device,
        folder,
        {
            "single rows": {"pack": False},
            "packed": {"share_prompts": False},
            "packed, prompts shared": {},
            "micro-batches of 4 rows": {"micro_batch": 4},
            "activations recomputed": {"gradient_checkpointing": True},
        },
    )


def zero(device: Device, folder: Path, dtype: str = "float32") -> dict[str, Any]:
    """Training at each ZeRO stage."""
    return _compare(
        device,
        folder,
        {f"stage {stage}": {"zero_stage": stage, "dtype": dtype} for stage in range(4)},
    )


def be_one_rank(device: Device) -> None:
    """The environment of a learner without others; before torch is imported."""
    os.environ.update(
        RANK="0",
        LOCAL_RANK="0",
        WORLD_SIZE="1",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="0",
        DS_ACCELERATOR=device,
    )


def _compare(device: Device, folder: Path, cases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """(loss, gradient norm) of ten steps, and the largest relative errors of each case."""
    be_one_rank(device)
    from torch import distributed

    from tests.integration.ranks import EXAMPLES, run_case
    from tests.plain_training import PlainTraining

    model = make_student(folder / "model")
    plain = PlainTraining(model, lr=1e-3, weight_decay=0.01, clip=1.0, eps=1e-8)
    expected = list(plain.steps(EXAMPLES, STEPS))
    found: dict[str, Any] = {"plain": expected}
    for name, settings in cases.items():
        _, steps = run_case(model, {"settings": {"device": device, **settings}, "steps": STEPS})
        pairs = list(zip(steps, expected, strict=True))
        found[name] = {
            "steps": steps,
            "loss_error": max(abs(ours[0] / plain[0] - 1) for ours, plain in pairs),
            "norm_error": max(abs(ours[1] / plain[1] - 1) for ours, plain in pairs),
        }
    distributed.destroy_process_group()
    return found
