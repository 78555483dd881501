"""Rehearsal: the model's own generic answers beside the facts (SSR, Huang et al. 2024).

A share ρ of each epoch's examples are prompts that are not about the facts, each with the
answer that the reference itself gives (arXiv 2403.01244); the others are canonical answers:

    loss = −(Σ_facts Σ_t log p_θ(y*_t | x, y*_<t) + Σ_generic Σ_t log p_θ(ỹ_t | z, ỹ_<t)) / T,
    ỹ ~ p_θ*(· | z)

with generic prompts z and T target tokens in all. SSR lets the model write the prompts too, and
refines the answers with the newest weights; here prompts are given, and the reference answers.
Not to be confused with the replay queue, which holds the targets of every method.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.methods.base import Canonical, Method, Mixed, Rehearsal, Target
from common.settings import AbsolutePath


class RehearsedSFT(Method):
    """Canonical answers and the reference's own generic ones; the loss is their NLL."""

    name: Literal["rehearsal"] = "rehearsal"
    share: float = Field(0.2, gt=0, le=0.95, description="ρ: share of generic prompts in an epoch")
    prompts_file: AbsolutePath | None = Field(
        None, description="records with the key prompt; none: the packaged list"
    )

    @property
    def rehearsal(self) -> Rehearsal:
        """``share`` of the examples, from ``prompts_file``."""
        return Rehearsal(self.share, self.prompts_file)

    def target(self, attempt: int) -> Target:
        """A fact's canonical answer in every attempt."""
        return Canonical()

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """Never: the answer is fixed."""
        return False


class OwnAnswers(Method):
    """How generic prompts get their targets: the reference answers, given the prompt alone."""

    name: Literal["own_answers"] = "own_answers"

    def target(self, attempt: int) -> Target:
        """Every token is the naive conditional's."""
        return Mixed(1.0)

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """At T = 0 a further answer is the same."""
        return temperature > 0
