"""Which checkpoint of a run is its result: one rule for every method.

Choosing each method's best step by hand would favor the method that was searched longest; a
rule that is fixed before and printed after does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from actors.evaluation.scores import BenchmarkScore, StepResults
from common.config.evaluation import EvaluatorSettings, SelectionRule

# The released rule ends at a peak of mixed targets only if recall then falls by 5 points.
_FALL_OF_MIXED = 0.05
# Recall is a share of whole numbers; sums of such shares are not exact.
_EXACT = 1e-9


@dataclass(frozen=True, slots=True)
class Selection:
    """``reason`` is a sentence for the report; ``settled``: no later step can change it."""

    step: int
    reason: str
    settled: bool = False


def choose(
    results: Sequence[StepResults], settings: EvaluatorSettings, mixed: bool
) -> Selection | None:
    """The selected checkpoint by the run's rule; None where nothing was trained and measured.

    Args:
        results: by step, the base's included.
        settings: the evaluator section.
        mixed: whether the run's targets are mixed.
    """
    recall = {
        result.step: score.value
        for result in results
        if isinstance(score := result.scores.get("recall"), BenchmarkScore)
    }
    return select(recall, settings.select, settings.patience, settings.min_delta, mixed)


def measured_in_order(results: Sequence[StepResults], steps: Iterable[int]) -> list[StepResults]:
    """Results before the first of ``steps`` whose recall is open: it may still be the peak."""
    known = [one for one in results if "recall" in one.scores]
    still_open = set(steps) - {one.step for one in known}
    return [one for one in known if not still_open or one.step < min(still_open)]


def select(
    recall: Mapping[int, float],
    rule: SelectionRule = "ours",
    patience: int = 2,
    min_delta: float = 0.0,
    mixed: bool = False,
) -> Selection | None:
    """The chosen step of ``recall`` by step; None where nothing was trained and measured.

    ``ours``   the first step whose recall the next ``patience`` measured steps do not exceed by
               more than ``min_delta``; the best so far where training ended before that. Steps
               that are not above the base model's recall (step 0, or 0 if not measured) are
               before any peak
    ``paper``  as in the released code (``first_peak.py``): the first step, after the first one
               measured, that is above all before it and that the next one does not exceed; for
               ``mixed`` targets, that the next one is at least 0.05 below. Else the last step
    ``best``   the first step of the highest recall
    ``last``   the last step

    The base model (step 0) is never chosen.
    """
    steps = sorted(step for step in recall if step > 0)
    if not steps:
        return None
    if rule == "last":
        return Selection(steps[-1], f"step {steps[-1]} is the last one measured")
    if rule == "best":
        best = max(steps, key=lambda step: (recall[step], -step))
        return Selection(best, f"step {best} has the highest recall, {recall[best]:.3f}")
    if rule == "paper":
        return _released_peak(recall, steps, _FALL_OF_MIXED if mixed else 0.0)
    return _first_peak(recall, steps, patience, min_delta)


def _released_peak(recall: Mapping[int, float], steps: Sequence[int], fall: float) -> Selection:
    top = recall[steps[0]]
    for step, following in pairwise(steps[1:]):
        if recall[step] <= top:
            continue
        top = recall[step]
        if recall[following] <= top - fall + _EXACT:
            by = f" by {fall:g} or more" if fall else ""
            how = f"is below it{by}" if fall else "does not exceed it"
            return Selection(
                step, f"step {step} is the first peak of recall, {top:.3f}: the next {how}", True
            )
    return Selection(steps[-1], f"step {steps[-1]} is the last one measured: recall has no peak")


def _first_peak(
    recall: Mapping[int, float], steps: Sequence[int], patience: int, min_delta: float
) -> Selection:
    peak, top, waited = None, recall.get(0, 0.0), 0
    for step in steps:
        if recall[step] > top + min_delta:
            peak, top, waited = step, recall[step], 0
        elif peak is not None:
            waited += 1
        if waited == patience:
            break
    if peak is None:
        return Selection(
            steps[-1],
            f"step {steps[-1]} is the last one measured: recall never rose above the base's",
        )
    by = f" by more than {min_delta:g}" if min_delta else ""
    found = f"step {peak} is the first peak of recall, {top:.3f}"
    if waited == patience:
        later = "step does" if patience == 1 else f"{patience} steps do"
        return Selection(peak, f"{found}: the next measured {later} not exceed it{by}", True)
    return Selection(
        peak,
        f"{found}, so far; {waited} of the {patience} later steps that would confirm it are "
        f"measured",
    )
