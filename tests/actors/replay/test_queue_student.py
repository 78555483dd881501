"""The queue when the student draws: fresh work in every epoch, and a bound on the weights' age."""

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.replay.work import work_items
from common.records import unpack_rollout
from tests.actors.replay.queues import insert, open_queue


def on_policy(path, facts=3, *, samples=2, epochs=2, batch=4, max_steps=None, **replay):
    return open_queue(
        path,
        facts,
        method={"name": "opsd", "samples": samples},
        replay={"max_lag": 0, **replay},
        learner={"epochs": epochs, "batch_size": batch, "max_steps": max_steps},
    )


def test_the_student_draws_each_fact_anew_in_every_epoch_in_another_order(tmp_path):
    _, config = on_policy(tmp_path, samples=2, epochs=3)
    items = list(work_items(config, [str(fact) for fact in range(9)]))
    assert items[:4] == [("0", 0), ("0", 1), ("1", 0), ("1", 1)]
    epochs = [items[first : first + 18] for first in (0, 18, 36)]
    for epoch, of in enumerate(epochs):
        assert sorted(of) == sorted(
            (str(fact), 2 * epoch + sample) for fact in range(9) for sample in (0, 1)
        )
    orders = [[fact for fact, _ in of] for of in epochs]
    assert orders[0] != orders[1] != orders[2]


def test_the_student_draws_only_what_max_steps_can_train(tmp_path):
    queue, config = on_policy(tmp_path, facts=3, samples=2, epochs=30, batch=4, max_steps=2)
    every = [*work_items(config, ["0", "1", "2"])]
    # 8 of 180: all of the first epoch, and the first fact of the second.
    assert (len(every), config.num_work_items(3)) == (8, 8)
    assert [draw for _, draw in every] == [0, 1, 0, 1, 0, 1, 2, 3]
    for step in (1, 2):
        insert(queue, queue.lease("x", 9, [], step - 1).work, step - 1)
        batch = queue.sample(1, step)
        assert (len(batch.items), batch.left) == (4, 8 - 4 * step)
    assert not queue.lease("x", 9, [], 2).over
    assert queue.sample(1, 3).items == []
    queue.commit(1, 2)
    assert queue.lease("x", 9, [], 2).over
    assert queue.status().exposures_trained == 8


def test_strictly_on_policy_weights_draw_one_batch_and_wait_for_the_next_version(tmp_path):
    queue, _ = on_policy(tmp_path)
    assert queue.sample(1, 1) == (False, [], 12, None)
    first = queue.lease("x", 9, [], 0).work
    assert len(first) == 4
    assert queue.lease("y", 9, [], 0).work == []
    assert queue.status().blocked["insert"].reason == "lag"
    insert(queue, first, 0)
    assert queue.sample(1, 1)[0]
    # The batch is out: these weights are too old now, for every actor.
    assert queue.lease("y", 9, [], 0).work == []
    assert "too old for step 2" in queue.status().waiting["insert"]
    assert not queue.sample(1, 2)[0]
    assert len(queue.lease("y", 9, [], 1).work) == 4


def test_weights_may_draw_for_as_many_steps_as_the_lag_allows(tmp_path):
    queue, _ = on_policy(tmp_path, facts=9, max_lag=2)
    assert len(queue.lease("x", 99, [], 0).work) == 12
    assert queue.lease("y", 99, [], 0).work == []
    assert len(queue.lease("y", 99, [], 1).work) == 4


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    facts=st.integers(1, 5),
    samples=st.integers(1, 3),
    batch=st.integers(1, 5),
    max_lag=st.integers(0, 3),
    first_epoch=st.sampled_from(["arrival", "work"]),
    min_size=st.integers(1, 8),
)
def test_whatever_dies_every_draw_is_trained_once_by_weights_no_older_than_allowed(
    tmp_path_factory, data, facts, samples, batch, max_lag, first_epoch, min_size
):
    """Two actors and a learner that publishes every so often; all die, and all come back."""
    queue, config = on_policy(
        tmp_path_factory.mktemp("q"),
        *(facts,),
        samples=samples,
        batch=batch,
        max_lag=max_lag,
        first_epoch=first_epoch,
        min_size=min_size,
    )
    every = data.draw(st.integers(1, max_lag + 1), "publish.every")
    assert config.exposures_per_rollout == 1
    held, version = {"x": [], "y": []}, {"x": None, "y": None}
    learner, step, published, committed = 1, 0, 0, 0
    trained = {}
    chance = data.draw(st.randoms(use_true_random=False), "events")
    for turn in range(400):
        # In the end all processes work in turn, and the run must end.
        event = chance.choice("xyxyldk") if turn < 60 else "xyl"[turn % 3]
        if event in "xy":
            if not held[event]:
                version[event] = published
            elif turn >= 60 or chance.random() < 0.5:
                insert(queue, [held[event].pop(0)], version[event])
            free = 3 - len(held[event]) if version[event] == published else 0
            grant = queue.lease(event, free, [work.id for work in held[event]], version[event])
            held[event] += grant.work
            if grant.over:
                assert not held[event]
        elif event == "d":
            held["x"] = []
            queue.release("x", died=False)
        elif event == "k":
            step = published = committed
            learner = queue.register(str(learner))
            queue.restore(learner, step)
            trained = {at: of for at, of in trained.items() if at <= step}
        else:
            ready, items, *_ = queue.sample(learner, step + 1)
            if ready and not items:
                queue.commit(learner, step)
                break
            if ready:
                step += 1
                rollouts = [unpack_rollout(payload) for _, payload in items]
                assert all(one.policy_version >= step - 1 - max_lag for one in rollouts)
                trained[step] = [(one.fact_id, one.draw) for one in rollouts]
                queue.note_trained(learner, step)
                if step % every == 0:
                    published = step
                if chance.random() < 0.5:
                    queue.commit(learner, step)
                    committed = step
    else:
        raise AssertionError(f"nothing moves: {queue.status()}")
    seen = [one for of in trained.values() for one in of]
    assert sorted(seen) == sorted(work_items(config, [str(fact) for fact in range(facts)]))
    assert queue.lease("x", 3, [], version["x"]).over
