"""What the door to vLLM does inside each of its workers; vLLM mixes it in.

``worker_extension_cls`` takes one class, so what needs the worker is joined here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.seeds import StepSeeds
from common.weights import BitSum, bit_sum


class Inside(StepSeeds):
    """Methods that the door calls in every worker."""

    model_runner: Any

    def sum_weights(self, names: Sequence[str]) -> dict[str, BitSum]:
        """Sums of what this worker holds under ``names``; what it fused or repacked is missing."""
        held = dict(self.model_runner.get_model().named_parameters())
        return {name: bit_sum(held[name]) for name in names if name in held and held[name].numel()}
