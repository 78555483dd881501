"""Whether target NLL and Fisher figures go with forgetting, over the arms of a study."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.study.report.arms import Group
from deploy.study.report.statistics import LEAST_POINTS, Correlation, pearson, spearman

EXPLAINING = ("target NLL", "D_F", "Fisher alignment", "‖Δθ‖²")
ALL_GROUPS = "all, group means subtracted"


@dataclass(frozen=True, slots=True)
class Association:
    """Points (one for each arm: means over its seeds) and their correlation.

    ``points`` are (label, measure, forgetting); ``forgetting`` names how it is measured.
    """

    group: str
    measure: str
    forgetting: str
    points: tuple[tuple[str, float, float], ...]
    pearson: Correlation | None
    spearman: Correlation | None
    least: int = LEAST_POINTS

    @property
    def verdict(self) -> str:
        """One sentence on what was measured, as far as the number of points allows."""
        if len(self.points) < self.least:
            return f"refused: {len(self.points)} of at least {self.least} points"
        if self.pearson is None or self.spearman is None:
            return "undefined: all values are equal"
        judged = [_judge("Pearson", self.pearson), _judge("Spearman", self.spearman)]
        return "; ".join(judged)


def associations(groups: Sequence[Group]) -> list[Association]:
    """One for each group and measure, and over all groups if there are several."""
    found = []
    for measure in EXPLAINING:
        own = [(group, _points(group, measure)) for group in groups]
        own = [(group, points) for group, points in own if points]
        found += [
            _associate(group.label, measure, group.forgetting, points) for group, points in own
        ]
        own = [(group, points) for group, points in own if len(points) > 1]
        if len(own) > 1 and len({group.forgetting for group, _ in own}) == 1:
            pooled = [point for _, points in own for point in _centred(points)]
            found.append(
                _associate(ALL_GROUPS, measure, own[0][0].forgetting, pooled, len(own) - 1)
            )
    return found


def _associate(
    group: str,
    measure: str,
    forgetting: str,
    points: Sequence[tuple[str, float, float]],
    controlled: int = 0,
) -> Association:
    x, y = [point[1] for point in points], [point[2] for point in points]
    return Association(
        group,
        measure,
        forgetting,
        tuple(points),
        pearson(x, y, controlled),
        spearman(x, y, controlled),
        LEAST_POINTS + controlled,
    )


def _points(group: Group, measure: str) -> list[tuple[str, float, float]]:
    found = []
    for arm in group.trained:
        x, y = arm.estimate(measure), arm.estimate(group.forgetting)
        if x is not None and y is not None:
            found.append((arm.label, x.value, y.value))
    return found


def _centred(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    mean_x = statistics.fmean(x for _, x, _ in points)
    mean_y = statistics.fmean(y for _, _, y in points)
    return [(label, x - mean_x, y - mean_y) for label, x, y in points]


def _judge(name: str, of: Correlation) -> str:
    if of.low is None or of.high is None:
        return f"{name}: exactly {of.value:+.0f}, so without an interval"
    if of.low <= 0 <= of.high:
        return f"{name}: no correlation shown (the interval contains 0)"
    return f"{name}: {'positive' if of.value > 0 else 'negative'} correlation"
