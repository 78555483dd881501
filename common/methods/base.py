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
class StudentSampled:
    """Let the student itself draw from the naive prompt x, ``samples`` times an epoch.

    Every rollout is trained once, under whatever weights drew it; no verdict selects.
    """

    samples: int
    temperature: float
    top_p: float


Target = Mixed | Canonical | StudentSampled


@dataclass(frozen=True, slots=True)
class NLL:
    """−log p(y_t) of the target's tokens; needs no teacher."""


Kind = Literal["forward", "reverse", "mixed", "jsd"]
Support = Literal["full", "top_k", "tail"]
TeacherPlace = Literal["learner", "engine"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """A divergence of the student, given x, from the teacher, given x+, at each target token.

    ``kind``     forward KL(T‖S), reverse KL(S‖T), ``mixed``: ``weight`` · forward +
                 (1 − ``weight``) · reverse, or generalised JSD with β = ``weight``
    ``support``  the whole vocabulary; the teacher's ``top_k`` tokens, renormalised; or those and
                 one bucket for the ``tail``, the rest of the mass on either side
    ``teacher``  a frozen copy of the reference in the learner, or the reference's engines, whose
                 top-k log-probabilities come with each rollout
    """

    kind: Kind
    weight: float
    support: Support
    top_k: int
    teacher: TeacherPlace


Loss = NLL | Divergence


class Method(BaseModel):
    """A training method and its settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str

    @property
    def loss(self) -> Loss:
        """What the learner minimises at the target's tokens, and which teacher that needs."""
        return NLL()

    def target(self, attempt: int) -> Target:
        """What the given attempt (from 0) at a fact's target should be."""
        raise NotImplementedError

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """Whether any attempt after the given one could differ from it."""
        raise NotImplementedError
