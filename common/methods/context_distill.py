"""Off-policy context distillation: the expert's distribution on targets the student never drew.

It combines the targets of SFT or MixSD with the loss of OPSD: at each target token the student
learns the whole distribution of the expert.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.methods.base import Canonical, Mixed, Target
from common.methods.distillation import Distillation


class ContextDistill(Distillation):
    """Canonical or mixed targets; the loss is a divergence from the expert."""

    name: Literal["context_distill"] = "context_distill"
    targets: Literal["canonical", "mixed"] = Field(
        "canonical", description="the corpus' answers, or rollouts of the reference"
    )
    mix_rate: float = Field(0.3, ge=0, le=1, description="λ of mixed targets")

    def target(self, attempt: int) -> Target:
        """The canonical answer, or a mixed rollout with new picks."""
        return Canonical() if self.targets == "canonical" else Mixed(self.mix_rate)

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """At T = 0 only mixed picks can give another target."""
        return self.targets == "mixed" and (temperature > 0 or 0 < self.mix_rate < 1)
