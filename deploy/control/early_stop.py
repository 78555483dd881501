"""Whether training may end: the selection of the run's checkpoint is final.

Reads only files of the run folder, so that a new controller sees what its
predecessor saw. The selection rule is in ``actors.evaluation.selection``.
"""

from __future__ import annotations

from actors.evaluation.selection import Selection, measured_in_order
from common.config.run_config import RunConfig
from common.rundir import RunDir
from deploy.report.summary import chosen, evaluations
from learner.checkpoint import existing


class EarlyStop:
    """Watches the recall of one run's checkpoints."""

    def __init__(self, run: RunDir, config: RunConfig) -> None:
        self._run = run
        self._config = config
        self._seen: set[str] = set()
        self._peak: Selection | None = None

    def peak(self) -> Selection | None:
        """The first peak of recall, once no later checkpoint can change it; cheap to call again."""
        seen = {path.name for path in self._run.eval.glob("step_*.json")}
        if self._peak is None and seen != self._seen:
            self._seen = seen
            steps = [checkpoint.step for checkpoint in existing(self._run.checkpoints)]
            found = chosen(self._config, measured_in_order(evaluations(self._run), steps))
            self._peak = found if found is not None and found.settled else None
        return self._peak
