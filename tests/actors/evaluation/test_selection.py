"""The rule that picks a run's result."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.evaluation.selection import select
from common.config.evaluation import SelectionRule


@pytest.mark.parametrize(
    ("recall", "patience", "min_delta", "step"),
    [
        ([0.1, 0.5, 0.9], 2, 0.0, 3),
        ([0.1, 0.5, 0.4, 0.3, 0.9], 2, 0.0, 2),
        ([0.1, 0.5, 0.4, 0.6, 0.5, 0.6], 2, 0.0, 4),
        ([0.1, 0.5, 0.4, 0.6], 1, 0.0, 2),
        ([0.5, 0.5, 0.5, 0.9], 2, 0.0, 1),
        ([0.5, 0.51, 0.52, 0.53], 3, 0.05, 1),
        ([0.5, 0.51, 0.56, 0.57], 3, 0.05, 3),
        ([0.0, 0.0, 0.0, 0.2, 0.9, 0.9, 0.9], 2, 0.0, 5),
        ([0.02, 0.03, 0.02, 0.9, 0.8, 0.8], 2, 0.05, 4),
        ([0.9, 0.8], 5, 0.0, 1),
    ],
)
def test_the_first_peak_is_where_recall_stops_rising(
    recall: list[float], patience: int, min_delta: float, step: int
) -> None:
    by_step = dict(enumerate(recall, start=1))
    chosen = select(by_step, "ours", patience, min_delta)
    assert chosen is not None
    assert chosen.step == step
    assert f"step {step} " in chosen.reason


def test_the_reason_says_whether_the_peak_is_settled() -> None:
    settled = select({2: 0.5, 4: 0.4, 6: 0.5, 8: 0.9})
    assert settled is not None
    assert settled.reason == (
        "step 2 is the first peak of recall, 0.500: the next measured 2 steps do not exceed it"
    )
    open_end = select({2: 0.5, 4: 0.6, 6: 0.6})
    assert open_end is not None
    assert open_end.reason.endswith(
        "so far; 1 of the 2 later steps that would confirm it are measured"
    )


def test_the_base_is_never_chosen() -> None:
    assert select({0: 1.0}) is None
    assert select({}) is None
    chosen = select({0: 1.0, 3: 0.1}, "best")
    assert chosen is not None
    assert chosen.step == 3


def test_a_recall_that_never_rises_has_no_peak() -> None:
    for recall in ({1: 0.0, 2: 0.0, 3: 0.0}, {0: 0.3, 1: 0.2, 2: 0.3, 3: 0.1}):
        chosen = select(recall)
        assert chosen is not None
        assert chosen.step == 3
        assert chosen.reason == (
            "step 3 is the last one measured: recall never rose above the base's"
        )


@pytest.mark.parametrize(
    ("recall", "mixed", "step"),
    [
        # The first value is never a peak, and the last one only for want of another.
        ([0.9, 0.5, 0.4], False, 3),
        ([0.1, 0.5, 0.5, 0.9], False, 2),
        ([0.1, 0.5, 0.6, 0.9], False, 4),
        # Mixed targets: 0.46 and then 0.60 are not 0.05 below the peak before, 0.55 is below 0.60.
        ([0.1, 0.5, 0.46, 0.60, 0.55, 0.9], True, 4),
        ([0.1, 0.5, 0.46, 0.60, 0.55, 0.9], False, 2),
        ([0.1, 0.5], False, 2),
        ([0.7], False, 1),
    ],
)
def test_the_released_rule_takes_the_first_step_that_the_next_does_not_exceed(
    recall: list[float], mixed: bool, step: int
) -> None:
    # The base's recall plays no part in it.
    chosen = select({0: 0.95, **dict(enumerate(recall, start=1))}, "paper", mixed=mixed)
    assert chosen is not None
    assert chosen.step == step
    assert chosen.settled == ("first peak" in chosen.reason)


def test_last_and_best_are_what_they_say() -> None:
    recall = {1: 0.2, 2: 0.9, 3: 0.9, 4: 0.1}
    last, best = select(recall, "last"), select(recall, "best")
    assert last is not None
    assert best is not None
    assert (last.step, best.step) == (4, 2)


@given(st.dictionaries(st.integers(1, 50), st.floats(0, 1), min_size=1), st.integers(1, 5))
def test_a_first_peak_is_never_beaten_by_an_earlier_step(
    recall: dict[int, float], patience: int
) -> None:
    chosen = select(recall, "ours", patience)
    assert chosen is not None
    if "peak" not in chosen.reason:
        return
    assert all(recall[step] < recall[chosen.step] for step in recall if step < chosen.step)
    # What is chosen does not depend on steps after the decision.
    until = sorted(recall)[: sorted(recall).index(chosen.step) + patience + 1]
    assert select({step: recall[step] for step in until}, "ours", patience).step == chosen.step


def test_only_a_first_peak_that_was_waited_for_is_settled() -> None:
    recall = {0: 0.0, 2: 0.5, 4: 0.4, 6: 0.5}
    chosen = [select(recall, rule, patience) for rule, patience in SETTLING]
    assert [one.settled for one in chosen if one is not None] == [True, False, False, False]


SETTLING: list[tuple[SelectionRule, int]] = [
    ("ours", 2),
    ("ours", 3),
    ("best", 2),
    ("last", 2),
]
