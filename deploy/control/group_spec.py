"""What each group of a run consists of: the actor class, the actors' names, and resources."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from common.config.run_config import RunConfig
from deploy.control.desired_state import Desired
from deploy.control.role_kind import REPLAY_ACTOR, RoleKind
from deploy.control.roles import EvaluatorRole, LearnerRole, ReplayRole, RolloutRole
from deploy.control.warm_pool import warm_key

_ACTORS = {
    RoleKind.REPLAY: ReplayRole,
    RoleKind.ROLLOUT: RolloutRole,
    RoleKind.LEARNER: LearnerRole,
    RoleKind.EVALUATOR: EvaluatorRole,
}


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """One group: an actor of class ``actor`` for each of ``members``.

    ``cpus`` and ``gpus`` are per actor; ``arguments`` follow the name in its constructor.
    ``warm_key``: of idle actors that can take the place of new ones; empty: none can.
    """

    kind: RoleKind
    name: str
    actor: type
    members: tuple[str, ...]
    cpus: float
    gpus: float
    arguments: tuple[Any, ...]
    warm_key: str = ""


def group_specs(config: RunConfig, desired: Desired, root: str, model_dir: str) -> list[GroupSpec]:
    """The groups that a run should have now, in the order in which they are placed.

    Args:
        config: the run's configuration.
        desired: counts of actors.
        root: the run folder.
        model_dir: the resolved base model.
    """
    return [
        GroupSpec(
            kind=kind,
            name=kind.group_name(index),
            actor=_ACTORS[kind],
            members=_members(kind, index, config),
            cpus=1,
            gpus=_gpus(kind, config),
            arguments=(root, model_dir),
            warm_key=warm_key(kind, config, model_dir),
        )
        for kind, index in _groups(config, desired)
    ]


def _groups(config: RunConfig, desired: Desired) -> Iterator[tuple[RoleKind, int]]:
    yield RoleKind.REPLAY, 0
    yield from ((RoleKind.ROLLOUT, index) for index in range(desired.rollout))
    if config.train:
        yield RoleKind.LEARNER, 0
    yield from ((RoleKind.EVALUATOR, index) for index in range(desired.evaluator))


def _members(kind: RoleKind, index: int, config: RunConfig) -> tuple[str, ...]:
    if kind is RoleKind.LEARNER:
        return tuple(f"{kind.value}-{rank}" for rank in range(config.learner.ranks))
    return (REPLAY_ACTOR,) if kind is RoleKind.REPLAY else (kind.group_name(index),)


def _gpus(kind: RoleKind, config: RunConfig) -> float:
    if kind is RoleKind.REPLAY:
        return 0
    section = config.learner if kind is RoleKind.LEARNER else config.engine
    if section.resolved_device != "cuda":
        return 0
    if config.cluster.placement == "shared":
        # Rounded down, so that all fit; Ray counts in ten-thousandths.
        return math.floor(1e4 / config.num_processes) / 1e4
    return 1 if kind is RoleKind.LEARNER else config.engine.tensor_parallel_size
