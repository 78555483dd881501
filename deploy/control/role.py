"""Base class of all Ray actors of a run.

A role takes only what can cross processes (paths, names, handles), prepares its
process before heavy imports, and runs its worker in a thread. Its reports tell
the controller the progress and the outcome.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import socket
import threading
import time
import traceback
from collections import deque
from pathlib import Path
from typing import Any, Protocol

from common.config import run_config
from common.config.run_config import RunConfig
from common.errors import UserError, first_line, is_disk_full
from common.metrics import MetricValues
from common.rundir import RunDir
from deploy.cluster import ray_cluster
from deploy.control.health import Report, State
from deploy.control.queue_client import QueueClient
from deploy.factories import limit_threads

_MOST_NOTES = 20


class Worker(Protocol):
    """The work of a role."""

    @property
    def progress(self) -> float: ...
    @property
    def milestone(self) -> float: ...
    @property
    def waiting(self) -> str: ...
    def run(self) -> int: ...
    def drain(self) -> None: ...
    def metrics(self) -> MetricValues: ...


class Role:
    """Base of all roles: configuration, a log file, a worker thread, and reports.

    The controller starts the work and polls it. It holds no future of the work, so
    the work survives the controller and a new controller polls it.

    Args:
        name: actor name, e.g. ``rollout-0``.
        root: the run folder.
        model_dir: the resolved base model.
    """

    def __init__(self, name: str, root: str, model_dir: str) -> None:
        self.name = name
        self.run_dir = RunDir(Path(root))
        self.config: RunConfig = run_config.load(self.run_dir.config)
        self.model_dir = Path(model_dir)
        alike = self.processes(self.config)
        prepare_process(self.run_dir.logs / f"{name}.log", self.config, alike)
        self._worker: Worker | None = None
        self._engine: Any = None
        # An engine of the same settings, of the run before.
        self._warm_engine: Any = None
        self._state: State = "idle"
        self._failure: Exception | None = None
        self._draining = False
        self._notes: deque[str] = deque(maxlen=_MOST_NOTES)
        self._noted = 0
        self._identity = _identity(self.config)

    def reassign(self, name: str, root: str, model_dir: str) -> None:
        """Begin anew as an actor of another run, with the engine that there is.

        Args:
            as in the constructor.
        """
        engine = self._engine
        Role.__init__(self, name, root, model_dir)
        self._warm_engine = engine
        self.say(f"process {os.getpid()} of another run goes on here")

    @staticmethod
    def processes(config: RunConfig) -> int:
        """How many processes of this role compute at the same time."""
        return 1

    def start(self, index: int, rendezvous: tuple[str, int]) -> None:
        """Start the worker; a second call does nothing.

        Args:
            index: of this member within its group.
            rendezvous: address at which the members of the group meet.
        """
        if self._state == "idle":
            self._state = "starting"
            threading.Thread(target=self._run, args=(index, rendezvous), daemon=True).start()

    def poll(self) -> Report:
        """The state and progress of the worker."""
        worker, failure = self._worker, self._failure
        engine = self._engine.metrics() if self._engine else {}
        return Report(
            self._state,
            *self._identity,
            progress=worker.progress if worker else 0.0,
            milestone=worker.milestone if worker else 0.0,
            waiting=worker.waiting if worker else "",
            cause=first_line(failure) if failure else "",
            # Only what was raised for people to act on fails again in every retry. A plain
            # ValueError may pass: vLLM raises one while a killed engine still holds memory.
            permanent=isinstance(failure, UserError),
            disk_full=is_disk_full(failure),
            metrics={**worker.metrics(), **engine} if worker else None,
            notes=tuple(self._notes),
            noted=self._noted,
        )

    def drain(self) -> None:
        """Take no new work; the worker ends after its current work."""
        self._draining = True
        if self._worker is not None:
            self._worker.drain()

    def queue_client(self) -> QueueClient:
        """The run's queue; this process may have been started for another run."""
        return QueueClient(self.config.cluster.stall_s, ray_cluster.namespace(self.run_dir))

    def say(self, line: str) -> None:
        """Write a line to the role's log, unless the disk is full."""
        with contextlib.suppress(OSError):
            print(time.strftime("%H:%M:%S"), self.name, line, flush=True)

    def note(self, line: str) -> None:
        """Write a line to the role's log, and tell the controller, which records it."""
        self.say(line)
        self._notes.append(line)
        self._noted += 1

    def build(self, index: int, rendezvous: tuple[str, int]) -> Worker:
        """Build the worker; engines start here."""
        raise NotImplementedError

    def _run(self, index: int, rendezvous: tuple[str, int]) -> None:
        began = time.monotonic()
        try:
            worker = self.build(index, rendezvous)
            if self._draining:
                worker.drain()
            self._worker = worker
            self._state = "working"
            self.say(f"ready after {time.monotonic() - began:.1f} s")
            result = worker.run()
            self.say(f"done: {result}")
            self._state = "done"
        except Exception as error:
            self._failure = error
            self._state = "failed"
            with contextlib.suppress(OSError):
                traceback.print_exc()


def _identity(config: RunConfig) -> tuple[int, str, tuple[str, int]]:
    """Process id, node id, and a free address for a rendezvous."""
    import ray

    local = config.cluster.address is None
    host = "127.0.0.1" if local else str(ray.util.get_node_ip_address())
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return os.getpid(), str(ray.get_runtime_context().get_node_id()), (host, port)


def prepare_process(log: Path, config: RunConfig, processes: int = 1) -> None:
    """Redirect all output to the role's log and limit threads; call before heavy imports.

    Args:
        log: of the role.
        config: of the run.
        processes: of this role, which share the cores.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    faulthandler.enable(file=2)
    limit_threads(config, processes)
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
