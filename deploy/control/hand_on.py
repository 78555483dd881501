"""Evaluators on the GPUs of rollout actors that are done (``cluster.hand_on``). Pure.

The number follows from the groups alone, so a new controller comes to the same. A command that
sets the number of evaluators ends it (:mod:`deploy.control.desired_state`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from common.config.run_config import RunConfig
from deploy.control.desired_state import Desired
from deploy.control.group import ActorGroup
from deploy.control.role_kind import RoleKind


def num_evaluators(config: RunConfig, desired: Desired, groups: Mapping[str, ActorGroup]) -> int:
    """How many evaluators find room on the GPUs of rollout actors that are done.

    0 where roles share GPUs or have none, and where a role has nodes of its own: evaluators may
    not use those of rollout actors.
    """
    first = groups.get(RoleKind.EVALUATOR.group_name())
    cluster = config.cluster
    if not desired.hand_on or not config.train or not config.evaluator.suites or first is None:
        return 0
    if cluster.placement != "exclusive" or cluster.dedicated or not first.spec.gpus:
        return 0
    freed = sum(group.spec.gpus * len(group.spec.members) for group in _done_actors(groups))
    return int(freed // first.spec.gpus)


def all_measured(groups: Mapping[str, ActorGroup], extra: Collection[str]) -> bool:
    """Whether all evaluators are done; one of the ``extra`` that is not up yet came too late.

    An evaluator is done when no other has anything left to measure either.
    """
    evaluators = [group for group in groups.values() if group.kind.drains_after_training]
    return all(group.done or (group.name in extra and not group.working) for group in evaluators)


def announcement(num_evaluators: int, groups: Mapping[str, ActorGroup]) -> str:
    """The event of ``num_evaluators`` that start on the GPUs of rollout actors."""
    done = len(_done_actors(groups))
    actors = "rollout actor is" if done == 1 else "rollout actors are"
    evaluators = "evaluator" if num_evaluators == 1 else "evaluators"
    return f"{done} {actors} done; GPUs go to {num_evaluators} more {evaluators}"


def _done_actors(groups: Mapping[str, ActorGroup]) -> list[ActorGroup]:
    """Rollout actors that are done, without those that a command or the autoscaler ends."""
    return [
        group
        for group in groups.values()
        if group.kind.leases_work and group.done and group.draining_since is None
    ]
