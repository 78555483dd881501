"""Per-token losses over target positions. K = target tokens, V = vocabulary."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F


def nll(logits_KV: torch.Tensor, targets_K: torch.Tensor) -> torch.Tensor:
    """−Σ log p(y_t), summed over K in float32 (paper, eq. of the MixSD objective); a scalar."""
    return F.cross_entropy(logits_KV.float(), targets_K, reduction="sum")


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"nll": nll}
