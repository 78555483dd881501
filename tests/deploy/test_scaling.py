import pytest

from common.config import AutoscaleSettings, ScheduledCount
from deploy.scaling import Autoscaler, Blocked, scheduled

SETTINGS = AutoscaleSettings(min=1, max=3, target_blocked_fraction=0.1, period_s=10)


def _after_a_period(count, learner, actors):
    scaler = Autoscaler(SETTINGS, now=0)
    scaler.decide(count, Blocked(5, 5), now=0)
    assert scaler.decide(count, Blocked(5 + learner, 5 + actors), now=9) == min(max(count, 1), 3)
    return scaler.decide(count, Blocked(5 + learner, 5 + actors), now=10)


@pytest.mark.parametrize(
    ("count", "learner", "actors", "wanted"),
    [
        (1, 2.0, 0.0, 2),  # the learner waited 20 % of the period
        (1, 1.0, 0.0, 1),  # 10 % is tolerated
        (3, 9.0, 0.0, 3),  # no more than the most
        (2, 0.0, 2.0, 1),  # the actors waited for room
        (1, 0.0, 9.0, 1),  # no fewer than the fewest
        (2, 5.0, 5.0, 2),  # both wait: another count would not help
        (7, 0.0, 0.0, 3),  # a wish outside the bounds is brought back
    ],
)
def test_one_actor_more_or_fewer_by_who_waited(count, learner, actors, wanted):
    assert _after_a_period(count, learner, actors) == wanted


def test_counters_that_begin_again_scale_nothing():
    scaler = Autoscaler(SETTINGS, now=0)
    scaler.decide(2, Blocked(100, 100), now=0)
    assert scaler.decide(2, Blocked(0, 0), now=10) == 2


def test_the_schedule_asks_for_the_latest_count_that_is_due():
    plan = (ScheduledCount(after_s=60, actors=4), ScheduledCount(after_s=10, actors=2))
    assert [scheduled(plan, age) for age in (0, 10, 59, 61)] == [None, 2, 2, 4]
