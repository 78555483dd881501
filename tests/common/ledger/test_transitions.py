import itertools

import pytest

from common.errors import UserError
from common.ledger import Accepted, Ledger, LedgerError, LedgerUnavailable, StaleLearner

# The generation of a ledger's first learner.
LEARNER = 1


def started(ledger):
    """The ledger, with a learner that begins with step 1."""
    assert ledger.register("first") == LEARNER
    ledger.restore(LEARNER, 0)
    return ledger


@pytest.fixture
def ledger(tmp_path):
    ledger = started(Ledger(tmp_path / "ledger.db", epochs=2, seed=0))
    ledger.add_work([("a", 0), ("b", 0), ("c", 0)])
    yield ledger
    ledger.close()


def fill(ledger, names="abc"):
    return ledger.insert_many([Accepted(name, 0, name.encode(), 1) for name in names])


def ids(works):
    return [work.id for work in works]


def payloads(exposures):
    return [exposure.payload for exposure in exposures]


def test_known_work_is_not_added_again(ledger):
    ledger.add_work([("a", 0), ("d", 0)])
    assert ledger.counts().work == 4


def test_new_work_is_taken_until_the_second_epoch_begins(ledger):
    fill(ledger)
    ledger.sample(LEARNER, 1, 3)
    ledger.add_work([("d", 0)])
    fill(ledger, "d")
    ledger.sample(LEARNER, 2, 2)
    with pytest.raises(UserError, match="1 new facts came after the second epoch had started"):
        ledger.add_work([("a", 0), ("e", 0)])
    assert ledger.counts().work == 4
    ledger.add_work([("a", 0)])


def test_three_rollouts_and_two_epochs_are_six_exposures_each_once(ledger):
    fill(ledger)
    batches = [ledger.sample(LEARNER, step, 4) for step in (1, 2, 3)]
    assert [len(batch) for batch in batches] == [4, 2, 0]
    assert payloads(batches[0][:3]) == [b"a", b"b", b"c"]
    ledger.commit(LEARNER, 2)
    ledger.commit(LEARNER, 1)  # never moves backwards
    assert ledger.trained() == [(name, 0, epoch) for name in "abc" for epoch in (0, 1)]


def test_asking_for_a_step_again_gives_the_same_list(ledger):
    fill(ledger)
    assert ledger.sample(LEARNER, 1, 4) == ledger.sample(LEARNER, 1, 4)
    assert ledger.counts().sampled == 4


def test_a_batch_waits_until_it_is_full_or_all_work_is_settled(ledger):
    ledger.insert("a", 0, b"a", attempts=1)
    assert ledger.sample(LEARNER, 1, 2) is None
    ledger.exhaust("b", 0, "wrong", attempts=9)
    ledger.exhaust("c", 0, "wrong", attempts=9)
    assert [exposure.epoch for exposure in ledger.sample(LEARNER, 1, 5)] == [0, 1]
    assert ledger.lost() == [("b", "exhausted", "wrong"), ("c", "exhausted", "wrong")]


def test_a_committed_step_cannot_be_sampled_again(ledger):
    fill(ledger)
    ledger.sample(LEARNER, 1, 2)
    ledger.commit(LEARNER, 1)
    with pytest.raises(LedgerError, match="step 1 is committed"):
        ledger.sample(LEARNER, 1, 2)


def test_steps_follow_each_other_without_a_gap(ledger):
    fill(ledger)
    ledger.sample(LEARNER, 1, 2)
    with pytest.raises(LedgerError, match="step 3 cannot come after step 1"):
        ledger.sample(LEARNER, 3, 2)


@pytest.mark.parametrize("call", ["prepare", "commit"])
def test_a_step_that_was_not_sampled_is_neither_prepared_nor_committed(ledger, call):
    fill(ledger)
    ledger.sample(LEARNER, 1, 2)
    with pytest.raises(LedgerError, match="has steps up to 1, not step 7"):
        getattr(ledger, call)(LEARNER, 7)
    assert ledger.counts().trained == 0


