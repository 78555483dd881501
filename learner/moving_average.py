"""A moving average of the student's weights, with which a teacher computes.

Whole on every rank, unlike ``learner.average``, which is sharded like the optimizer, and only
exported. With adapters it is an average of their factors. This module knows weights, not rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn


class MovingAverage:
    """Starts at the weights of the student, and follows them step by step, in float32.

    Args:
        weights: what the student trains, by name.
        decay: share of itself that a step keeps.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self._names = {weight: name for name, weight in weights.items()}
        self._decay = decay
        self._averages = {weight: weight.detach().float().clone() for weight in self._names}
        # What the forward pass uses: in float32, the averages themselves.
        self._rounded = {
            weight: average.to(weight.dtype) for weight, average in self._averages.items()
        }

    def update(self, master: Callable[[nn.Parameter], torch.Tensor]) -> None:
        """Follow the student by one step; ``master`` gives a weight in float32, on every rank."""
        for weight, average in self._averages.items():
            average.lerp_(master(weight), 1.0 - self._decay)
        self._round()

    @contextlib.contextmanager
    def replacing(self) -> Iterator[None]:
        """The student computes with the average meanwhile. No copy: tensors change places."""
        kept = [weight.data for weight in self._rounded]
        for weight, average in self._rounded.items():
            weight.data = average
        try:
            yield
        finally:
            for weight, data in zip(self._rounded, kept, strict=True):
                weight.data = data

    def of(self, weight: nn.Parameter) -> torch.Tensor:
        """The average of a weight, in float32."""
        return self._averages[weight]

    def load(self, read: Callable[[str], torch.Tensor]) -> None:
        """Restore all averages; ``read`` gives the one of a name."""
        for weight, average in self._averages.items():
            average.copy_(read(self._names[weight]))
        self._round()

    def _round(self) -> None:
        for weight, average in self._averages.items():
            if self._rounded[weight] is not average:
                self._rounded[weight].copy_(average)
