"""MixSD: mixed contextual self-distillation (arXiv 2605.16865, §3)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.methods.base import Mixed, Target
from common.methods.draws import MixedDraws
from common.settings import Settings


class LambdaBackoff(Settings):
    """Lower λ after failed attempts at a fact (an extension; not in the paper)."""

    after: int = Field(ge=1, description="failed attempts at the full λ")
    factor: float = Field(ge=0, lt=1, description="multiplies λ at every further attempt")


class MixSD(MixedDraws):
    """Targets are mixed rollouts of the reference; the loss is their NLL."""

    name: Literal["mixsd"] = "mixsd"
    mix_rate: float = Field(0.3, ge=0, le=1, description="λ: share of naive tokens")
    lambda_backoff: LambdaBackoff | None = Field(None, description="none: every attempt at λ")
    protect_answer: bool = Field(
        False, description="draw tokens inside the answer from the expert (not in the paper)"
    )

    def target(self, attempt: int) -> Target:
        """Every attempt has new picks, at λ or at the reduced λ of the backoff."""
        return Mixed(self._rate(attempt), self.protect_answer)

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """At T = 0 a rate of 0 or 1 repeats itself, so only other rates can retry."""
        rate = self._rate(attempt)
        return temperature > 0 or 0 < rate < 1 or (rate == 1 and self.lambda_backoff is not None)

    def _rate(self, attempt: int) -> float:
        backoff = self.lambda_backoff
        if backoff is None or attempt < backoff.after:
            return self.mix_rate
        rate: float = self.mix_rate * backoff.factor ** (attempt - backoff.after + 1)
        return rate
