"""The controller: reconciles a run with its desired state until the run has ended.

One detached actor per run. In each iteration it reads the desired state, starts
missing groups, drains superfluous ones, polls every role, restarts roles that died
or are stuck, and writes the status. No state is lost when it dies: roles continue,
Ray restarts it, and it adopts the roles by name. The state of the run is in its folder.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from pathlib import Path

from actors.replay.status import QueueStatus
from common.config import run_config
from common.rundir import RunDir, is_full
from common.weight_sync.store import WeightStore
from deploy.cluster import ray_cluster
from deploy.control import desired_state, stack_dump
from deploy.control.autoscaler import RolloutScaling
from deploy.control.desired_state import Desired
from deploy.control.early_stop import EarlyStop
from deploy.control.group import ActorGroup
from deploy.control.group_spec import GroupSpec, group_specs
from deploy.control.health import DeadlockDetector, Report
from deploy.control.journal import Journal
from deploy.control.queue_client import QueueControl
from deploy.control.role import prepare_process
from deploy.control.role_kind import REPLAY_ACTOR, RoleKind, lease_owner
from deploy.observability.run_status import RunStatus

NAME = "controller"
_TICK_S = 0.5


class RunFailed(RuntimeError):
    """The run cannot continue; the message is the cause."""


class Controller:
    """Controls one run until it ends; starts on construction.

    Args:
        root: the run folder.
        model_dir: the resolved base model.
    """

    def __init__(self, root: str, model_dir: str) -> None:
        self._run = RunDir(Path(root))
        self._config = run_config.load(self._run.config)
        prepare_process(self._run.logs / f"{NAME}.log", self._config)
        self._model_dir = model_dir
        before = RunStatus.load(self._run)
        if before is not None and not before.live:
            # The predecessor died after the final status; nothing is left to control.
            _kill_self()
        # Roles under a predecessor; each is used once.
        self._before = {} if before is None else dict(before.roles)
        self._groups: dict[str, ActorGroup] = {}
        self._queue = QueueControl()
        self._scaling = RolloutScaling(self._config.rollout, time.monotonic())
        self._early_stop = (
            EarlyStop(self._run, self._config) if self._config.learner.early_stop else None
        )
        self._ends_early = False
        self._deadlock = DeadlockDetector(self._config.cluster.stall_s, time.monotonic())
        self._journal = Journal(self._run, self._config, before)
        self._write("starting")
        threading.Thread(target=self._main, name=NAME, daemon=True).start()

    def url(self) -> str:
        """URL of the metrics."""
        return self._journal.url

    def _main(self) -> None:
        try:
            self._adopt()
            while not (state := self._tick()):
                time.sleep(_TICK_S)
            self._end(state)
        except RunFailed as error:
            self._end("failed", str(error))
        except Exception as error:
            traceback.print_exc()
            self._end("failed", f"controller: {type(error).__name__}: {error}")

    # -- desired groups ------------------------------------------------------

    def _adopt(self) -> None:
        self._sync(desired_state.read(self._run, self._config))
        adopted = [n for n, group in self._groups.items() if not group.done and group.adopt()]
        if adopted:
            self._journal.event(f"a new controller took over {', '.join(adopted)}")

    def _sync(self, desired: Desired) -> None:
        """Make a group for each desired one; drain the others."""
        specs = group_specs(self._config, desired, str(self._run.root), self._model_dir)
        for spec in specs:
            if spec.name not in self._groups:
                self._groups[spec.name] = self._group(spec)
        wanted = {spec.name for spec in specs}
        for name, group in list(self._groups.items()):
            if name in wanted:
                group.draining_since = None
            elif group.draining_since is None and group.exists:
                group.draining_since = time.monotonic()
                self._journal.event(f"{name} is drained")
            elif not group.exists:
                del self._groups[name]

    def _group(self, spec: GroupSpec) -> ActorGroup:
        before = self._before.pop(spec.name, None)
        group = ActorGroup(spec, self._config.cluster, before.restarts if before else 0)
        group.done = before is not None and before.state == "done"
        return group

    def _scale(self, desired: Desired, now: float) -> Desired:
        """Apply schedule and autoscaler by changing the desired state, as commands do."""
        age_s = time.time() - self._journal.began
        count = self._scaling.decide(desired.rollout, age_s, self._reports(), now)
        if count == desired.rollout:
            return desired
        self._journal.event(f"rollout actors: {desired.rollout} -> {count}")
        return desired_state.change(self._run, self._config, {"rollout": count})

    # -- one iteration -------------------------------------------------------

    def _tick(self) -> str:
        """Reconcile once; returns the state in which the run has ended, or an empty string."""
        desired = desired_state.read(self._run, self._config)
        if desired.stopped:
            return "stopped"
        now = time.monotonic()
        desired = self._scale(desired, now)
        self._sync(desired)
        for group in self._groups.values():
            if group.done or group.draining_since is not None or now < group.retry_at:
                continue
            if not (group.obstacle and is_full(self._run.root)):
                group.bring_up()
        self._poll()
        self._configure_queue(desired)
        self._stop_early()
        for group in list(self._groups.values()):
            self._handle_reports(group)
        self._drain()
        trained = self._is_trained()
        obstacles = [g.obstacle for g in self._groups.values() if g.obstacle]
        self._write("evaluating" if trained else "running", next(iter(obstacles), ""))
        evaluators = [g for g in self._groups.values() if g.kind.drains_after_training]
        if trained and all(group.done for group in evaluators):
            return "finished"
        waits, progress = self._waits()
        # A full disk may stop all roles for a long time; the status shows it.
        stall_reason = self._deadlock.stall_reason({} if obstacles else waits, progress, now)
        if stall_reason:
            raise RunFailed(stall_reason)
        return ""

    def _is_trained(self) -> bool:
        """The learner is done; in a run without a learner, all targets are drawn."""
        if self._config.train:
            return self._groups[RoleKind.LEARNER.group_name()].done
        queue = self._queue_status()
        return queue is not None and queue.settled

    def _waits(self) -> tuple[dict[str, str], float]:
        """What each role waits for (empty for one that is not up), and the progress of all."""
        active = [group for group in self._groups.values() if not group.done]
        waits = {
            group.name: next((r.waiting for r in group.reports.values()), "")
            if group.working
            else ""
            for group in active
        }
        return waits, sum(report.progress for report in self._reports().values())

    def _poll(self) -> None:
        """Poll all roles; take the answers that arrive within a second."""
        import ray

        polls = [poll for group in self._groups.values() for poll in group.poll()]
        if not polls:
            return
        ready, _ = ray.wait(polls, num_returns=len(polls), timeout=1.0)
        for group in self._groups.values():
            death = group.collect(set(ready))
            for note in group.new_notes():
                self._journal.note(note)
            if death:
                self._restart(group, death)

    def _handle_reports(self, group: ActorGroup) -> None:
        reports = group.reports
        for name, report in reports.items():
            if report.state == "failed":
                if report.disk_full:
                    self._restart_when_disk_has_room(group)
                else:
                    self._restart(group, f"{name}: {report.cause}", permanent=report.permanent)
                return
        if any(report.disk_full for report in reports.values()):
            self._note_full_disk(group)
            return
        stuck = group.stuck()
        if stuck:
            for name in stuck:
                stack_dump.save(self._run, name, reports.get(name))
            self._restart(group, "; ".join(f"{name}: {why}" for name, why in stuck.items()))
        elif group.obstacle and group.working:
            group.obstacle = ""
            self._journal.event(f"{group.name} has disk space again and continues")
        elif group.exists and group.working and {r.state for r in reports.values()} == {"done"}:
            group.finish()
            self._journal.event(f"{group.name} is done")

    def _restart(self, group: ActorGroup, why: str, *, permanent: bool = False) -> None:
        """End a failed group and restart it after a pause.

        Raises:
            RunFailed: the error is permanent, or the restarts in a row are used up.
        """
        self._end_group(group, died=True)
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
        group.retry_at = time.monotonic() + pause
        purpose = f", to find which of {suspects} rollouts it dies of" if suspects else ""
        self._journal.event(f"{why}; {group.name} is restarted in {pause:.0f} s{purpose}")

    def _suspects(self, group: ActorGroup) -> int:
        """Rollouts among which the queue searches one that kills the learner; else 0."""
        queue = self._queue_status()
        return queue.suspects if group.kind is RoleKind.LEARNER and queue is not None else 0

    def _end_group(self, group: ActorGroup, *, died: bool) -> None:
        """End a group; its leases return at once. ``died``: by itself."""
        reports = group.reports
        group.end()
        if group.kind.leases_work:
            for name, report in reports.items():
                self._queue.release(lease_owner(name, report.node, report.pid), died=died)

    def _restart_when_disk_has_room(self, group: ActorGroup) -> None:
        """End a group that failed on a full disk; its restarts do not count."""
        group.end()
        group.retry_at = time.monotonic() + group.budget.room_pause()
        self._note_full_disk(group)

    def _note_full_disk(self, group: ActorGroup) -> None:
        if not group.obstacle:
            group.obstacle = f"waiting: no space left in {self._run.root}"
            self._journal.event(f"{group.name} is {group.obstacle}")

    def _drain(self) -> None:
        """Drain what is no longer needed; after ``cluster.drain_s``, end it."""
        now = time.monotonic()
        for group in self._groups.values():
            if group.draining_since is None:
                if group.kind.drains_after_training and self._is_trained():
                    group.call("drain")
            elif now - group.draining_since > self._config.cluster.drain_s or group.done:
                self._end_group(group, died=False)
            else:
                group.call("drain")

    # -- the queue -----------------------------------------------------------

    def _queue_status(self) -> QueueStatus | None:
        report = self._groups[RoleKind.REPLAY.group_name()].reports.get(REPLAY_ACTOR)
        return report.queue if report is not None else None

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

    # -- status and end ------------------------------------------------------

    def _reports(self) -> dict[str, Report]:
        return {name: report for g in self._groups.values() for name, report in g.reports.items()}

    def _write(self, state: str, cause: str = "") -> None:
        self._journal.write(state, cause, self._groups)

    def _end(self, state: str, cause: str = "") -> None:
        """End all roles, write the report and the final status."""
        self._poll()
        if state == "finished":
            self._write("reporting")
            try:
                from deploy.report.files import write_report

                write_report([self._run])
            except Exception as error:
                traceback.print_exc()
                state, cause = "failed", f"report: {error}"
        self._write(state, cause)
        for group in self._groups.values():
            group.end()
        WeightStore(self._run).remove()
        self._journal.close()
        pid = ray_cluster.head_pid(self._run)
        if pid is not None:
            # Perhaps no command watches the run; once ended, it must not keep processes.
            os.kill(pid, signal.SIGTERM)
        else:
            _kill_self()


def _kill_self() -> None:
    """Kill this actor, so that Ray does not restart it."""
    import ray

    ray.kill(ray.get_actor(NAME))
