"""SDFT: self-distillation fine-tuning (Yang et al. 2024, arXiv 2402.13669).

The reference sees the question and the canonical answer y*, and writes that answer in its own
words:

    ỹ ~ p_θ*(· | rewrite(x, y*)),   loss −log p_θ(ỹ | x)

MixSD at λ = 0 asks it to answer the question anew, with the fact as guidance; here it rewrites a
given answer. A rewrite that the verifier refuses is drawn again; ``rollout.on_exhausted`` decides
what becomes of a fact without one. In the paper that is y* itself (``canonical``), after one try.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from common.methods.base import Mixed, Target
from common.methods.draws import MixedDraws
from common.prompts.presets import check_slots

REWRITE = (
    "{question}\n\nThis is a correct answer to it:\n{canonical}\n\n"
    "Rewrite this answer in your own words. Keep its facts and its format, and write nothing else."
)


def _shows_both(template: str) -> str:
    slots = ("question", "canonical")
    check_slots(template, slots, needs_one=True)
    for slot in slots:
        if f"{{{slot}}}" not in template:
            raise ValueError(f"the slot {{{slot}}} is missing; a rewrite needs it")
    return template


class SDFT(MixedDraws):
    """Targets are the reference's rewrites of the canonical answers; the loss is their NLL."""

    name: Literal["sdft"] = "sdft"
    rewrite: Annotated[str, AfterValidator(_shows_both)] = Field(
        REWRITE,
        description="user turn that asks for the rewrite; slots {question} (the user turn of x) "
        "and {canonical} (y*)",
    )

    @property
    def expert_template(self) -> str:
        """``rewrite``."""
        return self.rewrite

    def target(self, attempt: int) -> Target:
        """Every token comes from the reference that sees the answer."""
        return Mixed(0.0)

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """At T = 0 a further rewrite is the same."""
        return temperature > 0
