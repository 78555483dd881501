import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.records import PackedRollout, Rollout
from tests.actors.replay.queues import insert, open_queue

# The generation of a queue's first learner.
LEARNER = 1


def make(path, facts=8, *, epochs=2, batch=4, max_steps=None, train=True, **replay):
    """Every fact has one draw, of the student if ``max_lag`` is given."""
    is_students = replay.get("max_lag") is not None
    queue, _ = open_queue(
        path,
        facts,
        train=train,
        method={"name": "opsd", "samples": 1} if is_students else {"name": "mixsd"},
        replay={"tolerance": 0, **replay},
        learner={"epochs": epochs, "batch_size": batch, "max_steps": max_steps},
    )
    return queue


def packed(fact_id, version=0, tokens=2, logprobs=()):
    ids = [1] * tokens
    rollout = Rollout(
        fact_id, 0, 0, [1], ids, [], list(logprobs), [], [], None, 0, "", True, version
    )
    return PackedRollout.of(rollout, 1)


def test_work_goes_out_comes_back_and_is_over(tmp_path):
    queue = make(tmp_path)
    grant = queue.lease("x", 5, [])
    assert insert(queue, grant.work) == [True] * 5
    rest = queue.lease("x", 5, [])
    assert [work.fact_id for work in rest.work] == ["5", "6", "7"]
    insert(queue, rest.work[:2])
    queue.exhaust("7", 0, "wrong", 3)
    assert queue.lease("x", 5, []) == queue.lease("y", 0, [])
    assert queue.lease("x", 5, []).over
    steps = [queue.sample(LEARNER, step) for step in (1, 2, 3, 4, 5)]
    assert [len(sampled.items) for sampled in steps] == [4, 4, 4, 2, 0]
    assert [(sampled.total, sampled.left) for sampled in steps[:4]] == [
        *((14, 10), (14, 6), (14, 2), (14, 0))
    ]


def test_without_a_learner_no_actor_waits_for_it_and_all_is_over_once_drawn(tmp_path):
    limits = {"max_bytes": 2**16, "samples_per_insert": 1.0, "min_size": 1}
    queue = make(tmp_path, 8, train=False, batch=2, **limits)
    grant = queue.lease("x", 8, [])
    assert len(grant.work) == 8
    # More bytes than a queue before a learner may hold.
    items = [packed(work.fact_id, tokens=30_000) for work in grant.work]
    assert queue.insert_many(items[:7]) == [True] * 7
    assert queue.release("x") == 1
    assert not queue.status().settled
    (last,) = queue.lease("x", 8, []).work
    queue.insert_many([packed(last.fact_id)])
    assert queue.lease("x", 8, []).over
    assert (queue.status().settled, queue.status().exposures_expected) == (True, 0)


def test_training_is_over_after_max_steps_though_later_epochs_are_left(tmp_path):
    queue = make(tmp_path, 8, epochs=30, batch=4, max_steps=3)
    insert(queue, queue.lease("x", 8, []).work)
    status = queue.status()
    assert (status.exposures_expected, status.total_steps) == (12, 3)
    steps = [queue.sample(LEARNER, step) for step in (1, 2, 3, 4)]
    assert [(len(one.items), one.total, one.left) for one in steps] == [
        *((4, 12, 8), (4, 12, 4), (4, 12, 0), (0, 0, 0))
    ]
    queue.commit(LEARNER, 3)
    status = queue.status()
    assert (status.exposures_trained, status.exposures_expected) == (12, 12)
    assert queue.sample(LEARNER, 4) == (True, [], 12, 0)


def test_a_learner_that_resumes_takes_the_steps_that_are_left_of_max_steps(tmp_path):
    queue = make(tmp_path, 8, epochs=30, batch=4, max_steps=3)
    insert(queue, queue.lease("x", 8, []).work)
    first = [queue.sample(LEARNER, step).items for step in (1, 2, 3)]
    queue.commit(LEARNER, 1)
    again = queue.register("another")
    queue.restore(again, 1)
    assert [queue.sample(again, step).items for step in (2, 3)] == first[1:]
    assert queue.sample(again, 4).items == []


def test_max_steps_beyond_all_epochs_change_nothing(tmp_path):
    queue = make(tmp_path, 8, epochs=2, batch=4, max_steps=99)
    insert(queue, queue.lease("x", 8, []).work)
    assert queue.status().total_steps == 4
    assert [len(queue.sample(LEARNER, step).items) for step in range(1, 6)] == [4, 4, 4, 4, 0]


