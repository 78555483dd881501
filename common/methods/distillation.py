"""Settings shared by all methods that distill a teacher's distribution into the student."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from common.methods.base import Divergence, Kind, Method, Support, TeacherPlace


class Distillation(Method):
    """The teacher is the reference given x+: the fact is in its context."""

    divergence: Kind = Field(
        "forward", description="forward: KL(teacher‖student), reverse, a mix of both, or jsd"
    )
    weight: float = Field(
        0.5, gt=0, lt=1, description="mixed: weight of the forward KL; jsd: β, the teacher's weight"
    )
    teacher: TeacherPlace = Field(
        "learner",
        description="a frozen copy in each learner rank, or top-k scores from the engines",
    )
    support: Support = Field(
        "full",
        description="whole vocabulary, the teacher's top_k renormalized, or top_k with a tail",
    )
    top_k: int = Field(64, ge=1, le=4096, description="tokens of the supports top_k and tail")

    @property
    def loss(self) -> Divergence:
        """The configured divergence."""
        return Divergence(self.divergence, self.weight, self.support, self.top_k, self.teacher)

    @model_validator(mode="after")
    def _engines_score_only_top_k(self) -> Self:
        if self.teacher == "engine" and self.support == "full":
            raise ValueError(
                "method.support is full, but method.teacher engine gives the top_k tokens only; "
                "use support tail, or teacher learner"
            )
        return self
