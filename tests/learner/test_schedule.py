import pytest

from common.config.learner import LearnerSettings
from learner.schedule import learning_rate


def rates(steps, total, **settings):
    chosen = LearnerSettings(lr=0.8, **settings)
    return pytest.approx([learning_rate(chosen, step, total) for step in steps], abs=1e-12)


def test_warm_up_rises_linearly_from_the_first_step():
    assert rates([1, 2, 4, 5], 100, warmup_steps=4) == [0.2, 0.4, 0.8, 0.8]


def test_a_constant_rate_does_not_change():
    assert rates([1, 50, 100], 100) == [0.8, 0.8, 0.8]


def test_a_linear_rate_reaches_zero_at_the_last_step():
    assert rates([2, 4, 6, 10], 10, schedule="linear", warmup_steps=2) == [0.8, 0.6, 0.4, 0.0]


def test_a_cosine_rate_is_half_way_down_in_the_middle():
    # A third of the way: 0.8 · ½ · (1 + cos 60°) = 0.6.
    assert rates([4, 6, 12], 12, schedule="cosine") == [0.6, 0.4, 0.0]


def test_wsd_holds_the_peak_and_falls_linearly_in_its_last_part():
    chosen = {"schedule": "wsd", "decay_share": 0.2}
    assert rates([1, 80, 90, 95, 100, 101], 100, **chosen) == [0.8, 0.8, 0.4, 0.2, 0.0, 0.0]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
def test_decay_holds_the_peak_while_the_total_is_unknown(schedule):
    assert rates([1, 1000], None, schedule=schedule) == [0.8, 0.8]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_steps_after_the_last_stay_at_zero(schedule):
    assert rates([11, 20], 10, schedule=schedule) == [0.0, 0.0]


def test_a_warm_up_as_long_as_the_run_ends_at_the_peak():
    assert rates([5, 10], 10, schedule="linear", warmup_steps=10) == [0.4, 0.8]
