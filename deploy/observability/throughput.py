"""How fast a run progresses, from the ends of the files that it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from common.rundir import RunDir, read_jsonl

# Half a minute of a young run, a few minutes of one that has run for days.
_WINDOW_LINES = 60
_WINDOW_STEPS = 11
_FEWEST_STEPS = 3


@dataclass(frozen=True, slots=True)
class Speed:
    """Recent speeds; None if there was no progress yet.

    Units: tokens per second; seconds from the end of a step to the end of the next, waits
    included: the median, so that a single slow one does not count. ``repeat_seconds`` is that of
    steps that wait for no new targets.
    """

    rollout_tokens: float | None
    learner_tokens: float | None
    step_seconds: float | None
    repeat_seconds: float | None = None


def speed(run: RunDir) -> Speed:
    """Speeds over the last steps and the last lines of metrics."""
    steps = read_jsonl(run.steps, _WINDOW_STEPS)
    seconds = sum(line["seconds"] for line in steps)
    return Speed(
        rollout_tokens=_rollout_tokens(read_jsonl(run.metrics, _WINDOW_LINES)),
        learner_tokens=sum(line["tokens"] for line in steps) / seconds if steps else None,
        step_seconds=_median(steps, lambda step: True),
        repeat_seconds=_median(steps, _repeats),
    )


def _median(steps: list[dict[str, Any]], counts: Callable[[dict[str, Any]], bool]) -> float | None:
    """Time from the step before to each step that counts."""
    taken = [after["time"] - before["time"] for before, after in pairwise(steps) if counts(after)]
    return median(taken) if len(taken) >= _FEWEST_STEPS else None


def _repeats(step: dict[str, Any]) -> bool:
    return all(epoch > 0 for _, _, epoch in step["exposures"])


@dataclass(frozen=True, slots=True)
class EvaluationProgress:
    """An evaluator in the middle of a benchmark; ``seconds_left`` None until items end."""

    done: int
    total: int
    seconds_left: float | None


def evaluation_progress(run: RunDir) -> dict[str, EvaluationProgress]:
    """The progress of each evaluator that is in the middle of a benchmark, by actor."""
    lines = read_jsonl(run.metrics, _WINDOW_LINES)
    found = {}
    for actor in lines[-1]["series"] if lines else ():
        counts = [
            (line["time"], series["mixsd_eval_items_done"], series["mixsd_eval_items"])
            for line in lines
            if "mixsd_eval_items" in (series := line["series"].get(actor, {}))
        ]
        if not counts or counts[-1][1] >= counts[-1][2]:
            continue
        now, done, total = counts[-1]
        began, before = now, done
        # Go back to where this benchmark began: before it, the count was higher or the total
        # different.
        for time, count, of in reversed(counts):
            if count > before or of != total:
                break
            began, before = time, count
        left = (now - began) / (done - before) * (total - done) if done > before else None
        found[actor] = EvaluationProgress(int(done), int(total), left)
    return found


def _rollout_tokens(lines: list[dict[str, Any]]) -> float | None:
    if len(lines) < 2:
        return None
    first, last = lines[0], lines[-1]
    drawn = 0.0
    for actor, series in last["series"].items():
        now = series.get("mixsd_rollout_tokens_total", 0.0)
        before = first["series"].get(actor, {}).get("mixsd_rollout_tokens_total", 0.0)
        # A restarted actor counts from zero again.
        drawn += now - before if now >= before else now
    return drawn / (last["time"] - first["time"]) if drawn else None
