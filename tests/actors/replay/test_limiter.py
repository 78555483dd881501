from hypothesis import given
from hypothesis import strategies as st

from actors.replay.limiter import UNBOUNDED, BlockedTime, Level, Wait, max_new_work, may_sample
from common.config.sections import ReplaySettings


def settings(**changes):
    return ReplaySettings(**{"tolerance": 0, **changes})


def level(inserted=0, leased=0, sampled=0, ready=0, waiting_bytes=0, settled=False):
    return Level(inserted, leased, sampled, ready, waiting_bytes, settled)


def reason(answer):
    return answer.reason if isinstance(answer, Wait) else None


def test_the_learner_waits_for_a_batch_then_for_min_size():
    assert reason(may_sample(settings(), level(inserted=3, ready=3), 4)) == "batch"
    wait = may_sample(settings(min_size=5), level(inserted=4, ready=4), 4)
    assert wait == Wait("min_size", "4 rollouts, fewer than replay.min_size=5")
    assert may_sample(settings(min_size=5), level(inserted=5, ready=5), 4) is None


def test_the_learner_is_held_at_the_ratio_and_its_tolerance():
    # 0.5 samples a rollout: 20 rollouts carry 10 samples, and 3 more are tolerated.
    held = settings(samples_per_insert=0.5, tolerance=3)
    assert may_sample(held, level(inserted=20, sampled=9, ready=11), 4) is None
    assert reason(may_sample(held, level(inserted=20, sampled=10, ready=10), 4)) == "ratio"


def test_actors_are_held_at_the_ratio_with_what_is_on_lease():
    # The learner needs a batch of 4 to begin; from there 1 sample a rollout.
    held = settings(samples_per_insert=1, tolerance=6)
    assert max_new_work(held, level(), 4) == 10
    assert max_new_work(held, level(leased=8), 4) == 2
    assert reason(max_new_work(held, level(inserted=4, leased=6, ready=4), 4)) == "ratio"
    assert max_new_work(held, level(inserted=10, sampled=4, ready=6), 4) == 4


def test_actors_are_held_by_a_full_queue_once_the_learner_can_go_on():
    full = settings(max_bytes=2**16)
    assert max_new_work(full, level(inserted=3, ready=3, waiting_bytes=2**16), 4) == UNBOUNDED
    wait = max_new_work(full, level(inserted=4, ready=4, waiting_bytes=2**16), 4)
    assert wait == Wait("max_bytes", "65536 bytes wait for the learner (replay.max_bytes=65536)")


def test_a_full_queue_lifts_the_learners_other_bounds():
    bounds = settings(max_bytes=2**16, min_size=100, samples_per_insert=0.01)
    assert may_sample(bounds, level(inserted=4, ready=4, waiting_bytes=2**16), 4) is None
    assert reason(may_sample(bounds, level(inserted=4, ready=4), 4)) == "min_size"


def test_weights_draw_no_more_than_comes_in_time_unless_the_learner_needs_it():
    assert max_new_work(settings(), level(), 4, useful=4) == 4
    assert max_new_work(settings(), level(leased=3), 4, useful=1) == 1
    wait = max_new_work(settings(max_lag=0), level(leased=1, ready=3, inserted=3), 4, useful=0)
    assert wait == Wait(
        "lag",
        "4 rollouts, with those on lease, are as many as the learner can train before they are "
        "older than replay.max_lag=0",
    )
    # Held up behind a rollout that is not there, or by a bound above a batch.
    assert max_new_work(settings(), level(inserted=4, ready=0), 4, useful=0) == 4
    assert max_new_work(settings(min_size=6), level(inserted=4, ready=4), 4, useful=0) == 1


def test_a_learner_that_is_ahead_lets_actors_lease_a_batch():
    starved = settings(samples_per_insert=1, min_size=1)
    assert max_new_work(starved, level(inserted=8, sampled=8), 4) == 4


def test_once_all_is_settled_the_learner_is_free():
    bounds = settings(min_size=10**6, samples_per_insert=1e-3)
    assert may_sample(bounds, level(inserted=2, sampled=50, ready=0, settled=True), 4) is None


SETTINGS = st.builds(
    ReplaySettings,
    min_size=st.integers(1, 10**6),
    max_bytes=st.integers(2**16, 2**31),
    samples_per_insert=st.none() | st.floats(1e-6, 1e6),
    tolerance=st.floats(0, 1e9),
)


@st.composite
def levels(draw):
    inserted = draw(st.integers(0, 10**6))
    return Level(
        inserted=inserted,
        leased=draw(st.integers(0, 10**4)),
        sampled=draw(st.integers(0, 10**8)),
        ready=draw(st.integers(0, inserted)),
        waiting_bytes=draw(st.integers(0, 2**32)),
        settled=draw(st.booleans()),
    )


@given(SETTINGS, levels(), st.integers(1, 10**4))
def test_one_side_can_always_go_on(settings, now, batch):
    free = max_new_work(settings, now, batch)
    if isinstance(free, int):
        assert free >= 1
    elif now.leased == 0:
        assert may_sample(settings, now, batch) is None
    else:
        # Leases end: as rollouts, or by coming back. Either way one side goes on.
        arrived = Level(
            now.inserted + now.leased,
            0,
            now.sampled,
            now.ready + now.leased,
            now.waiting_bytes,
            now.settled,
        )
        assert may_sample(settings, arrived, batch) is None


def test_waiting_is_summed_by_side_and_reason_up_to_now():
    blocked = BlockedTime()
    batch, ratio = Wait("batch", ""), Wait("ratio", "")
    blocked.note("sample", batch, 10)
    blocked.note("sample", batch, 12)
    blocked.note("insert", ratio, 12)
    assert list(blocked.current()) == [("sample", batch, 10), ("insert", ratio, 12)]
    blocked.note("sample", ratio, 13)
    blocked.note("insert", None, 17)
    assert list(blocked.current()) == [("sample", ratio, 13)]
    assert blocked.totals(20) == {
        ("sample", "batch"): 3,
        ("sample", "ratio"): 7,
        ("insert", "ratio"): 5,
    }
    blocked.note("sample", None, 20)
    assert blocked.totals(99)["sample", "ratio"] == 7
