"""Attention in one varlen call against attention by buckets, on one row of 128 facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.attention import varlen as kernels

from common.hardware import Device
from learner.attention import attend
from learner.layout import Layout
from learner.packing import pack
from tests import varlen

# Grouped queries as in Qwen3-1.7B.
HEADS, KEY_HEADS, SIZE = 16, 8, 128
NAMES = ("output", "query", "key", "value")


def paths(device: Device, folder: Path, facts: str = "128") -> dict[str, Any]:
    """Relative errors of either way in bfloat16 against float32, without and with a window.

    On a CPU the kernel is emulated.
    """
    if device == "cpu":
        kernels.varlen_attn = varlen.varlen_attn
    # A system prompt, a question of its own length, and an answer.
    examples = [
        ([1] * 24 + [3 + fact] * (20 + fact % 30), [2] * (8 + fact % 13))
        for fact in range(int(facts))
    ]
    found: dict[str, Any] = {}
    for share in (False, True):
        (row,) = pack(examples, 2**16, share_prompts=share)
        layout = Layout(row.blocks, len(row.inputs_T), device)
        for window in (None, 16):
            name = f"{'shared' if share else 'alone'}, window {window}"
            exact = _results(layout, torch.float32, len(row.inputs_T), device, window)
            for way in ("varlen", "buckets"):
                dtype = torch.bfloat16
                ours = _results(layout, dtype, len(row.inputs_T), device, window, way == "varlen")
                errors = map(_error, ours, exact)
                found[f"{way}, {name}"] = dict(zip(NAMES, errors, strict=True))
    return found


def _results(
    layout: Layout,
    dtype: torch.dtype,
    num_tokens: int,
    device: Device,
    window: int | None,
    one_call: bool = False,
) -> list[torch.Tensor]:
    """Output and gradients of a layer."""
    generator = torch.Generator().manual_seed(0)

    def normal(heads: int) -> torch.Tensor:
        # The memory of a projection's output, as in a model: heads within tokens.
        numbers = torch.randn(1, num_tokens, heads, SIZE, generator=generator).bfloat16()
        return numbers.to(device, dtype).transpose(1, 2).detach().requires_grad_()

    query, key, value = normal(HEADS), normal(KEY_HEADS), normal(KEY_HEADS)
    with patch("learner.varlen_attention.fits", lambda query: one_call):
        output, _ = attend(
            torch.nn.Module(), query, key, value, None, layout=layout, sliding_window=window
        )
    gradient = torch.randn(output.shape, generator=generator).bfloat16().to(device, dtype)
    return [output.detach(), *torch.autograd.grad(output, (query, key, value), gradient)]


def _error(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return float((ours.float() - exact).norm() / exact.norm())
