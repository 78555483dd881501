import pytest

from common.ledger import Ledger, LedgerError


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", epochs=2, seed=0)
    ledger.add_work([("a", 0), ("b", 0), ("c", 0)])
    yield ledger
    ledger.close()


def fill(ledger):
    for name in "abc":
        ledger.insert(name, 0, name.encode(), attempts=1)


def ids(works):
    return [work.id for work in works]


def test_known_work_is_not_added_again(ledger):
    ledger.add_work([("a", 0), ("d", 0)])
    assert ledger.counts().work == 4


def test_three_rollouts_and_two_epochs_are_six_exposures_each_once(ledger):
    fill(ledger)
    batches = [ledger.sample(step, 4) for step in (1, 2, 3)]
    assert [len(batch) for batch in batches] == [4, 2, 0]
    assert [exposure.payload for exposure in batches[0][:3]] == [b"a", b"b", b"c"]
    ledger.commit(2)
    ledger.commit(1)  # never moves backwards
    assert ledger.trained() == [(name, 0, epoch) for name in "abc" for epoch in (0, 1)]


def test_asking_for_a_step_again_gives_the_same_list(ledger):
    fill(ledger)
    assert ledger.sample(1, 2) == ledger.sample(1, 2)
    assert ledger.counts().sampled == 2


def test_a_batch_waits_until_it_is_full_or_all_work_is_settled(ledger):
    ledger.insert("a", 0, b"a", attempts=1)
    assert ledger.sample(1, 2) is None
    ledger.exhaust("b", 0, "wrong", attempts=9)
    ledger.exhaust("c", 0, "wrong", attempts=9)
    assert [exposure.epoch for exposure in ledger.sample(1, 5)] == [0, 1]
    assert ledger.exhausted() == [("b", "wrong"), ("c", "wrong")]


def test_a_committed_step_cannot_be_sampled_again(ledger):
    fill(ledger)
    ledger.sample(1, 2)
    ledger.commit(1)
    with pytest.raises(LedgerError, match="step 1 is committed"):
        ledger.sample(1, 2)


def test_restore_returns_the_exposures_of_later_steps(ledger):
    fill(ledger)
    _, second, third = (ledger.sample(step, 2) for step in (1, 2, 3))
    ledger.restore(1)
    assert (ledger.counts().sampled, ledger.counts().trained) == (2, 2)
    assert [ledger.sample(2, 2), ledger.sample(3, 2)] == [second, third]


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
    assert ledger.payloads() == [b"slow"]


def test_a_rollout_of_unknown_work_is_refused(ledger):
    with pytest.raises(LedgerError, match="no work item for fact 'z', draw 0"):
        ledger.insert("z", 0, b"", attempts=1)
