"""Reading the rollouts of a ledger, a few at a time."""

import random
from itertools import islice

import pytest

from common.ledger import Accepted, Ledger

# Several queries' worth, and a rest.
NAMES = [f"fact-{number}" for number in range(50)]


def _fill(path, names, seed=0):
    ledger = Ledger(path, epochs=2, seed=seed)
    ledger.add_work([(name, 0) for name in NAMES])
    ledger.insert_many([Accepted(name, 0, name.encode(), 1) for name in names])
    return ledger


@pytest.fixture
def shuffled_names():
    return random.Random(1).sample(NAMES, len(NAMES))


def test_rollouts_come_in_order_of_arrival_or_of_their_work(tmp_path, shuffled_names):
    ledger = _fill(tmp_path / "ledger.db", shuffled_names)
    assert [payload.decode() for payload in ledger.payloads()] == shuffled_names
    assert [payload.decode() for payload in ledger.targets()] == NAMES
    ledger.close()


def test_a_random_order_has_each_rollout_once_and_does_not_depend_on_arrival(
    tmp_path, shuffled_names
):
    one = _fill(tmp_path / "one.db", NAMES)
    other = _fill(tmp_path / "other.db", shuffled_names)
    third = _fill(tmp_path / "third.db", NAMES, seed=1)
    order = list(one.shuffled())
    assert sorted(order) == sorted(name.encode() for name in NAMES)
    assert order == list(other.shuffled())
    assert order[:16] != list(one.payloads())[:16]
    assert order != list(third.shuffled())
    for ledger in (one, other, third):
        ledger.close()


def test_only_accepted_rollouts_are_in_the_random_order(tmp_path):
    ledger = _fill(tmp_path / "ledger.db", NAMES[:3])
    assert sorted(ledger.shuffled()) == [b"fact-0", b"fact-1", b"fact-2"]
    ledger.close()
    empty = Ledger(tmp_path / "empty.db", epochs=1, seed=0)
    assert list(empty.shuffled()) == []
    empty.close()


@pytest.mark.parametrize("order", ["payloads", "targets", "shuffled"])
def test_a_slow_reader_holds_nothing_between_two_pages(tmp_path, order):
    """The queue serves reports while it goes on."""
    ledger = _fill(tmp_path / "ledger.db", NAMES[:40])
    rollouts = getattr(ledger, order)()
    assert len(list(islice(rollouts, 20))) == 20
    ledger.insert_many([Accepted(name, 0, name.encode(), 1) for name in NAMES[40:]])
    (busy, *_) = ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    # What had come before is all there, in spite of that.
    assert len(list(rollouts)) >= 20
    ledger.close()


def test_the_first_of_the_lost_are_given_where_no_more_are_wanted(tmp_path):
    ledger = _fill(tmp_path / "ledger.db", NAMES[3:])
    for name in NAMES[:3]:
        ledger.exhaust(name, 0, "wrong", attempts=1)
    assert [fact for fact, _, _ in ledger.lost(2)] == NAMES[:2]
    assert [fact for fact, _, _ in ledger.lost()] == NAMES[:3]
    ledger.close()


def test_a_further_draw_that_is_lost_is_named_with_its_number(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db", epochs=1, seed=0)
    ledger.add_work([("a", 0), ("a", 1), ("b", 12)])
    for fact, draw in (("a", 1), ("b", 12)):
        ledger.exhaust(fact, draw, "wrong", attempts=1)
    assert [name for name, _, _ in ledger.lost()] == ["a#draw-1", "b#draw-12"]
    ledger.close()
