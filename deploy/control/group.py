"""A role's actors on Ray: placed, created, started, watched and ended as one.

Members of a group live and die together: learner ranks cannot go on without
each other. Actors are detached and named, so that a new controller finds those
of its predecessor. A group only does what it is told and tells what it sees;
the controller decides.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any

from common.config.sections import ClusterSettings
from common.errors import first_line
from common.metrics import MetricValues
from deploy.control.health import Budget, Health, Report

# Three of the shipped scrape intervals, so that last counts are read at least once.
_LINGER_S = 15.0


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """What a group consists of: one actor of ``role`` a name."""

    role: type
    names: tuple[str, ...]
    cpus: float
    gpus: float
    arguments: tuple[Any, ...]


class ActorGroup:
    """One group.

    Args:
        name: of the group; also of its placement group.
        plan: its members.
        settings: time-outs and restarts.
        restarts: of a predecessor, to be counted on.
    """

    def __init__(
        self, name: str, plan: GroupSpec, settings: ClusterSettings, restarts: int = 0
    ) -> None:
        self.name = name
        self.plan = plan
        self.budget = Budget(settings.max_restarts, restarts)
        self.retry_at = 0.0
        self.done = False
        self.draining_since: float | None = None
        self.obstacle = ""
        self._settings = settings
        self._placement: Any = None
        self._placed: Any = None
        self._actors: dict[str, Any] = {}
        self._health: dict[str, Health] = {}
        self._asked: dict[str, Any] = {}
        self._started = False
        self._last: dict[str, MetricValues] = {}
        self._last_until = 0.0

    # -- what others see ---------------------------------------------------

    @property
    def state(self) -> str:
        """For people."""
        if self.done:
            return "done"
        if not self._actors:
            if self._placement is not None:
                return "waiting for resources"
            if self.obstacle:
                return self.obstacle
            return "restarting" if self.budget.restarts else "pending"
        if self.draining_since is not None:
            return "draining"
        return "up" if self.working else "starting"

    @property
    def exists(self) -> bool:
        """Whether it holds actors or a place for them."""
        return bool(self._actors) or self._placement is not None

    @property
    def working(self) -> bool:
        """Every member is at work or done."""
        states = [report.state for report in self.reports.values()]
        return len(states) == len(self.plan.names) and set(states) <= {"working", "done"}

    @property
    def reports(self) -> dict[str, Report]:
        """The newest report of each member that has answered."""
        return {name: h.report for name, h in self._health.items() if h.report is not None}

    @property
    def snapshots(self) -> dict[str, MetricValues]:
        """What each member measured; of a group that is done, for a little longer."""
        if self.done:
            return self._last if time.monotonic() < self._last_until else {}
        return {name: r.snapshot for name, r in self.reports.items() if r.snapshot is not None}

    # -- coming and going --------------------------------------------------

    def adopt(self) -> bool:
        """Take over the actors of an earlier controller; False if they are not all there."""
        import ray

        found = {}
        for name in self.plan.names:
            with contextlib.suppress(ValueError):
                found[name] = ray.get_actor(name)
        with contextlib.suppress(ValueError):
            self._placement = ray.util.get_placement_group(self.name)
        if len(found) == len(self.plan.names):
            self._watch(found)
            return True
        for actor in found.values():
            ray.kill(actor)
        self.end()
        return False

    def bring_up(self) -> None:
        """Go one step towards being up; call again until it is."""
        if self._placement is None:
            self._place()
        elif not self._actors:
            self._create()
        elif not self._started:
            self._start()

    def call(self, method: str) -> None:
        """Send every member a message and do not wait."""
        for actor in self._actors.values():
            getattr(actor, method).remote()

    def finish(self) -> None:
        """End a group whose work is done."""
        self._last, self._last_until = self.snapshots, time.monotonic() + _LINGER_S
        self.done = True
        self.end()

    def end(self) -> None:
        """Kill what is there and give its place back."""
        import ray

        for actor in self._actors.values():
            ray.kill(actor)
        if self._placement is not None:
            ray.util.remove_placement_group(self._placement)
        self._placement, self._placed, self._started = None, None, False
        self._actors, self._health, self._asked = {}, {}, {}

    # -- watching ----------------------------------------------------------

    def ask(self) -> list[Any]:
        """Ask every member how it is; all questions that are still open."""
        for name, actor in self._actors.items():
            if name not in self._asked:
                self._asked[name] = actor.poll.remote()
        return list(self._asked.values())

    def hear(self, ready: set[Any]) -> str:
        """Take the answers among ``ready``; why a member is dead, or empty."""
        import ray

        now = time.monotonic()
        for name, question in list(self._asked.items()):
            if question not in ready:
                continue
            del self._asked[name]
            try:
                report: Report = ray.get(question)
            except ray.exceptions.ActorUnavailableError:
                continue
            except ray.exceptions.RayError as error:
                return f"{name} died ({first_line(getattr(error, 'cause', error))})"
            if self._health[name].answered(report, now):
                self.budget.progressed()
        return ""

    def stuck(self) -> dict[str, str]:
        """Members that count as stuck, and why."""
        now = time.monotonic()
        found = {name: health.stall_reason(now) for name, health in self._health.items()}
        return {name: stall_reason for name, stall_reason in found.items() if stall_reason}

    # -- inside ------------------------------------------------------------

    def _place(self) -> None:
        from ray.util.placement_group import placement_group

        bundle = {"CPU": self.plan.cpus}
        if self.plan.gpus:
            bundle["GPU"] = self.plan.gpus
        if self._settings.dedicated:
            bundle[f"mixsd_{self.name.partition('-')[0]}"] = 0.001
        self._placement = placement_group(
            [bundle] * len(self.plan.names), strategy="PACK", name=self.name, lifetime="detached"
        )
        self._placed = self._placement.ready()

    def _create(self) -> None:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        if not ray.wait([self._placed], timeout=0)[0]:
            return
        actors = {}
        for index, name in enumerate(self.plan.names):
            options = ray.remote(self.plan.role).options(
                name=name,
                lifetime="detached",
                num_cpus=self.plan.cpus,
                num_gpus=self.plan.gpus,
                max_concurrency=8,
                scheduling_strategy=PlacementGroupSchedulingStrategy(self._placement, index),
            )
            try:
                actors[name] = options.remote(name, *self.plan.arguments)
            except ValueError:
                # The name is taken while a killed predecessor is still going.
                for actor in actors.values():
                    ray.kill(actor)
                return
        self._watch(actors)

    def _watch(self, actors: dict[str, Any]) -> None:
        now, settings = time.monotonic(), self._settings
        self._actors = actors
        self._health = {
            name: Health(settings.start_timeout_s, settings.stall_s, now) for name in actors
        }

    def _start(self) -> None:
        reports = self.reports
        if len(reports) < len(self.plan.names):
            return
        self._started = True
        if {report.state for report in reports.values()} != {"idle"}:
            return
        rendezvous = reports[self.plan.names[0]].address
        for index, name in enumerate(self.plan.names):
            self._actors[name].start.remote(index, rendezvous)
