"""The queue where a fact has several draws, or new ones in every epoch."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.replay.limiter import wanted_by_next_epoch
from actors.replay.work import work_items
from common.records import unpack_rollout
from tests.actors.replay.queues import insert, open_queue


def make(path, facts=3, *, draws=2, redraw="epoch", epochs=3, batch=2, **sections):
    return open_queue(
        path,
        facts,
        method={"name": "mixsd", "mix_rate": 0.3, "draws": draws, "redraw": redraw},
        learner={"epochs": epochs, "batch_size": batch},
        **sections,
    )


def names(works):
    return [(work.fact_id, work.draw) for work in works]


def trained(queue, step):
    items = queue.sample(1, step).items
    return [(rollout.fact_id, rollout.draw) for rollout in (unpack_rollout(p) for _, p in items)]


def test_once_every_fact_has_its_draws_and_all_epochs_train_them(tmp_path):
    queue, _ = make(tmp_path, 2, redraw="once", batch=4)
    work = queue.lease("x", 9, []).work
    assert names(work) == [("0", 0), ("0", 1), ("1", 0), ("1", 1)]
    insert(queue, work)
    steps = [trained(queue, step) for step in (1, 2, 3, 4)]
    assert [sorted(step) for step in steps] == [names(work)] * 3 + [[]]


def test_an_epoch_trains_its_own_draws_which_come_in_the_order_of_epochs(tmp_path):
    queue, config = make(tmp_path, 3, batch=6)
    facts = ["0", "1", "2"]
    epochs = [list(work_items(config, facts))[first : first + 6] for first in (0, 6, 12)]
    for epoch, of in enumerate(epochs):
        assert sorted(of) == [(fact, 2 * epoch + draw) for fact in facts for draw in (0, 1)]
    for step, of in enumerate(epochs, 1):
        work = queue.lease("x", 6, []).work
        assert names(work) == of
        insert(queue, work)
        assert trained(queue, step) == of
    assert queue.lease("x", 1, []).over
    assert queue.sample(1, 4) == (True, [], 18, 0)


def test_actors_draw_the_next_epoch_and_no_further(tmp_path):
    # 3 facts, 2 draws: 6 of an epoch. Epochs 0 and 1 are 12 work items.
    queue, _ = make(tmp_path, 3)
    work = queue.lease("x", 99, []).work
    assert len(work) == 12
    insert(queue, work)
    assert queue.lease("x", 99, []).work == []
    waiting = queue.status().waiting["insert"]
    assert waiting.startswith("all targets of the next epoch are drawn or in progress")
    # Steps of 2: after the third the learner has trained epoch 0.
    for step in (1, 2):
        trained(queue, step)
        assert queue.lease("x", 99, []).work == []
    trained(queue, 3)
    assert len(queue.lease("x", 99, []).work) == 6


def test_the_bound_counts_what_is_lost_as_passed():
    # The learner is in epoch 0 until 6 items are behind it; 12 may be begun, then 18.
    assert [wanted_by_next_epoch(6, begun=7, passed=passed) for passed in (0, 5, 6, 11, 12)] == [
        *(5, 5, 11, 11, 17)
    ]


def test_a_batch_larger_than_two_epochs_is_filled(tmp_path):
    queue, _ = make(tmp_path, 1, draws=1, epochs=5, batch=4)
    work = queue.lease("x", 99, []).work
    assert len(work) == 4
    insert(queue, work)
    assert trained(queue, 1) == [("0", draw) for draw in range(4)]


def test_in_phases_actors_draw_all_epochs_and_any_number_of_bytes(tmp_path):
    # The learner, which would make space, comes later.
    queue, _ = make(
        tmp_path,
        3,
        cluster={"placement": "phases"},
        replay={"max_bytes": 2**16, "samples_per_insert": 1.0, "tolerance": 0},
    )
    assert len(queue.lease("x", 99, []).work) == 18


def test_a_draw_that_is_given_up_is_lost_alone(tmp_path):
    queue, _ = make(tmp_path, 1, epochs=2, batch=1)
    work = queue.lease("x", 9, []).work
    assert names(work) == [("0", 0), ("0", 1), ("0", 2), ("0", 3)]
    queue.exhaust("0", 0, "wrong", attempts=9)
    queue.exhaust("0", 2, "wrong", attempts=9)
    insert(queue, [work[1], work[3]])
    assert [trained(queue, step) for step in (1, 2, 3)] == [[("0", 1)], [("0", 3)], []]
    assert queue.lost() == [("0", "exhausted", "wrong"), ("0#draw-2", "exhausted", "wrong")]
    status = queue.status()
    assert (status.work, status.accepted, status.exhausted, status.total_steps) == (4, 2, 2, 2)


def test_schedules_know_how_many_steps_may_come_before_all_is_drawn(tmp_path):
    # 2 facts, 3 epochs: 6 exposures, as long as nothing is given up.
    queue, _ = make(tmp_path, 2, draws=1)
    work = queue.lease("x", 2, []).work
    insert(queue, work)
    assert queue.sample(1, 1)[2:] == (6, 4)
    (lost,) = queue.lease("x", 1, []).work
    queue.exhaust(lost.fact_id, lost.draw, "wrong", attempts=9)
    assert queue.sample(1, 2).total == 5


@pytest.mark.parametrize("redraw", ["once", "epoch"])
@settings(max_examples=30, deadline=None)
@given(
    data=st.data(),
    facts=st.integers(1, 6),
    draws=st.integers(1, 3),
    batch=st.integers(1, 6),
    first_epoch=st.sampled_from(["arrival", "work"]),
    ratio=st.none() | st.floats(0.01, 20),
)
def test_whatever_is_lost_or_repeated_each_draw_is_trained_exactly_as_often_as_it_should(
    tmp_path_factory, redraw, data, facts, draws, batch, first_epoch, ratio
):
    queue, config = make(
        tmp_path_factory.mktemp("q"),
        facts,
        draws=draws,
        redraw=redraw,
        batch=batch,
        replay={"first_epoch": first_epoch, "samples_per_insert": ratio, "tolerance": 2},
    )
    held = {"x": [], "y": []}
    seen, step, committed, learner = {}, 0, 0, 1
    chance = data.draw(st.randoms(use_true_random=False))
    for turn in range(800):
        owner = chance.choice("xy")
        if chance.random() < 0.1:
            queue.release(owner)
            held[owner] = []
        held[owner] += queue.lease(owner, 3, [work.id for work in held[owner]]).work
        if held[owner]:
            insert(queue, [held[owner].pop(chance.randrange(len(held[owner])))])
        if chance.random() < 0.05:
            learner = queue.register(f"again {turn}")
            queue.restore(learner, committed)
            step = committed
        ready, items, *_ = queue.sample(learner, step + 1)
        if ready and not items:
            queue.commit(learner, step)
            break
        if ready:
            step += 1
            seen[step] = [(r.fact_id, r.draw) for r in (unpack_rollout(p) for _, p in items)]
            queue.note_trained(learner, step)
            if chance.random() < 0.5:
                queue.commit(learner, step)
                committed = step
    else:
        raise AssertionError(f"nothing moves: {queue.status()}")
    every = sorted(work_items(config, [str(fact) for fact in range(facts)]))
    assert len(every) == facts * draws * (3 if redraw == "epoch" else 1)
    times = config.exposures_per_rollout
    assert sorted(one for at in range(1, step + 1) for one in seen[at]) == sorted(every * times)
    assert queue.lease("x", 3, []).over
