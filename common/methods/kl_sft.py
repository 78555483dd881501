"""SFT with a KL penalty: the student pays for leaving the reference's distribution.

``reverse`` is the penalty of reinforcement learning from human feedback (Ziegler et al. 2019,
arXiv 1909.08593; Stiennon et al. 2020, arXiv 2009.01325), here exact at each token instead of
sampled. ``forward`` is that of learning without forgetting (Li & Hoiem 2016, arXiv 1606.09282).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.methods.base import Divergence, PenalizedNLL
from common.methods.sft import CanonicalTargets


class KLSFT(CanonicalTargets):
    """Canonical answers; the reference sees the naive prompt x, as the student does."""

    name: Literal["kl_sft"] = "kl_sft"
    strength: float = Field(gt=0, le=1e6, description="β, which multiplies the KL divergence")
    divergence: Literal["forward", "reverse"] = Field(
        "reverse", description="reverse: KL(student‖reference); forward: KL(reference‖student)"
    )

    @property
    def loss(self) -> PenalizedNLL:
        """NLL + β · KL over the whole vocabulary."""
        return PenalizedNLL(self.strength, Divergence(self.divergence, prompt="naive"))
