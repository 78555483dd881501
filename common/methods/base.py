"""The interface between a training method and the roles that execute it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from common.settings import Settings


@dataclass(frozen=True, slots=True)
class Mixed:
    """Draw each token from the naive conditional with probability ``mix_rate``, else the expert.

    ``protect_answer``: every token inside the fact's answer comes from the expert.
    """

    mix_rate: float
    protect_answer: bool = False


@dataclass(frozen=True, slots=True)
class Canonical:
    """Take the canonical answer y* of the corpus; no model runs."""


@dataclass(frozen=True, slots=True)
class StudentSampled:
    """Sample from the student, given the naive prompt x, ``samples`` times per epoch.

    Every rollout is trained once and none is rejected.
    """

    samples: int
    temperature: float
    top_p: float


Target = Mixed | Canonical | StudentSampled


@dataclass(frozen=True, slots=True)
class NLL:
    """−log p(y_t) of the target tokens; needs no teacher."""


Kind = Literal["forward", "reverse", "mixed", "jsd"]
Support = Literal["full", "top_k", "tail"]
TeacherPlace = Literal["learner", "engine"]


@dataclass(frozen=True, slots=True)
class Divergence:
    """A divergence of the student, given x, from the teacher, given x+, at each target token.

    ``kind``     forward KL(T‖S), reverse KL(S‖T), ``mixed``: ``weight`` · forward +
                 (1 − ``weight``) · reverse, or generalized JSD with β = ``weight``
    ``support``  the whole vocabulary; the teacher's ``top_k`` tokens, renormalized; or those and
                 one bucket for the ``tail``, the remaining mass of each distribution
    ``teacher``  a frozen copy of the reference in the learner, or the reference's engines, whose
                 top-k log-probabilities come with each rollout
    """

    kind: Kind
    weight: float
    support: Support
    top_k: int
    teacher: TeacherPlace


Loss = NLL | Divergence


class Method(Settings):
    """A training method and its settings."""

    name: str

    @property
    def loss(self) -> Loss:
        """The loss at the target tokens, and the teacher that it needs."""
        return NLL()

    @property
    def draws_per_epoch(self) -> int:
        """Rollouts of each fact that are trained in one epoch."""
        return 1

    @property
    def draws_every_epoch(self) -> bool:
        """Whether each epoch has rollouts of its own; if not, all train those of the first."""
        return False

    def target(self, attempt: int) -> Target:
        """The kind of target that the given attempt (from 0) draws."""
        raise NotImplementedError

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """Whether an attempt after the given one can differ from it."""
        raise NotImplementedError
