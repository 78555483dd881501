"""Which checkpoint of a run is its result: one rule for every method.

Choosing each method's best step by hand would favor the method that was searched longest; a
rule that is fixed before and printed after does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Rule = Literal["first_peak", "last", "best"]


@dataclass(frozen=True, slots=True)
class Selection:
    """``reason`` is a sentence for the report; ``settled``: no later step can change it."""

    step: int
    reason: str
    settled: bool = False


def select(
    recall: Mapping[int, float],
    rule: Rule = "first_peak",
    patience: int = 2,
    min_delta: float = 0.0,
) -> Selection | None:
    """The chosen step of ``recall`` by step; None where nothing was trained and measured.

    ``first_peak``  the first step whose recall the next ``patience`` measured steps
                    do not exceed by more than ``min_delta``; the best so far where
                    training ended before that. Steps that are not above the base
                    model's recall (step 0, or 0 if not measured) are before any peak
    ``best``        the first step of the highest recall
    ``last``        the last step

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
