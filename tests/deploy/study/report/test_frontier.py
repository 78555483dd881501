"""The Pareto front, and scores interpolated at an equal first score."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.study.report.frontier import at_equal_first, at_first, pareto_front

_SHARES = st.integers(0, 20).map(lambda n: n / 20)
_POINTS = st.lists(st.tuples(_SHARES, _SHARES), min_size=1, max_size=8)


def test_a_point_is_on_the_front_unless_another_one_beats_it():
    points = [(0.0, 0.9), (0.5, 0.6), (0.5, 0.7), (0.4, 0.65), (0.9, 0.1)]
    assert pareto_front(points) == [0, 2, 4]


def test_equal_points_are_both_on_the_front():
    assert pareto_front([(0.5, 0.5), (0.5, 0.5)]) == [0, 1]


@given(_POINTS)
def test_what_is_not_on_the_front_is_beaten_by_a_point_that_is(points):
    front = {points[at] for at in pareto_front(points)}
    assert front
    for point in points:
        beaten = any(one != point and one[0] >= point[0] and one[1] >= point[1] for one in front)
        assert beaten == (point not in front)


def test_a_score_is_interpolated_between_two_checkpoints():
    path = [(0.0, 0.8), (0.4, 0.6), (0.8, 0.2)]
    # Half way from 0.4 to 0.8.
    assert at_first(path, 0.6) == pytest.approx(0.4)
    assert at_first(path, 0.4) == pytest.approx(0.6)
    assert at_first(path, 0.9) is None


def test_the_first_time_that_a_level_is_reached_counts():
    path = [(0.0, 0.8), (0.6, 0.5), (0.2, 0.4), (0.6, 0.1)]
    assert at_first(path, 0.6) == pytest.approx(0.5)


@given(_POINTS, _SHARES)
def test_an_interpolated_score_lies_between_those_of_the_path(path, level):
    found = at_first(path, level)
    scores = [score for _, score in path]
    assert (found is None) == (max(first for first, _ in path) < level)
    if found is not None:
        assert min(scores) - 1e-9 <= found <= max(scores) + 1e-9


@given(st.lists(_SHARES, min_size=2, max_size=6, unique=True), _SHARES)
def test_on_a_straight_path_the_score_is_that_of_the_line(firsts, level):
    path = [(first, 1 - first / 2) for first in sorted(firsts)]
    if path[0][0] <= level <= path[-1][0]:
        assert at_first(path, level) == pytest.approx(1 - level / 2)


def test_arms_are_compared_at_the_highest_score_that_all_of_them_reach():
    paths = {"sft": [(0.0, 1.0), (1.0, 0.2)], "mixsd": [(0.0, 1.0), (0.5, 0.9), (0.45, 0.8)]}
    level, scores = at_equal_first(paths)
    assert level == 0.5
    assert scores == pytest.approx({"sft": 0.6, "mixsd": 0.9})


def test_an_arm_that_learns_nothing_is_named():
    paths = {"sft": [(0.1, 1.0), (1.0, 0.2)], "mixsd": [(0.1, 1.0), (0.05, 0.9)]}
    with pytest.raises(ValueError, match=r"mixsd never rises above 0\.100"):
        at_equal_first(paths)
    with pytest.raises(ValueError, match="opsd has no checkpoint"):
        at_equal_first({"opsd": [], **paths})
