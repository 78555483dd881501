import pytest

from common.config.sections import AutoscaleSettings, RolloutSettings, ScheduledCount
from deploy.control.autoscaler import (
    Autoscaler,
    RolloutScaling,
    WaitedSeconds,
    blocked,
    scheduled,
)
from deploy.control.health import Report

SETTINGS = AutoscaleSettings(min=1, max=3, target_blocked_fraction=0.1, period_s=10)


def _after_a_period(count, learner, actors):
    scaler = Autoscaler(SETTINGS, now=0)
    scaler.decide(count, WaitedSeconds(5, 5), now=0)
    assert scaler.decide(count, WaitedSeconds(5 + learner, 5 + actors), now=9) == min(
        max(count, 1), 3
    )
    return scaler.decide(count, WaitedSeconds(5 + learner, 5 + actors), now=10)


@pytest.mark.parametrize(
    ("count", "learner", "actors", "wanted"),
    [
        (1, 2.0, 0.0, 2),  # the learner waited 20 % of the period
        (1, 1.0, 0.0, 1),  # 10 % is tolerated
        (3, 9.0, 0.0, 3),  # no more than the most
        (2, 0.0, 2.0, 1),  # the actors waited for space
        (1, 0.0, 9.0, 1),  # no fewer than the fewest
        (2, 5.0, 5.0, 2),  # both wait: another count would not help
        (7, 0.0, 0.0, 3),  # a wish outside the bounds is brought back
    ],
)
def test_one_actor_more_or_fewer_by_who_waited(count, learner, actors, wanted):
    assert _after_a_period(count, learner, actors) == wanted


def test_counters_that_begin_again_scale_nothing():
    scaler = Autoscaler(SETTINGS, now=0)
    scaler.decide(2, WaitedSeconds(100, 100), now=0)
    assert scaler.decide(2, WaitedSeconds(0, 0), now=10) == 2


def test_the_schedule_asks_for_the_latest_count_that_is_due():
    plan = (ScheduledCount(after_s=60, actors=4), ScheduledCount(after_s=10, actors=2))
    assert [scheduled(plan, age) for age in (0, 10, 59, 61)] == [None, 2, 2, 4]


def test_actors_that_wait_are_summed_over_what_they_wait_for():
    def report(metric, value):
        return Report("working", 1, "node", ("host", 1), metrics={metric: value})

    waits = {"insert,max_bytes": 2.0, "insert,ratio": 1.5, "sample,batch": 8.0}
    reports = {
        "learner-0": report("mixsd_learner_wait_seconds_total", 7.0),
        "replay": report("mixsd_replay_blocked_seconds_total", waits),
    }
    assert blocked(reports) == WaitedSeconds(learner=7.0, actors=3.5)
    assert blocked({}) == WaitedSeconds(0.0, 0.0)


def test_a_due_entry_of_the_schedule_applies_once():
    settings = RolloutSettings(schedule=[ScheduledCount(after_s=10, actors=3)])
    scaling = RolloutScaling(settings, now=0)
    assert scaling.decide(1, 5, {}, now=5) == 1
    assert scaling.decide(1, 10, {}, now=10) == 3
    # A command may change it later.
    assert scaling.decide(2, 11, {}, now=11) == 2
