"""The controller: makes a run what it is desired to be, until it has ended.

One detached actor a run. Each time round it reads what is desired, brings up
what is missing, drains what is too much, asks every role how it goes, restarts
what died or is stuck, and writes down what it saw. Nothing it knows is needed
after its death: roles go on without it, Ray restarts it, and it adopts them by
name. The run's truth is in its folder.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from common.config import run_config as configuration
from common.rundir import RunDir, is_full
from common.weight_sync.store import WeightStore
from deploy.cluster import ray_cluster as cluster
from deploy.control import desired_state as desired
from deploy.control import roles
from deploy.control import stack_dump as stacks
from deploy.control.autoscaler import Autoscaler, blocked, scheduled
from deploy.control.desired_state import Desired
from deploy.control.early_stop import EarlyStop
from deploy.control.group import ActorGroup, GroupSpec
from deploy.control.health import DeadlockDetector, Report
from deploy.control.journal import Journal
from deploy.control.queue_client import REPLAY
from deploy.control.role import prepare_process
from deploy.observability.run_status import RunStatus

NAME = "controller"
_TICK_S = 0.5


class RunFailed(RuntimeError):
    """The run cannot go on; the message is the cause."""


class Controller:
    """Runs one run to its end; begins as soon as it is made.

    Args:
        root: the run folder.
        model_dir: the resolved base model.
    """

    def __init__(self, root: str, model_dir: str) -> None:
        self._run = RunDir(Path(root))
        self._config = configuration.load(self._run.config)
        prepare_process(self._run.logs / f"{NAME}.log", self._config)
        self._model_dir = model_dir
        before = RunStatus.load(self._run)
        if before is not None and not before.live:
            # It died after its last word; there is nothing to revive.
            _vanish()
        # What the roles were under a predecessor; each is taken up once.
        self._before = {} if before is None else dict(before.roles)
        self._groups: dict[str, ActorGroup] = {}
        autoscale = self._config.rollout.autoscale
        self._autoscaler = Autoscaler(autoscale, time.monotonic()) if autoscale else None
        self._early_stop = (
            EarlyStop(self._run, self._config) if self._config.learner.early_stop else None
        )
        self._ends_early = False
        self._planned: int | None = None
        self._deadlock = DeadlockDetector(self._config.cluster.stall_s, time.monotonic())
        self._journal = Journal(self._run, self._config, before)
        self._write("starting")
        threading.Thread(target=self._main, name=NAME, daemon=True).start()

    def url(self) -> str:
        """Where the metrics are."""
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

    # -- what there should be ------------------------------------------------

    def _adopt(self) -> None:
        wanted = desired.read(self._run, self._config)
        self._sync(wanted)
        adopted = [n for n, group in self._groups.items() if not group.done and group.adopt()]
        if adopted:
            self._journal.event(f"a new controller took over {', '.join(adopted)}")

    def _sync(self, wanted: Desired) -> None:
        """Groups for everything that is desired; the rest is drained."""
        names = [REPLAY, *(f"rollout-{index}" for index in range(wanted.rollout))]
        names += ["learner"] if self._config.train else []
        names += [f"evaluator-{index}" for index in range(wanted.evaluator)]
        for name in names:
            if name not in self._groups:
                self._groups[name] = self._group(name)
        for name, group in list(self._groups.items()):
            if name in names:
                group.draining_since = None
            elif group.draining_since is None and group.exists:
                group.draining_since = time.monotonic()
                self._journal.event(f"{name} is drained")
            elif not group.exists:
                del self._groups[name]

    def _group(self, name: str) -> ActorGroup:
        before = self._before.pop(name, None)
        restarts = 0 if before is None else before.restarts
        group = ActorGroup(name, self._plan(name), self._config.cluster, restarts)
        group.done = before is not None and before.state == "done"
        return group

    def _plan(self, name: str) -> GroupSpec:
        role = name.partition("-")[0]
        arguments = (str(self._run.root), self._model_dir)
        if role == REPLAY:
            return GroupSpec(roles.ReplayRole, (name,), cpus=1, gpus=0, arguments=arguments)
        if role == "learner":
            settings = self._config.learner
            names = tuple(f"learner-{rank}" for rank in range(settings.ranks))
            gpus = 1 if settings.resolved_device == "cuda" else 0
            return GroupSpec(roles.LearnerRole, names, cpus=1, gpus=gpus, arguments=arguments)
        engine = self._config.engine
        gpus = engine.tensor_parallel_size if engine.resolved_device == "cuda" else 0
        kind = roles.RolloutRole if role == "rollout" else roles.EvaluatorRole
        return GroupSpec(kind, (name,), cpus=1, gpus=gpus, arguments=arguments)

    # -- one time round ----------------------------------------------------

    def _tick(self) -> str:
        """Reconcile once; the state the run has ended in, or empty."""
        wanted = desired.read(self._run, self._config)
        if wanted.stopped:
            return "stopped"
        now = time.monotonic()
        wanted = self._scale(wanted, now)
        self._sync(wanted)
        for group in self._groups.values():
            if group.done or group.draining_since is not None or now < group.retry_at:
                continue
            if not (group.obstacle and is_full(self._run.root)):
                group.bring_up()
        self._listen()
        self._apply(wanted)
        self._stop_early()
        for group in list(self._groups.values()):
            self._judge(group)
        self._drain()
        trained = self._is_trained()
        obstacles = [g.obstacle for g in self._groups.values() if g.obstacle]
        self._write("evaluating" if trained else "running", next(iter(obstacles), ""))
        evaluators = [g for name, g in self._groups.items() if name.startswith("evaluator")]
        if trained and all(group.done for group in evaluators):
            return "finished"
        waits, progress = self._waits()
        # A full disk may stop everybody for long, and is told.
        stall_reason = self._deadlock.stall_reason({} if obstacles else waits, progress, now)
        if stall_reason:
            raise RunFailed(stall_reason)
        return ""

    def _is_trained(self) -> bool:
        """Nothing is left to learn; where nobody learns, to draw."""
        if self._config.train:
            return self._groups["learner"].done
        report = self._groups[REPLAY].reports.get(REPLAY)
        return report is not None and bool(report.detail["settled"])

    def _waits(self) -> tuple[dict[str, str], float]:
        """What each role waits for, and the progress of all; empty for one that is not up."""
        active = [group for group in self._groups.values() if not group.done]
        waits = {
            group.name: next((r.waiting for r in group.reports.values()), "")
            if group.working
            else ""
            for group in active
        }
        return waits, sum(report.progress for report in self._reports().values())

    def _scale(self, wanted: Desired, now: float) -> Desired:
        """Follow the schedule and the autoscaler: they wish like anybody else."""
        rollout = self._config.rollout
        count = wanted.rollout
        planned = scheduled(rollout.schedule, time.time() - self._journal.began)
        if planned != self._planned and planned is not None:
            count = planned
        self._planned = planned
        if self._autoscaler is not None:
            count = self._autoscaler.decide(count, blocked(self._reports()), now)
        if count == wanted.rollout:
            return wanted
        self._journal.event(f"rollout actors: {wanted.rollout} -> {count}")
        return desired.change(self._run, self._config, {"rollout": count})

    def _listen(self) -> None:
        """Ask everybody and take what is answered within a second."""
        import ray

        questions = [q for group in self._groups.values() for q in group.ask()]
        if not questions:
            return
        ready, _ = ray.wait(questions, num_returns=len(questions), timeout=1.0)
        for group in self._groups.values():
            death = group.hear(set(ready))
            if death:
                self._failed(group, death)

    def _judge(self, group: ActorGroup) -> None:
        """Act on what a group's members report."""
        reports = group.reports
        for name, report in reports.items():
            if report.state == "failed":
                if report.disk_full:
                    self._await_room(group)
                else:
                    self._failed(group, f"{name}: {report.cause}", permanent=report.permanent)
                return
        if any(report.disk_full for report in reports.values()):
            self._lacks_room(group)
            return
        stuck = group.stuck()
        if stuck:
            for name in stuck:
                stacks.save(self._run, name, reports.get(name))
            self._failed(group, "; ".join(f"{name}: {why}" for name, why in stuck.items()))
        elif group.obstacle and group.working:
            group.obstacle = ""
            self._journal.event(f"{group.name} found room and goes on")
        elif group.exists and group.working and {r.state for r in reports.values()} == {"done"}:
            group.finish()
            self._journal.event(f"{group.name} is done")

    def _failed(self, group: ActorGroup, why: str, *, permanent: bool = False) -> None:
        group.end()
        if group.name.startswith("rollout"):
            self._tell_queue("release", group.name, True)
        if group.draining_since is not None:
            return
        if is_full(self._run.root) and not permanent:
            self._await_room(group)
            return
        pause = None if permanent else group.budget.next_pause()
        if pause is None:
            tried = "" if permanent else f" (after {group.budget.failures} restarts in a row)"
            raise RunFailed(f"{why}{tried}; see {self._run.logs / group.plan.names[0]}.log")
        group.retry_at = time.monotonic() + pause
        self._journal.event(f"{why}; {group.name} is restarted in {pause:.0f} s")

    def _await_room(self, group: ActorGroup) -> None:
        """Try again, without counting it, until there is room."""
        group.end()
        group.retry_at = time.monotonic() + group.budget.room_pause()
        self._lacks_room(group)

    def _lacks_room(self, group: ActorGroup) -> None:
        if not group.obstacle:
            group.obstacle = f"waiting: no space left in {self._run.root}"
            self._journal.event(f"{group.name} is {group.obstacle}")

    def _drain(self) -> None:
        """Let go of what is no longer wanted, in order while it takes no longer than allowed."""
        now = time.monotonic()
        for name, group in self._groups.items():
            if group.draining_since is None:
                # Evaluators end once they have measured the last checkpoint.
                if name.startswith("evaluator") and self._is_trained():
                    group.call("drain")
            elif now - group.draining_since > self._config.cluster.drain_s or group.done:
                group.end()
                if name.startswith("rollout"):
                    self._tell_queue("release", name)
            else:
                group.call("drain")

    # -- the queue -----------------------------------------------------------

    def _apply(self, wanted: Desired) -> None:
        """Hand the queue its settings where they differ from what it has."""
        report = self._groups[REPLAY].reports.get(REPLAY)
        if report is not None and report.detail["settings"] != wanted.replay.model_dump():
            self._tell_queue("configure", wanted.replay)

    def _stop_early(self) -> None:
        """Let the queue end training once recall has peaked; roles then end in order."""
        report = self._groups[REPLAY].reports.get(REPLAY)
        if self._early_stop is None or report is None or report.detail["ended"]:
            return
        peak = self._early_stop.peak()
        if peak is not None:
            if not self._ends_early:
                self._journal.event(f"training ends early: {peak.reason}")
            self._ends_early = True
            self._tell_queue("end")

    def _tell_queue(self, method: str, *arguments: Any) -> None:
        """Send the queue a message; leases of a lost one expire, settings are sent again."""
        import ray

        with contextlib.suppress(ValueError):
            ray.get_actor(REPLAY).call.remote(method, *arguments)

    # -- words and the end -----------------------------------------------------

    def _reports(self) -> dict[str, Report]:
        return {name: report for g in self._groups.values() for name, report in g.reports.items()}

    def _write(self, state: str, cause: str = "") -> None:
        self._journal.write(state, cause, self._groups)

    def _end(self, state: str, cause: str = "") -> None:
        """Settle the run: no role survives, the report is written, the state is final."""
        self._listen()
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
        pid = cluster.head_pid(self._run)
        if pid is not None:
            # Nobody may be watching: a run that has ended holds no processes.
            os.kill(pid, signal.SIGTERM)
        else:
            _vanish()


def _vanish() -> None:
    """End this very actor for good."""
    import ray

    ray.kill(ray.get_actor(NAME))
