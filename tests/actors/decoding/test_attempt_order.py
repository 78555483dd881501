from hypothesis import given
from hypothesis import strategies as st

from actors.decoding.attempt_order import AttemptOrder


def test_the_first_accepted_in_attempt_order_wins_once_no_earlier_one_runs():
    order = AttemptOrder(4)
    assert [order.start() for _ in range(4)] == [0, 1, 2, 3]
    assert order.finish(2, accepted=True) == [3]
    assert (order.winner, order.running) == (None, {0, 1})
    assert order.finish(0, accepted=False) == []
    assert order.winner is None
    assert order.finish(1, accepted=True) == []
    assert order.winner == 1


def test_nothing_starts_after_an_accepted_attempt_or_past_the_limit():
    order = AttemptOrder(2)
    order.start()
    assert order.may_start
    order.finish(0, accepted=True)
    assert not order.may_start
    order = AttemptOrder(1)
    order.start()
    assert (order.may_start, order.is_exhausted) == (False, False)
    order.finish(0, accepted=False)
    assert order.is_exhausted


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.integers(1, 6), st.randoms())
def test_the_winner_does_not_depend_on_which_finishes_first(accepted, in_flight, rng):
    order = AttemptOrder(len(accepted))
    while order.winner is None and not order.is_exhausted:
        while order.may_start and len(order.running) < in_flight:
            order.start()
        attempt = rng.choice(sorted(order.running))
        order.finish(attempt, accepted[attempt])
    assert order.winner == (accepted.index(True) if True in accepted else None)
    assert not order.running
