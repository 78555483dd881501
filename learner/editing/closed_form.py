"""The weight change that maps new keys to new values and old keys to what they were.

Pure linear algebra in float64: activations of some tokens are thousands of times larger than
others, so a covariance in float32 is not positive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch


def weight_change(
    keys_NF: torch.Tensor, residuals_ND: torch.Tensor, old_FF: torch.Tensor
) -> torch.Tensor:
    """ΔW = R K₁ᵀ (C₀ + K₁ K₁ᵀ)⁻¹, the least squares solution (arXiv 2210.07229, §4.2).

    Args:
        keys_NF: rows are the new keys, K₁ᵀ.
        residuals_ND: what is missing in the output for each key, Rᵀ.
        old_FF: C₀, λ times the second moment of old keys.

    Returns:
        ΔW [D, F], float64.

    Raises:
        RuntimeError: C₀ + K₁ K₁ᵀ is singular.
    """
    keys, residuals = keys_NF.double(), residuals_ND.double()
    solved_FN = torch.linalg.solve(old_FF.double() + keys.T @ keys, keys.T)
    return (solved_FN @ residuals).T


def second_moments(chunks: Iterable[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """E[k kᵀ] of several layers, each [F, F] in float64.

    Args:
        chunks: keys of some tokens: one [·, F] tensor for each layer. At least one chunk.
    """
    totals: list[torch.Tensor] = []
    count = 0
    for chunk in chunks:
        totals = totals or [
            keys.new_zeros((keys.shape[1],) * 2, dtype=torch.float64) for keys in chunk
        ]
        for total_FF, keys in zip(totals, chunk, strict=True):
            wide = keys.double()
            total_FF.addmm_(wide.T, wide)
        count += len(chunk[0])
    return [total_FF / count for total_FF in totals]
