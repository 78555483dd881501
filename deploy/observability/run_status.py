"""The status of a run: ``status.json``, and the view that adds what the folder shows."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from actors.evaluation.scores import Analyses, Scores
from actors.replay.status import QueueStatus
from common.json_model import JsonModel
from common.rundir import RunDir, read_json
from deploy.observability.throughput import EvaluationProgress, Speed

ENDED = ("finished", "failed", "stopped", "interrupted")


class RoleStatus(JsonModel):
    """One role; ``since`` is the Unix time of its ``state``, ``pids`` are by member."""

    state: str
    since: float = 0.0
    restarts: int = 0
    waiting: str = ""
    pids: dict[str, int] = Field(default_factory=dict)


class LearnerStatus(JsonModel):
    """The learner's newest metrics, without their prefix."""

    step: float = 0.0
    loss: float | None = None


class Event(JsonModel):
    """One line of ``events.jsonl``."""

    time: float
    text: str


class RunStatus(JsonModel):
    """What the controller writes to ``status.json``. Times are Unix seconds."""

    run: str = ""
    state: str
    cause: str = ""
    method: str = "unknown"
    began: float = 0.0
    updated: float = 0.0
    pid: int = 0
    metrics_url: str | None = None
    roles: dict[str, RoleStatus] = Field(default_factory=dict)
    queue: QueueStatus | None = None
    learner: LearnerStatus = Field(default_factory=LearnerStatus)
    events: list[Event] = Field(default_factory=list)

    @classmethod
    def load(cls, run: RunDir) -> Self | None:
        """The status of ``run``; None if its controller never wrote one."""
        found = read_json(run.status)
        return None if found is None else cls.from_json(found)

    @property
    def live(self) -> bool:
        """Whether the run has not ended."""
        return self.state not in ENDED


class RunView(RunStatus):
    """The status with scores and analyses by ``step_N``, recent speeds, and the time left."""

    scores: dict[str, Scores]
    analyses: dict[str, Analyses]
    report: str | None = None
    speed: Speed
    seconds_left: float | None = None
    evaluating: dict[str, EvaluationProgress]
