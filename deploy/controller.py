"""The controller: brings a run's roles to life, watches them, and ends the run.

One detached actor a run. It starts every role as a *group* (a group fails and
restarts as one: learner ranks cannot go on without each other), restarts what
dies with growing pauses until the budget is used up, gathers every role's
metrics behind one endpoint, and writes ``status.json``, which is all that the
command line reads. The run's truth is in its folder, not here.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from common import config as configuration
from common import corpora
from common.metrics import Snapshot
from common.rundir import RunDir, read_json, write_atomic
from deploy import cluster, roles
from deploy.endpoint import Endpoint

_TICK_S = 0.5
_STOP_S = 30.0

# Creates a group's actors: (actors by name, futures of their runs).
Launch = Callable[[], tuple[dict[str, Any], list[Any]]]


@dataclass(slots=True)
class Group:
    """Actors that live and die together."""

    name: str
    launch: Launch
    actors: dict[str, Any] = field(default_factory=dict)
    running: list[Any] = field(default_factory=list)
    restarts: int = 0
    retry_at: float | None = 0.0
    done: bool = False
    snapshots: dict[str, Snapshot] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """For people."""
        if self.done:
            return "done"
        if not self.actors:
            return "restarting" if self.restarts else "pending"
        return "up" if any(self.snapshots.values()) else "starting"


class Controller:
    """Runs one run to its end.

    Args:
        root: the run folder.
        model_dir: the resolved base model.
    """

    def __init__(self, root: str, model_dir: str) -> None:
        self._run = RunDir(Path(root))
        self._config = configuration.load(self._run.config)
        self._model_dir = model_dir
        roles.prepare_process(self._run.logs / "controller.log", self._config)
        self._state = "starting"
        self._cause = ""
        self._stop = threading.Event()
        self._began = time.time()
        self._events: list[dict[str, Any]] = []
        self._queue: Any = None
        self._groups: dict[str, Group] = {}
        self._endpoint = Endpoint(self._run.name, self._config.metrics)
        self._thread = threading.Thread(target=self._main, name="controller", daemon=True)

    def start(self) -> str:
        """Begin; returns the metrics address at once."""
        self._write_status()
        self._thread.start()
        return self._endpoint.url

    def stop(self) -> None:
        """End the run in order and return when it has ended."""
        self._stop.set()
        self._thread.join()

    # -- the run's life -----------------------------------------------------

    def _main(self) -> None:
        try:
            self._start_roles()
            self._state = "running"
            while not self._tick():
                self._stop.wait(_TICK_S)
            self._end("stopped" if self._stop.is_set() else "finished")
        except Exception as error:
            traceback.print_exc()
            self._cause = self._cause or f"{type(error).__name__}: {error}"
            self._end("failed")

    def _start_roles(self) -> None:
        import ray

        config, settings = self._config, self._config.cluster
        root = str(self._run.root)
        self._queue = (
            ray.remote(roles.ReplayRole)
            .options(num_cpus=0, max_restarts=settings.max_restarts, max_task_retries=-1)
            .remote(root)
        )
        facts = corpora.load(config.data).facts
        ray.get(self._queue.call.remote("add_work", [(fact.id, 0) for fact in facts]))
        gpus = config.engine.tensor_parallel_size
        for index in range(config.rollout.actors):
            name = f"rollout-{index}"
            self._add(name, partial(self._single, roles.RolloutRole, name, gpus))
        self._add("learner", self._learner)
        if config.evaluator.actors:
            name = "evaluator-0"
            self._add(name, partial(self._single, roles.EvaluatorRole, name, gpus))

    def _add(self, name: str, launch: Launch) -> None:
        self._groups[name] = Group(name, launch)

    def _single(self, role: type, name: str, gpus: int) -> tuple[dict[str, Any], list[Any]]:
        actor = self._actor(role, name, gpus, self._config.engine.resolved_device)
        return {name: actor}, [actor.run.remote(self._queue)]

    def _learner(self) -> tuple[dict[str, Any], list[Any]]:
        import ray

        settings = self._config.learner
        actors = {
            f"learner-{rank}": self._actor(
                roles.LearnerRole, f"learner-{rank}", 1, settings.resolved_device
            )
            for rank in range(settings.ranks)
        }
        ranks = list(actors.values())
        endpoint = ray.get(
            ranks[0].find_endpoint.remote(), timeout=self._config.cluster.start_timeout_s
        )
        runs = [actor.run.remote(self._queue, rank, endpoint) for rank, actor in enumerate(ranks)]
        return actors, runs

    def _actor(self, role: type, name: str, gpus: int, device: str) -> Any:
        import ray

        options = {"num_cpus": 1, "num_gpus": gpus if device == "cuda" else 0, "max_concurrency": 4}
        return (
            ray.remote(role).options(**options).remote(name, str(self._run.root), self._model_dir)
        )

    # -- one look at everything ---------------------------------------------

    def _tick(self) -> bool:
        """Reconcile once; True when the run is over."""
        if self._stop.is_set():
            return True
        now = time.monotonic()
        for group in self._groups.values():
            if not group.done and not group.actors and group.retry_at is not None:
                if now >= group.retry_at:
                    group.actors, group.running = group.launch()
            elif group.running:
                self._watch(group)
        learner, evaluator = self._groups["learner"], self._groups.get("evaluator-0")
        if learner.done and evaluator is not None and evaluator.actors:
            evaluator.actors["evaluator-0"].finish.remote()
            if self._state == "running":
                self._state = "evaluating"
        self._gather()
        self._write_status()
        return learner.done and (evaluator is None or evaluator.done)

    def _watch(self, group: Group) -> None:
        import ray

        ready, pending = ray.wait(group.running, num_returns=len(group.running), timeout=0)
        for future in ready:
            try:
                ray.get(future)
            except Exception as error:
                self._failed(group, error)
                return
        group.running = pending
        if not pending:
            group.done = True
            self._event(f"{group.name} is done")
            self._kill(group)

    def _failed(self, group: Group, error: Exception) -> None:
        cause = getattr(error, "cause", error)
        text = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        # What the user gave, or numbers that diverge, fail again however often we try.
        hopeless = isinstance(cause, (ValueError, ArithmeticError))
        self._kill(group)
        if group.name.startswith("rollout"):
            self._call_queue("release", group.name)
        budget = self._config.cluster.max_restarts
        if hopeless or group.restarts >= budget:
            tried = "" if hopeless else f" (after {group.restarts} restarts)"
            self._cause = f"{group.name}: {text}{tried}; see {self._run.logs / group.name}*.log"
            raise RuntimeError(self._cause) from error
        pause = 2.0**group.restarts
        group.restarts += 1
        group.retry_at = time.monotonic() + pause
        self._event(f"{group.name} failed: {text}; restart {group.restarts} of {budget}")

    def _kill(self, group: Group) -> None:
        import ray

        for actor in group.actors.values():
            ray.kill(actor)
        group.actors, group.running, group.snapshots = {}, [], {}

    def _gather(self) -> None:
        import ray

        asked = {
            actor.snapshot.remote(): (group, name)
            for group in self._groups.values()
            for name, actor in group.actors.items()
        }
        ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=1.0) if asked else ([], [])
        for future in ready:
            group, name = asked[future]
            try:
                group.snapshots[name] = ray.get(future)
            except ray.exceptions.RayError:
                group.snapshots.pop(name, None)
        series: dict[str, Snapshot] = {}
        for group in self._groups.values():
            up = {"mixsd_actor_up": float(bool(group.actors))}
            restarts = {"mixsd_actor_restarts_total": float(group.restarts)}
            for name in group.actors or [group.name]:
                series[name] = {**group.snapshots.get(name, {}), **up, **restarts}
        series["replay"] = self._call_queue("snapshot") or {}
        self._endpoint.show(series)
        line = {"time": time.time(), "series": series}
        with self._run.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _call_queue(self, method: str, *arguments: Any) -> Any:
        import ray

        try:
            return ray.get(self._queue.call.remote(method, *arguments), timeout=30.0)
        except (ray.exceptions.GetTimeoutError, ray.exceptions.ActorUnavailableError):
            return None

    def _event(self, text: str) -> None:
        print(time.strftime("%H:%M:%S"), text, flush=True)
        self._events.append({"time": time.time(), "text": text})

    # -- what others see ------------------------------------------------------

    def _write_status(self) -> None:
        learner = self._groups.get("learner")
        snapshots = (learner.snapshots if learner else {}).get("learner-0", {})
        status = {
            "run": self._run.name,
            "state": self._state,
            "cause": self._cause,
            "method": self._config.method.name,
            "began": self._began,
            "updated": time.time(),
            "metrics_url": self._endpoint.url,
            "roles": {
                name: {"state": group.state, "restarts": group.restarts}
                for name, group in self._groups.items()
            },
            "queue": (self._call_queue("status") if self._queue else None)
            or (read_json(self._run.status) or {}).get("queue"),
            "learner": {
                name.removeprefix("mixsd_learner_"): value for name, value in snapshots.items()
            }
            or (read_json(self._run.status) or {}).get("learner", {}),
            "events": self._events[-20:],
        }
        write_atomic(self._run.status, json.dumps(status, indent=1))

    def _end(self, state: str) -> None:
        """Settle the run: no role survives, the report is written, the state is final."""
        if state == "finished":
            self._state = "reporting"
            self._write_status()
            try:
                from deploy.report import write_report

                write_report(self._run)
            except Exception as error:
                traceback.print_exc()
                state, self._cause = "failed", f"report: {error}"
        for group in self._groups.values():
            self._kill(group)
        self._state = state
        self._write_status()
        self._endpoint.close()
        pid = cluster.head_pid(self._run)
        if pid is not None and not self._stop.is_set():
            # Nobody may be watching: a run that has ended holds no processes.
            os.kill(pid, signal.SIGTERM)
