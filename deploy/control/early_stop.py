"""Whether training may end: the selection of the run's checkpoint is final.

Reads only files of the run folder, so that a new controller sees what its
predecessor saw. The selection rule is in ``actors.evaluation.selection``.
"""

from __future__ import annotations

from actors.evaluation.scores import StepResults
from actors.evaluation.selection import Selection
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
        """The first peak of recall, once no later checkpoint can change it; cheap to call again.

        A checkpoint without a result may still be the peak, so only checkpoints before
        the first of those count.
        """
        seen = {path.name for path in self._run.eval.glob("step_*.json")}
        if self._peak is None and seen != self._seen:
            self._seen = seen
            found = chosen(self._config, self._measured())
            self._peak = found if found is not None and found.settled else None
        return self._peak

    def _measured(self) -> list[StepResults]:
        """Results of the steps before the first checkpoint whose recall was not measured yet."""
        results = [one for one in evaluations(self._run) if "recall" in one.scores]
        complete = {checkpoint.step for checkpoint in existing(self._run.checkpoints)}
        open_steps = complete - {one.step for one in results}
        return [one for one in results if not open_steps or one.step < min(open_steps)]
