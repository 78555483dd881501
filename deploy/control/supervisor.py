"""Decides what becomes of a run's groups, from their reports and the files of the run.

Each tick reads the desired state, starts missing groups, drains superfluous ones, polls every
role, and restarts roles that died or are stuck. Ray is behind the groups and the queue's
control; nothing here waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from actors.replay.status import QueueStatus
from common.config.run_config import RunConfig
from common.rundir import LOW_BYTES, RunDir, is_full
from deploy.control import desired_state, hand_on, phases
from deploy.control.autoscaler import RolloutScaling
from deploy.control.desired_state import Desired
from deploy.control.early_stop import EarlyStop
from deploy.control.group import ActorGroup, poll_groups
from deploy.control.group_set import GroupSet
from deploy.control.group_spec import GroupSpec
from deploy.control.health import DeadlockDetector, Report
from deploy.control.journal import Journal
from deploy.control.out_of_memory import OutOfMemory
from deploy.control.queue_client import QueueControl
from deploy.control.role_kind import REPLAY_ACTOR, RoleKind, lease_owner
from deploy.observability.run_status import RoleStatus


class RunFailed(RuntimeError):
    """The run cannot continue; the message is the cause."""


class State(NamedTuple):
    """The state of the run after a tick; ``cause``: what hinders it, if anything."""

    name: str
    cause: str = ""
    has_ended: bool = False


class Supervisor:
    """The groups of one run.

    Args:
        run: its folder.
        config: its configuration.
        model_dir: the resolved base model.
        journal: records events.
        before: roles under an earlier controller.
        make_group: makes the group of a specification, restarted so many times before.
        poll: polls groups; returns why a member died, by group.
        queue: sends the queue what the supervisor decides.
        memory: notices that the machine runs out of memory.
        clock: seconds, monotonic.

    Attributes:
        groups: by name; the controller ends them.
    """

    def __init__(
        self,
        run: RunDir,
        config: RunConfig,
        model_dir: str,
        journal: Journal,
        before: Mapping[str, RoleStatus],
        make_group: Callable[[GroupSpec, int], ActorGroup],
        *,
        poll: Callable[[Iterable[ActorGroup]], Mapping[str, str]] = poll_groups,
        queue: QueueControl | None = None,
        memory: OutOfMemory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._config = config
        self._journal = journal
        self._poll_groups = poll
        self._queue = queue or QueueControl()
        self._clock = clock
        self._set = GroupSet(run, config, model_dir, journal, before, make_group, clock)
        self.groups = self._set.groups
        self._scaling = RolloutScaling(config.rollout, clock())
        self._early_stop = EarlyStop(run, config) if config.learner.early_stop else None
        self._ends_early = False
        self._deadlock = DeadlockDetector(config.cluster.stall_s, clock())
        self._memory = memory or OutOfMemory()
        self._may_be_drawn = run.ledger.exists()

    def adopt(self) -> None:
        """Take over the roles of an earlier controller."""
        self._set.sync(desired_state.read(self._run, self._config), self._is_trained)
        adopted = [n for n, group in self.groups.items() if not group.done and group.adopt()]
        if adopted:
            self._journal.event(f"a new controller took over {', '.join(adopted)}")

    def tick(self) -> State:
        """Reconcile once.

        Raises:
            RunFailed: the run cannot continue.
        """
        desired = desired_state.read(self._run, self._config)
        if desired.stopped:
            return State("stopped", has_ended=True)
        now = self._clock()
        desired = self._scale(desired, now)
        extra = self._set.sync(desired, self._is_trained)
        for group in self.groups.values():
            if group.done or group.draining_since is not None or now < group.retry_at:
                continue
            if self._waits_for_turn(group) or self._has_nothing_to_draw(group):
                continue
            if not (group.obstacle and is_full(self._run.root)):
                group.bring_up()
        self.poll()
        self._configure_queue(desired)
        self._stop_early()
        self._reopen()
        for group in list(self.groups.values()):
            self._handle_reports(group)
        self._drain()
        obstacle = next((group.obstacle for group in self.groups.values() if group.obstacle), "")
        trained = self._is_trained()
        has_ended = trained and hand_on.all_measured(self.groups, extra)
        # The last report of the queue becomes that of the run.
        if has_ended and self._queue_knows_of(self.groups.values()):
            return State("finished", has_ended=True)
        # A full disk may stop all roles for a long time; the status shows it.
        waits, progress = self._waits()
        stall_reason = self._deadlock.stall_reason({} if obstacle else waits, progress, now)
        if stall_reason:
            raise RunFailed(stall_reason)
        return State("evaluating" if trained else "running", obstacle)

    def poll(self) -> None:
        """Poll all roles; restart the groups of those that died."""
        deaths = self._poll_groups(self.groups.values())
        now = self._clock()
        self._memory.watch(now)
        for group in self.groups.values():
            for note in group.new_notes():
                self._journal.note(note)
            if death := deaths.get(group.name):
                self._restart(group, self._memory.explain(death, now))

    # -- what is to run ------------------------------------------------------

    def _scale(self, desired: Desired, now: float) -> Desired:
        """Apply schedule and autoscaler by changing the desired state, as commands do."""
        age_s = time.time() - self._journal.began
        count = self._scaling.decide(desired.rollout, age_s, self._reports(), now)
        if count == desired.rollout:
            return desired
        self._journal.event(f"rollout actors: {desired.rollout} -> {count}")
        return desired_state.change(self._run, self._config, {"rollout": count})

    def _waits_for_turn(self, group: ActorGroup) -> bool:
        """Whether a group may not start now; one that started too early is ended."""
        if self._config.cluster.placement != "phases":
            return False
        groups = self.groups.values()
        phase = phases.current(self._queue_status(), self._is_trained(), groups)
        if phases.is_early(group, phase):
            self._journal.event(f"{group.name} gives its devices to an earlier phase")
            self._end(group, died=False)
        return not phases.may_start(group, phase, groups)

    def _has_nothing_to_draw(self, group: ActorGroup) -> bool:
        """Whether rollout actors need not start, or perhaps not: the queue has to say so first.

        In a run that is resumed, or has the targets of another, all may be drawn.
        """
        if not group.kind.leases_work or group.exists or not self._may_be_drawn:
            return False
        queue = self._queue_status()
        if queue is not None and queue.settled:
            group.finish()
            self._journal.event(f"{group.name} is not started: all targets are drawn")
        return queue is None or queue.settled

    def _is_trained(self) -> bool:
        """The learner is done; in a run without a learner, all targets are drawn."""
        if self._config.train:
            return self.groups[RoleKind.LEARNER.group_name()].done
        queue = self._queue_status()
        return queue is not None and queue.settled

    def _reopen(self) -> None:
        """Start rollout actors again if work came back after they were done.

        A queue whose machine lost its power has lost its newest rollouts.
        """
        queue = self._queue_status()
        if queue is None or queue.settled or queue.ended:
            return
        done = [group for group in self.groups.values() if group.kind.leases_work and group.done]
        if not done or not self._queue_knows_of(done):
            return
        for group in done:
            group.done_at = None
        self._journal.event("the queue has work again; rollout actors are started again")

    def _drain(self) -> None:
        """Drain what is no longer needed; after ``cluster.drain_s``, end it."""
        now = self._clock()
        for group in self.groups.values():
            if group.draining_since is None:
                if group.kind.drains_after_training and self._is_trained():
                    group.call("drain")
            elif now - group.draining_since > self._config.cluster.drain_s or group.done:
                self._end(group, died=False)
            else:
                group.call("drain")

    # -- what the reports say ------------------------------------------------

    def _reports(self) -> dict[str, Report]:
        return {name: report for g in self.groups.values() for name, report in g.reports.items()}

    def _waits(self) -> tuple[dict[str, str], float]:
        """What each role waits for (empty for one that starts or works), and all progress."""
        in_phases = self._config.cluster.placement == "phases"
        waits = {
            group.name: group.waiting
            for group in self.groups.values()
            if not group.done
            # One that waits for its turn does not start: it is no sign of life.
            and (group.exists or not in_phases or not phases.takes_turns(group))
        }
        return waits, sum(report.progress for report in self._reports().values())

    def _handle_reports(self, group: ActorGroup) -> None:
        reports = group.reports
        for name, report in reports.items():
            if report.state == "failed":
                # A role may also fill another disk, such as that of /tmp: then its error says so.
                if report.disk_full and is_full(self._run.root, LOW_BYTES):
                    self._restart_when_disk_has_room(group)
                else:
                    self._restart(group, f"{name}: {report.cause}", permanent=report.permanent)
                return
        stuck = group.stuck()
        if stuck:
            group.dump_stacks(self._run, stuck)
            self._restart(group, "; ".join(f"{name}: {why}" for name, why in stuck.items()))
        elif any(report.disk_full for report in reports.values()):
            self._note_full_disk(group)
        elif group.obstacle and group.working:
            group.obstacle = ""
            self._journal.event(f"{group.name} has disk space again and continues")
        elif group.exists and group.working and {r.state for r in reports.values()} == {"done"}:
            group.finish()
            self._journal.event(f"{group.name} is done")

    # -- restarts ------------------------------------------------------------

    def _restart(self, group: ActorGroup, why: str, *, permanent: bool = False) -> None:
        """End a failed group and restart it after a pause.

        Raises:
            RunFailed: the error is permanent, or the restarts in a row are used up.
        """
        self._end(group, died=True)
        if group.draining_since is not None:
            return
        if is_full(self._run.root) and not permanent:
            self._restart_when_disk_has_room(group)
            return
        suspects = self._suspects(group)
        pause = None if permanent else group.budget.next_pause(counts=not suspects)
        if pause is None:
            tried = "" if permanent else f" (after {group.budget.failures} restarts in a row)"
            raise RunFailed(f"{why}{tried}; see {self._run.logs / group.spec.members[0]}.log")
        group.retry_at = self._clock() + pause
        purpose = f", to find which of {suspects} rollouts it dies of" if suspects else ""
        self._journal.event(f"{why}; {group.name} is restarted in {pause:.0f} s{purpose}")

    def _suspects(self, group: ActorGroup) -> int:
        """Rollouts among which the queue searches one that kills the learner; else 0."""
        queue = self._queue_status()
        return queue.suspects if group.kind is RoleKind.LEARNER and queue is not None else 0

    def _end(self, group: ActorGroup, *, died: bool) -> None:
        """End a group; its leases return at once. ``died``: by itself."""
        reports = group.reports
        group.end()
        if group.kind.leases_work:
            for name, report in reports.items():
                self._queue.release(lease_owner(name, report.node, report.pid), died=died)

    def _restart_when_disk_has_room(self, group: ActorGroup) -> None:
        """End a group that failed on a full disk; its restarts do not count."""
        group.end()
        group.retry_at = self._clock() + group.budget.room_pause()
        self._note_full_disk(group)

    def _note_full_disk(self, group: ActorGroup) -> None:
        if not group.obstacle:
            group.obstacle = f"waiting: no space left in {self._run.root}"
            self._journal.event(f"{group.name} is {group.obstacle}")

    # -- the queue -----------------------------------------------------------

    def _queue_status(self) -> QueueStatus | None:
        report = self.groups[RoleKind.REPLAY.group_name()].reports.get(REPLAY_ACTOR)
        return report.queue if report is not None else None

    def _queue_knows_of(self, groups: Iterable[ActorGroup]) -> bool:
        """Whether the queue's report is younger than the end of those of ``groups`` that ended."""
        as_of = self.groups[RoleKind.REPLAY.group_name()].as_of
        return all(group.done_at < as_of for group in groups if group.done_at is not None)

    def _configure_queue(self, desired: Desired) -> None:
        """Send the queue its settings if they differ from those in force."""
        queue = self._queue_status()
        if queue is not None and queue.settings != desired.replay.model_dump():
            self._queue.configure(desired.replay)

    def _stop_early(self) -> None:
        """End training in the queue once recall has peaked; the roles then end in order."""
        queue = self._queue_status()
        if self._early_stop is None or queue is None or queue.ended:
            return
        peak = self._early_stop.peak()
        if peak is not None:
            if not self._ends_early:
                self._journal.event(f"training ends early: {peak.reason}")
            self._ends_early = True
            self._queue.end()