def test_no_more_is_drawn_than_max_steps_can_train(tmp_path):
    # 2 steps of 4 need 8 of 20 facts. Neither rate nor least size holds up the last batch.
    queue = make(tmp_path, 20, max_steps=2, samples_per_insert=0.5, min_size=9, tolerance=1)
    held = queue.lease("x", 9, []).work
    insert(queue, held[:7])
    assert not queue.sample(LEARNER, 1).ready
    assert (queue.status().settled, queue.lease("y", 1, []).over) == (False, False)
    insert(queue, held[7:8])
    assert queue.status().settled
    assert queue.lease("y", 1, []).over
    assert [len(queue.sample(LEARNER, step).items) for step in (1, 2, 3)] == [4, 4, 0]
    assert queue.lease("y", 1, []).over


def test_in_the_order_of_work_a_fact_that_is_late_is_waited_for(tmp_path):
    queue = make(tmp_path, 20, max_steps=2, first_epoch="work")
    held = queue.lease("x", 12, []).work
    insert(queue, [held[0], *held[2:]])
    # Eleven are there, but the second fact comes before most of them.
    assert not queue.status().settled
    insert(queue, [held[1]])
    assert queue.lease("y", 1, []).over


def test_without_a_learner_max_steps_limit_no_drawing(tmp_path):
    queue = make(tmp_path, 8, max_steps=1, train=False)
    insert(queue, queue.lease("x", 5, []).work)
    assert len(queue.lease("x", 5, []).work) == 3


def test_a_bad_rollout_among_good_ones_is_quarantined_alone(tmp_path):
    queue = make(tmp_path, facts=5)
    nan = packed("1", logprobs=[-1.0, math.nan])
    junk = PackedRollout("2", 0, b"junk", 1)
    swapped = PackedRollout("3", 0, packed("4").payload, 1)
    assert queue.insert_many([packed("0"), nan, junk, swapped, packed("4")]) == [
        *(True, False, False, False, True)
    ]
    status = queue.status()
    assert (status.accepted, status.quarantined, status.settled) == (2, 3, True)
    assert [(fact, reason) for fact, _, reason in queue._ledger.lost()] == [
        ("1", "its rollout is invalid: logprobs: finite floats are expected"),
        ("2", "its rollout is invalid: payload is not msgpack: unpack(b) received extra data."),
        ("3", "its rollout is invalid: a rollout of fact '4', draw 0, came for fact '3', draw 0"),
    ]
    # A repeated call, or a good rollout that comes later, changes nothing.
    assert queue.insert_many([nan, packed("1")]) == [False, False]
    assert queue.status().quarantined == 3


def test_status_and_metrics_say_who_waits_why_and_for_how_long(tmp_path):
    queue = make(tmp_path, samples_per_insert=1)
    assert not queue.sample(LEARNER, 1)[0]
    work = queue.lease("x", 9, []).work
    assert len(work) == 4
    assert queue.lease("y", 9, []).work == []
    status = queue.status()
    assert [status.blocked[side].reason for side in ("sample", "insert")] == ["batch", "ratio"]
    assert status.waiting["insert"] == (
        "0 samples of 4 rollouts (with those on lease) are fewer than "
        "replay.samples_per_insert=1 requires, for 0 s"
    )
    seconds = queue.metrics()["mixsd_replay_blocked_seconds_total"]
    assert set(seconds) == {"sample,batch", "insert,ratio"}
    assert all(value > 0 for value in seconds.values())
    insert(queue, work)
    queue.sample(LEARNER, 1)
    assert len(queue.lease("y", 9, []).work) == 4
    assert queue.status().waiting == {}


def test_an_actor_that_is_full_does_not_count_as_waiting(tmp_path):
    queue = make(tmp_path, samples_per_insert=1)
    work = queue.lease("x", 9, []).work
    queue.lease("x", 0, [item.id for item in work])
    assert queue.status().waiting == {}
    assert queue.status().leased == 4


def test_values_change_on_a_live_queue(tmp_path):
    queue = make(tmp_path, min_size=6)
    insert(queue, queue.lease("x", 5, []).work)
    assert not queue.sample(LEARNER, 1)[0]
    configure(queue, min_size=5)
    assert queue.sample(LEARNER, 1)[0]
    # A step that was given out is the same under any limits.
    configure(queue, min_size=8)
    assert queue.sample(LEARNER, 1)[0]


def configure(queue, **changes):
    queue.configure(queue.settings.model_copy(update=changes))


