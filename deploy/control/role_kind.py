"""The kinds of roles in a run: how their groups and actors are named, and how they end."""

from __future__ import annotations

from enum import StrEnum

# Actors that other processes look up by name.
REPLAY_ACTOR = "replay"
FIRST_LEARNER = "learner-0"


def lease_owner(name: str, node: str, pid: int) -> str:
    """The owner of an actor's leases: this process of it, not the one that comes after it.

    So a message about its death, however late, takes nothing from its successor.
    """
    return f"{name}@{node[:8]}:{pid}"


class RoleKind(StrEnum):
    """What the actors of a group do. The value also prefixes names and dedicated resources."""

    REPLAY = "replay"
    ROLLOUT = "rollout"
    LEARNER = "learner"
    EVALUATOR = "evaluator"

    def group_name(self, index: int = 0) -> str:
        """Name of a group: ``rollout-2``; replay and learner have one group, named as the kind."""
        return f"{self.value}-{index}" if self.is_scalable else self.value

    @property
    def is_scalable(self) -> bool:
        """A run has any number of groups of this kind, each with one engine."""
        return self in (RoleKind.ROLLOUT, RoleKind.EVALUATOR)

    @property
    def leases_work(self) -> bool:
        """Its actors hold leases, which return to the queue when the group ends or fails."""
        return self is RoleKind.ROLLOUT

    @property
    def resumes(self) -> bool:
        """A restarted actor goes on where its predecessor was, by files of the run."""
        return self in (RoleKind.REPLAY, RoleKind.LEARNER)

    @property
    def drains_after_training(self) -> bool:
        """Its actors end once they have processed the last checkpoint."""
        return self is RoleKind.EVALUATOR
