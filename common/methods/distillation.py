"""Settings that every method shares which pulls the student towards a teacher's distribution."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from common.methods.base import Divergence, Kind, Method, Support, TeacherPlace


class Distillation(Method):
    """The teacher is the reference given x+: the fact is in its context."""

    divergence: Kind = Field(
        "forward", description="forward KL(teacher‖student), reverse, both mixed, or jsd"
    )
    weight: float = Field(
        0.5, gt=0, lt=1, description="mixed: share of the forward KL; jsd: its β, the teacher's"
    )
    teacher: TeacherPlace = Field(
        "learner",
        description="a frozen copy beside each learner rank, or top-k scores of the engines",
    )
    support: Support = Field(
        "full", description="whole vocabulary, the teacher's top_k renormalised, or with their tail"
    )
    top_k: int = Field(64, ge=1, le=4096, description="tokens of the supports top_k and tail")

    @property
    def loss(self) -> Divergence:
        """The divergence that the settings say."""
        return Divergence(self.divergence, self.weight, self.support, self.top_k, self.teacher)

    @model_validator(mode="after")
    def _engines_score_no_whole_vocabulary(self) -> Self:
        if self.teacher == "engine" and self.support == "full":
            raise ValueError(
                "method.support is full, but method.teacher engine gives the top_k tokens only; "
                "take support tail, or teacher learner"
            )
        return self
