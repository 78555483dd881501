"""Best of n: rejection sampling from the expert (RFT, Yuan et al. 2023, arXiv 2308.01825).

The expert draws n samples of each fact, given x+, at T > 0. Of those that the verifier accepts,
the one that is closest to the base distribution is the target: the likeliest under the reference
given x alone, per token,

    y = argmin over accepted y⁽ᵏ⁾ of −1/|y⁽ᵏ⁾| Σ_t log p_θ*(y_t⁽ᵏ⁾ | x, y_<t⁽ᵏ⁾)

RFT trains on all accepted samples that calculate differently, without such a choice.
``choose: first`` is plain rejection sampling: it takes the first accepted one and draws no more.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.methods.base import Mixed, Selection, Target
from common.methods.draws import MixedDraws


class BestOfN(MixedDraws):
    """Targets are chosen among verified samples of the expert; the loss is their NLL."""

    name: Literal["best_of_n"] = "best_of_n"
    samples: int = Field(
        8, ge=1, le=4096, description="n; rollout.max_retries follow if none of them is accepted"
    )
    choose: Literal["likeliest", "first"] = Field(
        "likeliest",
        description="the accepted sample with the lowest NLL under the base, or the first in order",
    )

    @property
    def selection(self) -> Selection:
        """One of ``samples``."""
        return Selection(self.samples, likeliest=self.choose == "likeliest")

    def target(self, attempt: int) -> Target:
        """A sample of the expert."""
        return Mixed(0.0)

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """At T = 0 all samples are the same."""
        return temperature > 0
