"""Trade-offs between two scores: the Pareto front, and trajectories at an equal first score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

Point = tuple[float, float]


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Numbers of the points that no other one beats: as high in both scores, higher in one."""
    return [
        number
        for number, point in enumerate(points)
        if not any(
            other != point and other[0] >= point[0] and other[1] >= point[1] for other in points
        )
    ]


def at_first(trajectory: Sequence[Point], level: float) -> float | None:
    """The second score where the first one reaches ``level`` for the first time.

    Between two checkpoints both scores are interpolated linearly.

    Args:
        trajectory: (first score, second score) in the order of training.
        level: of the first score.
    """
    if trajectory and trajectory[0][0] >= level:
        return trajectory[0][1]
    for (x0, y0), (x1, y1) in pairwise(trajectory):
        if x0 < level <= x1:
            return y0 + (y1 - y0) * (level - x0) / (x1 - x0)
    return None


def common_level(trajectories: Sequence[Sequence[Point]]) -> float:
    """The highest first score that all trajectories reach; none of them may be empty."""
    return min(max(first for first, _ in one) for one in trajectories)


def at_equal_first(trajectories: Mapping[str, Sequence[Point]]) -> tuple[float, dict[str, float]]:
    """The highest common first score, and each trajectory's second score there.

    Raises:
        ValueError: a trajectory is empty, or one never rises above where it began.
    """
    for name, points in trajectories.items():
        if not points:
            raise ValueError(f"{name} has no checkpoint with both scores")
        if max(first for first, _ in points) <= points[0][0]:
            raise ValueError(f"{name} never rises above {points[0][0]:.3f}, where it began")
    level = common_level(list(trajectories.values()))
    found = {name: at_first(points, level) for name, points in trajectories.items()}
    return level, {name: score for name, score in found.items() if score is not None}
