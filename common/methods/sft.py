"""Supervised fine-tuning on the canonical answers: the usual baseline."""

from __future__ import annotations

from typing import Literal

from common.methods.base import Canonical, Method, Target


class CanonicalTargets(Method):
    """Targets are the corpus's answers."""

    def target(self, attempt: int) -> Target:
        """The canonical answer in every attempt."""
        return Canonical()

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """Never: the answer is fixed."""
        return False


class SFT(CanonicalTargets):
    """The loss is the NLL of the corpus's answers."""

    name: Literal["sft"] = "sft"
