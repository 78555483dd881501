"""The controller: a Ray actor that supervises a run until it has ended.

One detached actor per run. No state is lost when it dies: roles continue, Ray restarts it, and
it adopts the roles by name. The state of the run is in its folder. It holds a lock there, by
which everybody sees that it lives, however slow it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.config import run_config
from common.errors import first_line
from common.rundir import RunDir
from common.weight_sync.store import WeightStore
from deploy.cluster import ray_cluster
from deploy.cluster.run_lock import CONTROLLER, RunLock
from deploy.control.group import ActorGroup
from deploy.control.journal import Journal
from deploy.control.retry import OutOfPatience, Retry
from deploy.control.role import prepare_process
from deploy.control.supervisor import RunFailed, State, Supervisor
from deploy.observability.run_status import RunStatus

NAME = "controller"
_TICK_S = 0.5


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
        # A predecessor that was cut off and still works would undo what this one does.
        self._lock = RunLock(self._run, CONTROLLER)
        self._lock.acquire()
        before = RunStatus.load(self._run)
        if before is not None and not before.live:
            # The predecessor died after the final status; nothing is left to control.
            _kill_self()
        self._journal = Journal(self._run, self._config, before)
        settings = self._config.cluster
        self._supervisor = Supervisor(
            self._run,
            self._config,
            model_dir,
            self._journal,
            {} if before is None else before.roles,
            lambda spec, restarts: ActorGroup(spec, settings, restarts, self._run),
        )
        # What a kill of this process would not end, a disk that fails for a moment must not.
        self._retry = Retry(settings.stall_s, _TICK_S, self._show_trouble, passes=RunFailed)
        self._trouble = ""
        self._write("starting")
        threading.Thread(target=self._main, name=NAME, daemon=True).start()

    def url(self) -> str:
        """URL of the metrics."""
        return self._journal.url

    def _main(self) -> None:
        try:
            self._retry(self._supervisor.adopt)
            while not (state := self._retry(self._tick)).has_ended:
                time.sleep(_TICK_S)
        except RunFailed as error:
            state = State("failed", str(error), has_ended=True)
        except OutOfPatience as error:
            state = State("failed", f"controller: {error} (cluster.stall_s)", has_ended=True)
        self._end(state)

    def _tick(self) -> State:
        state = self._supervisor.tick()
        if not state.has_ended:
            self._write(state.name, state.cause)
        return state

    def _show_trouble(self, cause: str) -> None:
        """Tell what hinders the controller, or with an empty ``cause`` that it is over."""
        if cause == self._trouble:
            return
        self._trouble = cause
        if not cause:
            self._journal.event("the controller continues")
            return
        self._journal.event(f"controller: {cause}; it tries again")
        with contextlib.suppress(OSError):
            self._write("running", f"controller: {cause}")

    def _write(self, state: str, cause: str = "") -> None:
        self._journal.write(state, cause, self._supervisor.groups)

    def _end(self, state: State) -> None:
        """End all roles, write the report and the final status."""
        with contextlib.suppress(Exception):
            self._supervisor.poll()
        if state.name == "finished":
            # The last that is heard of the roles. The report reads the ledger, which the queue
            # has to itself.
            with contextlib.suppress(OSError):
                self._write("reporting")
            for group in self._supervisor.groups.values():
                group.finish()
            state = self._report(state)
        with contextlib.suppress(OutOfPatience):
            self._retry(lambda: self._write(state.name, state.cause))
        ends = [group.end for group in self._supervisor.groups.values()]
        for clean_up in (*ends, WeightStore(self._run).remove, self._journal.close):
            # Whatever fails here, the processes must go.
            with contextlib.suppress(Exception):
                clean_up()
        pid = None
        with contextlib.suppress(Exception):
            if not ray_cluster.is_lent(self._run):
                pid = ray_cluster.head_pid(self._run)
        if pid is not None:
            # Perhaps no command watches the run; once ended, it must not keep processes.
            os.kill(pid, signal.SIGTERM)
        else:
            _kill_self()

    def _report(self, state: State) -> State:
        """Write the report, which may take minutes; the status goes on meanwhile."""
        from deploy.report.files import write_report

        with ThreadPoolExecutor(1) as thread:
            writing = thread.submit(write_report, [self._run])
            while not writing.done():
                with contextlib.suppress(OSError):
                    self._write("reporting")
                time.sleep(_TICK_S)
        error = writing.exception()
        if error is None:
            return state
        traceback.print_exception(error)
        return State("failed", f"report: {first_line(error)}", has_ended=True)


def _kill_self() -> None:
    """Kill this actor, so that Ray does not restart it."""
    import ray

    ray.kill(ray.get_actor(NAME))
