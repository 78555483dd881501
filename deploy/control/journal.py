"""Status, metrics and events of a run, for people and programs."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Mapping

from common.config.run_config import RunConfig
from common.metrics import MetricValues
from common.rundir import RunDir, append_jsonl, read_jsonl, write_atomic
from deploy.cluster import ray_cluster
from deploy.control.group import ActorGroup
from deploy.control.role_kind import FIRST_LEARNER, REPLAY_ACTOR
from deploy.observability.endpoint import Endpoint
from deploy.observability.folder_metrics import FolderMetrics
from deploy.observability.prometheus import targets
from deploy.observability.run_status import (
    Event,
    LearnerStatus,
    RoleStatus,
    RunStatus,
)

# Some 3,500 lines while a run gets ten times as old; every sample in the first twelve minutes.
_LINES_PER_AGE = 1500.0
# A new controller hears the notes of its predecessor's roles again.
_NOTED_LINES = 200


class Journal:
    """Writes ``status.json``, ``metrics.jsonl`` and ``events.jsonl`` and serves the metrics.

    Args:
        run: the run folder.
        config: of the run.
        before: the status that a predecessor left; its parts are kept until they are known anew.
    """

    def __init__(self, run: RunDir, config: RunConfig, before: RunStatus | None) -> None:
        before = before or RunStatus(run=run.name, state="starting")
        self._run = run
        self._method = config.method.name
        self._metrics = config.metrics
        self._folder = FolderMetrics(run)
        self._endpoint = Endpoint(run, config.metrics, before.metrics_url)
        targets.announce(
            run, config.metrics, self._endpoint.address, ray_cluster.metrics_addresses()
        )
        self._roles = before.roles
        self._queue = before.queue
        self._learner = before.learner
        self.began: float = before.began or time.time()
        self._metrics_due = 0.0

    @property
    def url(self) -> str:
        """URL of the metrics."""
        return self._endpoint.url

    def close(self) -> None:
        """Stop serving, and remove the run from the list of live runs."""
        targets.withdraw(self._run, self._metrics)
        self._endpoint.close()

    def event(self, text: str) -> None:
        """Record an event."""
        with contextlib.suppress(OSError):
            print(time.strftime("%H:%M:%S"), text, flush=True)
            append_jsonl(self._run.events, {"time": time.time(), "text": text})

    def note(self, text: str) -> None:
        """Record what a role tells, unless a controller before this one has done so."""
        if all(line["text"] != text for line in read_jsonl(self._run.events, _NOTED_LINES)):
            self.event(text)

    def write(self, state: str, cause: str, groups: Mapping[str, ActorGroup]) -> None:
        """Write the status and the metrics of every role.

        On a full disk it writes nothing; readers check the disk themselves.
        """
        try:
            self._write(state, cause, groups)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def _write(self, state: str, cause: str, groups: Mapping[str, ActorGroup]) -> None:
        reports = {n: report for g in groups.values() for n, report in g.reports.items()}
        replay, learner = reports.get(REPLAY_ACTOR), reports.get(FIRST_LEARNER)
        if groups:
            self._roles = {
                name: _describe(group, self._roles.get(name)) for name, group in groups.items()
            }
        if replay is not None and replay.queue is not None:
            self._queue = replay.queue
        if learner is not None and learner.metrics:
            self._learner = LearnerStatus.from_json(
                {
                    name.removeprefix("mixsd_learner_"): value
                    for name, value in learner.metrics.items()
                }
            )
        self._write_metrics(state, groups)
        status = RunStatus(
            run=self._run.name,
            state=state,
            cause=cause,
            method=self._method,
            began=self.began,
            updated=time.time(),
            pid=os.getpid(),
            metrics_url=self.url,
            roles=self._roles,
            queue=self._queue,
            learner=self._learner,
            events=[Event.from_json(line) for line in read_jsonl(self._run.events, 20)],
        )
        write_atomic(self._run.status, json.dumps(status.to_json(), indent=1))

    def _write_metrics(self, state: str, groups: Mapping[str, ActorGroup]) -> None:
        series: dict[str, MetricValues] = {}
        for group in groups.values():
            metrics, reports = group.metrics, group.reports
            for name in group.spec.members:
                series[name] = {
                    **metrics.get(name, {}),
                    "mixsd_actor_up": float(name in reports),
                    "mixsd_actor_restarts_total": float(group.budget.restarts),
                }
        series["controller"] = self._folder.metrics(state)
        self._endpoint.show(series)
        now = time.time()
        if now >= self._metrics_due or state != "running":
            append_jsonl(self._run.metrics, {"time": now, "series": series})
            self._metrics_due = now + metrics_pause(now - self.began)


def metrics_pause(age: float) -> float:
    """Seconds to the next line of ``metrics.jsonl`` in a run that is ``age`` seconds old.

    Pauses that grow with the age bound the file's size by the logarithm of the age
    and keep every span of time about equally detailed.
    """
    return age / _LINES_PER_AGE


def _describe(group: ActorGroup, before: RoleStatus | None) -> RoleStatus:
    since = time.time() if before is None or before.state != group.state else before.since
    return RoleStatus(
        state=group.state,
        since=since,
        restarts=group.budget.restarts,
        waiting=next((report.waiting for report in group.reports.values()), ""),
        pids={member: report.pid for member, report in group.reports.items()},
    )
