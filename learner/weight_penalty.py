"""A quadratic penalty on the distance from the reference's weights: L2-SP and EWC.

Its gradient joins that of the loss before clipping, as in both papers: Adam's moments contain it.
AdamW's weight decay, which pulls toward zero, bypasses them. This module knows weights, not rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from common import fisher_folder
from common.errors import UserError
from common.methods import WeightPenalty


class QuadraticPenalty:
    """``strength`` / 2 · Σ_j F_j (θ_j − θ*_j)² and its gradient, ``strength`` · F (θ − θ*).

    Args:
        settings: the method's penalty.
        weights: the weights θ* by name, which are held as they are now.

    Raises:
        UserError: the folder of F is missing, or is of another model.
    """

    def __init__(self, settings: WeightPenalty, weights: Mapping[str, nn.Parameter]) -> None:
        self._strength = settings.strength
        # In their own dtype, in which the reference's are exact.
        self._start = {weight: weight.detach().clone() for weight in weights.values()}
        self._fisher = _read_fisher(settings.fisher, weights) if settings.fisher else {}
        self.value = torch.zeros(())

    def add_gradients(self, masters: Mapping[nn.Parameter, nn.Parameter]) -> None:
        """Add the gradient to that of each float32 master; ``value`` is then the penalty (nats).

        Args:
            masters: by the weight of the model. One without a gradient has never moved.
        """
        parts = []
        for weight, master in masters.items():
            if master.grad is None:
                continue
            move = master.detach() - self._start[weight]
            force = move * self._fisher[weight] if self._fisher else move
            master.grad.add_(force, alpha=self._strength)
            parts.append((force * move).sum())
        self.value = self._strength / 2 * torch.stack(parts).sum()


def _read_fisher(
    folder: Path, weights: Mapping[str, nn.Parameter]
) -> dict[nn.Parameter, torch.Tensor]:
    """F of each weight, in float32 on its device."""
    fisher_folder.read(folder)
    paths = sorted((folder / fisher_folder.PIECES).glob("*.safetensors"))
    pieces = [safe_open(path, "pt") for path in paths]
    where = {name: piece for piece in pieces for name in piece.offset_keys()}
    found = {}
    for name, weight in weights.items():
        fisher = where[name].get_tensor(name) if name in where else torch.empty(0)
        if fisher.shape != weight.shape:
            raise UserError(
                f"method.fisher is {folder}, where {name} has shape {tuple(fisher.shape)}, but in "
                f"the model {tuple(weight.shape)}; name the folder of this model's Fisher "
                "information"
            )
        found[weight] = fisher.to(weight.device, torch.float32)
    return found
