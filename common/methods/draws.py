"""How often methods with mixed targets draw a fact."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.methods.base import Method


class MixedDraws(Method):
    """Several targets of each fact, and fresh ones for every epoch; each draw has its own picks."""

    draws: int = Field(1, ge=1, le=4096, description="targets drawn per fact")
    redraw: Literal["once", "epoch"] = Field(
        "once",
        description="epoch: fresh targets for every epoch, drawn while the learner trains the one "
        "before",
    )

    @property
    def draws_per_epoch(self) -> int:
        """``draws``, new or old."""
        return self.draws

    @property
    def draws_every_epoch(self) -> bool:
        """Whether the targets of an epoch are its own."""
        return self.redraw == "epoch"
