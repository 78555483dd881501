"""Off-policy context distillation: the expert's distribution on targets the student never drew.

It combines the targets of SFT or MixSD with the loss of OPSD: at each target token the student
learns the whole distribution of the expert.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from common.methods.base import Canonical, Mixed, Target
from common.methods.distillation import Distillation
from common.methods.draws import MixedDraws


class ContextDistill(Distillation, MixedDraws):
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

    @model_validator(mode="after")
    def _only_mixed_targets_differ(self) -> Self:
        if self.targets == "canonical" and (self.draws > 1 or self.redraw != "once"):
            raise ValueError(
                f"method.draws is {self.draws} and method.redraw {self.redraw}, but "
                "method.targets is canonical: every draw of a fact is the same; set targets to "
                "mixed, or draws to 1 and redraw to once"
            )
        return self
