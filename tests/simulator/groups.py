"""Groups of simulated roles, and the journal, as the supervisor uses them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from common.rundir import RunDir
from deploy.control.group import ActorGroup
from deploy.control.group_spec import GroupSpec
from deploy.control.role_kind import RoleKind
from tests.simulator.world import World

if TYPE_CHECKING:
    from tests.simulator.cluster import Cluster


class Group(ActorGroup):
    """A group of simulated roles."""

    def __init__(self, cluster: Cluster, spec: GroupSpec, restarts: int) -> None:
        super().__init__(spec, cluster.config.cluster, restarts)
        self._cluster = cluster

    def adopt(self) -> bool:
        found = {name: self._cluster.roles.get(name) for name in self.spec.members}
        if self.kind is RoleKind.REPLAY:
            found = {name: self._cluster.network.queue for name in found}
        if any(role is None or not role.process.is_alive for role in found.values()):
            for role in found.values():
                if role is not None and role.process.is_reachable:
                    role.process.kill()
            return False
        self._watch(found)
        self._started = True
        return True

    def bring_up(self) -> None:
        if not self._actors:
            self._watch(self._cluster.create(self.spec))
        elif not self._started and self.kind is not RoleKind.REPLAY:
            self._started = True
            for index, role in enumerate(self._actors.values()):
                role.start(index)

    def call(self, method: str) -> None:
        for role in self._actors.values():
            getattr(role, method)()

    def end(self) -> None:
        for name, role in self._actors.items():
            if role is self._cluster.network.queue:
                self._cluster.kill_queue()
            elif role.process.is_reachable:
                role.process.kill()
            # One that is cut off lives on, under nobody's eyes.
            self._cluster.roles.pop(name, None)
        self._actors, self._health, self._asked, self._started = {}, {}, {}, False

    def dump_stacks(self, run: RunDir, members: Iterable[str]) -> None:
        self._cluster.stuck += [str(name) for name in members]

    def answer(self, now: float) -> str:
        """Take the reports of this moment; why a member died, or empty."""
        for name, role in self._actors.items():
            if not role.process.is_alive:
                return f"{name} died"
            is_silent = now < role.process.paused_until or not role.process.is_reachable
            is_late = self._cluster.world.rng.random() < self._cluster.network.lost_replies
            if not is_silent and not is_late:
                self.take(name, role.report(), now, now)
        return ""


class Journal:
    """Keeps events in the trace."""

    began = 0.0

    def __init__(self, world: World) -> None:
        self._world = world
        self.texts: list[str] = []

    def event(self, text: str) -> None:
        self.texts.append(text)
        self._world.note(f"event: {text}")

    def note(self, text: str) -> None:
        if text not in self.texts:
            self.event(text)
