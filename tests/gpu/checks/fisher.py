"""The diagonal Fisher information on a device against that on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.hardware import Device
from tests.tiny import make_student

EXAMPLES = [(1, 5, 9, 2), (7, 7, 3), (4, 60, 2, 8, 11), tuple(range(3, 60))]


def sums(device: Device, folder: Path) -> dict[str, Any]:
    """‖F − F of the CPU‖ / ‖F of the CPU‖ of each parameter."""
    model = make_student(folder / "model", scale=0.1)
    ours, expected = _sums(model, device), _sums(model, "cpu")
    errors = {
        name: float((ours[name] - total).norm() / total.norm()) for name, total in expected.items()
    }
    return {"parameters": len(errors), "largest_error": max(errors.values()), "errors": errors}


def _sums(folder: Path, device: Device) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    from actors.analysis.fisher import SquaredGradients, log_likelihood

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
    squares = SquaredGradients(model)
    for ids in EXAMPLES:
        squares.add(log_likelihood(model, ids))
    squares.close()
    return squares.sums
