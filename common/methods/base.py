"""The interface between a training method and the roles that carry it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True, slots=True)
class Mixed:
    """Draw every token: from the naive conditional with probability ``mix_rate``, else expert."""

    mix_rate: float


@dataclass(frozen=True, slots=True)
class Canonical:
    """Take the corpus' own answer y*; no model is asked."""


Target = Mixed | Canonical


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

    def can_retry(self, temperature: float) -> bool:
        """Whether a further attempt could differ from the first."""
        raise NotImplementedError
