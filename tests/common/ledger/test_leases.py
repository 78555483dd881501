"""Deaths: what they say about the work that was held."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from common.ledger import Ledger


def make(path, size):
    ledger = Ledger(path / "ledger.db", epochs=1, seed=0)
    ledger.add_work((str(fact), 0) for fact in range(size))
    return ledger


def lease(ledger, owner="x", count=16):
    return [int(work.fact_id) for work in ledger.lease(owner, count, now=0, duration=10)]


def finish(ledger, facts):
    for fact in facts:
        ledger.insert(str(fact), 0, b"", attempts=1)


def test_an_item_that_kills_every_owner_alone_is_quarantined(tmp_path):
    ledger = make(tmp_path, 1)
    for _ in range(3):
        assert ledger.counts().quarantined == 0
        assert lease(ledger) == [0]
        ledger.release("x", died=True, max_deaths=3)
    assert ledger.lost() == [
        ("0", "quarantined", "3 actors died while they held nothing else"),
    ]
    assert ledger.counts().settled
    assert lease(ledger) == []


def test_suspects_go_to_idle_owners_in_groups_of_an_eighth(tmp_path):
    ledger = make(tmp_path, 40)
    lease(ledger, "busy", 1)
    assert lease(ledger, "x", 32) == list(range(1, 33))
    ledger.release("x", died=True)
    assert lease(ledger, "x", 32) == [1, 2, 3, 4]
    assert lease(ledger, "x", 32) == []
    assert lease(ledger, "busy", 32) == list(range(33, 40))
    assert lease(ledger, "busy", 32) == []
    finish(ledger, [1, 2, 3, 4])
    assert lease(ledger, "x", 32) == [5, 6, 7, 8]


def test_an_owner_that_was_late_or_let_go_leaves_no_suspicion(tmp_path):
    ledger = make(tmp_path, 2)
    lease(ledger)
    assert ledger.lease("y", 2, now=11, duration=10)
    ledger.release("y")
    assert lease(ledger) == [0, 1]


def test_a_prime_suspect_waits_until_nothing_else_is_pending(tmp_path):
    ledger = make(tmp_path, 3)
    assert lease(ledger, count=1) == [0]
    ledger.release("x", died=True)
    assert lease(ledger) == [1, 2]
    finish(ledger, [1, 2])
    assert lease(ledger) == [0]


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 40), slots=st.integers(1, 32), data=st.data())
def test_poison_is_quarantined_and_nothing_else(tmp_path_factory, size, slots, data):
    poison = data.draw(st.sets(st.integers(0, size - 1), max_size=3))
    ledger = make(tmp_path_factory.mktemp("p"), size)
    deaths = turns = 0
    while not ledger.counts().settled:
        turns += 1
        held = lease(ledger, f"owner {turns % 2}", slots)
        if poison & set(held):
            ledger.release(f"owner {turns % 2}", died=True, max_deaths=3)
            deaths += 1
        else:
            assert held
            finish(ledger, held)
    assert {int(fact) for fact, _, _ in ledger.lost()} == poison
    assert ledger.counts() == ledger.recount()
    ledger.close()
    # Groups of 32 shrink to 4 and to 1, then three deaths on the item alone.
    assert deaths <= len(poison) * (3 + 1 + math.ceil(math.log(32, 8)))


@settings(max_examples=40, deadline=None)
@given(size=st.integers(2, 12), slots=st.integers(1, 12), max_deaths=st.integers(1, 3))
def test_a_host_that_kills_everything_blames_all_before_it_condemns_one(
    tmp_path_factory, size, slots, max_deaths
):
    ledger = make(tmp_path_factory.mktemp("s"), size)
    deaths = 0
    while not ledger.counts().quarantined:
        lease(ledger, "sick", slots)
        ledger.release("sick", died=True, max_deaths=max_deaths)
        deaths += 1
    ledger.close()
    assert deaths > size * (max_deaths - 1)
