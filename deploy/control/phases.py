"""Whose turn it is where roles share the devices (``cluster.placement: phases``).

Targets are drawn, then the learner trains, then the evaluators measure. A role starts when
nothing of another has the devices. Work may come back to an earlier phase: a queue whose machine
lost its power has lost its newest rollouts.
"""

from __future__ import annotations

from collections.abc import Iterable

from actors.replay.status import QueueStatus
from deploy.control.group import ActorGroup
from deploy.control.role_kind import RoleKind

_ORDER = (RoleKind.ROLLOUT, RoleKind.LEARNER, RoleKind.EVALUATOR)


def current(
    queue: QueueStatus | None, is_trained: bool, groups: Iterable[ActorGroup]
) -> RoleKind | None:
    """The kind of role whose turn it is; None: nobody knows, and nothing may start.

    Args:
        queue: its last report; while there is none, what runs goes on.
        is_trained: whether the learner is done.
        groups: of the run.
    """
    if queue is None:
        running = {group.kind for group in groups if group.exists}
        return next((kind for kind in reversed(_ORDER) if kind in running), None)
    if not queue.settled and not queue.ended:
        return RoleKind.ROLLOUT
    return RoleKind.EVALUATOR if is_trained else RoleKind.LEARNER


def takes_turns(group: ActorGroup) -> bool:
    """Whether a group needs a device."""
    return group.kind in _ORDER


def is_early(group: ActorGroup, phase: RoleKind | None) -> bool:
    """Whether a group has devices that an earlier phase needs."""
    if phase is None or not takes_turns(group) or not group.exists:
        return False
    return _ORDER.index(group.kind) > _ORDER.index(phase)


def may_start(group: ActorGroup, phase: RoleKind | None, groups: Iterable[ActorGroup]) -> bool:
    """Whether a group may take the next step of its start; what exists may, until it ends."""
    if not takes_turns(group) or group.exists:
        return True
    others = (other for other in groups if takes_turns(other) and other.kind != group.kind)
    return group.kind is phase and not any(other.exists for other in others)
