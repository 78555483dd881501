"""The run's history in a few hundred points, for the status page.

Built from the lines of ``metrics.jsonl``. Counters are made monotone across
restarts, so the rate between any two points is exact, no matter how many points
between them were dropped. Independent of the page and of Prometheus.
"""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from common.metrics import MetricValues

MAX_POINTS = 600
# A long run's file is gigabytes; its end is enough.
_TAIL_BYTES = 16 * 2**20

_COUNTERS = {
    "mixsd_rollout_tokens_total": "tokens_drawn",
    "mixsd_attempts_total": "attempts",
    "mixsd_attempts_verified_total": "verified",
    "mixsd_learner_tokens_total": "tokens_trained",
}
_GAUGES = {
    "mixsd_replay_waiting": "waiting",
    "mixsd_rollout_in_flight": "in_flight",
    "mixsd_learner_loss": "loss",
    "mixsd_learner_step": "step",
}


class History:
    """At most about ``MAX_POINTS`` points, spread evenly over the run's time."""

    def __init__(self) -> None:
        self._points: list[dict[str, float]] = []
        self._newest: dict[str, float] | None = None
        self._stride = 1
        self._num_lines = 0
        self._last: dict[tuple[str, str], float] = {}
        self._totals: defaultdict[str, float] = defaultdict(float)

    def load(self, path: Path) -> None:
        """Add the end of a ``metrics.jsonl``, if there is one."""
        if not path.exists():
            return
        with path.open("rb") as file:
            skipped = max(0, path.stat().st_size - _TAIL_BYTES)
            file.seek(skipped)
            if skipped:
                file.readline()
            for line in file:
                # A killed writer leaves half a line, and the next writer appends to it.
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    self.add(entry["time"], entry["series"])

    def add(self, at: float, series: Mapping[str, MetricValues]) -> None:
        """Add the metrics of all actors at ``at`` (Unix seconds)."""
        gauges: dict[str, float] = {}
        for actor, metrics in series.items():
            # Every learner rank reports the whole batch.
            if actor.startswith("learner-") and actor != "learner-0":
                continue
            for metric, value in metrics.items():
                if isinstance(value, Mapping):
                    continue
                if metric in _COUNTERS:
                    self._count(metric, actor, value)
                elif metric in _GAUGES:
                    name = _GAUGES[metric]
                    gauges[name] = gauges.get(name, 0.0) + value
        self._newest = {"time": at, **self._totals, **gauges}
        if self._num_lines % self._stride == 0:
            self._points.append(self._newest)
        self._num_lines += 1
        if len(self._points) > MAX_POINTS:
            self._points = self._points[::2]
            self._stride *= 2

    def points(self) -> list[dict[str, float]]:
        """The points in order of time, always including the newest."""
        points = list(self._points)
        if self._newest is not None and points[-1] is not self._newest:
            points.append(self._newest)
        return points

    def _count(self, metric: str, actor: str, value: float) -> None:
        last = self._last.get((metric, actor), 0.0)
        # A restarted actor counts from zero again.
        self._totals[_COUNTERS[metric]] += value - last if value >= last else value
        self._last[metric, actor] = value