def test_what_is_fixed_from_the_beginning_cannot_change(tmp_path):
    queue = make(tmp_path)
    with pytest.raises(UserError, match="order cannot change after the run has started"):
        configure(queue, first_epoch="work")
    with pytest.raises(UserError, match="max_lag: only its value can change"):
        configure(queue, max_lag=3)
    assert queue.settings.max_lag is None


def test_rollouts_over_the_lag_are_drawn_again_and_actors_stay_for_it(tmp_path):
    queue = make(tmp_path, 12, epochs=1, max_lag=1)
    insert(queue, queue.lease("x", 12, []).work, version=0)
    assert not queue.lease("x", 12, []).over
    assert [queue.sample(LEARNER, step)[0] for step in (1, 2)] == [True, True]
    # Step 3 is taken by weights of two steps: version 0 is one too many behind.
    assert not queue.sample(LEARNER, 3)[0]
    again = queue.lease("x", 12, []).work
    assert [work.fact_id for work in again] == ["8", "9", "10", "11"]
    insert(queue, again, version=2)
    assert len(queue.sample(LEARNER, 3)[1]) == 4
    assert not queue.lease("x", 12, []).over
    queue.commit(LEARNER, 3)
    assert queue.lease("x", 12, []).over
    assert queue.status().stale == 4


def test_a_poisoned_fact_is_quarantined_and_reported(tmp_path):
    queue = make(tmp_path, 1, poison_after=2)
    for _ in range(2):
        assert queue.lease("x", 4, []).work
        queue.release("x", died=True)
    assert queue.lease("x", 4, []).over
    assert queue.status().quarantined == 1


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    facts=st.integers(1, 12),
    batch=st.integers(1, 6),
    first_epoch=st.sampled_from(["arrival", "work"]),
    max_lag=st.none() | st.integers(0, 3),
    min_size=st.integers(1, 20),
    ratio=st.none() | st.floats(0.01, 20),
    tolerance=st.floats(0, 10),
)
def test_whatever_the_limits_the_run_comes_to_its_end(
    tmp_path_factory, data, facts, batch, first_epoch, max_lag, min_size, ratio, tolerance
):
    """Two actors and a learner, each of which may be slow, and may be told to wait."""
    epochs = 2 if max_lag is None else 1
    queue = make(
        tmp_path_factory.mktemp("q"),
        facts,
        epochs=epochs,
        batch=batch,
        max_bytes=2**16,
        first_epoch=first_epoch,
        max_lag=max_lag,
        min_size=min_size,
        samples_per_insert=ratio,
        tolerance=tolerance,
    )
    held = {"x": [], "y": []}
    step, over = 0, False
    for _ in range(400):
        owner = data.draw(st.sampled_from("xy")) if step < 3 else "x" if held["x"] else "y"
        grant = queue.lease(owner, 3, [work.id for work in held[owner]])
        held[owner] += grant.work
        if held[owner]:
            # Large: three of these fill the queue.
            items = [packed(work.fact_id, step, 30_000) for work in held[owner][:1]]
            assert queue.insert_many(items) == [True]
            del held[owner][:1]
        ready, items, *_ = queue.sample(LEARNER, step + 1)
        if ready and not items:
            over = True
            break
        if ready:
            step += 1
            queue.commit(LEARNER, step)
    assert over
    assert queue.status().exposures_trained == facts * epochs


def test_an_ended_queue_repeats_the_step_that_was_begun_and_begins_no_other(tmp_path):
    queue = make(tmp_path, facts=8)
    works = queue.lease("x", 6, []).work
    insert(queue, works[:5])
    begun = queue.sample(LEARNER, 1)
    queue.end()
    assert queue.lease("x", 5, [work.id for work in works[5:]]).over
    # A rank that requests a batch after its peer gets the same batch.
    assert queue.sample(LEARNER, 1) == begun
    assert queue.sample(LEARNER, 2) == (True, [], 0, 0)
    queue.commit(LEARNER, 1)
    assert insert(queue, works[5:]) == [True]
    assert queue.sample(LEARNER, 2) == (True, [], 4, 0)
    assert (queue.status().ended, queue.status().exposures_trained) == (True, 4)


def test_a_queue_with_a_bound_on_age_ends_too(tmp_path):
    queue = make(tmp_path, epochs=1, max_lag=1)
    insert(queue, queue.lease("x", 4, []).work)
    queue.end()
    assert queue.lease("x", 1, []).over