def test_a_new_learner_gets_back_the_exposures_after_its_checkpoint(ledger):
    fill(ledger)
    _, second, third = (ledger.sample(LEARNER, step, 2) for step in (1, 2, 3))
    successor = ledger.register("second")
    ledger.restore(successor, 1)
    assert (ledger.counts().sampled, ledger.counts().trained) == (2, 2)
    assert [ledger.sample(successor, 2, 2), ledger.sample(successor, 3, 2)] == [second, third]


def test_a_late_repeat_of_restore_takes_nothing_back(ledger):
    fill(ledger)
    ledger.sample(LEARNER, 1, 2)
    ledger.commit(LEARNER, 1)
    ledger.restore(LEARNER, 0)
    assert (ledger.counts().trained, ledger.counts().committed_step) == (2, 1)
    with pytest.raises(LedgerError, match="learner 1 has restored step 0, not 1"):
        ledger.restore(LEARNER, 1)


def test_what_a_learner_sends_after_its_successor_has_begun_is_refused(ledger):
    fill(ledger)
    ledger.sample(LEARNER, 1, 2)
    successor = ledger.register("second")
    before = ledger.counts()
    for late in (
        lambda: ledger.sample(LEARNER, 2, 2),
        lambda: ledger.prepare(LEARNER, 1),
        lambda: ledger.commit(LEARNER, 1),
        lambda: ledger.restore(LEARNER, 0),
    ):
        with pytest.raises(StaleLearner, match="learner 1 has a successor, learner 2"):
            late()
    assert ledger.counts() == before
    with pytest.raises(LedgerError, match="learner 2 has not restored a step yet"):
        ledger.sample(successor, 2, 2)


def test_registering_again_gives_the_same_generation_and_admits_nobody_again(ledger):
    successor = ledger.register("second")
    assert (ledger.register("first"), ledger.register("second")) == (LEARNER, successor)
    with pytest.raises(StaleLearner):
        ledger.sample(LEARNER, 1, 2)


def test_a_step_that_the_file_has_lost_cannot_be_restored(ledger):
    fill(ledger)
    ledger.sample(LEARNER, 1, 2)
    with pytest.raises(LedgerError, match="has steps up to 1, not step 2"):
        ledger.restore(ledger.register("second"), 2)


def test_after_a_restart_every_lease_lasts_by_the_new_clock(ledger):
    ledger.lease("x", 2, now=9000, duration=10)
    ledger.renew_leases(15)
    assert ids(ledger.lease("y", 3, now=14, duration=10)) == [3]
    assert ids(ledger.lease("y", 3, now=15, duration=10)) == [1, 2]


def test_in_order_of_work_the_first_epoch_does_not_depend_on_arrival(tmp_path):
    def batches(name, arrivals):
        ledger = started(Ledger(tmp_path / name, epochs=3, seed=5, first_epoch="work"))
        ledger.add_work((fact, 0) for fact in "abcdef")
        ledger.exhaust("d", 0, "wrong", attempts=1)
        seen, step = [], 1
        for fact in arrivals:
            fill(ledger, fact)
            while batch := ledger.sample(LEARNER, step, 2):
                seen, step = [*seen, payloads(batch)], step + 1
        ledger.close()
        return seen

    undisturbed = batches("1", "abcef")
    assert undisturbed[:2] == [[b"a", b"b"], [b"c", b"e"]]
    assert undisturbed == batches("2", "fecba")
    assert sorted(itertools.chain(*undisturbed)) == sorted([b"a", b"b", b"c", b"e", b"f"] * 3)


def test_a_rollout_that_grew_too_old_is_drawn_again(ledger):
    ledger.insert_many([Accepted("a", 0, b"old", 1, 3), Accepted("b", 0, b"b", 1, 4)])
    ledger.insert_many([Accepted("c", 0, b"c", 1, 5)])
    assert ledger.sample(LEARNER, 1, 3, oldest=4) is None
    counts = ledger.counts()
    assert (counts.accepted, counts.waiting, counts.stale) == (2, 2, 1)
    assert [work.fact_id for work in ledger.lease("x", 3, now=0, duration=1)] == ["a"]
    assert ledger.insert_many([Accepted("a", 0, b"new", 1, 5)]) == [True]
    assert payloads(ledger.sample(LEARNER, 1, 3, oldest=4)) == [b"b", b"c", b"new"]


