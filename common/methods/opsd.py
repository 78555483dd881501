"""OPSD: on-policy self-distillation, the paper's strongest baseline (DESIGN: its §2)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.methods.base import StudentSampled, Target
from common.methods.distillation import Distillation


class OPSD(Distillation):
    """The student samples from x; the reference, which sees the fact, is the teacher."""

    name: Literal["opsd"] = "opsd"
    samples: int = Field(8, ge=1, le=4096, description="rollouts per prompt and epoch")
    temperature: float = Field(1.0, gt=0, le=10, description="of the student's sampling")
    top_p: float = Field(1.0, gt=0, le=1, description="of the student's sampling")

    @property
    def draws_per_epoch(self) -> int:
        """``samples``."""
        return self.samples

    @property
    def draws_every_epoch(self) -> bool:
        """Always: the student has changed."""
        return True

    def target(self, attempt: int) -> Target:
        """A sample of the student."""
        return StudentSampled(self.samples, self.temperature, self.top_p)

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """Never: no rollout is rejected."""
        return False
