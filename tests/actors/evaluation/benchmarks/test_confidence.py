"""Intervals on numbers worked by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.evaluation.benchmarks.confidence import mean_share, proportion


def test_wilson_of_none_and_all_of_ten() -> None:
    none, every = proportion(0, 10), proportion(10, 10)
    # z² / (n + z²) with z² = 3.8415.
    assert (none.low, round(none.high, 4)) == (0.0, 0.2775)
    assert (round(every.low, 4), every.high) == (0.7225, 1.0)


@given(st.integers(1, 500), st.data())
def test_the_interval_holds_the_share(trials: int, data: st.DataObject) -> None:
    score = proportion(data.draw(st.integers(0, trials)), trials)
    assert 0 <= score.low <= score.value <= score.high <= 1


def test_the_bootstrap_draws_items_and_repeats_itself() -> None:
    shares = [0.0] * 50 + [1.0] * 50
    score = mean_share(shares)
    assert score == mean_share(shares)
    assert (score.value, score.n) == (0.5, 100)
    # Normal approximation: ± 1.96 · 0.05.
    assert abs(score.low - 0.402) < 0.02
    assert abs(score.high - 0.598) < 0.02
    assert mean_share([0.5] * 7).low == mean_share([0.5] * 7).high == 0.5


def test_none_right_in_many_samples_still_leaves_doubt() -> None:
    assert mean_share([0.0, 0.0, 0.0]) == proportion(0, 3)
    assert mean_share([1.0, 1.0]) == proportion(2, 2)
