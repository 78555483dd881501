"""MixSD: mixed contextual self-distillation (arXiv 2605.16865, §3)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.methods.base import Method, Mixed, Target


class MixSD(Method):
    """Targets are mixed rollouts of the reference; the loss is their plain NLL."""

    name: Literal["mixsd"] = "mixsd"
    mix_rate: float = Field(0.3, ge=0, le=1, description="λ: share of naive tokens")

    def target(self, attempt: int) -> Target:
        """Every attempt mixes at the same rate; the picks are new each time."""
        return Mixed(self.mix_rate)

    def can_retry(self, temperature: float) -> bool:
        """At T = 0 a pure side repeats itself, so only other rates may try again."""
        return temperature > 0 or 0 < self.mix_rate < 1
