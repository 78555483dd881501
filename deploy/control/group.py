"""A group of Ray actors that is placed, created, started, watched and ended as one.

Members of a group live and die together: learner ranks cannot go on without
each other. Actors are detached and named, so that a new controller finds those
of its predecessor. A group executes and observes; the controller decides.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

from common.config.sections import ClusterSettings
from common.errors import first_line
from common.metrics import MetricValues
from common.rundir import RunDir
from deploy.control import stack_dump
from deploy.control.group_spec import GroupSpec
from deploy.control.health import Budget, Health, Report
from deploy.control.members import Members
from deploy.control.role_kind import RoleKind

# Three of the shipped scrape intervals, so that Prometheus reads the last counts.
_LINGER_S = 15.0


class ActorGroup:
    """One group.

    Args:
        spec: its members and their resources.
        settings: time-outs and restarts.
        restarts: how often the group was restarted under an earlier controller.
        run: its folder; None: nothing is taken from other runs, nor kept for them.
    """

    def __init__(
        self,
        spec: GroupSpec,
        settings: ClusterSettings,
        restarts: int = 0,
        run: RunDir | None = None,
    ) -> None:
        self.spec = spec
        self.budget = Budget(settings.max_restarts, restarts)
        self.retry_at = 0.0
        self.done_at: float | None = None
        self.draining_since: float | None = None
        self.obstacle = ""
        self._settings = settings
        self._members = Members(spec, settings, run)
        self._health: dict[str, Health] = {}
        self._polls: dict[str, tuple[Any, float]] = {}
        self._asked: dict[str, float] = {}
        self._started = False
        self._offset = 0.0
        self._last: dict[str, MetricValues] = {}

    # -- what others see ---------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the group and of its placement group."""
        return self.spec.name

    @property
    def kind(self) -> RoleKind:
        """What its actors do."""
        return self.spec.kind

    @property
    def done(self) -> bool:
        """Whether its work is done; ``done_at`` tells since when."""
        return self.done_at is not None

    @property
    def state(self) -> str:
        """State of the group, as ``status`` shows it."""
        if self.done:
            return "done"
        if not self._actors:
            if self._members.wait_for_resources:
                return "waiting for resources"
            if self.obstacle:
                return self.obstacle
            return "restarting" if self.budget.restarts else "pending"
        if self.draining_since is not None:
            return "draining"
        return "up" if self.working else "starting"

    @property
    def exists(self) -> bool:
        """Whether it has actors or a placement group."""
        return self._members.exist

    @property
    def working(self) -> bool:
        """Every member works or is done."""
        states = [report.state for report in self.reports.values()]
        return len(states) == len(self.spec.members) and set(states) <= {"working", "done"}

    @property
    def waiting(self) -> str:
        """What it waits for; empty while it starts or works."""
        if self.working:
            now = time.monotonic()
            return next((health.waiting(now) for health in self._health.values()), "")
        if not self._members.wait_for_resources:
            return ""
        spec = self.spec
        each = f"{spec.cpus:g} CPU" + (f" and {spec.gpus:g} GPU" if spec.gpus else "")
        return f"resources ({len(spec.members)} x {each})"

    @property
    def reports(self) -> dict[str, Report]:
        """The latest report of each member that has answered."""
        return {name: h.report for name, h in self._health.items() if h.report is not None}

    @property
    def as_of(self) -> float:
        """What happened before this moment is in the reports; -inf until all have answered."""
        asked = [self._asked.get(name, -math.inf) for name in self.spec.members]
        return min(asked, default=-math.inf)

    @property
    def metrics(self) -> dict[str, MetricValues]:
        """Metrics of each member; a group that is done keeps its last ones for a while."""
        if self.done:
            return self._last if self.lingers else {}
        return {name: r.metrics for name, r in self.reports.items() if r.metrics is not None}

    @property
    def lingers(self) -> bool:
        """Whether it has been done for a few seconds only."""
        return self.done_at is not None and time.monotonic() < self.done_at + _LINGER_S

    # -- start and end --------------------------------------------------

    def adopt(self) -> bool:
        """Take over the actors of an earlier controller; False if one is missing."""
        if self._members.adopt():
            self._watch(self._actors)
            return True
        return False

    def bring_up(self) -> None:
        """Take the next step of a start; call again until the group is up."""
        if not self._actors:
            if self._members.advance():
                self._watch(self._actors)
        elif not self._started:
            self._start()

    def call(self, method: str) -> None:
        """Call ``method`` on every member without waiting."""
        for actor in self._actors.values():
            getattr(actor, method).remote()

    def finish(self) -> None:
        """End the group after its work is done; its actors may serve another run."""
        self._last = self.metrics
        self.done_at = time.monotonic()
        states = {report.state for report in self.reports.values()}
        if states == {"done"} and self._members.keep():
            self._clear()
        else:
            self.end()

    def end(self) -> None:
        """Kill the actors and release their resources."""
        self._members.end()
        self._clear()

    # -- watching ----------------------------------------------------------

    def poll(self) -> list[Any]:
        """Poll every member that has no open poll; returns all open polls."""
        for name, actor in self._actors.items():
            if name not in self._polls:
                self._polls[name] = (actor.poll.remote(), time.monotonic())
        return [poll for poll, _ in self._polls.values()]

    def collect(self, ready: set[Any]) -> str:
        """Take the polls in ``ready``; returns why a member died, or an empty string."""
        import ray

        now = time.monotonic()
        for name, (poll, asked) in list(self._polls.items()):
            if poll not in ready:
                continue
            del self._polls[name]
            try:
                report: Report = ray.get(poll)
            except ray.exceptions.ActorUnavailableError:
                continue
            except ray.exceptions.RayError as error:
                return f"{name} died ({first_line(getattr(error, 'cause', error))})"
            self.take(name, report, asked, now)
        return ""

    def take(self, name: str, report: Report, asked: float, now: float) -> None:
        """Take a member's report, for which it was asked at ``asked``."""
        self._asked[name] = asked
        has_lasted = self._health[name].answered(report, now)
        self.budget.reached(self._offset + report.milestone)
        if has_lasted and not self.kind.resumes:
            self.budget.forgive()

    def new_notes(self) -> list[str]:
        """What the members have to tell since the last call."""
        return [note for health in self._health.values() for note in health.new_notes()]

    def stuck(self) -> dict[str, str]:
        """Stuck members and the reasons."""
        now = time.monotonic()
        found = {name: health.stall_reason(now) for name, health in self._health.items()}
        return {name: stall_reason for name, stall_reason in found.items() if stall_reason}

    def dump_stacks(self, run: RunDir, members: Iterable[str]) -> None:
        """Save what these members are doing, before they are killed."""
        reports = self.reports
        for name in members:
            stack_dump.save(run, name, reports.get(name))

    # -- private -----------------------------------------------------------

    @property
    def _actors(self) -> dict[str, Any]:
        return self._members.actors

    @_actors.setter
    def _actors(self, actors: dict[str, Any]) -> None:
        self._members.actors = actors

    def _clear(self) -> None:
        self._started = False
        self._health, self._polls, self._asked = {}, {}, {}

    def _watch(self, actors: dict[str, Any]) -> None:
        now, settings = time.monotonic(), self._settings
        self._actors = actors
        # A member that does not resume counts its milestones from zero.
        self._offset = 0.0 if self.kind.resumes else self.budget.furthest
        self._health = {name: Health(settings.patience_s, settings.stall_s, now) for name in actors}

    def _start(self) -> None:
        reports = self.reports
        if len(reports) < len(self.spec.members):
            return
        self._started = True
        if {report.state for report in reports.values()} != {"idle"}:
            return
        rendezvous = reports[self.spec.members[0]].address
        for index, name in enumerate(self.spec.members):
            self._actors[name].start.remote(index, rendezvous)


def poll_groups(groups: Iterable[ActorGroup]) -> dict[str, str]:
    """Poll all members and take the answers of a second; why one died, by group."""
    import ray

    groups = list(groups)
    polls = [poll for group in groups for poll in group.poll()]
    if not polls:
        return {}
    ready, _ = ray.wait(polls, num_returns=len(polls), timeout=1.0)
    deaths = {group.name: group.collect(set(ready)) for group in groups}
    return {name: why for name, why in deaths.items() if why}
