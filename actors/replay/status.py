"""The status of the replay queue, as its role reports it and ``status.json`` keeps it."""

from __future__ import annotations

from pydantic import Field

from common.json_model import JsonModel


class BlockedSide(JsonModel):
    """Why a side waits, and since when (Unix time)."""

    reason: str
    since: float


class QueueStatus(JsonModel):
    """Counts of the replay queue, and what each side waits for.

    ``work``            work items; all counts below are of these, not of facts
    ``waiting``         why each side that waits does so, as text
    ``blocked``         the same for programs
    ``blocked_seconds`` total by ``side,reason``
    ``settings``        the replay section in force
    ``settled``         all targets are drawn that will be trained
    ``poisoned``        rollouts that kill the learner and are left out
    ``holding``         facts on lease by owner, as far as they are not too many
    ``suspects``        exposures among which such a one is being searched
    """

    work: int = 0
    accepted: int = 0
    exhausted: int = 0
    quarantined: int = 0
    poisoned: int = 0
    suspects: int = 0
    holding: dict[str, list[str]] = Field(default_factory=dict)
    stale: int = 0
    attempts: int = 0
    leased: int = 0
    depth: int = 0
    depth_bytes: int = 0
    settled: bool = False
    ended: bool = False
    exposures_expected: int = 0
    exposures_sampled: int = 0
    exposures_trained: int = 0
    sampled_step: int = 0
    committed_step: int = 0
    total_steps: int = 0
    first_attempt_accepted: int = 0
    waiting: dict[str, str] = Field(default_factory=dict)
    blocked: dict[str, BlockedSide] = Field(default_factory=dict)
    blocked_seconds: dict[str, float] = Field(default_factory=dict)
    settings: dict[str, object] = Field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """Work items that get no target."""
        return self.exhausted + self.quarantined + self.poisoned
