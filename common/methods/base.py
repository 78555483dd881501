"""The interface between a training method and the roles that carry it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class Mixed:
    """Draw every token: from the naive conditional with probability ``mix_rate``, else expert.

    ``protect_answer``: inside the fact's answer every token is the expert's.
    """

    mix_rate: float
    protect_answer: bool = False


@dataclass(frozen=True, slots=True)
class Canonical:
    """Take the corpus' own answer y*; no model is asked."""


@dataclass(frozen=True, slots=True)
class Student:
    """Let the student itself draw from the naive prompt x, ``samples`` times an epoch.

    Every rollout is trained once, under whatever weights drew it; no verdict selects.
    """

    samples: int
    temperature: float
    top_p: float


Target = Mixed | Canonical | Student


class Method(BaseModel):
    """A training method and its settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str

    @property
    def loss(self) -> Literal["nll"]:
        """Name of the per-token loss in ``learner.losses``."""
        return "nll"

    def target(self, attempt: int) -> Target:
        """What the given attempt (from 0) at a fact's target should be."""
        raise NotImplementedError

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """Whether any attempt after the given one could differ from it."""
        raise NotImplementedError