@pytest.mark.parametrize("first_epoch", ["arrival", "work"])
def test_nothing_overtakes_a_rollout_that_is_drawn_again(tmp_path, first_epoch):
    ledger = started(Ledger(tmp_path / "lag.db", epochs=2, seed=0, first_epoch=first_epoch))
    ledger.add_work((fact, 0) for fact in "abcd")
    ledger.insert_many([Accepted(fact, 0, b"old", 1, 1) for fact in "a"])
    ledger.insert_many([Accepted(fact, 0, b"new", 1, 2) for fact in "bcd"])
    # Without the first of them, three are left of this epoch and as many of the next.
    later = ledger.sample(LEARNER, 1, 3, oldest=2)
    assert (later is None) == (first_epoch == "work")
    step = ledger.counts().last_step
    assert ledger.sample(LEARNER, step + 1, 2, oldest=2) is None
    ledger.insert_many([Accepted("a", 0, b"again", 1, 2)])
    steps = [ledger.sample(LEARNER, step + more, 3, oldest=2) for more in range(1, 4)]
    seen = [(e.work_id, e.epoch) for step in (later or [], *steps) for e in step]
    assert sorted(seen) == [(work_id, epoch) for work_id in (1, 2, 3, 4) for epoch in (0, 1)]
    ledger.close()


def test_a_later_epoch_waits_for_a_rollout_that_is_drawn_again(ledger):
    ledger.insert_many([Accepted(fact, 0, b"", 1, int(fact != "a")) for fact in "abc"])
    assert ledger.sample(LEARNER, 1, 4, oldest=1) is None
    assert ledger.counts().stale == 1


def test_an_expired_lease_goes_to_the_next_who_asks(ledger):
    assert ids(ledger.lease("x", 2, now=0, duration=10)) == [1, 2]
    assert ids(ledger.lease("y", 3, now=9, duration=10)) == [3]
    assert ids(ledger.lease("y", 3, now=10, duration=10)) == [1, 2]


def test_a_heartbeat_extends_what_is_held_and_takes_back_the_rest(ledger):
    ledger.lease("x", 3, now=0, duration=10)
    ledger.heartbeat("x", [2], now=5, duration=10)
    assert ledger.counts().leased == 1
    assert ids(ledger.lease("y", 3, now=14, duration=10)) == [1, 3]
    assert ids(ledger.lease("z", 3, now=15, duration=10)) == [2]


def test_a_new_process_of_an_actor_takes_over_what_its_predecessor_held(ledger):
    ledger.lease("rollout-1@a:7", 1, now=0, duration=100)
    ledger.lease("rollout-10@a:8", 1, now=0, duration=100)
    ledger.heartbeat("rollout-1@b:9", [], now=1, duration=100)
    assert ids(ledger.lease("rollout-1@b:9", 3, now=1, duration=100)) == [1, 3]


def test_release_returns_everything_an_owner_holds(ledger):
    ledger.lease("x", 2, now=0, duration=10)
    assert ledger.release("x") == 2
    assert len(ledger.lease("y", 3, now=1, duration=10)) == 3


def test_a_late_duplicate_is_accepted_once_and_the_first_payload_stays(ledger):
    ledger.lease("slow", 1, now=0, duration=1)
    ledger.lease("fast", 1, now=2, duration=1)
    assert ledger.insert("a", 0, b"slow", attempts=1)
    assert not ledger.insert("a", 0, b"fast", attempts=1)
    assert not ledger.exhaust("a", 0, "late", attempts=1)
    assert list(ledger.payloads()) == [b"slow"]


def test_rollouts_that_come_together_are_accepted_all_or_none(ledger):
    with pytest.raises(LedgerError, match="no work item for fact 'z', draw 0"):
        fill(ledger, "az")
    assert ledger.counts().accepted == 0
    assert fill(ledger, "aab") == [True, False, True]


def test_a_full_disk_changes_nothing_and_says_so(ledger):
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count={pages}")
    before = ledger.counts()
    with pytest.raises(LedgerUnavailable, match="full; nothing was changed"):
        ledger.insert("a", 0, bytes(100_000), attempts=1)
    assert ledger.counts() == ledger.recount() == before
    ledger._db.execute(f"PRAGMA max_page_count={pages + 100}")
    assert ledger.insert("a", 0, bytes(100_000), attempts=1)
