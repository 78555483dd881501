"""Metrics read from the run's folder: scores, disk, the run's state.

They do not depend on which actor produced them or on restarts, so no actor keeps them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

from actors.evaluation.scores import BenchmarkScore, StepResults
from common.metrics import MetricValues
from common.rundir import RunDir
from deploy.report.summary import evaluations


class FolderMetrics:
    """The folder metrics of one run; rereads evaluations only if the folder has changed."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._seen: dict[str, int] = {}
        self._scores: MetricValues = {}

    def metrics(self, state: str) -> MetricValues:
        """Current metrics; ``state`` is the run's state in the controller."""
        disk = shutil.disk_usage(self._run.root)
        return {
            **self._current_scores(),
            "mixsd_run_state": {state: 1.0},
            "mixsd_disk_free_bytes": disk.free,
            "mixsd_disk_size_bytes": disk.total,
        }

    def _current_scores(self) -> MetricValues:
        seen = {path.name: path.stat().st_mtime_ns for path in self._run.eval.glob("step_*.json")}
        if seen != self._seen:
            self._seen, self._scores = seen, score_metrics(evaluations(self._run))
        return self._scores


def score_metrics(results: Sequence[StepResults]) -> MetricValues:
    """Metrics of evaluation results in the order of their steps."""
    if not results:
        return {}
    newest, first = results[-1], results[0]
    metrics: dict[str, float | Mapping[str, float]] = {
        "mixsd_eval_step": newest.step,
        "mixsd_eval_score": {name: score.value for name, score in _measured(newest)},
        "mixsd_eval_score_low": {name: score.low for name, score in _measured(newest)},
        "mixsd_eval_score_high": {name: score.high for name, score in _measured(newest)},
    }
    if first.step == 0:
        metrics["mixsd_eval_base_low"] = {name: score.low for name, score in _measured(first)}
        metrics["mixsd_eval_base_high"] = {name: score.high for name, score in _measured(first)}
    analyzed = [one.analyses for one in results if one.analyses.fisher is not None]
    if analyzed and (fisher := analyzed[-1].alignment) is not None:
        if fisher.alignment is not None:
            metrics["mixsd_fisher_alignment"] = fisher.alignment
        metrics["mixsd_fisher_displacement"] = fisher.weighted
        metrics["mixsd_raw_displacement"] = fisher.raw
    return metrics


def _measured(result: StepResults) -> list[tuple[str, BenchmarkScore]]:
    return [
        (name, score) for name, score in result.scores.items() if isinstance(score, BenchmarkScore)
    ]
