"""Settings shared by all methods that distill a teacher's distribution into the student."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from common.methods.base import (
    Divergence,
    Kind,
    Method,
    Support,
    TeacherPlace,
    TeacherWeights,
)


class Distillation(Method):
    """The teacher is a model given x+: the fact is in its context."""

    divergence: Kind = Field(
        "forward", description="forward: KL(teacher‖student), reverse, a mix of both, or jsd"
    )
    weight: float = Field(
        0.5, gt=0, lt=1, description="mixed: weight of the forward KL; jsd: β, the teacher's weight"
    )
    teacher: TeacherPlace = Field(
        "learner",
        description="a model in each learner rank, or top-k scores from the reference's engines",
    )
    teacher_weights: TeacherWeights = Field(
        "base",
        description="the reference's, the student's current ones (live), or a moving average of "
        "the student's (ema); the last two need teacher learner",
    )
    ema_decay: float = Field(
        0.99, gt=0, lt=1, description="ema: share of the average that each step keeps"
    )
    support: Support = Field(
        "full",
        description="whole vocabulary, the teacher's top_k renormalized, or top_k with a tail",
    )
    top_k: int = Field(64, ge=1, le=4096, description="tokens of the supports top_k and tail")

    @property
    def loss(self) -> Divergence:
        """The configured divergence."""
        return Divergence(
            self.divergence,
            self.weight,
            self.support,
            self.top_k,
            self.teacher,
            weights=self.teacher_weights,
            ema_decay=self.ema_decay,
        )

    @model_validator(mode="after")
    def _engines_score_only_top_k(self) -> Self:
        if self.teacher == "engine" and self.support == "full":
            raise ValueError(
                "method.support is full, but method.teacher engine gives the top_k tokens only; "
                "use support tail, or teacher learner"
            )
        return self

    @model_validator(mode="after")
    def _engines_hold_the_reference(self) -> Self:
        if self.teacher == "engine" and self.teacher_weights != "base":
            raise ValueError(
                f"method.teacher_weights is {self.teacher_weights}, but method.teacher is engine, "
                "which has the reference's weights; set teacher to learner, or teacher_weights to "
                "base"
            )
        return self
