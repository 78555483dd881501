"""MEMIT: mass-editing memory in a transformer (Meng et al. 2023, arXiv 2210.07229).

A baseline of knowledge editing: it writes facts into the down-projections of a few MLPs in
closed form. ``learner.editing`` computes it and names what differs from the paper.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from common.methods.base import Canonical, MemoryEdit, Method, Target
from common.settings import AbsolutePath


class MEMIT(Method):
    """Targets are the corpus's answers; each batch is one edit."""

    name: Literal["memit"] = "memit"
    layers: tuple[int, int] | None = Field(
        None,
        description="first and last edited layer, from 0; none: five that end at 2/7 of the depth",
    )
    preserve: float = Field(
        1.0,
        gt=0,
        le=1e6,
        description="weight of what the layers already map, λ / MLP width (GPT-J in the paper: "
        "0.92); higher: smaller edits",
    )
    gradient_steps: int = Field(
        25, ge=1, le=10_000, description="steps of Adam that find a fact's new hidden state"
    )
    lr: float = Field(
        0.1, gt=0, le=10, description="learning rate of these steps, in RMS of the hidden state"
    )
    clamp: float = Field(
        0.75, gt=0, le=100, description="largest change of a hidden state, in units of its norm"
    )
    decay: float = Field(
        0.5, ge=0, le=1e6, description="weight of the squared relative change, nats"
    )
    kl: float = Field(
        0.0625, ge=0, le=1e6, description="weight of the KL divergence after 'SUBJECT is a'"
    )
    text: AbsolutePath | None = Field(
        None, description="UTF-8 text for the covariance; none: samples of the base model"
    )
    covariance_tokens: int = Field(
        20_000, ge=2, le=10**9, description="tokens of it; at least the width of the MLP"
    )

    @property
    def edit(self) -> MemoryEdit:
        """These settings, for the learner."""
        return MemoryEdit(
            layers=self.layers,
            preserve=self.preserve,
            gradient_steps=self.gradient_steps,
            lr=self.lr,
            clamp=self.clamp,
            decay=self.decay,
            kl=self.kl,
            text=self.text,
            tokens=self.covariance_tokens,
        )

    def target(self, attempt: int) -> Target:
        """The canonical answer in every attempt."""
        return Canonical()

    def can_retry(self, attempt: int, temperature: float) -> bool:
        """Never: the answer is fixed."""
        return False

    @model_validator(mode="after")
    def _layers_are_a_span(self) -> Self:
        if self.layers is not None and not 0 <= self.layers[0] <= self.layers[1]:
            raise ValueError(
                f"method.layers is {list(self.layers)}, but the first edited layer must be at "
                "least 0 and not after the last; give [first, last]"
            )
        return self
