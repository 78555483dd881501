"""Metrics that are read off the run's folder: scores, disk, the run's state.

They are the same whichever actor made them and whatever was restarted since,
so no actor has to keep them.
"""

from __future__ import annotations

import shutil
from typing import Any

from common.metrics import MetricValues
from common.rundir import RunDir
from deploy.report.summary import evaluations

_FISHER = {
    "mixsd_fisher_alignment": "alignment",
    "mixsd_fisher_displacement": "weighted",
    "mixsd_raw_displacement": "raw",
}


class FolderMetrics:
    """Of one run; reads an evaluation again only when the folder has changed."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._seen: dict[str, int] = {}
        self._scores: MetricValues = {}

    def snapshot(self, state: str) -> MetricValues:
        """Current metrics; ``state`` is the controller's word for where the run stands."""
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


def score_metrics(results: list[dict[str, Any]]) -> MetricValues:
    """Metrics of evaluation results, which are in the order of their steps."""
    if not results:
        return {}
    newest, first = results[-1], results[0]
    metrics: dict[str, Any] = {
        "mixsd_eval_step": newest["step"],
        "mixsd_eval_score": _parts(newest, "value"),
        "mixsd_eval_score_low": _parts(newest, "low"),
        "mixsd_eval_score_high": _parts(newest, "high"),
    }
    if first["step"] == 0:
        metrics["mixsd_eval_base_low"] = _parts(first, "low")
        metrics["mixsd_eval_base_high"] = _parts(first, "high")
    moved = [found for one in results if (found := one["analyses"].get("fisher", {}))]
    for name, key in _FISHER.items():
        if moved and moved[-1].get(key) is not None:
            metrics[name] = moved[-1][key]
    return metrics


def _parts(result: dict[str, Any], key: str) -> dict[str, float]:
    return {suite: score[key] for suite, score in result["scores"].items() if key in score}
