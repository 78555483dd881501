"""SFT with a quadratic penalty that holds the weights near the reference's: L2-SP and EWC.

L2-SP (Li et al. 2018, arXiv 1802.01483) holds every weight alike; EWC (Kirkpatrick et al. 2017,
arXiv 1612.00796) holds each in proportion to its diagonal Fisher information.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.methods.base import WeightPenalty
from common.methods.sft import CanonicalTargets
from common.settings import AbsolutePath


class L2SP(CanonicalTargets):
    """NLL of the canonical answers + α/2 · ‖θ − θ*‖²."""

    name: Literal["l2_sp"] = "l2_sp"
    strength: float = Field(gt=0, le=1e12, description="α of the penalty α/2 · ‖θ − θ*‖²")

    @property
    def penalty(self) -> WeightPenalty:
        """The same for every weight."""
        return WeightPenalty(self.strength)


class EWC(CanonicalTargets):
    """NLL of the canonical answers + λ/2 · Σ_j F_j (θ_j − θ*_j)²."""

    name: Literal["ewc"] = "ewc"
    strength: float = Field(gt=0, le=1e12, description="λ of the penalty λ/2 · Σ F (θ − θ*)²")
    fisher: AbsolutePath = Field(
        description="folder of the reference's Fisher information, which a run with "
        "evaluator.fisher leaves in ~/.cache/mixsd-cluster/fisher/"
    )

    @property
    def penalty(self) -> WeightPenalty:
        """In proportion to F."""
        return WeightPenalty(self.strength, self.fisher)
